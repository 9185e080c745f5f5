"""The house's own file: all that is known of a payout, for people and for whoever asks for it."""

from __future__ import annotations

from decimal import Decimal

from wallet.models import PayoutMethod
from wallet.profiles.base import Profile, Row


class Canonical(Profile):
    """Every coin by its own name and network."""

    name = "canonical"
    label = "Canonical"
    header = ("reference", "address", "memo", "currency", "network", "amount", "note")
    most_rows = 5000
    most_bytes = 10_000_000

    def code(self, method: PayoutMethod) -> str:
        return method.code

    def values(self, row: Row) -> tuple[str | Decimal, ...]:
        return (
            row.reference,
            row.address,
            row.memo,
            row.currency,
            row.network,
            row.amount,
            row.note,
        )
