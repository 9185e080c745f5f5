"""What several admin pages share: how customers and payouts are named, found and shown."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from smsactivator.common.display import BAD, BUSY, GOOD, QUIET, WAITING, badge
from smsactivator.common.links import Link, admin_url, anchor
from wallet.models import Customer, Payout

State = Payout.State
PAYOUT_TONES = {
    State.REQUESTED: WAITING,
    State.FIRST_APPROVED: WAITING,
    State.APPROVED: BUSY,
    State.EXPORTED: BUSY,
    State.SUBMITTED: BUSY,
    State.PAID: GOOD,
    State.FAILED: BAD,
    State.RETURNED: QUIET,
    State.REJECTED: BAD,
    State.WITHDRAWN: QUIET,
    State.FORFEITED: BAD,
}
LONGEST_ID = 18  # digits that every primary key can have


def whole_number(term: str) -> int | None:
    """A search term as a primary key, if it can be one."""
    digits = term.removeprefix("#")
    if digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_ID:
        return int(digits)
    return None


def named_customers(term: str) -> list[int]:
    """Customers whose id at their storefront, or email, is exactly this: at most 100, by index."""
    return list(
        Customer.objects.filter(Q(external_id=term) | Q(email=term)).values_list("pk", flat=True)[
            :100
        ]
    )


def customer_link(customer: Customer) -> SafeString:
    """A customer by the name its storefront knows it by."""
    return anchor(customer.external_id, admin_url("wallet_customer_change", customer.pk))


def transfer_link(pk: int) -> Link:
    """A line of the ledger."""
    return Link(f"Transfer {pk}", admin_url("wallet_transfer_change", pk), "wallet.view_transfer")


def payout_link(payout: Payout) -> Link:
    """A payout by its reference."""
    return Link(str(payout), admin_url("wallet_payout_change", payout.pk), "wallet.view_payout")


def payout_badge(payout: Payout) -> SafeString:
    """Its state in words."""
    state = State(payout.state)
    return badge(state.label, PAYOUT_TONES[state])


def address_html(address: str) -> SafeString:
    """An address in groups of four, for eyes alone: what is copied has no blanks in it."""
    groups = ((address[at : at + 4],) for at in range(0, len(address), 4))
    return format_html(
        '<span class="mono address">{}</span>', format_html_join("", "<span>{}</span>", groups)
    )


def payouts_listed(**query: Any) -> str:
    """The address of the list of payouts, narrowed by its filters."""
    return admin_url("wallet_payout_changelist", **query)
