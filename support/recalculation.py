"""After a change of the business calendar: the stored due times of open tickets are made right."""

from __future__ import annotations

from collections.abc import Callable

# Makes the due times that its rows store right, and returns how many were not.
Recalculation = Callable[[], int]
_recalculations: list[Recalculation] = []


def recalculated_by(function: Recalculation) -> Recalculation:
    """Register the decorated function: it is called after each change, and every hour.

    It works in batches, each a transaction of its own: lock the rows, load
    ``clock.calendar(hold=True)``, write what ``clock.recalculate`` returns. Running it again
    changes nothing.
    """
    _recalculations.append(function)
    return function


def recalculate_open_tickets() -> int:
    """Make every stored due time right by the calendar as it is; returns how many were not."""
    return sum(recalculate() for recalculate in _recalculations)
