"""The closes with the figures of every floor."""

from __future__ import annotations

from datetime import date
from typing import Any

import orders.figures
import refunds.figures
import wallet.figures
from wallet import closes
from wallet.figures import SECTIONS
from wallet.models import Close

FIGURES = tuple(
    sorted(
        (*wallet.figures.FIGURES, *orders.figures.FIGURES, *refunds.figures.FIGURES),
        key=lambda figure: SECTIONS.index(figure.section),
    )
)
LATER = (*wallet.figures.LATER, *orders.figures.LATER, *refunds.figures.LATER)
BY_NAME = {figure.name: figure for figure in FIGURES}


def close_days(person: Any, through: date, *, seen: int | None = None) -> list[Close]:
    """Close every sealed day up to this one (``wallet.closes.close_days``)."""
    return closes.close_days(person, through, FIGURES, seen=seen)


def close_month(person: Any, first: date, *, seen: int | None = None) -> Close:
    """Close the month that begins on this day (``wallet.closes.close_month``)."""
    return closes.close_month(person, first, FIGURES, seen=seen)


def close_what_is_sealed() -> list[Close]:
    """Close all days and months that can be closed by now; nobody's deed (the beat's)."""
    return closes.close_what_is_sealed(FIGURES)
