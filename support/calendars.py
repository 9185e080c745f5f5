"""Changing the business calendar and its exceptional days.

Each change locks the calendar's row, says who made it and why, and afterwards the due times of open
tickets are recalculated. Whoever stores a due time holds the calendar (``clock.calendar``), so none
is missed.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, time, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import Invalid, NotFound, Refused
from smsactivator.common.history import Actor
from smsactivator.common.queueing import queue
from smsactivator.common.seen import refuse_outdated
from support import business, clock, tasks
from support.business import Hours
from support.models import Calendar, CalendarException
from support.models.calendar import FIRST_DAY, LAST_DAY, WEEKDAYS
from wallet.deciding import given

CHANGE = "support.change_calendar"
EXCEPTIONS = 1000  # all are loaded with the calendar
NOTE = 200


class NoWeekday(Invalid):
    """A calendar works on one weekday at least."""

    code = "no_weekday"


class DayOutOfRange(Invalid):
    """An exception is for a day that people plan."""

    code = "day_out_of_range"


class HalfHours(Invalid):
    """An exceptional day is closed, or has both an opening and a closing."""

    code = "half_hours"


class NoteTooLong(Invalid):
    """The note of an exception is a line."""

    code = "note_too_long"


class DayTaken(Refused):
    """The day has an exception already."""

    code = "day_taken"


class TooManyExceptions(Refused):
    """There is no room for another exception."""

    code = "too_many_exceptions"


class ExceptionUnknown(NotFound):
    """There is no such exception."""

    code = "unknown_exception"


def change(
    person: Any,
    *,
    reason: str,
    zone: str | None = None,
    opens: time | None = None,
    closes: time | None = None,
    weekdays: Collection[int] | None = None,
    country: str | None = None,
    subdivision: str | None = None,
    seen: int | None = None,
) -> Calendar:
    """Change what is named of the calendar; ``weekdays`` as ``date.weekday()`` numbers them.

    Locks the calendar. A change to what it is already leaves no trace. Raises PermissionDenied,
    ReasonMissing, Outdated, UnknownZone, HoursReversed, NoWeekday, UnknownCountry, NoWorkingDay.
    """
    _require(person)
    reason = given(reason)
    wanted: dict[str, Any] = {
        "zone": zone,
        "opens": opens,
        "closes": closes,
        "country": country,
        "subdivision": subdivision,
    }
    if weekdays is not None:
        if not set(weekdays) <= set(range(7)):
            raise NoWeekday("Weekdays are numbered from 0, Monday, to 6, Sunday.")
        wanted |= {name: number in weekdays for number, name in enumerate(WEEKDAYS)}
    with transaction.atomic():
        row = _lock()
        refuse_outdated(row, seen)
        fields = [
            name
            for name, value in wanted.items()
            if value is not None and value != getattr(row, name)
        ]
        if not fields:
            return row
        for name in fields:
            setattr(row, name, wanted[name])
        _check(row)
        history.save([row], fields, actor=Actor.person(person), reason=reason)
        _changed(row, timezone.now().date())
        return row


def add_exception(
    person: Any,
    *,
    day: date,
    opens: time | None = None,
    closes: time | None = None,
    note: str,
    seen: int | None = None,
) -> CalendarException:
    """Close a day, or give it hours of its own (local clock times). The note says why.

    Locks the calendar. Raises PermissionDenied, ReasonMissing, NoteTooLong, DayOutOfRange,
    Outdated, HalfHours, HoursReversed, DayTaken, TooManyExceptions, NoWorkingDay.
    """
    _require(person)
    note = given(note)
    if len(note) > NOTE:
        raise NoteTooLong(f"A note has {NOTE} characters at most.")
    if not FIRST_DAY <= day <= LAST_DAY:
        raise DayOutOfRange(f"Choose a day from {FIRST_DAY} to {LAST_DAY}.")
    if (opens is None) != (closes is None):
        raise HalfHours("Give both hours, or none for a day that is closed.")
    if opens is not None and closes is not None:
        Hours(opens, closes)
    exception = CalendarException(day=day, opens=opens, closes=closes, note=note)
    with transaction.atomic():
        row = _lock()
        refuse_outdated(row, seen)
        if CalendarException.objects.filter(day=day).exists():
            raise DayTaken(f"{day} has an exception already: remove it first.")
        if CalendarException.objects.count() >= EXCEPTIONS:
            raise TooManyExceptions(
                f"There are {EXCEPTIONS} exceptions: remove some of years gone by."
            )
        history.create([exception], actor=Actor.person(person), reason=note)
        _changed(row, day)
        return exception


def remove_exception(
    person: Any, exception_id: int, *, reason: str, seen: int | None = None
) -> date:
    """Let a day be as its weekday and the holidays say again; returns the day.

    Locks the calendar. Raises PermissionDenied, ReasonMissing, ExceptionUnknown, Outdated,
    NoWorkingDay.
    """
    _require(person)
    reason = given(reason)
    with transaction.atomic():
        row = _lock()
        exception = CalendarException.objects.filter(pk=exception_id).first()
        if exception is None:
            raise ExceptionUnknown("There is no such exception; somebody may have removed it.")
        refuse_outdated(exception, seen)
        history.delete([exception], actor=Actor.person(person), reason=reason)
        _changed(row, exception.day)
        return exception.day


def _require(person: Any) -> None:
    if not person.has_perm(CHANGE):
        raise PermissionDenied


def _lock() -> Calendar:
    return Calendar.objects.select_for_update(no_key=True).get()


def _check(row: Calendar) -> None:
    """Raise what is wrong with the calendar's own values."""
    business.zone(row.zone)
    Hours(row.opens, row.closes)
    if not row.weekdays:
        raise NoWeekday("Choose one working weekday at least.")
    business.public_holidays(row.country, row.subdivision)


def _changed(row: Calendar, around: date) -> None:
    """Refuse a calendar that is closed for a year around now or the day; recalculate afterwards."""
    calendar = clock.calendar_of(row)
    for last in (around, calendar.local_day(timezone.now())):
        day = last - timedelta(days=business.SEARCHED_DAYS)
        while day <= last:
            day = calendar.next_working_day(day)
    transaction.on_commit(lambda: queue(tasks.recalculate_open_tickets), robust=True)
