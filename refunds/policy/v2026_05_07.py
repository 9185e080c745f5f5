"""The refund policy of 2026-05-07, clause by clause, in its own words and in their order.

Each function says when its clause covers an order: what is known that lets it, in words, or "" when
it does not. What a report ``claims`` beyond that stands apart. The whole text is
docs/refund-policy.txt.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from refunds.policy.base import Facts, Version, automatic, by_ticket, forfeits, not_granted

# --- When you get a refund automatically ----------------------------------------------------------


@automatic(
    "auto.no_sms_in_time",
    title="No SMS within the SLA",
    text=(
        "No SMS within the 20-minute SLA — the order auto-cancels and the full price is credited "
        "back to the wallet."
    ),
)
def no_sms_in_time(facts: Facts) -> str:
    """The deadline passed and no SMS was in time. A rental has none (decision 0008)."""
    if facts.deadline is None or facts.first_sms_at is not None:
        return ""
    if facts.cancelled or facts.broken_at is not None:
        return ""
    if facts.at <= facts.deadline or not facts.sms_ruled_out:
        return ""
    return f"No SMS had arrived by {facts.deadline:%Y-%m-%d %H:%M:%S} UTC"


@automatic(
    "auto.cancelled_before_sms",
    title="Cancelled before any SMS",
    text="You cancel the order before any SMS arrives — full refund, processed instantly.",
)
def cancelled_before_sms(facts: Facts) -> str:
    """The customer cancelled, which after an SMS is refused."""
    if facts.cancelled and facts.first_sms_at is None:
        return "The customer cancelled before any SMS"
    return ""


@automatic(
    "auto.number_broken",
    title="Number broken",
    text="The allocated number is reported broken / dead by the upstream — full refund.",
)
def number_broken(facts: Facts) -> str:
    """The upstream reported it before the order was delivered.

    An activation is delivered by its first SMS, a rental by its time (decision 0008): a rented
    number that breaks after an SMS is refunded.
    """
    if facts.broken_at is None or facts.cancelled:
        return ""
    if facts.kind == "rental":
        delivered = facts.rental_ends_at is not None and facts.broken_at >= facts.rental_ends_at
    else:
        delivered = facts.first_sms_at is not None
    return "" if delivered else f"The upstream reported the number broken ({facts.broken_signal})"


@automatic(
    "auto.allocation_failed",
    title="Allocation failed",
    text="Allocation failure on our side (the order was never actually fulfilled) — full refund.",
)
def allocation_failed(facts: Facts) -> str:
    """No number was handed out: the upstream refused, or it took too long."""
    if facts.allocated_at is not None or facts.cancelled:
        return ""
    if facts.refused_at is not None:
        return f"The upstream refused to sell a number ({facts.refusal_code})"
    return "No number was allocated in time" if facts.allocation_timed_out else ""


def _arrived(facts: Facts) -> str:
    """What is known of an order whose SMS is complained of: no fact tells what became of it."""
    return "An SMS arrived in time" if facts.first_sms_at is not None else ""


# --- When refunds need a ticket -------------------------------------------------------------------


@by_ticket(
    "ticket.service_rejected",
    title="SMS rejected by the service",
    text=(
        "You received an SMS but the destination service rejected it (e.g. a region-block on the "
        "upstream carrier)."
    ),
    claims="the service rejected it",
)
def service_rejected(facts: Facts) -> str:
    """It is said of an order whose SMS arrived."""
    return _arrived(facts)


@by_ticket(
    "ticket.wrong_service",
    title="Wrong service's SMS",
    text=(
        "You received the wrong service's SMS (extremely rare — usually a carrier "
        "billing-mismatch)."
    ),
    claims="it is an SMS of another service",
)
def wrong_service(facts: Facts) -> str:
    """It is said of an order whose SMS arrived."""
    return _arrived(facts)


@by_ticket(
    "ticket.rental_issue",
    title="Long-term rental issue",
    text=(
        "Long-term rental issues that did not auto-detect (silent disconnections, "
        "partial-coverage outages mid-rental)."
    ),
    claims="it failed without a signal",
)
def rental_issue(facts: Facts) -> str:
    """It is said of a rental that was handed out."""
    if facts.kind == "rental" and facts.allocated_at is not None:
        return "The rented number was handed out"
    return ""


# --- When refunds are not granted -----------------------------------------------------------------


@not_granted(
    "none.not_used_in_time",
    title="SMS not used in time",
    text="You received an SMS successfully but did not use it in time.",
    claims="it was not used in time",
)
def not_used_in_time(facts: Facts) -> str:
    """It is said of an order whose SMS arrived."""
    return _arrived(facts)


@not_granted(
    "none.banned_later",
    title="Account banned later",
    text=(
        "You used the SMS to verify on a service that subsequently banned the account for an "
        "unrelated reason."
    ),
    claims="it served, and the account was banned later",
)
def banned_later(facts: Facts) -> str:
    """It is said of an order whose SMS arrived."""
    return _arrived(facts)


@not_granted(
    "none.ordered_wrong",
    title="Wrong service or country ordered",
    text="You ordered the wrong service or the wrong country.",
    claims="the wrong service or country was ordered",
)
def ordered_wrong(facts: Facts) -> str:
    """It is said of an order that can no longer be cancelled: until then, cancelling refunds it."""
    return _arrived(facts) or ("The order has ended" if facts.ended_at is not None else "")


@forfeits(
    "none.terminated",
    title="Account terminated",
    text="AUP violations resulting in account termination — wallet balance is forfeited per /aup.",
)
def terminated(facts: Facts) -> str:
    """The account was terminated: nothing is refunded, whatever happened to the order."""
    return "The account was terminated" if facts.terminated else ""


# --- Refund destination ---------------------------------------------------------------------------

DESTINATION = (
    "Refunds always credit the in-app wallet, denominated in USD. The wallet balance can be spent "
    "on any future order. We do not refund to the originating crypto address — crypto payments are "
    "non-reversible by design, and any reversal would require a fresh outbound transaction with "
    "its own gas/withdrawal cost. If you want to leave the platform with a non-zero wallet "
    "balance, contact support and we can arrange an outbound payout (subject to a minimum of $20)."
)

VERSION = Version(
    name="2026-05-07",
    effective=date(2026, 5, 7),
    rules=(
        no_sms_in_time,
        cancelled_before_sms,
        number_broken,
        allocation_failed,
        service_rejected,
        wrong_service,
        rental_issue,
        not_used_in_time,
        banned_later,
        ordered_wrong,
        terminated,
    ),
    destination=DESTINATION,
    payout_minimum=Decimal(20),
)
