"""Money: Decimal USD with four places, everywhere. No float comes near it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

MAX_DIGITS = 19
DECIMAL_PLACES = 4
SMALLEST = Decimal("0.0001")
LARGEST = Decimal("999999999999999.9999")


class MoneyField(models.DecimalField):  # type: ignore[type-arg]
    """NUMERIC(19, 4), USD. The database refuses NaN in every column of this type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_digits"] = MAX_DIGITS
        kwargs["decimal_places"] = DECIMAL_PLACES
        super().__init__(*args, **kwargs)

    def db_check(self, connection: BaseDatabaseWrapper) -> str:
        # To PostgreSQL NaN is a NUMERIC greater than every number, so it passes any "> 0".
        return f"{connection.ops.quote_name(self.column or '')} <> 'NaN'"


def usd(value: str | int | Decimal) -> Decimal:
    """The amount with exactly four places. Raises ValueError for what a MoneyField cannot hold."""
    amount = Decimal(value)
    if not amount.is_finite() or abs(amount) > LARGEST:
        raise ValueError(f"{value} is not an amount of money")
    exact = amount.quantize(SMALLEST)
    if exact != amount:
        raise ValueError(f"{value} has more than {DECIMAL_PLACES} decimal places")
    return exact
