"""What the wallet's floor tells of a customer: its wallet, decisions, payouts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from smsactivator.common.display import amount
from smsactivator.common.links import Link, admin_url
from smsactivator.common.timeline import LONGEST, Entry, entries_for, histories, told_of
from wallet.models import (
    Claim,
    Correction,
    Payout,
    PayoutOutcome,
    Reinstatement,
    Termination,
    Wallet,
)


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


@entries_for("wallet.Payout")
def outcomes_of_payouts(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """What the customers were told of these payouts."""
    entries: dict[int, list[Entry]] = defaultdict(list)
    told = PayoutOutcome.objects.filter(payout__in=pks, told_at__isnull=False)
    for outcome in told.order_by("-pk")[: LONGEST + 1]:
        if outcome.told_at is not None:
            entries[outcome.payout_id].append(
                Entry(
                    at=outcome.told_at,
                    key=f"wallet.payoutoutcome:{outcome.pk}",
                    what=f"Told to the customer: {outcome.get_what_display().lower()}",
                    why=outcome.detail,
                )
            )
    return entries


@entries_for("wallet.Customer")
def payouts_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """What became of these customers' payouts."""
    rows = Payout.objects.filter(customer_id__in=pks).order_by("-pk")
    found = {row.pk: row for row in rows[: LONGEST + 1]}

    def named(pk: int) -> Link:
        return Link(
            f"{found[pk]} of {amount(found[pk].amount)} USD",
            admin_url("wallet_payout_change", pk),
            "wallet.view_payout",
        )

    entries: dict[int, list[Entry]] = defaultdict(list)
    permission = "wallet.view_historicalpayout"
    for pk, steps in told_of(Payout, list(found), named, permission).items():
        entries[found[pk].customer_id] += [
            replace(step, permission=step.permission or permission) for step in steps
        ]
    return entries


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
