"""What the wallet's floor tells of a customer: the wallet's states, and what people decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smsactivator.common.display import amount
from smsactivator.common.links import Link, admin_url
from smsactivator.common.timeline import LONGEST, Entry, entries_for, histories
from wallet.models import Claim, Correction, Reinstatement, Termination, Wallet


@entries_for("wallet.Customer")
def wallets_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """What became of these customers' wallets: frozen, forfeited, closed."""

    def named(pk: int) -> Link:
        return Link(f"Wallet {pk}", admin_url("wallet_wallet_change", pk), "wallet.view_wallet")

    return histories(Wallet, pks, named=named, permission="wallet.view_historicalwallet")


@entries_for("wallet.Customer")
def corrections_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """Goodwill, adjustments and reversals."""
    rows = Correction.objects.filter(customer_id__in=pks)
    return _decided(
        Correction,
        rows.order_by("-pk"),
        lambda row: row.customer_id,
        lambda row: f"{row.get_kind_display()} of {amount(row.amount)} USD",
    )


@entries_for("wallet.Customer")
def claims_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """Chargeback claims against these customers' deposits."""
    rows = Claim.objects.filter(deposit__transfer__wallet_id__in=pks)
    return _decided(
        Claim,
        rows.select_related("deposit__transfer").order_by("-pk"),
        lambda row: row.deposit.transfer.wallet_id,
        lambda row: f"Chargeback claim {row.reference}",
    )


@entries_for("wallet.Customer")
def terminations_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """Ends of these customers' accounts."""
    rows = Termination.objects.filter(customer_id__in=pks)
    return _decided(Termination, rows.order_by("-pk"), lambda row: row.customer_id, str)


@entries_for("wallet.Customer")
def reinstatements_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """These customers' ways back."""
    rows = Reinstatement.objects.filter(termination__customer_id__in=pks)
    return _decided(
        Reinstatement,
        rows.select_related("termination").order_by("-pk"),
        lambda row: row.termination.customer_id,
        str,
    )


def _decided(model: Any, rows: Any, customer: Any, words: Any) -> dict[int, list[Entry]]:
    """The history of these rows, by customer, for those who may see it."""
    name = model._meta.model_name
    found = {row.pk: row for row in rows[: LONGEST + 1]}

    def named(pk: int) -> Link:
        return Link(words(found[pk]), admin_url(f"wallet_{name}_change", pk), f"wallet.view_{name}")

    permission = f"wallet.view_historical{name}"
    entries: dict[int, list[Entry]] = defaultdict(list)
    for pk, steps in histories(model, list(found), named=named, permission=permission).items():
        entries[customer(found[pk])].extend(steps)
    return entries
