"""The answer clock: due times, warnings and breaches, and a calendar that people change."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from smsactivator.tests import world
from support import business, calendars, clock, recalculation
from support.business import BusinessCalendar, Hours
from support.clock import AnswerTimes, Mark, Reached
from support.models import Calendar, CalendarException
from wallet.deciding import ReasonMissing
from wallet.tests.attack import CHECK, DENIED, RESTRICT, UNIQUE, _refusal, assert_refused
from wallet.tests.forms import carried

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False) as frozen:
        yield frozen


@pytest.fixture
def admin() -> User:
    return world.person(name="administrator")


# --- due, warned, late ---


def test_the_calendar_begins_as_utc_office_hours_without_holidays(django_assert_num_queries):
    with django_assert_num_queries(2):
        calendar = clock.calendar()

    assert calendar.zone.key == "UTC"
    assert calendar.hours == Hours(time(9), time(18))
    assert calendar.weekdays == frozenset({0, 1, 2, 3, 4})
    assert calendar.look(date(2026, 12, 25)).why == ""
    assert calendar.exceptions == {}


WARNINGS = {
    # 9 hours of business time: 4:30 and 6:45.
    "within two days": (
        *("2026-11-23T10:00", "2026-11-24T10:00"),
        *("2026-11-23T14:30", "2026-11-23T16:45"),
    ),
    "in the afternoon": (
        *("2026-11-23T16:00", "2026-11-24T16:00"),
        *("2026-11-24T11:30", "2026-11-24T13:45"),
    ),
    "over the weekend": (
        *("2026-11-28T12:00", "2026-12-01T09:00"),
        *("2026-11-30T13:30", "2026-11-30T15:45"),
    ),
    "exactly at closing": (
        *("2026-11-23T18:00", "2026-11-25T09:00"),
        *("2026-11-24T13:30", "2026-11-24T15:45"),
    ),
    "half is over at closing": (
        *("2026-11-23T13:30", "2026-11-24T13:30"),
        *("2026-11-23T18:00", "2026-11-24T11:15"),
    ),
    "to the microsecond": (
        *("2026-11-23T10:00:00.000001", "2026-11-24T10:00:00.000001"),
        *("2026-11-23T14:30:00.000001", "2026-11-23T16:45:00.000001"),
    ),
}


@pytest.mark.parametrize(("since", "due", "half", "most"), WARNINGS.values(), ids=WARNINGS)
def test_an_answer_is_due_and_warned_of_in_business_time(since, due, half, most):
    calendar = clock.calendar()

    assert clock.due(at(since), calendar) == at(due)
    assert clock.warnings(at(since), at(due), calendar) == (at(half), at(most))
    assert clock.marks(at(since), at(due), calendar) == (
        Reached(Mark.HALF, at(half)),
        Reached(Mark.THREE_QUARTERS, at(most)),
        Reached(Mark.BREACH, at(due)),
    )


DUE = at("2026-11-24T10:00")
BREACHES = {
    "nobody waits": (None, NOON, None, False),
    "there is time": (DUE, DUE - timedelta.resolution, None, False),
    "exactly when due": (DUE, DUE, None, False),
    "a microsecond later": (DUE, DUE + timedelta.resolution, None, True),
    "found by a job days later": (DUE, DUE + timedelta(days=9), None, True),
    "answered in time, looked at later": (DUE, DUE + timedelta(days=9), DUE, False),
    "answered late": (DUE, DUE + timedelta(days=9), DUE + timedelta.resolution, True),
}


@pytest.mark.parametrize(("due", "now", "answered", "late"), BREACHES.values(), ids=BREACHES)
def test_a_breach_follows_from_the_data_alone(due, now, answered, late):
    assert clock.is_breached(due, now=now, answered_at=answered) is late


SINCE, HALF, MOST = at("2026-11-23T10:00"), at("2026-11-23T14:30"), at("2026-11-23T16:45")
HALF_MARK, MOST_MARK, BREACH = (
    Reached(Mark.HALF, HALF),
    Reached(Mark.THREE_QUARTERS, MOST),
    Reached(Mark.BREACH, DUE),
)
RECORDS: dict[str, tuple[datetime, list[Mark], list[Reached]]] = {
    "at arrival": (SINCE, [], []),
    "a microsecond before half": (HALF - timedelta.resolution, [], []),
    "at half": (HALF, [], [HALF_MARK]),
    "half is recorded": (HALF, [Mark.HALF], []),
    "at three quarters": (MOST, [Mark.HALF], [MOST_MARK]),
    "at due": (DUE, [Mark.HALF, Mark.THREE_QUARTERS], []),
    "after due": (
        DUE + timedelta.resolution,
        [Mark.HALF, Mark.THREE_QUARTERS],
        [BREACH],
    ),
    "the job was away for a week": (
        DUE + timedelta(days=7),
        [],
        [HALF_MARK, MOST_MARK, BREACH],
    ),
    "all are recorded": (DUE + timedelta(days=7), list(Mark), []),
}


@pytest.mark.parametrize(("now", "recorded", "expected"), RECORDS.values(), ids=RECORDS)
def test_each_mark_is_recorded_once_with_its_own_moment(now, recorded, expected):
    calendar = clock.calendar()

    assert clock.to_record(SINCE, DUE, calendar, now=now, recorded=recorded) == expected


def test_the_next_mark_is_the_first_that_is_not_recorded():
    calendar = clock.calendar()

    assert clock.next_mark(SINCE, DUE, calendar) == HALF_MARK
    assert clock.next_mark(SINCE, DUE, calendar, recorded=[Mark.HALF]) == MOST_MARK
    assert clock.next_mark(SINCE, DUE, calendar, recorded=[Mark.HALF, "three_quarters"]) == BREACH
    assert clock.next_mark(SINCE, DUE, calendar, recorded=list(Mark)) is None


def test_a_follow_up_does_not_reset_the_clock():
    calendar = clock.calendar()
    messages = [SINCE, SINCE + timedelta(hours=2), SINCE + timedelta(hours=20)]

    assert clock.due(min(messages), calendar) == DUE


def test_warnings_of_a_due_time_that_lost_its_days_do_not_fail():
    # Between a change of the calendar and its recalculation.
    closed = BusinessCalendar(
        business.zone("UTC"),
        Hours(time(9), time(18)),
        frozenset({4}),
    )
    assert clock.warnings(SINCE, DUE, closed) == (SINCE, SINCE)


# --- changes ---


def test_a_change_is_written_with_who_and_why(admin):
    row = calendars.change(
        admin,
        reason=" The team moved ",
        zone="Europe/Berlin",
        opens=time(8),
        closes=time(16, 30),
        weekdays={0, 1, 2, 3},
        country="DE",
        subdivision="BE",
    )

    assert row == Calendar.objects.get()
    calendar = clock.calendar()
    assert calendar.zone.key == "Europe/Berlin"
    assert calendar.hours == Hours(time(8), time(16, 30))
    assert calendar.weekdays == frozenset({0, 1, 2, 3})
    assert calendar.look(date(2027, 3, 8)).why == "Women's Day"
    # By number: the migration's row bears the time of the run, the test's an earlier or later one.
    first, newest = row.history.order_by("history_id")
    assert (newest.history_actor, newest.history_user_id) == ("administrator", admin.pk)
    assert (newest.history_change_reason, newest.history_date) == ("The team moved", NOON)
    assert (newest.zone, newest.friday, newest.country) == ("Europe/Berlin", False, "DE")
    assert (first.history_type, first.zone) == ("+", "UTC")


def test_only_what_is_named_changes_and_no_change_leaves_no_trace(admin):
    calendars.change(admin, reason="Longer", closes=time(20))
    calendars.change(admin, reason="Again", closes=time(20), zone="UTC", weekdays=range(5))

    row = Calendar.objects.get()
    assert (row.opens, row.closes, row.zone) == (time(9), time(20), "UTC")
    assert row.history.count() == 2


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"zone": "Mars/Olympus"}, business.UnknownZone),
        ({"zone": ""}, business.UnknownZone),
        ({"opens": time(18)}, business.HoursReversed),
        ({"opens": time(20)}, business.HoursReversed),
        ({"closes": time(9)}, business.HoursReversed),
        ({"weekdays": []}, calendars.NoWeekday),
        ({"weekdays": [7]}, calendars.NoWeekday),
        ({"country": "XX"}, business.UnknownCountry),
        ({"country": "DE", "subdivision": "TX"}, business.UnknownCountry),
        ({"subdivision": "BE"}, business.UnknownCountry),
        ({"reason": " "}, ReasonMissing),
    ],
)
def test_a_wrong_calendar_is_refused_and_changes_nothing(admin, wrong, refusal):
    with pytest.raises(refusal) as said:
        calendars.change(admin, **({"reason": "Try"} | wrong))

    assert said.value.status == 422
    assert Calendar.objects.get().history.count() == 1
    assert clock.calendar().zone.key == "UTC"


def test_an_exception_closes_a_day_or_gives_it_hours(admin):
    calendars.add_exception(admin, day=date(2026, 11, 26), note="Everybody is away")
    own = calendars.add_exception(
        admin, day=date(2026, 11, 28), opens=time(10), closes=time(14), note="Catching up"
    )

    calendar = clock.calendar()
    assert clock.due(NOON, calendar) == at("2026-11-27T12:00")
    assert clock.due(at("2026-11-27T17:00"), calendar) == at("2026-11-28T14:00")
    [written] = own.history.all()
    assert (written.history_type, written.history_actor) == ("+", "administrator")
    assert written.history_change_reason == "Catching up"


def test_an_exception_is_removed_with_who_and_why(admin):
    exception = calendars.add_exception(admin, day=date(2026, 11, 26), note="Strike")

    day = calendars.remove_exception(admin, exception.pk, reason="Called off")

    assert day == date(2026, 11, 26)
    assert not CalendarException.objects.exists()
    assert clock.due(NOON, clock.calendar()) == at("2026-11-26T12:00")
    last = CalendarException.history.first()
    assert (last.history_type, last.id, last.note) == ("-", exception.pk, "Strike")
    assert (last.history_actor, last.history_user_id) == ("administrator", admin.pk)
    assert (last.history_change_reason, last.history_date) == ("Called off", NOON)
    assert CalendarException.history.count() == 2
    with pytest.raises(calendars.ExceptionUnknown):
        calendars.remove_exception(admin, exception.pk, reason="Twice")


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"note": " "}, ReasonMissing),
        ({"note": "x" * 201}, calendars.NoteTooLong),
        ({"day": date(1999, 12, 31)}, calendars.DayOutOfRange),
        ({"day": date(2100, 1, 1)}, calendars.DayOutOfRange),
        ({"opens": time(9)}, calendars.HalfHours),
        ({"closes": time(9)}, calendars.HalfHours),
        ({"opens": time(9), "closes": time(9)}, business.HoursReversed),
        ({"day": date(2026, 12, 24)}, calendars.DayTaken),
    ],
)
def test_a_wrong_exception_is_refused(admin, wrong, refusal):
    calendars.add_exception(admin, day=date(2026, 12, 24), note="Christmas Eve")

    with pytest.raises(refusal):
        calendars.add_exception(admin, **({"day": date(2026, 12, 23), "note": "Try"} | wrong))
    assert CalendarException.objects.count() == 1


def test_exceptions_have_a_limit(admin, monkeypatch):
    monkeypatch.setattr(calendars, "EXCEPTIONS", 1)
    calendars.add_exception(admin, day=date(2026, 12, 24), note="Christmas Eve")

    with pytest.raises(calendars.TooManyExceptions):
        calendars.add_exception(admin, day=date(2026, 12, 31), note="New Year's Eve")


@pytest.mark.parametrize(
    ("first", "steps"), [("2026-11-30", 1), ("2033-01-03", 1), ("2033-12-26", -1)]
)
def test_exceptions_that_close_a_year_are_refused(admin, first, steps):
    calendars.change(admin, reason="Mondays only", weekdays=[0])
    mondays = [date.fromisoformat(first) + timedelta(weeks=steps * n) for n in range(60)]

    with pytest.raises(business.NoWorkingDay):
        for monday in mondays:
            calendars.add_exception(admin, day=monday, note="Closed")
    assert CalendarException.objects.count() == 51


@pytest.mark.parametrize("role", ["Support agent", "Senior agent", "Finance"])
def test_only_administrators_change_the_calendar(role, admin):
    exception = calendars.add_exception(admin, day=date(2026, 12, 24), note="Christmas Eve")
    person = world.person(role)

    with pytest.raises(PermissionDenied):
        calendars.change(person, reason="Longer", closes=time(20))
    with pytest.raises(PermissionDenied):
        calendars.add_exception(person, day=date(2026, 12, 31), note="New Year's Eve")
    with pytest.raises(PermissionDenied):
        calendars.remove_exception(person, exception.pk, reason="Why not")
    assert Calendar.objects.get().closes == time(18)


def test_holidays_that_are_not_known_any_more_are_an_error_in_the_log(caplog):
    Calendar.objects.update(country="XX")

    calendar = clock.calendar()

    assert clock.due(NOON, calendar) == at("2026-11-26T12:00")
    [record] = caplog.records
    assert (record.levelno, record.message) == (
        logging.ERROR,
        "the business calendar works without holidays",
    )


# --- open tickets after a change ---


def test_a_change_recalculates_both_clocks_of_the_tickets_it_concerns(admin):
    calendars.add_exception(admin, day=date(2026, 11, 26), note="Everybody is away")
    friday, monday = at("2026-11-27T12:00"), at("2026-11-30T12:00")
    rows = [
        AnswerTimes(1, NOON, at("2026-11-26T12:00"), None, None),
        AnswerTimes(2, None, None, NOON, at("2026-11-26T12:00")),
        AnswerTimes(3, friday, monday, None, None),
        AnswerTimes(4, None, None, None, None),
        AnswerTimes(5, None, at("2026-11-26T12:00"), None, None),
        AnswerTimes(6, NOON, None, friday, monday),
    ]

    assert clock.recalculate(rows, clock.calendar()) == [
        AnswerTimes(1, NOON, friday, None, None),
        AnswerTimes(2, None, None, NOON, friday),
        AnswerTimes(5, None, None, None, None),
        AnswerTimes(6, NOON, friday, friday, monday),
    ]


@pytest.fixture
def queued(monkeypatch) -> list[dict[str, Any]]:
    """What was queued with the task that recalculates."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "support.tasks.recalculate_open_tickets.apply_async", lambda **options: sent.append(options)
    )
    return sent


def test_each_change_queues_a_recalculation_when_it_is_committed(
    admin, queued, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        calendars.change(admin, reason="Longer", closes=time(20))
        assert queued == []
    with django_capture_on_commit_callbacks(execute=True):
        exception = calendars.add_exception(admin, day=date(2026, 12, 24), note="Half a day")
    with django_capture_on_commit_callbacks(execute=True):
        calendars.remove_exception(admin, exception.pk, reason="No")
    with django_capture_on_commit_callbacks(execute=True):
        calendars.change(admin, reason="The same", closes=time(20))

    assert queued == [{"expires": 60}] * 3


def test_the_task_recalculates_whatever_stores_due_times(monkeypatch, caplog):
    from support import tasks

    monkeypatch.setattr(recalculation, "_recalculations", [])
    assert tasks.recalculate_open_tickets() == 0
    recalculation.recalculated_by(lambda: 3)
    recalculation.recalculated_by(lambda: 4)

    caplog.set_level(logging.INFO)
    assert tasks.recalculate_open_tickets() == 7
    assert "the due times of 7 tickets were recalculated" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_change_waits_for_whoever_holds_the_calendar(admin):
    """A due time that is stored by the old calendar is there when the recalculation looks."""
    import threading

    held, release = threading.Event(), threading.Event()

    def store() -> None:
        try:
            with transaction.atomic():
                clock.calendar(hold=True)
                held.set()
                release.wait(10)
        finally:
            connection.close()

    storing = threading.Thread(target=store)
    storing.start()
    assert held.wait(10)
    try:
        with pytest.raises(Exception, match="lock timeout"), transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '200ms'")
            calendars.change(admin, reason="Longer", closes=time(20))
        # Others who hold it do not wait.
        with transaction.atomic():
            assert clock.calendar(hold=True).hours.closes == time(18)
    finally:
        release.set()
        storing.join(10)
    assert calendars.change(admin, reason="Longer", closes=time(20)).closes == time(20)


# --- the database ---

SECOND_CALENDAR = (
    "INSERT INTO support_calendar SELECT (row).* FROM (SELECT jsonb_populate_record("
    "calendar, '{\"id\": 2}') AS row FROM support_calendar AS calendar) AS made"
)


def exception_row(
    day: str = "'2026-12-24'", opens: str = "NULL", closes: str = "NULL", note: str = "'Closed'"
) -> str:
    return (
        "INSERT INTO support_calendarexception (day, opens, closes, note)"
        f" VALUES ({day}, {opens}, {closes}, {note})"
    )


@pytest.mark.parametrize(
    ("sqlstate", "rule", "attack"),
    [
        (CHECK, "calendar_is_the_only_one", SECOND_CALENDAR),
        (CHECK, "calendar_is_the_only_one", "UPDATE support_calendar SET id = 2"),
        (RESTRICT, "DELETE of support_calendar", "DELETE FROM support_calendar"),
        (RESTRICT, "TRUNCATE of support_calendar", "TRUNCATE support_calendar"),
        (CHECK, "calendar_has_a_zone", "UPDATE support_calendar SET zone = ''"),
        (
            CHECK,
            "calendar_opens_before_it_closes",
            "UPDATE support_calendar SET opens = '18:00', closes = '18:00'",
        ),
        (
            CHECK,
            "calendar_has_a_working_weekday",
            "UPDATE support_calendar SET monday = false, tuesday = false, wednesday = false,"
            " thursday = false, friday = false",
        ),
        (
            CHECK,
            "calendar_subdivision_is_of_a_country",
            "UPDATE support_calendar SET subdivision = 'BE'",
        ),
        (UNIQUE, "day", f"{exception_row()}; {exception_row()}"),
        (CHECK, "exception_closed_or_opens", exception_row(opens="'09:00'")),
        (CHECK, "exception_closed_or_opens", exception_row(closes="'09:00'")),
        (CHECK, "exception_closed_or_opens", exception_row(opens="'10:00'", closes="'09:00'")),
        (CHECK, "exception_has_a_note", exception_row(note="''")),
        (CHECK, "exception_day_of_this_century", exception_row(day="'1999-12-31'")),
        (CHECK, "exception_day_of_this_century", exception_row(day="'infinity'")),
        (
            RESTRICT,
            "UPDATE of support_historicalcalendar",
            "UPDATE support_historicalcalendar SET history_actor = 'nobody'",
        ),
        (
            RESTRICT,
            "DELETE of support_historicalcalendarexception",
            "DELETE FROM support_historicalcalendarexception",
        ),
    ],
)
def test_the_database_refuses(sqlstate, rule, attack):
    assert_refused(sqlstate, rule, attack)


def test_the_application_cannot_change_an_exception():
    assert _refusal("UPDATE support_calendarexception SET note = 'x'").sqlstate == DENIED


# --- pages ---


@pytest.fixture
def client(admin) -> Client:
    client = Client()
    client.force_login(admin)
    return client


def page(name: str, action: str, *args: Any) -> str:
    return reverse(f"admin:support_{name}_{action}", args=args)


def test_the_page_shows_the_next_thirty_days_and_why_they_are_closed(admin, client):
    calendars.change(admin, reason="Berlin", zone="Europe/Berlin", country="DE")
    calendars.add_exception(
        admin, day=date(2026, 12, 24), opens=time(9), closes=time(13), note="Christmas Eve"
    )

    answer = client.get(page("calendar", "change", 1))

    assert answer.status_code == 200
    days, exceptions = answer.context["tables"]
    rows = {row[0]: " | ".join(row[1:]) for row in days.rows}
    assert (len(rows), min(rows), max(rows)) == (30, "2026-11-25", "2026-12-24")
    usual, own = 'badge-good">09:00 to 18:00', 'badge-good">09:00 to 13:00'
    assert usual in rows["2026-11-25"]
    assert rows["2026-11-28"].endswith("Closed</span> | Weekend")
    assert own in rows["2026-12-24"]
    assert rows["2026-12-24"].endswith("Christmas Eve")
    assert len(exceptions.rows) == 1


def test_a_holiday_s_name_is_on_the_page(admin, client, noon):
    calendars.change(admin, reason="Berlin", country="DE")
    noon.move_to(datetime(2026, 12, 24, 12, tzinfo=UTC))
    client.force_login(admin)

    answer = client.get(page("calendar", "change", 1)).content.decode()

    assert "Christmas Day" in answer
    assert "New Year&#x27;s Day" in answer


def test_the_pages_change_the_calendar_by_the_verbs(admin, client):
    change = page("calendar", "do", 1, "change")
    form = client.get(change).context["form"]
    assert form.initial["weekdays"] == [0, 1, 2, 3, 4]
    typed = {
        **carried(Calendar.objects.get(), "change"),
        "zone": "Asia/Almaty",
        "opens": "10:00",
        "closes": "19:00",
        "weekdays": ["0", "1", "2", "3", "4", "5"],
        "country": "KZ",
        "subdivision": "",
        "reason": "The team moved",
    }

    refused = client.post(change, typed | {"closes": "08:00"})
    assert refused.status_code == 422
    assert "they open before they close" in refused.content.decode()
    assert client.post(change, typed).status_code == 302

    row = Calendar.objects.get()
    assert (row.zone, row.opens, row.saturday, row.sunday) == (
        "Asia/Almaty",
        time(10),
        True,
        False,
    )
    assert client.get(page("calendar", "changelist")).status_code == 200


def test_the_pages_add_and_remove_exceptions_by_the_verbs(admin, client):
    add = page("calendar", "do", 1, "add-exception")
    typed = {
        **carried(Calendar.objects.get(), "add-exception"),
        "day": "2026-12-24",
        "opens": "",
        "closes": "",
        "note": "Christmas Eve",
    }
    assert client.get(add).status_code == 200
    assert client.post(add, typed).status_code == 302
    assert client.post(add, typed).status_code == 409
    exception = CalendarException.objects.get()
    assert client.get(page("calendarexception", "changelist")).status_code == 200
    assert client.get(page("calendarexception", "change", exception.pk)).status_code == 200

    remove = page("calendarexception", "do", exception.pk, "remove")
    assert client.get(remove).status_code == 200
    assert CalendarException.objects.exists()
    done = client.post(remove, carried(exception, "remove") | {"reason": "Called off"})
    assert (done.status_code, done["Location"]) == (302, page("calendar", "change", 1))
    assert not CalendarException.objects.exists()


@pytest.mark.parametrize("role", ["Support agent", "Senior agent", "Finance"])
def test_the_pages_of_others_change_nothing(role, admin):
    exception = calendars.add_exception(admin, day=date(2026, 12, 24), note="Christmas Eve")
    client = Client()
    client.force_login(world.person(role))

    for path in (
        page("calendar", "do", 1, "change"),
        page("calendar", "do", 1, "add-exception"),
        page("calendarexception", "do", exception.pk, "remove"),
        page("calendar", "add"),
        page("calendar", "delete", 1),
        page("calendarexception", "add"),
        page("calendarexception", "delete", exception.pk),
    ):
        assert client.post(path, {"reason": "Why not"}).status_code == 403
    assert CalendarException.objects.count() == 1


def test_nobody_adds_edits_or_deletes_rows_by_hand(client):
    for path in (
        page("calendar", "add"),
        page("calendar", "change", 1),
        page("calendar", "delete", 1),
        page("calendarexception", "add"),
    ):
        assert client.post(path, {"zone": "Asia/Almaty"}).status_code == 403
    assert Calendar.objects.get().zone == "UTC"


def test_the_pages_ask_a_number_of_queries_that_does_not_grow(
    admin, client, django_assert_max_num_queries
):
    for number in range(40):
        calendars.add_exception(
            admin, day=date(2026, 11, 26) + timedelta(days=number), note="Closed"
        )
    with django_assert_max_num_queries(12):
        client.get(page("calendar", "change", 1))
