"""Moments that a clock which ran ahead has left behind: they are evidence of nothing.

A process compares what is stored with its own clock. A clock that was ahead, a machine's own or
everybody's, leaves looks, leases, due times and heartbeats that lie after now. Whoever believed
them would do nothing until that moment comes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

# The clocks of machines that work together differ by this much, and nothing is wrong.
SKEW = timedelta(seconds=5)


def is_ahead(moment: datetime, now: datetime, reach: timedelta = timedelta(0)) -> bool:
    """Whether only a clock that is ahead of ours can have written this.

    ``reach`` is how far into the future such moments lie as a rule: as far as a lease lasts.
    """
    return moment > now + reach + SKEW


def unless_ahead(moment: datetime | None, now: datetime) -> datetime | None:
    """The moment, or None when it lies after now."""
    return None if moment is None or is_ahead(moment, now) else moment


def ahead(field: str, now: datetime, reach: timedelta = timedelta(0)) -> Q:
    """The rows of which ``is_ahead`` is true."""
    return Q(**{f"{field}__gt": now + reach + SKEW})


def due(field: str, now: datetime, reach: timedelta) -> Q:
    """The rows whose time has come, or lies further away than such a time is ever set."""
    return Q(**{f"{field}__lte": now}) | ahead(field, now, reach)
