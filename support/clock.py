"""The answer clock: when an answer is due, when to warn, and what is late.

"One business day", from the oldest customer message that is not answered yet. A ticket stores since
when it waits and when its answer is due, and the same for a dispute, whose clock is the seniors'.
All else follows from these moments and the calendar, whenever it is asked, so it does not matter
when a job runs. What starts, pauses and stops a clock is for the verbs of tickets.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db import models

from support import business
from support.business import BusinessCalendar, ExceptionalDay, HolidayNames, Hours
from support.models import Calendar, CalendarException

log = logging.getLogger(__name__)


class Mark(models.TextChoices):
    """What is recorded of a running clock, each once."""

    HALF = "half", "Half of the time is over"
    THREE_QUARTERS = "three_quarters", "Three quarters of the time are over"
    BREACH = "breach", "Not answered in time"


@dataclass(frozen=True, slots=True)
class Reached:
    """A mark and its moment (UTC), which is the clock's and not that of the job that found it."""

    mark: Mark
    at: datetime


class AnswerTimes(NamedTuple):
    """The two clocks of a ticket, each None while it does not run."""

    id: int
    since: datetime | None
    due: datetime | None
    dispute_since: datetime | None
    dispute_due: datetime | None


def calendar(*, hold: bool = False) -> BusinessCalendar:
    """The business calendar as it is now: two queries.

    Load it once for a batch and pass it on; it is never kept between transactions. ``hold`` keeps
    it from being changed until the end of the transaction: for whoever stores a due time, so that
    the recalculation after a change sees every ticket. It locks the calendar's row (shared).
    """
    return calendar_of(_held() if hold else Calendar.objects.get())


def calendar_of(row: Calendar) -> BusinessCalendar:
    """The calendar of this row with its exceptions: one query.

    Holidays that are not known any more, after an upgrade of their package, are an error in the
    log: until somebody chooses again, answers are due earlier and not later.
    """
    return BusinessCalendar(
        zone=business.zone(row.zone),
        hours=Hours(row.opens, row.closes),
        weekdays=row.weekdays,
        holiday=_holidays(row),
        exceptions={
            exception.day: ExceptionalDay(hours_of(exception), exception.note)
            for exception in CalendarException.objects.all()
        },
    )


def _holidays(row: Calendar) -> HolidayNames:
    try:
        return business.public_holidays(row.country, row.subdivision)
    except business.UnknownCountry:
        log.exception("the business calendar works without holidays")
        return business.no_holidays


def hours_of(exception: CalendarException) -> Hours | None:
    """The hours of an exceptional day, None when it is closed."""
    if exception.opens is None or exception.closes is None:
        return None
    return Hours(exception.opens, exception.closes)


def _held() -> Calendar:
    # Django has no FOR SHARE; readers who hold the calendar do not wait for each other.
    [row] = Calendar.objects.raw("SELECT * FROM support_calendar FOR SHARE")
    return row


def due(since: datetime, calendar: BusinessCalendar) -> datetime:
    """When the answer to what has waited since ``since`` is due, UTC. Raises NoWorkingDay."""
    return calendar.one_business_day_after(since)


def warnings(
    since: datetime, due: datetime, calendar: BusinessCalendar
) -> tuple[datetime, datetime]:
    """The moments at which 50 and 75 per cent of the business time until ``due`` are over, UTC."""
    total = calendar.business_time_between(since, due)
    return calendar.moment_after(since, total / 2), calendar.moment_after(since, total * 3 / 4)


def is_breached(
    due: datetime | None, *, now: datetime, answered_at: datetime | None = None
) -> bool:
    """Whether the answer is late, or was. At the due moment itself it is in time.

    Without ``due`` nobody waits.
    """
    return due is not None and (answered_at or now) > due


def marks(since: datetime, due: datetime, calendar: BusinessCalendar) -> tuple[Reached, ...]:
    """Every mark of a running clock, the earliest first. The breach has the due moment."""
    half, three_quarters = warnings(since, due, calendar)
    return (
        Reached(Mark.HALF, half),
        Reached(Mark.THREE_QUARTERS, three_quarters),
        Reached(Mark.BREACH, due),
    )


def to_record(
    since: datetime,
    due: datetime,
    calendar: BusinessCalendar,
    *,
    now: datetime,
    recorded: Collection[str] = (),
) -> list[Reached]:
    """The marks that are reached and not recorded yet, the earliest first.

    A warning is reached at its moment, a breach after its moment.
    """
    return [
        reached
        for reached in marks(since, due, calendar)
        if reached.mark not in recorded
        and (is_breached(due, now=now) if reached.mark == Mark.BREACH else reached.at <= now)
    ]


def next_mark(
    since: datetime, due: datetime, calendar: BusinessCalendar, *, recorded: Collection[str] = ()
) -> Reached | None:
    """The first mark that is not recorded yet: stored and indexed, it spares looking at the rest.

    None when all are recorded.
    """
    left = (reached for reached in marks(since, due, calendar) if reached.mark not in recorded)
    return next(left, None)


def recalculate(rows: Iterable[AnswerTimes], calendar: BusinessCalendar) -> list[AnswerTimes]:
    """The rows whose due times are others by this calendar, with the right ones.

    A clock that does not run has none.
    """
    changed = []
    for row in rows:
        right = row._replace(
            due=row.since and due(row.since, calendar),
            dispute_due=row.dispute_since and due(row.dispute_since, calendar),
        )
        if right != row:
            changed.append(right)
    return changed
