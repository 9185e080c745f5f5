"""Money: Decimal USD with four places, everywhere. No float comes near it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

MAX_DIGITS = 19
DECIMAL_PLACES = 4
SMALLEST = Decimal("0.0001")
LARGEST = Decimal("999999999999999.9999")
# Decimal() itself reads "1_000", "1e2", "NaN" and the digits of every script.
PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class PlainDecimalField(forms.DecimalField):
    """A number that a person types: digits and a point, with one meaning."""

    default_error_messages = {
        "invalid": "Enter an amount in digits, with a point before its parts: 12.50."
    }

    def to_python(self, value: Any) -> Any:
        """The Decimal, or None of nothing. Raises ValidationError for what is no number."""
        if isinstance(value, str):
            value = value.strip(" ")
            if value and not PLAIN.fullmatch(value):
                raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


class AmountField(PlainDecimalField):
    """An amount of money, USD, with at most four places."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_digits": MAX_DIGITS, "decimal_places": DECIMAL_PLACES} | kwargs)


class WholeField(forms.IntegerField):
    """A whole number that a person types: int() reads "1_0" and the digits of every script."""

    def to_python(self, value: Any) -> int | None:
        """The number. Raises ValidationError for what is none."""
        if isinstance(value, str):
            value = value.strip(" ")
            if value and not re.fullmatch("-?[0-9]+", value):
                raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        number: int | None = super().to_python(value)
        return number


class MoneyField(models.DecimalField):  # type: ignore[type-arg]
    """NUMERIC(19, 4), USD. The database refuses NaN in every column of this type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_digits"] = MAX_DIGITS
        kwargs["decimal_places"] = DECIMAL_PLACES
        super().__init__(*args, **kwargs)

    def db_check(self, connection: BaseDatabaseWrapper) -> str:
        # To PostgreSQL NaN is a NUMERIC greater than every number, so it passes any "> 0".
        return f"{connection.ops.quote_name(self.column or '')} <> 'NaN'"

    def formfield(self, **kwargs: Any) -> Any:
        """As everywhere where people type an amount."""
        return super().formfield(**{"form_class": AmountField} | kwargs)


def usd(value: str | int | Decimal) -> Decimal:
    """The amount with exactly four places. Raises ValueError for what a MoneyField cannot hold."""
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        raise ValueError(f"{value} is not an amount of money")
    amount = Decimal(value)
    if not amount.is_finite() or abs(amount) > LARGEST:
        raise ValueError(f"{value} is not an amount of money")
    exact = amount.quantize(SMALLEST)
    if exact != amount:
        raise ValueError(f"{value} has more than {DECIMAL_PLACES} decimal places")
    return exact
