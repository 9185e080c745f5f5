"""Alarms: nothing is mailed from a request, and a cause is told once."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test import Client
from django.urls import path

from smsactivator import alarms, tasks
from smsactivator.models import Alarm
from smsactivator.settings import CELERY_BEAT_SCHEDULE
from smsactivator.urls import urlpatterns as site

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
CAUSE = "ValueError at smsactivator/tests/test_alarms.py fails"


def fails(request, number):
    raise ValueError("what ann@example.com wrote")


def fails_elsewhere(request):
    raise KeyError("elsewhere")


def fails_without_a_database(request):
    raise OperationalError("the server closed the connection")


urlpatterns = [
    *site,
    path("fails/<int:number>", fails),
    path("elsewhere", fails_elsewhere),
    path("database", fails_without_a_database),
]


@pytest.fixture(autouse=True)
def administrators(settings):
    settings.ADMINS = [("admin@example.com", "admin@example.com")]
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["shop.example.com"]


@pytest.fixture
def web() -> Client:
    return Client(raise_request_exception=False, headers={"host": "shop.example.com"})


def test_a_strangers_host_sends_no_mail_and_is_no_error_of_ours(web, caplog):
    for _ in range(3):
        assert web.get("/healthz", headers={"host": "evil.test"}).status_code == 400

    assert mail.outbox == []
    assert not Alarm.objects.exists()
    lines = [r for r in caplog.records if r.name == "django.security.DisallowedHost"]
    assert len(lines) == 3
    assert {(line.levelno, line.exc_info) for line in lines} == {(logging.WARNING, None)}


def test_a_request_that_fails_leaves_an_alarm_and_sends_no_mail(web):
    assert web.get("/fails/7?q=secret").status_code == 500

    assert mail.outbox == []
    alarm = Alarm.objects.get()
    assert (alarm.cause, alarm.count, alarm.mailed_at) == (CAUSE, 1, None)
    assert "GET fails/<int:number>" in alarm.text
    assert "ann@" not in alarm.text
    assert "secret" not in alarm.text


def test_a_cause_is_told_once_however_often_it_happened(web):
    for number in range(5):
        web.get(f"/fails/{number}")
    web.post("/elsewhere")

    assert tasks.tell_alarms() == 2
    assert tasks.tell_alarms() == 0
    web.get("/fails/9")
    assert tasks.tell_alarms() == 0

    [told] = mail.outbox
    assert told.to == ["admin@example.com"]
    assert told.subject == "[smsactivator] 2 kinds of error"
    assert CAUSE in told.body
    assert "5 times" in told.body
    assert Alarm.objects.get(cause=CAUSE).count == 6


def test_what_goes_on_is_told_again_the_next_day_and_what_has_ended_is_not(web):
    with time_machine.travel(NOON, tick=False) as clock:
        web.get("/fails/1")
        web.get("/elsewhere")
        assert tasks.tell_alarms() == 2
        clock.shift(timedelta(hours=23))
        web.get("/fails/1")
        assert tasks.tell_alarms() == 0
        clock.shift(timedelta(hours=1))
        assert tasks.tell_alarms() == 1
    assert len(mail.outbox) == 2
    assert "KeyError" not in mail.outbox[1].body


def test_a_clock_that_ran_ahead_silences_nothing(web):
    with time_machine.travel(NOON + timedelta(days=30), tick=False):
        web.get("/fails/1")
        assert tasks.tell_alarms() == 1
    with time_machine.travel(NOON, tick=False):
        web.get("/fails/1")
        assert tasks.tell_alarms() == 1
        assert tasks.tell_alarms() == 0


def test_what_the_mail_server_did_not_take_is_told_by_the_next_beat(web, settings):
    web.get("/fails/1")
    taken = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert tasks.tell_alarms() == 0
    assert Alarm.objects.get().mailed_at is None

    settings.EMAIL_BACKEND = taken
    assert tasks.tell_alarms() == 1


@pytest.mark.django_db(transaction=True)
def test_one_sender_at_a_time(web):
    web.get("/fails/1")
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [alarms.SENDING])
            assert tasks.tell_alarms() == 0
            cursor.execute("SELECT pg_advisory_unlock(%s)", [alarms.SENDING])
    finally:
        other.close()
    assert tasks.tell_alarms() == 1
    assert len(mail.outbox) == 1


def test_a_database_that_failed_is_not_waited_for_again(web, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert web.get("/database").status_code == 500


def test_the_database_keeps_one_row_for_a_cause():
    alarms.keep("a", "text")
    alarms.keep("a", "newer")

    assert list(Alarm.objects.values_list("cause", "text", "count")) == [("a", "newer", 2)]
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO smsactivator_alarm (cause, text, count, first_at, last_at)"
            " VALUES ('a', 'b', 1, now(), now())"
        )


def test_the_beat_tells_alarms():
    assert CELERY_BEAT_SCHEDULE["tell-alarms"] == {
        "task": tasks.tell_alarms.name,
        "schedule": 60,
        "options": {"expires": 60},
    }
