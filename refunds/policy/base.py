"""What a version of the refund policy is made of: facts, rules, verdicts. Nothing here is read from
the database, so a version can be asked about any order of any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What the policy says of an order."""

    AUTOMATIC = "automatic"
    TICKET = "ticket"
    NOT_REFUNDABLE = "not_refundable"
    # No clause speaks of it: it is open, or delivered and nobody has complained.
    NONE = "none"

    @property
    def label(self) -> str:
        """For people."""
        return _LABELS[self]


_LABELS = {
    Outcome.AUTOMATIC: "Refunded automatically",
    Outcome.TICKET: "Refundable by ticket",
    Outcome.NOT_REFUNDABLE: "Not refundable",
    Outcome.NONE: "No clause applies",
}
# The section of the policy that a clause is in is the first part of its name; the database holds
# automatic refunds and those by ticket to it (refunds/models.py).
SECTIONS = {
    Outcome.AUTOMATIC: "auto.",
    Outcome.TICKET: "ticket.",
    Outcome.NOT_REFUNDABLE: "none.",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an order at a moment ``at`` (UTC); amounts in USD.

    ``reported`` is the clause that the customer's message comes to, as the person who read it
    understands it, and ``reported_by`` is who claims so; facts of the database alone never tell,
    for instance, that a service rejected an SMS. ``sms`` counts the messages that came in time.
    ``sms_ruled_out`` says that none can be in time any more: the deadline has passed and the
    upstream was looked at since, or could not be for the grace period, or the order has ended.
    """

    at: datetime
    kind: str
    price: Decimal
    placed_at: datetime
    allocated_at: datetime | None = None
    deadline: datetime | None = None
    first_sms_at: datetime | None = None
    rental_ends_at: datetime | None = None
    ended_at: datetime | None = None
    refused_at: datetime | None = None
    refusal_code: str = ""
    broken_at: datetime | None = None
    broken_signal: str = ""
    cancelled: bool = False
    allocation_timed_out: bool = False
    sms_ruled_out: bool = False
    terminated: bool = False
    sms: int = 0
    refunded: Decimal = Decimal(0)
    reported: str = ""
    reported_by: str = ""

    @classmethod
    def claimed(cls) -> tuple[str, str]:
        """The fields that are claims of people, and not known."""
        return "reported", "reported_by"

    def as_json(self) -> dict[str, Any]:
        """The facts as they are kept with a decision: moments in ISO 8601, amounts as text."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


# Why a clause covers an order, in words, or "" when it does not.
Covers = Callable[[Facts], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One clause: its name, its own words, and when it covers an order.

    A clause ``by_report`` is asked only about orders of which it was reported (or of which one of
    the clauses was that stood for the same report in older versions, ``formerly``). What is known
    is all that it ``covers`` says; ``claims`` is what the report says beyond it, which nothing but
    the claim shows. One that ``overrides`` is asked before all others.
    """

    clause: str
    outcome: Outcome
    title: str
    text: str
    covers: Covers
    by_report: bool = False
    formerly: tuple[str, ...] = ()
    overrides: bool = False
    claims: str = ""

    def claim(self, facts: Facts) -> str:
        """What is only claimed of an order of these facts, and by whom; "" when nothing is."""
        if not self.by_report:
            return ""
        said = self.claims or f"“{self.title}”"
        return (
            f"claimed by {facts.reported_by}: {said}" if facts.reported_by else f"supposed: {said}"
        )

    def why(self, facts: Facts) -> str:
        """What is known that lets it cover an order, in words; "" when it does not."""
        if self.by_report and facts.reported not in (self.clause, *self.formerly):
            return ""
        return self.covers(facts)


def automatic(clause: str, *, title: str, text: str) -> Callable[[Covers], Rule]:
    """A clause of "When you get a refund automatically"."""
    return lambda covers: Rule(clause, Outcome.AUTOMATIC, title, text, covers)


def by_ticket(
    clause: str, *, title: str, text: str, claims: str = "", formerly: tuple[str, ...] = ()
) -> Callable[[Covers], Rule]:
    """A clause of "When refunds need a ticket": somebody reports it, and people decide."""
    return lambda covers: Rule(
        *(clause, Outcome.TICKET, title, text, covers),
        by_report=True,
        formerly=formerly,
        claims=claims,
    )


def not_granted(
    clause: str, *, title: str, text: str, claims: str = "", formerly: tuple[str, ...] = ()
) -> Callable[[Covers], Rule]:
    """A clause of "When refunds are not granted" that somebody reports."""
    return lambda covers: Rule(
        *(clause, Outcome.NOT_REFUNDABLE, title, text, covers),
        by_report=True,
        formerly=formerly,
        claims=claims,
    )


def forfeits(clause: str, *, title: str, text: str) -> Callable[[Covers], Rule]:
    """A clause of "When refunds are not granted" that we know of ourselves, before all others."""
    return lambda covers: Rule(clause, Outcome.NOT_REFUNDABLE, title, text, covers, overrides=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a version says of an order: the outcome, by which clause, and why, in words: what is
    ``known``, and apart from it what is only claimed, and by whom (``claim``, or "").
    """

    version: str
    outcome: Outcome
    clause: str
    known: str
    claim: str = ""

    @property
    def why(self) -> str:
        """Both in one sentence."""
        return f"{self.known}; {self.claim}" if self.claim else self.known


@dataclass(frozen=True, slots=True)
class Version:
    """The policy as it stands from ``effective`` on (the day begins at 00:00 UTC).

    ``rules`` stand in the order of the text: what we know of ourselves comes before what is
    reported, so an order that refunds itself is not refundable by ticket. A clause that overrides
    is asked first, wherever it stands. ``destination`` is the section "Refund destination" in its
    own words, ``payout_minimum`` the least amount of a payout that it names, USD.
    """

    name: str
    effective: date
    rules: tuple[Rule, ...]
    destination: str
    payout_minimum: Decimal

    def rule(self, clause: str) -> Rule | None:
        """The clause in this version, if it has it."""
        return next((rule for rule in self.rules if rule.clause == clause), None)

    def verdict(self, facts: Facts) -> Verdict:
        """The verdict on these facts: that of the first clause which covers them."""
        for rule in sorted(self.rules, key=lambda rule: not rule.overrides):
            if known := rule.why(facts):
                return Verdict(self.name, rule.outcome, rule.clause, known, rule.claim(facts))
        return Verdict(self.name, Outcome.NONE, "", _nothing(self, facts))

    def amended(
        self,
        name: str,
        effective: date,
        *rules: Rule,
        without: tuple[str, ...] = (),
        destination: str = "",
        payout_minimum: Decimal | None = None,
    ) -> Version:
        """The next version: these rules in the places of those with their names or, new ones, at
        the end of their sections; the rest as it is, but for what it is ``without``.

        A new ``payout_minimum`` comes with the ``destination`` that names it.
        """
        kept = [rule for rule in self.rules if rule.clause not in without]
        for rule in rules:
            places = [place for place, old in enumerate(kept) if old.clause == rule.clause]
            if places:
                kept[places[0]] = rule
            else:
                order = list(SECTIONS)
                section = order.index(rule.outcome)
                kept.insert(sum(order.index(old.outcome) <= section for old in kept), rule)
        return Version(
            name,
            effective,
            tuple(kept),
            destination=destination or self.destination,
            payout_minimum=self.payout_minimum if payout_minimum is None else payout_minimum,
        )


def _nothing(version: Version, facts: Facts) -> str:
    rule = version.rule(facts.reported)
    if facts.first_sms_at is None and facts.ended_at is None:
        if facts.deadline is not None and facts.at > facts.deadline:
            return "The deadline has passed; the upstream is asked for an SMS that was in time"
        return (
            "The order is open: it is refunded by itself if it fails, and at once when the "
            "customer cancels it before an SMS arrives"
        )
    if rule is not None:
        by = f" by {facts.reported_by}" if facts.reported_by else ""
        return f"“{rule.title}” was reported{by}, but the facts of the order do not bear it out"
    if facts.reported:
        return f"This version has no clause {facts.reported}"
    if facts.first_sms_at is None:
        return "The rented time was delivered and nothing was reported"
    return "An SMS arrived in time and nothing else was reported"
