"""Payouts for the admin's tests, through the verbs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

from smsactivator.tests import world
from wallet import payouts
from wallet.models import Customer, Payout
from wallet.tests import paying
from wallet.tests.paying import HASH, TERMS
from wallet.tests.world import numbers

__all__ = ["HASH", "OTHER_HASH", "TERMS", "address", "asked", "fresh", "sent"]

OTHER_HASH = "cd" * 32


def address() -> str:
    """One on Tron that nobody has used yet."""
    return paying.tron(next(numbers))


def asked(by: Any, amount: str = "50", buyer: Customer | None = None, **terms: Any) -> Payout:
    """A payout that is waiting for approval; of a customer of its own by default."""
    wish: dict[str, Any] = {
        "method": "USDT-TRON",
        "address": address(),
        "amount": Decimal(amount),
        "terms": TERMS,
        "reason": "Leaves us",
        "key": uuid4(),
    }
    buyer = buyer or world.customer(funds="10000")
    return payouts.request(by, buyer.pk, **wish | terms)


def sent(by: Any, approver: Any, amount: str = "50", **more: Any) -> Payout:
    """A payout on its way."""
    payout = asked(by, amount, **more)
    payouts.approve(approver, payout.pk)
    return paying.submitted(payout)


def fresh(payout: Payout) -> Payout:
    """As the database has it."""
    return Payout.objects.get(pk=payout.pk)
