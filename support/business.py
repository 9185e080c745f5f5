"""Business time: working hours in a time zone, and what one business day after a moment is.

Pure: no database and no clock. Moments go in aware and come out in UTC; hours are half-open, so the
moment of closing is no business time any more. Local times that a clock skips stand for the first
moment after the gap, local times that a clock shows twice for the earlier one.
"""

from __future__ import annotations

import contextlib
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import holidays

from smsactivator.common.errors import Invalid, Refused

SEARCHED_DAYS = 366  # closed days in a row, after which a calendar counts as never open
WALKED_DAYS = 3660  # days that one span of business time may reach over

_ONE_DAY = timedelta(days=1)
_ONE_SECOND = timedelta(seconds=1)
_NOTHING = timedelta()
# What their names stand for differs between machines, or is no place.
_NO_ZONES = {"localtime", "Factory"}

# The name of the holiday that a day is, or None.
HolidayNames = Callable[[date], str | None]
Window = tuple[datetime, datetime]


class NoWorkingDay(Refused):
    """The calendar is closed for longer than anybody can wait for an answer."""

    code = "no_working_day"

    def __init__(self, after: date) -> None:
        super().__init__(
            f"The calendar has no working day in the {SEARCHED_DAYS} days from {after} on: "
            "give it a working weekday, or remove exceptions that close days."
        )


class SpanTooLong(Refused):
    """Business time is counted over some ten years at most."""

    code = "span_too_long"

    def __init__(self) -> None:
        super().__init__(f"Business time is counted over {WALKED_DAYS} days at most.")


class HoursReversed(Invalid):
    """Working hours end before they begin."""

    code = "hours_reversed"


class UnknownZone(Invalid):
    """There is no such time zone."""

    code = "unknown_zone"


class UnknownCountry(Invalid):
    """The holidays of this country, or of this part of it, are not known."""

    code = "unknown_country"


@dataclass(frozen=True, slots=True)
class Hours:
    """Working hours of a day, as local clock times: from ``opens``, until just before ``closes``.

    Raises HoursReversed unless it opens before it closes.
    """

    opens: time
    closes: time

    def __post_init__(self) -> None:
        if self.opens >= self.closes:
            raise HoursReversed(
                f"Working hours from {self.opens:%H:%M} to {self.closes:%H:%M} are none: "
                "they open before they close, on the same day."
            )

    def __str__(self) -> str:
        return f"{_clock(self.opens)} to {_clock(self.closes)}"


def _clock(value: time) -> str:
    return value.isoformat("minutes" if value == value.replace(second=0, microsecond=0) else "auto")


@dataclass(frozen=True, slots=True)
class ExceptionalDay:
    """A day that is otherwise than its weekday and the holidays say; closed without ``hours``."""

    hours: Hours | None
    note: str


@dataclass(frozen=True, slots=True)
class BusinessDay:
    """A day as the calendar sees it: its hours, None when closed, and why it is not usual."""

    day: date
    hours: Hours | None
    why: str


def no_holidays(_day: date) -> str | None:
    """The holidays of a calendar that has none."""
    return None


@dataclass(frozen=True)
class BusinessCalendar:
    """When we work. A value: what it answers never changes.

    ``weekdays`` as ``date.weekday()`` numbers them (Monday is 0). An exception stands above
    weekday and holiday. Every search ends: NoWorkingDay after ``SEARCHED_DAYS`` closed days in a
    row, SpanTooLong after ``WALKED_DAYS``. Naive moments raise ValueError.
    """

    zone: zoneinfo.ZoneInfo
    hours: Hours
    weekdays: frozenset[int]
    holiday: HolidayNames = no_holidays
    exceptions: Mapping[date, ExceptionalDay] = field(default_factory=dict)
    # Windows that were worked out before: a batch of tickets asks for the same days.
    _known: dict[date, Window | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def look(self, day: date) -> BusinessDay:
        """What the calendar says of a day, and why."""
        exception = self.exceptions.get(day)
        if exception is not None:
            return BusinessDay(day, exception.hours, exception.note)
        if day.weekday() not in self.weekdays:
            return BusinessDay(day, None, "Weekend" if day.weekday() > 4 else "No working weekday")
        name = self.holiday(day)
        if name is not None:
            return BusinessDay(day, None, name)
        return BusinessDay(day, self.hours, "")

    def local_day(self, at: datetime) -> date:
        """The day of a moment, in the calendar's zone."""
        return _utc(at).astimezone(self.zone).date()

    def next_business_moment(self, at: datetime) -> datetime:
        """``at`` itself within working hours, and the next opening otherwise. UTC.

        The moment of opening is business time, the moment of closing is not.
        """
        at = _utc(at)
        for _day, opens, closes in self._windows(self.local_day(at)):
            if at < closes:
                return max(at, opens)
        raise AssertionError  # pragma: no cover - the windows end by raising

    def next_working_day(self, day: date) -> date:
        """The first day after ``day`` with working hours."""
        found, _opens, _closes = next(self._windows(day + _ONE_DAY))
        return found

    def one_business_day_after(self, at: datetime) -> datetime:
        """When an answer to what arrived at ``at`` is due, UTC.

        The arrival is moved forward to the next business moment; due is the same local clock time
        on the next working day. Where that day has other hours, a clock time before them becomes
        their opening and one after them their closing: the answer is due within that day.
        """
        begin = self.next_business_moment(at).astimezone(self.zone)
        day = self.next_working_day(begin.date())
        hours = self.look(day).hours
        assert hours is not None  # noqa: S101 - a working day has hours
        clock = min(max(begin.time(), hours.opens), hours.closes)
        return _moment(day, clock, self.zone)

    def business_time_between(self, since: datetime, until: datetime) -> timedelta:
        """How much business time passes from ``since`` to ``until``; negative if it is earlier."""
        since, until = _utc(since), _utc(until)
        if until < since:
            return -self.business_time_between(until, since)
        first, last = self.local_day(since), self.local_day(until)
        if (last - first).days > WALKED_DAYS:
            raise SpanTooLong
        passed = _NOTHING
        for offset in range((last - first).days + 1):
            window = self._window(first + offset * _ONE_DAY)
            if window is not None:
                passed += max(min(until, window[1]) - max(since, window[0]), _NOTHING)
        return passed

    def moment_after(self, at: datetime, span: timedelta) -> datetime:
        """The earliest moment at which ``span`` of business time has passed since ``at``, UTC.

        So a span that is used up at closing ends at closing, not at the next opening. Raises
        ValueError for a negative span.
        """
        at = _utc(at)
        if span < _NOTHING:
            raise ValueError("a span of business time is not negative")
        if span == _NOTHING:
            return at
        first = self.local_day(at)
        left = span
        for day, opens, closes in self._windows(first):
            if (day - first).days > WALKED_DAYS:
                raise SpanTooLong
            begin = max(at, opens)
            if left <= closes - begin:
                return begin + left
            left -= max(closes - begin, _NOTHING)
        raise AssertionError  # pragma: no cover - the windows end by raising

    def _windows(self, day: date) -> Iterator[tuple[date, datetime, datetime]]:
        """The working days from ``day`` on, each with its opening and its closing (UTC)."""
        closed = 0
        while closed < SEARCHED_DAYS:
            window = self._window(day)
            if window is None:
                closed += 1
            else:
                closed = 0
                yield day, *window
            day += _ONE_DAY
        raise NoWorkingDay(day - closed * _ONE_DAY)

    def _window(self, day: date) -> Window | None:
        """The opening and the closing of a day (UTC), or None when it is closed.

        A clock that skips all of the working hours closes the day.
        """
        if day not in self._known:
            hours = self.look(day).hours
            window = hours and (
                _moment(day, hours.opens, self.zone),
                _moment(day, hours.closes, self.zone),
            )
            self._known[day] = window if window and window[0] < window[1] else None
        return self._known[day]


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("a moment of business time has a time zone")
    return at.astimezone(UTC)


def _moment(day: date, clock: time, zone: zoneinfo.ZoneInfo) -> datetime:
    """The moment at which clocks in the zone show this, UTC: see the module about DST."""
    local = datetime.combine(day, clock.replace(fold=0), tzinfo=zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    return _end_of_gap(local)


def _end_of_gap(skipped: datetime) -> datetime:
    """The moment at which the clock jumped over a local time: a whole second, searched by halves.

    In a gap the two folds are the offsets before and after the jump, so the jump is between what
    the two make of the local time.
    """
    before = skipped.astimezone(UTC).replace(microsecond=0) + _ONE_SECOND
    after = skipped.replace(fold=1).astimezone(UTC).replace(microsecond=0)
    jumped, until_then = before, after
    offset = jumped.astimezone(skipped.tzinfo).utcoffset()
    while jumped - until_then > _ONE_SECOND:
        seconds = int((jumped - until_then).total_seconds()) // 2
        middle = until_then + seconds * _ONE_SECOND
        if middle.astimezone(skipped.tzinfo).utcoffset() == offset:
            jumped = middle
        else:
            until_then = middle
    return jumped


def zones() -> list[str]:
    """The names of the time zones that a calendar may have."""
    return sorted(zoneinfo.available_timezones() - _NO_ZONES)


def zone(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of this name in the IANA database. Raises UnknownZone."""
    if name not in _NO_ZONES:
        # Names that are no files of the database are ValueErrors and OSErrors too.
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            return zoneinfo.ZoneInfo(name)
    raise UnknownZone(
        f"There is no time zone “{name}”: give its name in the IANA database, such as "
        "Europe/Berlin or UTC."
    )


def countries() -> dict[str, list[str]]:
    """The countries whose holidays are known (ISO 3166 codes), each with its subdivisions."""
    return holidays.list_supported_countries(include_aliases=False)


def public_holidays(country: str, subdivision: str) -> HolidayNames:
    """The public holidays of a country or a part of it, with the days they are observed on.

    Names are English. None without a country. Raises UnknownCountry.
    """
    if not country:
        if subdivision:
            raise UnknownCountry(f"{subdivision} is a part of a country: choose the country too.")
        return no_holidays
    known = countries()
    if country not in known:
        raise UnknownCountry(f"The holidays of “{country}” are not known: choose another country.")
    if subdivision and subdivision not in known[country]:
        parts = ", ".join(known[country]) or "none"
        raise UnknownCountry(
            f"“{subdivision}” is no part of {country} whose holidays are known. Known are: {parts}."
        )
    found = holidays.country_holidays(country, subdiv=subdivision or None, language="en_US")
    return found.get
