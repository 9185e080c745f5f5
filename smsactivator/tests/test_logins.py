"""Who comes in: the lock after wrong passwords, the record of log-ins, and how sessions end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from time_machine import travel

from smsactivator import lockout, sessions
from smsactivator.common.links import admin_url
from smsactivator.common.moments import SKEW
from smsactivator.common.periods import Period
from smsactivator.tests import world
from smsactivator.tests.test_admin_roles import ADMIN, AUDITOR, FINANCE, SENIOR, SUPPORT
from wallet.tests import exported

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FEBRUARY = Period(date(2026, 2, 1), date(2026, 2, 28))
PASSWORD = "tram-lantern-42-quay"
HERE, THERE = "203.0.113.7", "198.51.100.9"


@pytest.fixture(autouse=True)
def sessions_are_written(sessions_are_not_written_on_the_way: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(sessions, "WRITTEN_EVERY", 60)


def member(name: str = "ann") -> User:
    return User.objects.create_user(name, password=PASSWORD, is_staff=True)


def log_in(name: str, password: str, address: str = HERE, **extra: Any) -> Any:
    return Client().post(
        reverse("admin:login"),
        {"username": name, "password": password, "next": reverse("admin:index")},
        REMOTE_ADDR=address,
        **extra,
    )


def fail(name: str, times: int, address: str = HERE) -> list[int]:
    return [log_in(name, f"wrong-{n}", address).status_code for n in range(times)]


# --- the lock ---


def test_a_fifth_wrong_password_locks_the_account_from_this_address() -> None:
    member()

    assert fail("ann", 5) == [200, 200, 200, 200, 429]

    locked = log_in("ann", PASSWORD)
    assert locked.status_code == 429
    assert "Too many wrong passwords" in locked.content.decode()
    assert "15 minutes" in locked.content.decode()


def test_a_locked_account_is_not_asked_for_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    member()
    fail("ann", 5)
    asked: list[str] = []
    monkeypatch.setattr(User, "check_password", lambda _user, password: asked.append(password))

    assert fail("ann", 100) == [429] * 100

    assert asked == []


def test_from_another_address_the_account_is_still_open() -> None:
    member()
    fail("ann", 5)

    assert log_in("ann", PASSWORD, THERE).status_code == 302


def test_an_account_tried_from_many_addresses_is_locked_everywhere() -> None:
    member()
    for number in range(lockout.ACCOUNT_TIMES):
        fail("ann", 4, f"198.51.100.{number}")
    fail("ann", 5, "198.51.100.200")

    assert log_in("ann", PASSWORD, THERE).status_code == 429


def test_an_address_that_tries_many_accounts_is_locked_for_all() -> None:
    member("bob")
    for number in range(settings.LOGIN_FAILURES * lockout.ADDRESS_TIMES):
        fail(f"nobody{number}", 1)

    assert log_in("bob", PASSWORD).status_code == 429
    assert log_in("bob", PASSWORD, THERE).status_code == 302


def test_the_lock_ends_by_itself_and_is_not_prolonged_by_trying() -> None:
    member()
    with travel(NOON, tick=False) as clock:
        fail("ann", 5)
        clock.shift(settings.LOGIN_LOCK - timedelta(seconds=1))
        assert log_in("ann", PASSWORD).status_code == 429
        clock.shift(2)
        assert log_in("ann", PASSWORD).status_code == 302


def test_failures_of_a_clock_that_ran_ahead_lock_nobody() -> None:
    member()
    with travel(NOON + timedelta(hours=2), tick=False):
        fail("ann", 5)
    with travel(NOON, tick=False):
        assert log_in("ann", PASSWORD).status_code == 302


def test_failures_of_a_clock_that_is_a_little_ahead_count() -> None:
    member()
    with travel(NOON + SKEW, tick=False):
        fail("ann", 5)
    with travel(NOON, tick=False):
        assert log_in("ann", PASSWORD).status_code == 429


def test_who_has_no_address_does_not_lock_out_all_others_without_one() -> None:
    member("bob")
    for number in range(settings.LOGIN_FAILURES * lockout.ADDRESS_TIMES):
        fail(f"nobody{number}", 1, "")

    assert log_in("bob", PASSWORD, "").status_code == 302


def test_without_an_address_the_limit_of_the_account_stays() -> None:
    member()
    assert fail("ann", 24, "") == [200] * 24

    assert fail("ann", 1, "") == [429]
    assert log_in("ann", PASSWORD, "").status_code == 429


def test_a_log_in_forgets_the_failures_before_it() -> None:
    member()
    fail("ann", 4)
    assert log_in("ann", PASSWORD).status_code == 302

    assert fail("ann", 4) == [200] * 4


def test_a_name_in_other_letters_is_the_same_account() -> None:
    member()
    fail("ann", 3)
    fail("ANN", 2)

    assert log_in("ann", PASSWORD).status_code == 429


# --- from where ---


def test_a_header_of_the_client_is_not_its_address() -> None:
    member()
    log_in("ann", "wrong", HTTP_X_FORWARDED_FOR=THERE, HTTP_X_REAL_IP=THERE)

    assert AccessFailureLog.objects.get().ip_address == HERE


@pytest.mark.parametrize(
    ("header", "sent", "address"),
    [
        ("X-Real-IP", {"HTTP_X_REAL_IP": THERE}, THERE),
        # What the proxy itself added stands last.
        ("X-Forwarded-For", {"HTTP_X_FORWARDED_FOR": f"10.9.8.7, {THERE}"}, THERE),
        ("X-Forwarded-For", {"HTTP_X_FORWARDED_FOR": "no address"}, HERE),
        ("X-Forwarded-For", {}, HERE),
    ],
)
def test_behind_a_proxy_the_header_that_is_set_tells_the_address(
    settings: Any, header: str, sent: dict[str, str], address: str
) -> None:
    settings.CLIENT_ADDRESS_HEADER = header
    log_in("ann", "wrong", **sent)

    assert AccessFailureLog.objects.get().ip_address == address


# --- the record ---


def test_log_ins_are_recorded_with_who_when_and_from_where() -> None:
    member()
    with travel(NOON, tick=False):
        log_in("ann", "wrong")
        log_in("ann", PASSWORD, THERE)

    failed, entered = AccessFailureLog.objects.get(), AccessLog.objects.get()
    assert (failed.username, failed.ip_address, failed.attempt_time) == ("ann", HERE, NOON)
    assert (entered.username, entered.ip_address, entered.attempt_time) == ("ann", THERE, NOON)


def test_no_password_is_recorded_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    member()
    for _ in range(6):
        log_in("ann", "my-secret-of-another-site")
    log_in("ann", PASSWORD, THERE)

    kept = [
        *AccessAttempt.objects.values(),
        *AccessFailureLog.objects.values(),
        *AccessLog.objects.values(),
    ]
    assert "my-secret" not in f"{kept} {caplog.text}"
    assert PASSWORD not in f"{kept} {caplog.text}"


@pytest.mark.parametrize("role", [SUPPORT, SENIOR, FINANCE, AUDITOR, ADMIN])
def test_administrators_and_auditors_see_who_came_in_and_who_did_not(role: str) -> None:
    client = Client()
    client.force_login(world.person(role))
    member()
    log_in("ann", "wrong", THERE)
    log_in("ann", PASSWORD, HERE)

    failed = client.get(reverse("admin:axes_accessfailurelog_changelist"))
    entered = client.get(reverse("admin:axes_accesslog_changelist"))

    if role in {AUDITOR, ADMIN}:
        assert THERE in failed.content.decode()
        assert HERE in entered.content.decode()
        assert client.post(failed.request["PATH_INFO"], {"action": "delete_selected"})
    else:
        assert (failed.status_code, entered.status_code) == (403, 403)


# --- passwords ---


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("aaaaaaaaaaaa", "different characters"),
        ("abababababab", "different characters"),
        ("short-42", "at least 12 characters"),
        ("123456789012", "entirely numeric"),
        ("qwertyuiop-2026", "too common"),
        ("PasswordPassword", "too common"),
        ("password123456", "too common"),
        ("annabelle-smith", "too similar"),
    ],
)
def test_a_password_that_is_easily_guessed_is_refused(password: str, why: str) -> None:
    user = User(username="annabelle-smith", email="a@example.com")
    with pytest.raises(ValidationError, match=why):
        validate_password(password, user)


def test_a_password_that_is_not_is_taken() -> None:
    validate_password(PASSWORD, User(username="ann"))


# --- how a session ends ---


def seated() -> Client:
    member()
    client = Client()
    answer = client.post(
        reverse("admin:login"),
        {"username": "ann", "password": PASSWORD, "next": reverse("admin:index")},
    )
    assert answer.status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get(reverse("admin:password_change")).status_code == 200


def test_a_session_ends_when_nothing_was_done_for_a_while() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        clock.shift(settings.SESSION_IDLE - timedelta(seconds=1))
        assert is_in(client)
        clock.shift(settings.SESSION_IDLE - timedelta(seconds=1))
        assert is_in(client)
        clock.shift(settings.SESSION_IDLE + timedelta(seconds=1))
        assert not is_in(client)
        assert not is_in(client)


def test_a_session_that_ended_by_itself_is_no_log_out() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        clock.shift(settings.SESSION_IDLE + timedelta(seconds=1))
        assert not is_in(client)
        assert AccessLog.objects.get().logout_time is None


def test_a_log_out_is_recorded() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        clock.shift(60)
        client.post(reverse("admin:logout"))
        assert AccessLog.objects.get().logout_time == NOON + timedelta(minutes=1)


def test_a_session_ends_after_its_longest_time_whatever_was_done() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        passed = timedelta()
        while passed + timedelta(minutes=20) < settings.SESSION_LONGEST:
            clock.shift(timedelta(minutes=20))
            passed += timedelta(minutes=20)
            assert is_in(client)
        clock.shift(timedelta(minutes=21))
        assert not is_in(client)


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=2)])
def test_a_session_of_a_clock_that_ran_ahead_is_not_believed(ahead: timedelta) -> None:
    with travel(NOON + ahead, tick=False):
        client = seated()
    with travel(NOON, tick=False):
        assert not is_in(client)


def test_what_a_page_asks_by_itself_does_not_keep_a_session_open() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        for _ in range(4):
            clock.shift(settings.SESSION_IDLE / 5)
            assert client.get(reverse("session")).json()["left"] > 0
            client.get(reverse("admin:index"))
        clock.shift(settings.SESSION_IDLE / 4)
        assert client.get(reverse("session")).status_code == 401
        assert not is_in(client)


def test_an_export_that_is_waited_for_does_not_keep_a_session_open() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        finance = User.objects.get(username="ann")
        finance.groups.add(Group.objects.get(name="Finance"))
        page = admin_url("wallet_export_change", exported.asked(finance, "transfers", FEBRUARY).pk)
        for _ in range(4):
            clock.shift(settings.SESSION_IDLE / 5)
            assert b'data-refresh="3"' in client.get(page).content
        clock.shift(settings.SESSION_IDLE / 4)
        assert not is_in(client)


def test_the_page_is_told_how_long_is_left_and_may_stay() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        client.get(reverse("admin:password_change"))
        clock.shift(settings.SESSION_IDLE - timedelta(seconds=100))
        left = client.get(reverse("session")).json()
        assert (left["left"], left["by"]) == (100, "idle")
        stayed = client.post(reverse("session")).json()
        assert stayed["left"] == settings.SESSION_IDLE.total_seconds()


def test_the_longest_time_is_told_when_it_comes_first() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        idle, longest = settings.SESSION_IDLE, settings.SESSION_LONGEST
        for _ in range(int(longest / idle * 2) - 1):
            clock.shift(idle / 2)
            client.post(reverse("session"))
        clock.shift(idle / 2 - timedelta(seconds=60))
        assert client.post(reverse("session")).json() == {"left": 60, "by": "length"}


def test_a_session_is_written_once_a_minute_at_most() -> None:
    with travel(NOON, tick=False) as clock:
        client = seated()
        page = reverse("admin:password_change")
        client.get(page)
        clock.shift(30)
        with CaptureQueriesContext(connection) as soon:
            client.get(page)
        clock.shift(30)
        with CaptureQueriesContext(connection) as later:
            client.get(page)
    assert [q["sql"] for q in soon if q["sql"].startswith("UPDATE")] == []
    assert len([q["sql"] for q in later if q["sql"].startswith("UPDATE")]) == 1
