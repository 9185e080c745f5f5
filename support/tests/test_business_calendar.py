"""Business time as tables of cases, with exact moments, and beside a model that walks minutes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smsactivator.common.errors import Invalid
from support import business
from support.business import (
    BusinessCalendar,
    ExceptionalDay,
    Hours,
    HoursReversed,
    NoWorkingDay,
    SpanTooLong,
    UnknownCountry,
    UnknownZone,
    public_holidays,
)

NINE_TO_SIX = Hours(time(9), time(18))
MONDAY_TO_FRIDAY = frozenset(range(5))
CLOSED = ExceptionalDay(None, "Closed")


def office(
    zone: str = "UTC",
    *,
    opens: str = "09:00",
    closes: str = "18:00",
    weekdays: frozenset[int] = MONDAY_TO_FRIDAY,
    country: str = "",
    subdivision: str = "",
    exceptions: dict[str, Any] | None = None,
) -> BusinessCalendar:
    """An office; exceptions by day: None when closed, or a pair of hours."""
    return BusinessCalendar(
        zone=ZoneInfo(zone),
        hours=Hours(time.fromisoformat(opens), time.fromisoformat(closes)),
        weekdays=weekdays,
        holiday=public_holidays(country, subdivision),
        exceptions={
            date.fromisoformat(day): ExceptionalDay(
                own and Hours(*map(time.fromisoformat, own)), "Exception"
            )
            for day, own in (exceptions or {}).items()
        },
    )


def at(text: str, zone: str = "UTC") -> datetime:
    """A moment as clocks in the zone show it; with an offset, that one."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))


UTC_OFFICE = office()
BERLIN = office("Europe/Berlin", country="DE", subdivision="BE")
NEW_YORK = office("America/New_York", country="US")
NIGHT_BERLIN = office("Europe/Berlin", opens="02:30", closes="10:00", weekdays=frozenset(range(7)))
NIGHT_NEW_YORK = office(
    "America/New_York", opens="01:30", closes="10:00", weekdays=frozenset(range(7))
)
AROUND_THE_CLOCK = office(
    "Europe/Berlin", opens="00:00", closes="23:59:59.999999", weekdays=frozenset(range(7))
)
# 24 December 2026 is a Thursday: a half day, then holidays and a weekend, then a day off.
CHRISTMAS = office(
    "Europe/Berlin",
    country="DE",
    exceptions={"2026-12-24": ("09:00", "13:00"), "2026-12-28": None},
)
SATURDAY_OPEN = office(exceptions={"2026-11-28": ("10:00", "14:00")})
LATE_TUESDAY = office(exceptions={"2026-11-24": ("14:00", "20:00")})


# In November 2026 the 23rd is a Monday.
DUE = {
    "a Monday morning": (UTC_OFFICE, "2026-11-23T10:00", "2026-11-24T10:00"),
    "Friday to Monday": (UTC_OFFICE, "2026-11-27T10:00", "2026-11-30T10:00"),
    "on a Saturday": (UTC_OFFICE, "2026-11-28T12:00", "2026-12-01T09:00"),
    "on a Sunday": (UTC_OFFICE, "2026-11-29T23:59:59.999999", "2026-12-01T09:00"),
    "exactly at opening": (UTC_OFFICE, "2026-11-23T09:00", "2026-11-24T09:00"),
    "a microsecond before opening": (
        UTC_OFFICE,
        "2026-11-23T08:59:59.999999",
        "2026-11-24T09:00",
    ),
    "a microsecond after opening": (
        UTC_OFFICE,
        "2026-11-23T09:00:00.000001",
        "2026-11-24T09:00:00.000001",
    ),
    "a microsecond before closing": (
        UTC_OFFICE,
        "2026-11-23T17:59:59.999999",
        "2026-11-24T17:59:59.999999",
    ),
    "exactly at closing": (UTC_OFFICE, "2026-11-23T18:00", "2026-11-25T09:00"),
    "a microsecond after closing": (UTC_OFFICE, "2026-11-23T18:00:00.000001", "2026-11-25T09:00"),
    "exactly at closing on Friday": (UTC_OFFICE, "2026-11-27T18:00", "2026-12-01T09:00"),
    "midnight, as Monday begins": (UTC_OFFICE, "2026-11-23T00:00", "2026-11-24T09:00"),
    "midnight, as Saturday begins": (UTC_OFFICE, "2026-11-28T00:00", "2026-12-01T09:00"),
    "midnight, around the clock": (AROUND_THE_CLOCK, "2026-11-23T00:00", "2026-11-24T00:00"),
    "the day is the zone's, not UTC's": (
        BERLIN,
        "2026-11-22T23:30+00:00",  # Monday, 00:30 in Berlin
        "2026-11-24T09:00",
    ),
    "a moment of another zone": (BERLIN, "2026-11-23T10:00-05:00", "2026-11-24T16:00"),
    # Holidays.
    "on a holiday": (BERLIN, "2026-05-01T11:00", "2026-05-05T09:00"),
    "before a holiday and a weekend": (BERLIN, "2026-04-30T11:00", "2026-05-04T11:00"),
    "a holiday of Berlin alone": (BERLIN, "2027-03-08T11:00", "2027-03-10T09:00"),
    "before Easter": (BERLIN, "2026-04-02T11:00", "2026-04-07T11:00"),
    "on Christmas Eve, a half day, in time": (CHRISTMAS, "2026-12-24T12:00", "2026-12-29T12:00"),
    "on Christmas Eve, after its closing": (CHRISTMAS, "2026-12-24T13:00", "2026-12-30T09:00"),
    "on Christmas Day": (CHRISTMAS, "2026-12-25T12:00", "2026-12-30T09:00"),
    "before a half day, in its hours": (CHRISTMAS, "2026-12-23T12:59", "2026-12-24T12:59"),
    "before a half day, at its closing": (CHRISTMAS, "2026-12-23T13:00", "2026-12-24T13:00"),
    "before a half day, after its closing": (CHRISTMAS, "2026-12-23T16:00", "2026-12-24T13:00"),
    "before New Year": (CHRISTMAS, "2026-12-31T16:00", "2027-01-04T16:00"),
    "Independence Day is observed on Friday": (NEW_YORK, "2026-07-02T10:00", "2026-07-06T10:00"),
    "Thanksgiving": (NEW_YORK, "2026-11-26T10:00", "2026-11-30T09:00"),
    # Exceptions that open a day, or give it other hours.
    "before a Saturday that is open": (SATURDAY_OPEN, "2026-11-27T11:00", "2026-11-28T11:00"),
    "before it, earlier than it opens": (SATURDAY_OPEN, "2026-11-27T09:30", "2026-11-28T10:00"),
    "before it, later than it closes": (SATURDAY_OPEN, "2026-11-27T17:00", "2026-11-28T14:00"),
    "on a Saturday that is open": (SATURDAY_OPEN, "2026-11-28T11:00", "2026-11-30T11:00"),
    "on it, before it opens": (SATURDAY_OPEN, "2026-11-28T07:00", "2026-11-30T10:00"),
    "on it, at its closing": (SATURDAY_OPEN, "2026-11-28T14:00", "2026-12-01T09:00"),
    "before a late day": (LATE_TUESDAY, "2026-11-23T10:00", "2026-11-24T14:00"),
    "on a late day, in the evening": (LATE_TUESDAY, "2026-11-24T19:00", "2026-11-25T18:00"),
    # Daylight saving time. Berlin: 2026-03-29 02:00 -> 03:00, 2026-10-25 03:00 -> 02:00.
    "over the spring change": (BERLIN, "2026-03-27T10:00+01:00", "2026-03-30T10:00+02:00"),
    "over the autumn change": (BERLIN, "2026-10-23T10:00+02:00", "2026-10-26T10:00+01:00"),
    "to a time that spring skips": (
        NIGHT_BERLIN,
        "2026-03-28T02:45+01:00",
        "2026-03-29T03:00+02:00",
    ),
    "on the day that skips the opening": (
        NIGHT_BERLIN,
        "2026-03-29T01:59+01:00",
        "2026-03-30T03:00+02:00",
    ),
    "to a time that autumn has twice": (
        NIGHT_BERLIN,
        "2026-10-24T02:45+02:00",
        "2026-10-25T02:45+02:00",
    ),
    "from the second of two": (NIGHT_BERLIN, "2026-10-25T02:45+01:00", "2026-10-26T02:45+01:00"),
    # New York: 2026-03-08 02:00 -> 03:00, 2026-11-01 02:00 -> 01:00.
    "over the spring change there": (
        NEW_YORK,
        "2026-03-06T10:00-05:00",
        "2026-03-09T10:00-04:00",
    ),
    "over the autumn change there": (
        NEW_YORK,
        "2026-10-30T10:00-04:00",
        "2026-11-02T10:00-05:00",
    ),
    "to a time that spring skips there": (
        NIGHT_NEW_YORK,
        "2026-03-07T02:30-05:00",
        "2026-03-08T03:00-04:00",
    ),
    "to a time that autumn has twice there": (
        NIGHT_NEW_YORK,
        "2026-10-31T01:45-04:00",
        "2026-11-01T01:45-04:00",
    ),
    "the first of two times": (
        NIGHT_NEW_YORK,
        "2026-11-01T01:45-04:00",
        "2026-11-02T01:45-05:00",
    ),
}


@pytest.mark.parametrize(("calendar", "arrival", "due"), DUE.values(), ids=DUE.keys())
def test_one_business_day_after(calendar, arrival, due):
    zone = calendar.zone.key

    found = calendar.one_business_day_after(at(arrival, zone))

    assert found == at(due, zone)
    assert found.tzinfo is UTC


NEXT = {
    "within hours": ("2026-11-23T10:00", "2026-11-23T10:00"),
    "at opening": ("2026-11-23T09:00", "2026-11-23T09:00"),
    "a microsecond before opening": ("2026-11-23T08:59:59.999999", "2026-11-23T09:00"),
    "a microsecond before closing": ("2026-11-23T17:59:59.999999", "2026-11-23T17:59:59.999999"),
    "at closing": ("2026-11-23T18:00", "2026-11-24T09:00"),
    "at closing on Friday": ("2026-11-27T18:00", "2026-11-30T09:00"),
    "on Saturday": ("2026-11-28T10:00", "2026-11-30T09:00"),
}


@pytest.mark.parametrize(("moment", "expected"), NEXT.values(), ids=NEXT.keys())
def test_the_next_business_moment(moment, expected):
    assert UTC_OFFICE.next_business_moment(at(moment)) == at(expected)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-11-23", "2026-11-24"),
        ("2026-11-27", "2026-11-30"),
        ("2026-12-23", "2026-12-24"),
        ("2026-12-24", "2026-12-29"),
        ("2026-12-31", "2027-01-04"),
    ],
)
def test_the_next_working_day(day, expected):
    assert CHRISTMAS.next_working_day(date.fromisoformat(day)) == date.fromisoformat(expected)


BETWEEN = {
    "within a day": (UTC_OFFICE, "2026-11-23T10:00", "2026-11-23T12:30", "2:30"),
    "the whole of a day": (UTC_OFFICE, "2026-11-23T00:00", "2026-11-24T00:00", "9:00"),
    "a night": (UTC_OFFICE, "2026-11-23T18:00", "2026-11-24T09:00", "0:00"),
    "a weekend": (UTC_OFFICE, "2026-11-27T17:00", "2026-11-30T10:00", "2:00"),
    "an empty span": (UTC_OFFICE, "2026-11-23T10:00", "2026-11-23T10:00", "0:00"),
    "holidays and a half day": (CHRISTMAS, "2026-12-23T09:00", "2026-12-29T18:00", "22:00"),
    "a day of 23 hours": (
        AROUND_THE_CLOCK,
        "2026-03-29T00:00",
        "2026-03-29T23:59:59.999999",
        "22:59:59.999999",
    ),
    "a day of 25 hours": (
        AROUND_THE_CLOCK,
        "2026-10-25T00:00",
        "2026-10-25T23:59:59.999999",
        "24:59:59.999999",
    ),
    "hours that begin in a gap": (NIGHT_BERLIN, "2026-03-29T00:00", "2026-03-30T00:00", "7:00"),
    "hours that begin twice": (NIGHT_BERLIN, "2026-10-25T00:00", "2026-10-26T00:00", "8:30"),
}


def span(text: str) -> timedelta:
    hours, minutes, *seconds = text.split(":")
    return timedelta(
        hours=int(hours), minutes=int(minutes), seconds=float(seconds[0]) if seconds else 0
    )


@pytest.mark.parametrize(("calendar", "since", "until", "passed"), BETWEEN.values(), ids=BETWEEN)
def test_business_time_between(calendar, since, until, passed):
    zone = calendar.zone.key
    since, until = at(since, zone), at(until, zone)

    assert calendar.business_time_between(since, until) == span(passed)
    assert calendar.business_time_between(until, since) == -span(passed)


AFTER = {
    "nothing, at night": ("2026-11-23T03:00", "0:00", "2026-11-23T03:00"),
    "within a day": ("2026-11-23T10:00", "2:00", "2026-11-23T12:00"),
    "used up at closing": ("2026-11-23T10:00", "8:00", "2026-11-23T18:00"),
    "a microsecond more": ("2026-11-23T10:00", "8:00:00.000001", "2026-11-24T09:00:00.000001"),
    "from the night": ("2026-11-23T03:00", "1:00", "2026-11-23T10:00"),
    "from the evening": ("2026-11-23T20:00", "1:00", "2026-11-24T10:00"),
    "over a weekend": ("2026-11-27T17:00", "10:00", "2026-11-30T18:00"),
}


@pytest.mark.parametrize(("since", "passed", "expected"), AFTER.values(), ids=AFTER.keys())
def test_the_moment_after_a_span(since, passed, expected):
    assert UTC_OFFICE.moment_after(at(since), span(passed)) == at(expected)


def test_what_is_said_of_a_day_is_its_hours_and_why_they_are_not_usual():
    days = ["2026-12-23", "2026-12-24", "2026-12-25", "2026-12-26", "2026-12-28"]

    said = [CHRISTMAS.look(date.fromisoformat(day)) for day in days]

    assert [(str(day.hours), day.why) for day in said] == [
        ("09:00 to 18:00", ""),
        ("09:00 to 13:00", "Exception"),
        ("None", "Christmas Day"),
        ("None", "Weekend"),
        ("None", "Exception"),
    ]
    assert office(weekdays=frozenset({0})).look(date(2026, 11, 24)).why == "No working weekday"


# --- limits ---

NEVER = office(weekdays=frozenset())


@pytest.mark.parametrize(
    "ask",
    [
        lambda: NEVER.next_business_moment(at("2026-11-23T10:00")),
        lambda: NEVER.next_working_day(date(2026, 11, 23)),
        lambda: NEVER.one_business_day_after(at("2026-11-23T10:00")),
        lambda: NEVER.moment_after(at("2026-11-23T10:00"), timedelta(hours=1)),
    ],
)
def test_a_calendar_without_a_working_day_is_refused(ask):
    with pytest.raises(NoWorkingDay, match="no working day in the 366 days from 2026-11-2") as said:
        ask()
    assert said.value.code == "no_working_day"


@pytest.mark.parametrize(("closed", "found"), [(365, date(2027, 1, 1)), (366, None)])
def test_a_calendar_may_be_closed_for_a_year_and_no_day_longer(closed, found):
    days = {date(2026, 1, 1) + timedelta(days=number): CLOSED for number in range(closed)}
    calendar = BusinessCalendar(ZoneInfo("UTC"), NINE_TO_SIX, MONDAY_TO_FRIDAY, exceptions=days)

    if found:
        assert calendar.next_working_day(date(2025, 12, 31)) == found
    else:
        with pytest.raises(NoWorkingDay):
            calendar.next_working_day(date(2025, 12, 31))


def test_a_single_day_is_found_in_a_calendar_without_weekdays():
    once = office(weekdays=frozenset(), exceptions={"2026-11-28": ("10:00", "14:00")})

    assert once.next_business_moment(at("2026-11-23T10:00")) == at("2026-11-28T10:00")
    with pytest.raises(NoWorkingDay):
        once.one_business_day_after(at("2026-11-23T10:00"))


def test_spans_over_more_than_ten_years_are_refused():
    with pytest.raises(SpanTooLong):
        UTC_OFFICE.business_time_between(at("2016-01-01T00:00"), at("2027-01-01T00:00"))
    with pytest.raises(SpanTooLong):
        UTC_OFFICE.moment_after(at("2026-01-01T00:00"), timedelta(days=10_000))


def test_naive_moments_and_negative_spans_are_mistakes_of_the_caller():
    with pytest.raises(ValueError, match="time zone"):
        UTC_OFFICE.one_business_day_after(datetime(2026, 11, 23, 10))  # noqa: DTZ001
    with pytest.raises(ValueError, match="negative"):
        UTC_OFFICE.moment_after(at("2026-11-23T10:00"), timedelta(seconds=-1))


@pytest.mark.parametrize(("opens", "closes"), [("18:00", "09:00"), ("09:00", "09:00")])
def test_hours_open_before_they_close(opens, closes):
    with pytest.raises(HoursReversed):
        Hours(time.fromisoformat(opens), time.fromisoformat(closes))


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "localtime", "Factory", "../etc/passwd", "Europe", "CEST", "a\x00"]
)
def test_unknown_zones_are_refused(name):
    with pytest.raises(UnknownZone) as said:
        business.zone(name)
    assert isinstance(said.value, Invalid)


@pytest.mark.parametrize(
    ("country", "subdivision"), [("XX", ""), ("de", ""), ("DE", "TX"), ("", "BE"), ("DEU", "")]
)
def test_unknown_countries_are_refused(country, subdivision):
    with pytest.raises(UnknownCountry):
        public_holidays(country, subdivision)


def test_every_zone_and_every_country_that_is_offered_can_be_used():
    for name in business.zones():
        business.zone(name)
    for country, parts in business.countries().items():
        for part in ("", *parts[:1]):
            public_holidays(country, part)(date(2026, 12, 25))


def test_a_day_that_a_zone_skips_is_no_working_day():
    # Samoa had no 30 December 2011.
    samoa = office("Pacific/Apia", weekdays=frozenset(range(7)))

    assert samoa.next_working_day(date(2011, 12, 29)) == date(2011, 12, 31)
    assert samoa.one_business_day_after(at("2011-12-29T10:00-10:00")) == at(
        "2011-12-31T10:00+14:00"
    )


# --- an independent model, minute by minute ---

MINUTE = timedelta(minutes=1)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
offices = st.builds(
    lambda zone, opens, length, weekdays, closed, own: BusinessCalendar(
        zone=ZoneInfo(zone),
        hours=Hours(time(opens), time(min(opens + length, 23), 59)),
        weekdays=weekdays,
        holiday=public_holidays("DE", ""),
        exceptions={
            **{date(2026, 1, 1) + timedelta(days=n): CLOSED for n in closed},
            **{
                date(2026, 1, 1) + timedelta(days=n): ExceptionalDay(
                    Hours(time(hour, 30), time(hour + 2)), "Own hours"
                )
                for n, hour in own.items()
            },
        },
    ),
    st.sampled_from(ZONES),
    st.integers(0, 22),
    st.integers(0, 12),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.frozensets(st.integers(0, 364), max_size=60),
    st.dictionaries(st.integers(0, 364), st.integers(0, 21), max_size=20),
)
arrivals = st.integers(0, 365 * 24 * 60 - 1).map(
    lambda minute: datetime(2026, 1, 1, tzinfo=UTC) + minute * MINUTE
)


class Wall:
    """A clock on the wall of an office, looked at every minute: all it knows is what it shows.

    A day opens at the first minute that shows its opening or later, and closes at the first one
    that shows its closing or later.
    """

    def __init__(self, calendar: BusinessCalendar) -> None:
        self.calendar = calendar
        self.days: dict[date, list[tuple[datetime, time, bool]]] = {}

    def minutes(self, day: date) -> list[tuple[datetime, time, bool]]:
        """Each minute of a day: its moment, what the clock shows, and whether we work."""
        if day not in self.days:
            hours = self.calendar.look(day).hours
            noon = datetime.combine(day, time(12), tzinfo=UTC)
            begun = ended = hours is None
            shown = []
            for number in range(-27 * 60, 27 * 60):
                moment = noon + number * MINUTE
                local = moment.astimezone(self.calendar.zone)
                if local.date() != day:
                    continue
                hands = local.time().replace(fold=0)
                if hours is not None:
                    begun = begun or hands >= hours.opens
                    ended = ended or hands >= hours.closes
                shown.append((moment, hands, begun and not ended))
            self.days[day] = shown
        return self.days[day]

    def open_minutes(self, since: datetime) -> Iterator[datetime]:
        """The minutes in which we work, from ``since`` on."""
        day = since.astimezone(self.calendar.zone).date()
        for number in range(800):
            for moment, _hands, working in self.minutes(day + timedelta(days=number)):
                if working and moment >= since:
                    yield moment

    def one_business_day_after(self, arrival: datetime) -> datetime:
        begin = next(self.open_minutes(arrival)).astimezone(self.calendar.zone)
        day = begin.date() + timedelta(days=1)
        while not any(working for _moment, _hands, working in self.minutes(day)):
            day += timedelta(days=1)
        working = [moment for moment, _hands, working in self.minutes(day) if working]
        clock = begin.time().replace(fold=0)
        shown = [moment for moment, hands, _ in self.minutes(day) if hands >= clock]
        closing = working[-1] + MINUTE
        return min(max(shown[0], working[0]), closing) if shown else closing


@settings(max_examples=150, deadline=None)
@given(offices, st.lists(arrivals, min_size=3, max_size=3))
def test_a_year_of_arrivals_is_due_when_a_clock_on_the_wall_says(calendar, moments):
    wall = Wall(calendar)

    for arrival in moments:
        due = calendar.one_business_day_after(arrival)

        assert calendar.next_business_moment(arrival) == next(wall.open_minutes(arrival))
        assert due == wall.one_business_day_after(arrival)
        assert due > arrival
        assert calendar.business_time_between(arrival, due) > timedelta()


@settings(max_examples=100, deadline=None)
@given(offices, arrivals, st.integers(0, 20 * 24 * 60), st.integers(1, 3000))
def test_business_time_is_the_minutes_in_which_a_clock_on_the_wall_shows_working_hours(
    calendar, since, later, some
):
    wall = Wall(calendar)
    until = since + later * MINUTE
    passed = sum(1 for _ in itertools.takewhile(lambda m: m < until, wall.open_minutes(since)))
    nth = next(itertools.islice(wall.open_minutes(since), some - 1, None))

    assert calendar.business_time_between(since, until) == passed * MINUTE
    assert calendar.moment_after(since, some * MINUTE) == nth + MINUTE


@settings(deadline=None)
@given(
    offices,
    st.builds(datetime.__add__, arrivals, st.timedeltas(timedelta(), MINUTE)),
    st.timedeltas(timedelta(), timedelta(days=20)),
)
def test_a_span_that_is_used_up_has_passed(calendar, since, some):
    end = calendar.moment_after(since, some)

    assert calendar.business_time_between(since, end) == some
    assert end == since or calendar.business_time_between(since, end - timedelta.resolution) < some


@settings(deadline=None)
@given(offices, arrivals, arrivals)
def test_what_arrives_later_is_never_due_earlier_on_the_same_hours(calendar, one, other):
    plain = BusinessCalendar(calendar.zone, calendar.hours, calendar.weekdays, calendar.holiday)
    earlier, later = sorted((one, other))

    assert plain.one_business_day_after(earlier) <= plain.one_business_day_after(later)
