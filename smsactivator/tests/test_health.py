"""/healthz: 200 as long as money is given back in time, else 503 that says why."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.conf import settings as configured
from django.db import connection
from django.test import Client
from django.utils import timezone

from orders.models import Order, Upstream
from refunds import automatic
from refunds.models import Sweep
from refunds.tests import world
from support.delivery import deliver
from support.tests import threads
from wallet.tests.attack import as_owner
from wallet.tests.together import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STALE = configured.HEALTH_STALE
NO_DATABASE = "The database does not answer."
NO_BROKER = "The broker does not answer."


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def closed_port():
    """A port of this machine where nobody listens, and nobody else will meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def swept() -> None:
    Sweep.objects.update_or_create(
        name="refunds", defaults={"finished_at": timezone.now(), "refunded": 0}
    )


def health() -> tuple[int, dict[str, object]]:
    response = Client().get("/healthz")
    assert "no-store" in response.headers["Cache-Control"]
    return response.status_code, response.json()


def report(
    *problems: str,
    sweep: float | None = 0.0,
    overdue: float | None = None,
    unlooked: float | None = None,
    delivery: float | None = None,
) -> tuple[int, dict[str, object]]:
    return (
        503 if problems else 200,
        {
            "status": "bad" if problems else "ok",
            "problems": list(problems),
            "last_sweep_age": sweep,
            "oldest_overdue_age": overdue,
            "oldest_unlooked_age": unlooked,
            "oldest_delivery_age": delivery,
        },
    )


def test_all_is_well_after_a_sweep(clock):
    automatic.sweep()
    assert health() == report()


def test_no_sweep_ever_is_bad(clock):
    assert health() == report(
        "No sweep has ever run: are the Celery worker and beat running?", sweep=None
    )


def test_a_stale_sweep_is_bad(clock):
    automatic.sweep()

    clock.shift(STALE)
    assert health() == report(sweep=60.0)
    clock.shift(SECOND)

    assert health() == report("The last sweep ran 61 s ago.", sweep=61.0)


def test_an_overdue_order_that_waits_longer_than_the_limit_is_bad(clock):
    order = world.allocated()
    clock.shift(configured.ORDER_SLA + STALE)
    world.looked_at()
    swept()
    assert health() == report(overdue=60.0)

    clock.shift(SECOND)
    swept()

    assert health() == report("An order has waited 61 s for its refund.", overdue=61.0)
    assert automatic.sweep() == 1
    assert health() == report()
    assert Order.objects.get(pk=order.pk).state == "expired"


def test_an_upstream_out_of_reach_is_healthy_within_the_grace_period(clock):
    world.allocated()
    world.out_of_reach()

    clock.shift(configured.ORDER_SLA + configured.UPSTREAM_GRACE)
    world.out_of_reach()
    swept()
    assert health() == report(unlooked=120.0)

    # The order may be refunded from the end of the grace period on, so its wait begins there.
    clock.shift(STALE)
    world.out_of_reach()
    swept()
    assert health() == report(overdue=60.0, unlooked=180.0)
    assert automatic.sweep() == 1
    assert health() == report()


@pytest.mark.parametrize("fact", ["broken_at", "refused_at"])
def test_any_order_that_waits_for_its_refund_too_long_is_bad(clock, fact):
    order = world.allocated() if fact == "broken_at" else world.place()
    Order.objects.filter(pk=order.pk).update(**{fact: timezone.now()})
    # As if each sweep left it behind.
    clock.shift(STALE)
    swept()
    assert health() == report(overdue=60.0)

    clock.shift(SECOND)
    swept()

    assert health() == report("An order has waited 61 s for its refund.", overdue=61.0)


def test_an_order_that_is_never_allocated_is_bad(clock):
    world.place()
    clock.shift(configured.ALLOCATION_TIMEOUT + STALE + SECOND)
    swept()

    assert health() == report("An order has waited 61 s for its refund.", overdue=61.0)


def test_an_order_that_nobody_looks_at_is_bad(clock):
    world.allocated()
    clock.shift(configured.ORDER_SLA + configured.UPSTREAM_GRACE + STALE)
    swept()
    assert health() == report(unlooked=180.0)

    clock.shift(SECOND)
    swept()

    assert health() == report(
        "An order past its deadline has waited 181 s for a look at its upstream: is the Celery "
        "worker of the queue looks running?",
        unlooked=181.0,
    )


def test_the_order_that_an_unfinished_look_left_waits_for_the_next(clock):
    order = world.allocated()
    clock.shift(configured.ORDER_SLA + timedelta(minutes=1))
    # Such a look counts for the deadlines before the oldest that it left.
    Upstream.objects.update(looked_at=order.deadline, unfinished_at=timezone.now())
    swept()

    assert health() == report(unlooked=60.0)


@pytest.mark.parametrize("way", ["email", "api"])
def test_a_reply_that_nobody_delivers_is_bad_until_it_was_tried(clock, closed_port, settings, way):
    outbound = threads.delivery(way)
    clock.shift(STALE)
    swept()
    assert health() == report(delivery=60.0)

    clock.shift(SECOND)
    swept()

    assert health() == report(
        "A delivery to a customer has waited 61 s: are the Celery workers of the queues money and "
        "mail running?",
        delivery=61.0,
    )
    settings.EMAIL_BACKEND = "support.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", closed_port
    deliver(outbound.pk)
    assert health() == report()


def test_an_order_whose_time_is_not_over_is_healthy(clock):
    world.allocated()
    clock.shift(configured.ORDER_SLA)
    world.looked_at()
    swept()
    assert health() == report()


def test_a_broker_that_is_down_is_bad(clock, settings, closed_port):
    automatic.sweep()
    settings.REDIS_URL = f"redis://127.0.0.1:{closed_port}/0"
    assert health() == report(NO_BROKER)


def test_all_problems_are_told_at_once(clock, settings, closed_port):
    automatic.sweep()
    world.allocated()
    clock.shift(configured.ORDER_SLA + 2 * STALE)
    world.looked_at()
    settings.REDIS_URL = f"redis://127.0.0.1:{closed_port}/0"

    assert health() == report(
        "The last sweep ran 1320 s ago.",
        "An order has waited 120 s for its refund.",
        NO_BROKER,
        sweep=1320.0,
        overdue=120.0,
    )


def test_a_database_that_is_down_is_bad(closed_port):
    ask = (
        "import django; django.setup(); from django.test import Client; "
        "answer = Client(SERVER_NAME='localhost').get('/healthz'); "
        "print(answer.status_code, answer.content.decode())"
    )
    process = subprocess.run(
        [sys.executable, "-c", ask],
        env=os.environ
        | {
            "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{closed_port}/nothing",
            "DATABASE_POOL_SIZE": "0",
        },
        cwd=configured.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    status, content = process.stdout.split(" ", 1)
    assert (int(status), json.loads(content)) == report(NO_DATABASE, sweep=None)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_cut_is_bad_until_the_next_one():
    automatic.sweep()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [backend] = cursor.fetchone()

    def cut() -> None:
        with as_owner(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])

    at_once(cut)

    assert health() == report(NO_DATABASE, sweep=None)
    connection.close()
    assert health()[0] == 200


def test_a_wrong_method_is_refused_and_head_is_not(clock):
    automatic.sweep()
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        response = Client().generic(method, "/healthz")
        assert response.status_code == 405
        assert response.headers["Allow"] == "GET, HEAD"
    assert Client().head("/healthz").status_code == 200


def test_what_is_bad_is_one_warning_in_the_log_that_says_it(clock, caplog):
    health()
    [line] = [one for one in caplog.records if one.name == "django.request"]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert line.getMessage() == (
        "/healthz: No sweep has ever run: are the Celery worker and beat running?"
    )


def test_it_is_open_to_a_monitor_without_a_session(clock):
    automatic.sweep()
    assert not Client().get("/healthz").cookies
