"""The policy as code: every bullet of its text, by name, and the versions to come."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refunds import policy
from refunds.policy import AUTOMATIC, Clause, Facts, Outcome, PolicyMissing
from refunds.policy.base import SECTIONS
from refunds.policy.v2026_05_07 import VERSION
from refunds.tests.versions import JULY
from wallet import ledger, payouts

TEXT = Path(__file__).resolve().parents[2] / "docs" / "refund-policy.txt"
# Of the policy as it is published.
PUBLISHED = "6a98e0ed7ee1d2287e6bd9a30130122fd6de7760ff68e6bb4be67c10334eca60"
PLACED = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DEADLINE = PLACED + 20 * MINUTE


def facts(**known: Any) -> Facts:
    """An activation of 1 USD that was handed out a moment after it was placed, 5 minutes ago."""
    return Facts(
        **{
            "at": PLACED + 5 * MINUTE,
            "kind": "activation",
            "price": Decimal(1),
            "placed_at": PLACED,
            "allocated_at": PLACED,
            "deadline": DEADLINE,
            **known,
        }
    )


def rental(**known: Any) -> Facts:
    """A rental of 4 hours, handed out 5 minutes ago."""
    ends_at = PLACED + timedelta(hours=4)
    return facts(**{"kind": "rental", "deadline": None, "rental_ends_at": ends_at, **known})


def delivered(**known: Any) -> Facts:
    """An activation whose SMS came after a minute, and whose time is over."""
    over = {"at": DEADLINE, "ended_at": DEADLINE, "sms_ruled_out": True}
    return facts(**{"first_sms_at": PLACED + MINUTE, "sms": 1, **over, **known})


def missed(**known: Any) -> Facts:
    """An activation without an SMS, looked at after its deadline."""
    return facts(**{"at": DEADLINE + MINUTE, "sms_ruled_out": True, **known})


def unallocated(**known: Any) -> Facts:
    """An order that has no number yet."""
    return facts(**{"allocated_at": None, "deadline": None, **known})


# --- the text -------------------------------------------------------------------------------------

AUTOMATICALLY = "When you get a refund automatically"
BY_TICKET = "When refunds need a ticket"
NOT_GRANTED = "When refunds are not granted"
BULLETS = {
    "No SMS within the 20-minute SLA": (
        missed(),
        AUTOMATICALLY,
        Clause.NO_SMS_IN_TIME,
        "No SMS had arrived by 2026-06-01 12:20:00 UTC",
    ),
    "You cancel the order before any SMS arrives": (
        facts(cancelled=True, ended_at=PLACED + 5 * MINUTE),
        AUTOMATICALLY,
        Clause.CANCELLED_BEFORE_SMS,
        "The customer cancelled before any SMS",
    ),
    "The allocated number is reported broken / dead by the upstream": (
        facts(broken_at=PLACED + 4 * MINUTE, broken_signal="STATUS_REVOKE"),
        AUTOMATICALLY,
        Clause.NUMBER_BROKEN,
        "The upstream reported the number broken (STATUS_REVOKE)",
    ),
    "Allocation failure on our side": (
        unallocated(refused_at=PLACED, refusal_code="NO_NUMBERS"),
        AUTOMATICALLY,
        Clause.ALLOCATION_FAILED,
        "The upstream refused to sell a number (NO_NUMBERS)",
    ),
    "You received an SMS but the destination service rejected it": (
        delivered(reported="ticket.service_rejected"),
        BY_TICKET,
        Clause.SERVICE_REJECTED,
        "An SMS arrived in time; supposed: the service rejected it",
    ),
    "You received the wrong service's SMS": (
        delivered(reported="ticket.wrong_service"),
        BY_TICKET,
        Clause.WRONG_SERVICE,
        "An SMS arrived in time; supposed: it is an SMS of another service",
    ),
    "Long-term rental issues that did not auto-detect": (
        rental(reported="ticket.rental_issue"),
        BY_TICKET,
        Clause.RENTAL_ISSUE,
        "The rented number was handed out; supposed: it failed without a signal",
    ),
    "You received an SMS successfully but did not use it in time": (
        delivered(reported="none.not_used_in_time"),
        NOT_GRANTED,
        Clause.NOT_USED_IN_TIME,
        "An SMS arrived in time; supposed: it was not used in time",
    ),
    "You used the SMS to verify on a service that subsequently banned the account": (
        delivered(reported="none.banned_later"),
        NOT_GRANTED,
        Clause.BANNED_LATER,
        "An SMS arrived in time; supposed: it served, and the account was banned later",
    ),
    "You ordered the wrong service or the wrong country": (
        delivered(reported="none.ordered_wrong"),
        NOT_GRANTED,
        Clause.ORDERED_WRONG,
        "An SMS arrived in time; supposed: the wrong service or country was ordered",
    ),
    "AUP violations resulting in account termination": (
        delivered(terminated=True),
        NOT_GRANTED,
        Clause.TERMINATED,
        "The account was terminated",
    ),
}
OUTCOMES = {
    AUTOMATICALLY: Outcome.AUTOMATIC,
    BY_TICKET: Outcome.TICKET,
    NOT_GRANTED: Outcome.NOT_REFUNDABLE,
}


def sections() -> dict[str, list[str]]:
    """The bullets of each section of the policy's text."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in TEXT.read_text(encoding="utf-8").splitlines():
        if line.startswith("  • "):
            found[heading].append(line.removeprefix("  • "))
        elif line in OUTCOMES:
            heading = line
            found[heading] = []
    return found


@pytest.mark.parametrize("bullet", BULLETS)
def test_every_bullet_of_the_policy_is_a_verdict(bullet: str) -> None:
    known, section, clause, why = BULLETS[bullet]

    verdict = policy.in_force(known.placed_at).verdict(known)

    assert (verdict.outcome, verdict.clause) == (OUTCOMES[section], clause)
    assert (verdict.version, verdict.why) == ("2026-05-07", why)
    assert policy.text(clause).startswith(bullet)
    assert policy.text(clause) in sections()[section]


def test_the_version_has_the_policy_s_sentences_in_their_order_and_no_other() -> None:
    assert [(rule.outcome, rule.text) for rule in VERSION.rules] == [
        (OUTCOMES[section], bullet) for section, bullets in sections().items() for bullet in bullets
    ]
    assert [clause for _, _, clause, _ in BULLETS.values()] == [r.clause for r in VERSION.rules]
    assert len(BULLETS) == 4 + 3 + 4


def test_the_version_says_where_refunds_go_and_the_least_payout_in_the_policy_s_words() -> None:
    _, _, after = TEXT.read_text(encoding="utf-8").partition("\nRefund destination\n\n")
    section, _, _ = after.partition("\n\nDisputes\n")

    assert VERSION.destination == section
    assert f"(subject to a minimum of ${VERSION.payout_minimum})" in section
    assert VERSION.payout_minimum == Decimal(20)


def test_the_wallet_quotes_the_sentence_about_payouts_as_the_policy_says_it() -> None:
    assert VERSION.destination.endswith(f" {payouts.CLAUSE}")


def test_the_wallet_quotes_what_ends_an_account_as_the_policy_says_it() -> None:
    text = TEXT.read_text("utf-8")
    _, _, disputes = text.partition("\n\nDisputes\n\n")

    assert f"  • {ledger.TERMINATED}\n" in text
    assert disputes.strip().endswith(f"; {ledger.CHARGEBACK}")


def test_a_version_to_come_has_its_own_least_payout_or_the_one_before_it() -> None:
    same = VERSION.amended("2026-07-01", date(2026, 7, 1))
    words = VERSION.destination.replace("$20", "$25")
    more = VERSION.amended(
        "2026-08-01", date(2026, 8, 1), destination=words, payout_minimum=Decimal(25)
    )

    assert (same.payout_minimum, same.destination) == (Decimal(20), VERSION.destination)
    assert (more.payout_minimum, more.destination) == (Decimal(25), words)


def test_the_text_in_the_documents_is_the_published_one() -> None:
    assert hashlib.sha256(TEXT.read_bytes()).hexdigest() == PUBLISHED
    assert f"Effective: {VERSION.effective}" in TEXT.read_text(encoding="utf-8")


# --- one clause comes before another --------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "clause"),
    [
        # Nothing is refunded after a termination, whatever happened.
        (missed(terminated=True), Clause.TERMINATED),
        (facts(terminated=True, broken_at=PLACED), Clause.TERMINATED),
        (delivered(terminated=True, reported="ticket.wrong_service"), Clause.TERMINATED),
        # What refunds itself is not refundable by ticket, and no report takes it away.
        (missed(reported="ticket.service_rejected"), Clause.NO_SMS_IN_TIME),
        (missed(reported="none.ordered_wrong", ended_at=DEADLINE), Clause.NO_SMS_IN_TIME),
        (rental(broken_at=PLACED, reported="ticket.rental_issue"), Clause.NUMBER_BROKEN),
        # A cancel is what ended it, also of a number that broke or whose deadline passed.
        (missed(cancelled=True), Clause.CANCELLED_BEFORE_SMS),
        (facts(cancelled=True, broken_at=PLACED), Clause.CANCELLED_BEFORE_SMS),
        (unallocated(cancelled=True, refused_at=PLACED), Clause.CANCELLED_BEFORE_SMS),
        # A number that broke had no chance to get its SMS in time.
        (missed(broken_at=PLACED + MINUTE), Clause.NUMBER_BROKEN),
        (missed(broken_at=DEADLINE + MINUTE), Clause.NUMBER_BROKEN),
    ],
)
def test_which_clause_comes_first(known: Facts, clause: str) -> None:
    assert VERSION.verdict(known).clause == clause


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (facts(), "The order is open"),
        (unallocated(), "The order is open"),
        (rental(), "The order is open"),
        (facts(at=DEADLINE, sms_ruled_out=True), "The order is open"),
        (facts(at=DEADLINE + MINUTE), "The deadline has passed; the upstream is asked"),
        (delivered(), "An SMS arrived in time and nothing else was reported"),
        (delivered(broken_at=PLACED + 2 * MINUTE), "An SMS arrived in time"),
        (rental(at=PLACED + timedelta(days=1)), "The order is open"),
        (rental(ended_at=PLACED + timedelta(hours=4)), "The rented time was delivered"),
        (rental(reported="none.ordered_wrong"), "The order is open"),
        (facts(reported="none.ordered_wrong"), "The order is open"),
        (facts(reported="ticket.service_rejected"), "The order is open"),
        (delivered(reported="ticket.rental_issue"), "“Long-term rental issue” was reported, but"),
        (delivered(reported="none.terminated"), "“Account terminated” was reported, but"),
        (delivered(reported="ticket.unreadable"), "This version has no clause ticket.unreadable"),
        (
            rental(ended_at=PLACED + timedelta(hours=4), reported="ticket.service_rejected"),
            "“SMS rejected by the service” was reported, but",
        ),
    ],
)
def test_what_no_clause_covers(known: Facts, why: str) -> None:
    verdict = VERSION.verdict(known)

    assert (verdict.outcome, verdict.clause) == (Outcome.NONE, "")
    assert verdict.why.startswith(why)


@pytest.mark.parametrize(
    ("known", "clause"),
    [
        (rental(broken_at=PLACED + MINUTE), Clause.NUMBER_BROKEN),
        (rental(broken_at=PLACED + 3 * MINUTE, first_sms_at=PLACED + MINUTE), Clause.NUMBER_BROKEN),
        (rental(broken_at=PLACED + timedelta(hours=4) - MINUTE), Clause.NUMBER_BROKEN),
        (rental(broken_at=PLACED + timedelta(hours=4)), ""),
        (rental(cancelled=True), Clause.CANCELLED_BEFORE_SMS),
        (rental(at=PLACED + timedelta(hours=3), sms_ruled_out=True), ""),
        (rental(first_sms_at=PLACED + MINUTE, reported="ticket.rental_issue"), Clause.RENTAL_ISSUE),
        (rental(first_sms_at=PLACED + MINUTE, reported="none.ordered_wrong"), Clause.ORDERED_WRONG),
        (unallocated(kind="rental", allocation_timed_out=True), Clause.ALLOCATION_FAILED),
    ],
)
def test_a_rental_has_no_sla_and_is_delivered_by_its_time(known: Facts, clause: str) -> None:
    assert VERSION.verdict(known).clause == clause


moments = st.none() | st.integers(0, 300).map(lambda minutes: PLACED + minutes * MINUTE)
any_facts = st.builds(
    facts,
    at=moments.filter(bool),
    kind=st.sampled_from(["activation", "rental"]),
    allocated_at=moments,
    deadline=moments,
    first_sms_at=moments,
    rental_ends_at=moments,
    ended_at=moments,
    refused_at=moments,
    broken_at=moments,
    cancelled=st.booleans(),
    allocation_timed_out=st.booleans(),
    sms_ruled_out=st.booleans(),
    terminated=st.booleans(),
    reported=st.sampled_from(["", "ticket.unheard_of", *Clause]),
)


@given(any_facts)
def test_whatever_is_known_one_clause_at_most_decides(known: Facts) -> None:
    covering = [rule for rule in VERSION.rules if rule.why(known)]
    verdict = VERSION.verdict(known)

    automatic = [rule for rule in covering if rule.outcome == Outcome.AUTOMATIC]
    # An order without a number has neither a deadline nor a broken number.
    if known.allocated_at is not None or not (known.deadline or known.broken_at):
        assert len(automatic) <= 1
    assert len([rule for rule in covering if rule.by_report]) <= 1
    assert verdict.why
    assert (verdict.outcome == Outcome.NONE) == (not covering)
    if known.terminated:
        assert verdict.clause == Clause.TERMINATED
    elif automatic:
        assert verdict.clause in AUTOMATIC
    if verdict.outcome == Outcome.TICKET:
        assert verdict.clause == known.reported


def test_facts_are_kept_as_text() -> None:
    kept = missed(refunded=Decimal("0.5000")).as_json()

    assert (kept["deadline"], kept["refunded"]) == ("2026-06-01T12:20:00+00:00", "0.5000")
    assert (kept["first_sms_at"], kept["sms"], kept["terminated"]) == (None, 0, False)


# --- the next version -----------------------------------------------------------------------------


def test_every_version_is_well_formed() -> None:
    known = policy.versions()

    assert [version.name for version in known] == ["2026-05-07"]
    for version in known:
        assert version.name == version.effective.isoformat()
        assert all(r.clause.startswith(SECTIONS[r.outcome]) for r in version.rules)
        assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", rule.clause) for rule in version.rules)
        assert len({rule.clause for rule in version.rules}) == len(version.rules)
    assert set(Clause) == {rule.clause for rule in VERSION.rules}


LAST_OF_JUNE = datetime(2026, 6, 30, 23, 59, 59, 999999, tzinfo=UTC)
FIRST_OF_JULY = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("placed_at", "version", "banned"),
    [
        (datetime(2026, 5, 6, 23, 59, tzinfo=UTC), "2026-05-07", "none.banned_later"),
        (datetime(2026, 5, 7, tzinfo=UTC), "2026-05-07", "none.banned_later"),
        (LAST_OF_JUNE, "2026-05-07", "none.banned_later"),
        (FIRST_OF_JULY, "2026-07-01", "ticket.banned_later"),
        (FIRST_OF_JULY + timedelta(days=900), "2026-07-01", "ticket.banned_later"),
        # In Berlin it is July already, in New York it is still June: UTC counts.
        (datetime(2026, 7, 1, 1, 59, tzinfo=timezone(timedelta(hours=2))), "2026-05-07", None),
        (datetime(2026, 6, 30, 20, 0, tzinfo=timezone(timedelta(hours=-4))), "2026-07-01", None),
    ],
)
def test_a_next_version_is_one_more_file_and_judges_what_is_placed_from_its_day_on(
    add_version: Any, placed_at: datetime, version: str, banned: str | None
) -> None:
    add_version("v2026_07_01", JULY)

    now = policy.in_force(placed_at)
    first_sms_at = placed_at + 15 * MINUTE
    late = facts(placed_at=placed_at, allocated_at=placed_at, first_sms_at=first_sms_at)
    soon = facts(placed_at=placed_at, allocated_at=placed_at, first_sms_at=placed_at + MINUTE)
    unreadable = {"reported": "ticket.unreadable"}

    assert now.name == version
    new = version == "2026-07-01"
    assert now.verdict(late).outcome == (Outcome.AUTOMATIC if new else Outcome.NONE)
    assert now.verdict(soon).outcome == Outcome.NONE
    asked = facts(**{**_given(soon), **unreadable})
    assert now.verdict(asked).clause == ("ticket.unreadable" if new else "")
    if banned is not None:
        asked = facts(**{**_given(soon), "reported": "none.banned_later"})
        assert now.verdict(asked).clause == banned


def _given(known: Facts) -> dict[str, Any]:
    return {name: getattr(known, name) for name in Facts.__dataclass_fields__}


def test_a_next_version_has_its_clauses_in_their_places(add_version: Any) -> None:
    add_version("v2026_07_01", JULY)
    add_version("v1_of_something_else", "raise RuntimeError")

    may, july = policy.versions()

    assert (may.effective, july.effective) == (date(2026, 5, 7), date(2026, 7, 1))
    assert [rule.clause for rule in july.rules] == [
        *("auto.no_sms_in_time", "auto.cancelled_before_sms", "auto.number_broken"),
        "auto.allocation_failed",
        *("ticket.service_rejected", "ticket.wrong_service", "ticket.rental_issue"),
        *("ticket.banned_later", "ticket.unreadable"),
        *("none.not_used_in_time", "none.ordered_wrong", "none.terminated"),
    ]
    assert policy.text("auto.no_sms_in_time").startswith("No SMS within the 10-minute")
    assert policy.text("auto.no_sms_in_time", "2026-05-07").startswith("No SMS within the 20-min")
    # What an older version has is still known by name, for what was decided under it.
    assert ("none.banned_later", "Account banned later") in policy.choices()
    assert ("ticket.unreadable", "Unreadable SMS") in policy.choices()
    assert [rule.clause for rule in policy.clauses(Outcome.NOT_REFUNDABLE)] == [
        *("none.not_used_in_time", "none.ordered_wrong", "none.terminated"),
    ]


def test_a_version_or_clause_that_is_none_is_named() -> None:
    with pytest.raises(PolicyMissing, match=r"no version 2020-01-01 .* There are: 2026-05-07\."):
        policy.version("2020-01-01")
    with pytest.raises(PolicyMissing, match=r"has no clause mercy\. There are: auto\.no_sms_in_t"):
        policy.rule("mercy")
    with pytest.raises(PolicyMissing, match=r"Version 2026-05-07 of the policy has no clause x\."):
        policy.text("x", "2026-05-07")


@pytest.mark.parametrize("clause", [rule.clause for rule in VERSION.rules if rule.by_report])
def test_choosing_a_clause_adds_nothing_to_what_is_known(clause: str) -> None:
    order = {"kind": "rental"} if clause == Clause.RENTAL_ISSUE else {}
    plain = delivered(**order)
    chosen = VERSION.verdict(delivered(**order, reported=clause, reported_by="ann"))

    assert VERSION.verdict(plain).known == "An SMS arrived in time and nothing else was reported"
    assert chosen.known in {"An SMS arrived in time", "The rented number was handed out"}
    assert chosen.claim == f"claimed by ann: {policy.rule(clause).claims}"
    assert chosen.why == f"{chosen.known}; {chosen.claim}"


def test_every_report_says_what_it_claims() -> None:
    assert [rule.clause for rule in VERSION.rules if rule.by_report != bool(rule.claims)] == []
