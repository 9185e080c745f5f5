"""Inqud: https://docs.inqud.com/mass-payout/how-it-works."""

from __future__ import annotations

from decimal import Decimal

from wallet.models import PayoutMethod
from wallet.profiles.base import Profile, Row


class Inqud(Profile):
    """“Follow both the order and the number of columns”. None of them is for a memo.

    It publishes no limit; ours keeps a file that a person can look through.
    """

    name = "inqud"
    label = "Inqud"
    header = ("cryptoAddress", "cryptoCurrency", "amount", "clientOrderId", "comment")
    most_rows = 500
    most_bytes = 1_000_000
    takes_memo = False

    def code(self, method: PayoutMethod) -> str:
        return method.inqud_code

    def values(self, row: Row) -> tuple[str | Decimal, ...]:
        return row.address, row.code, row.amount, row.reference, row.note
