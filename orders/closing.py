"""Closing the wallet of a customer who leaves, and opening it again.

Nothing of value is lost: a wallet is closed without open orders and with less than a cent, which
goes to rounding, because no payout can carry it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import transaction
from django_fsm import can_proceed

from orders.models import OPEN, Order
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from wallet import ledger, payouts, standing
from wallet.deciding import given
from wallet.limits import require
from wallet.models import Account, Transfer, Wallet

CENT = Decimal("0.01")


class NotEmpty(Refused):
    """The wallet holds a cent or more, or the customer has open orders or payouts."""

    code = "wallet_not_empty"


def close(person: Any, wallet_id: int, *, reason: str, seen: int | None = None) -> Wallet:
    """Close an active wallet that holds less than a cent; the rest goes to rounding.

    Locks the wallet, which stands between this and a new order. Raises PermissionDenied,
    ReasonMissing, WalletMissing, Outdated, StandingRefused, NotEmpty.
    """
    require(person, "wallet.close_wallet")
    reason = given(reason)
    with transaction.atomic():
        wallet = standing.lock_wallet(wallet_id, seen)
        if not can_proceed(wallet.close):
            raise standing.refused(wallet)
        if why := why_not_empty(wallet):
            raise NotEmpty(why)
        if wallet.balance:
            ledger.post(
                [
                    ledger.Posting(
                        kind=Transfer.Kind.ROUNDING,
                        debit=wallet.pk,
                        credit=Account.ROUNDING,
                        amount=wallet.balance,
                        # A wallet that was reopened may be closed again.
                        key=f"rounding:{wallet.pk}:{wallet.version + 1}",
                    )
                ]
            )
        wallet.close()
        standing.save(wallet, Actor.person(person), f"Closed: {reason}")
        return wallet


def why_not_empty(wallet: Wallet) -> str:
    """Why the wallet does not close yet, by what is in it or comes back; "" if nothing is."""
    if wallet.balance >= CENT:
        return f"The wallet holds {wallet.balance} USD: it is paid out or spent before it closes."
    if payouts.open_of(wallet.pk):
        return "A payout of the customer is open: it must end before the wallet closes."
    if Order.objects.filter(customer=wallet.pk, state__in=OPEN).exists():
        return "The customer has open orders: they must end before the wallet closes."
    return ""


def reopen(person: Any, wallet_id: int, *, reason: str, seen: int | None = None) -> Wallet:
    """Open a closed wallet again; a claim that is open keeps it frozen.

    Locks it. Raises as ``close``, but for NotEmpty.
    """
    require(person, "wallet.close_wallet")
    reason = given(reason)
    with transaction.atomic():
        wallet = standing.lock_wallet(wallet_id, seen)
        if not can_proceed(wallet.reopen):
            raise standing.refused(wallet)
        wallet.reopen()
        actor = Actor.person(person)
        standing.save(wallet, actor, f"Reopened: {reason}")
        standing.hold_returned(wallet, actor)
        return wallet
