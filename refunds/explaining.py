"""Why an order is refunded or not, in words: what is known, what the policy says, what happened,
and what can be done next. Nothing here shows an SMS or a phone number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from orders.locking import OrderUnknown
from orders.models import OPEN, Order, State
from refunds import policy
from refunds.decisions import left_to_refund
from refunds.facts import facts_of
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause, Facts, Outcome, Rule, Verdict, Version
from smsactivator.common.errors import Invalid

Requests = RefundRequest.State


class NotReportable(Invalid):
    """The clause is not one that a customer's message can come to."""

    code = "not_reportable"


@dataclass(frozen=True, slots=True)
class Explanation:
    """An order under a version of the policy. ``rule`` is the verdict's clause, None without one.

    ``in_force`` is the version in force when the order was placed, ``asked`` the one whose verdict
    this is. ``reported_in`` names the refund request that the reported clause was taken from.
    """

    order: Order
    facts: Facts
    asked: Version
    in_force: Version
    verdict: Verdict
    rule: Rule | None
    reported_in: str
    happened: tuple[str, ...]
    next: tuple[str, ...]


def explain(order_id: int, *, reported: str = "", as_of: str = "") -> Explanation:
    """Explain an order, by default as its newest refund request reports it, and by the version in
    force when it was placed. A fixed number of queries; locks nothing.

    Raises OrderUnknown, PolicyMissing, NotReportable.
    """
    order = Order.objects.select_related("upstream").filter(pk=order_id).first()
    if order is None:
        raise OrderUnknown(f"There is no order {order_id}.")
    return explain_order(order, reported=reported, as_of=as_of)


def last_report(requests: Iterable[RefundRequest]) -> RefundRequest | None:
    """What was last reported of an order: the newest of its requests that was not withdrawn."""
    reports = [one for one in requests if one.state != Requests.WITHDRAWN]
    return max(reports, key=attrgetter("pk"), default=None)


def explain_order(order: Order, *, reported: str = "", as_of: str = "") -> Explanation:
    """As ``explain``, of an order that was read already."""
    in_force = policy.in_force(order.placed_at)
    asked = policy.version(as_of) if as_of else in_force
    if reported and not policy.rule(reported, asked.name).by_report:
        names = ", ".join(rule.clause for rule in asked.rules if rule.by_report)
        raise NotReportable(f"{reported} is known without a report. What is reported: {names}.")
    requests = list(
        order.refund_requests.select_related("requested_by", "decided_by", "resolved_by").order_by(
            "pk"
        )
    )
    reported_in = reported_by = ""
    if not reported and (report := last_report(requests)):
        reported, reported_in = report.clause, str(report)
        reported_by = report.requested_by.get_username()
    facts = facts_of(order, reported=reported, reported_by=reported_by)
    verdict = asked.verdict(facts)
    return Explanation(
        order=order,
        facts=facts,
        asked=asked,
        in_force=in_force,
        verdict=verdict,
        rule=asked.rule(verdict.clause),
        reported_in=reported_in,
        happened=tuple(_happened(order, requests)),
        next=tuple(_next(order, verdict, requests, asked)),
    )


def ruling_words(asked: RefundRequest) -> str:
    """What was decided on a request, by whom and why, in one sentence."""
    words = (
        f"{asked}, {asked.amount} USD under “{policy.title(asked.clause)}”: "
        f"{'approved' if asked.state == Requests.APPROVED else 'denied'} by {asked.decided_by} on "
        f"{_words(asked.decided_at)}"
    )
    if asked.decision_reason:
        words += f": “{asked.decision_reason}”"
    if asked.resolved_at is not None:
        words += (
            f"; disputed, and {_RULED[Requests(asked.state)]} by {asked.resolved_by} on "
            f"{_words(asked.resolved_at)}: “{asked.resolution_reason}”. Final"
        )
    elif asked.state == Requests.DISPUTED:
        words += "; disputed, and not decided yet"
    if asked.further_to_id is not None:
        words = words.replace(",", f" (further to refund request {asked.further_to_id}),", 1)
    return f"{words}."


_RULED = {
    Requests.UPHELD: "the denial upheld",
    Requests.OVERTURNED: "the denial overturned",
    Requests.DISMISSED: "the reply dismissed as no dispute",
}


def fact_words(facts: Facts) -> list[tuple[str, str]]:
    """What is known, each with its name in words; "—" for what did not happen. No claims."""
    return [
        (_label(field.name), _words(getattr(facts, field.name)))
        for field in fields(facts)
        if field.name not in Facts.claimed()
    ]


def _label(name: str) -> str:
    words = " ".join(w.upper() if w == "sms" else w for w in name.split("_"))
    return words[:1].upper() + words[1:]


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, Decimal):
        return f"{value:.4f} USD"
    return "—" if value is None or value == "" else str(value)


def _happened(order: Order, requests: Iterable[RefundRequest]) -> Iterable[str]:
    yield f"Order {order.pk} is {State(order.state).label.lower()}."
    for refund in order.refunds.select_related("decided_by").order_by("part"):
        yield _refund(refund)
    for request in requests:
        yield _request(request)


def _refund(refund: Refund) -> str:
    by = f"decided by {refund.decided_by}" if refund.decided_by else "automatic"
    return (
        f"Refund {refund.pk} of {refund.amount} USD on {_words(refund.created_at)}, {by}: "
        f"{refund.clause} of version {refund.policy_version}."
    )


def _request(asked: RefundRequest) -> str:
    words = (
        f"{asked} of {asked.amount} USD under {asked.clause}: {asked.get_state_display().lower()}"
    )
    if asked.decided_at is not None:
        words += f", decided by {asked.decided_by} on {_words(asked.decided_at)}"
    if asked.resolved_at is not None:
        words += f", dispute resolved by {asked.resolved_by} on {_words(asked.resolved_at)}"
    if asked.goodwill_id is not None:
        words += ", as goodwill"
    if asked.further_to_id is not None:
        words += f", further to the final decision on refund request {asked.further_to_id}"
    return f"{words}{', against the verdict' if asked.against_verdict else ''}."


def _next(
    order: Order, verdict: Verdict, requests: list[RefundRequest], version: Version
) -> Iterable[str]:
    """What can be done, in words."""
    if order.state == State.FORFEITED or verdict.clause == Clause.TERMINATED:
        yield "Nothing is refunded after a termination. A reinstatement is a decision of its own."
        return
    if order.state in OPEN:
        yield from _next_of_open(order, verdict)
        if order.state != State.ACTIVE or order.broken_at is not None:
            return
    waiting = [asked for asked in requests if asked.state in _WAITS]
    for asked in waiting:
        yield f"{asked} {_WAITS[Requests(asked.state)]}."
    if waiting:
        return
    for asked in requests:
        if asked.state == Requests.DENIED:
            yield f"The customer may dispute {asked}, once, by a reply on the thread."
        elif asked.state in _FINAL:
            yield f"{asked} is final."
    left = left_to_refund(order)
    if not left:
        yield "Nothing is left to refund."
    elif any(asked.state in _FINAL for asked in requests):
        yield (
            "Only with new evidence can a senior agent who took no part open a further request, "
            f"of up to {left} USD."
        )
    elif verdict.outcome == Outcome.TICKET:
        yield (
            f"From a ticket an agent asks for a refund of up to {left} USD under "
            f"{verdict.clause}; another person approves or denies it."
        )
    elif verdict.outcome == Outcome.NOT_REFUNDABLE:
        yield (
            "The policy does not refund it. A senior agent can give goodwill from a ticket, with "
            "a reason."
        )
    else:
        names = ", ".join(rule.clause for rule in version.rules if rule.by_report)
        yield (
            "If the customer reports something, ask again with the clause that it comes to: "
            f"{names}."
        )


_WAITS = {
    Requests.REQUESTED: "waits for another person to approve or deny it",
    Requests.ESCALATED: "waits for a senior agent",
    Requests.DISPUTED: "is disputed and waits for a senior agent who took no part",
}
_FINAL = (Requests.UPHELD, Requests.OVERTURNED, Requests.DISMISSED)


def _next_of_open(order: Order, verdict: Verdict) -> Iterable[str]:
    if verdict.outcome == Outcome.AUTOMATIC:
        yield "It is due: the next sweep refunds the full price, in seconds."
    elif order.first_sms_at is None:
        yield "The customer can cancel it now, for a full refund at once."
    if verdict.outcome != Outcome.AUTOMATIC and order.state == State.AWAITING_SMS:
        yield "Without an SMS by its deadline it refunds itself."
