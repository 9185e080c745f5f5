"""CoinsPaid (CryptoProcessing): https://docs.cryptoprocessing.com/mass-payouts/file-format."""

from __future__ import annotations

from decimal import Decimal

from wallet.models import PayoutMethod
from wallet.profiles.base import Profile, Row


class CoinsPaid(Profile):
    """“No more than 500 data rows, and its size must not exceed 1 MB”; the header is required."""

    name = "coinspaid"
    label = "CoinsPaid"
    header = ("Address", "Tag", "Currency", "Amount", "Note")
    most_rows = 500
    most_bytes = 1_000_000

    def code(self, method: PayoutMethod) -> str:
        return method.coinspaid_code

    def values(self, row: Row) -> tuple[str | Decimal, ...]:
        return row.address, row.memo, row.code, row.amount, row.note
