"""What several admin pages share: how a customer is named and found."""

from __future__ import annotations

from django.db.models import Q
from django.utils.safestring import SafeString

from smsactivator.common.links import Link, admin_url, anchor
from wallet.models import Customer

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
