"""The whole machine: HTTP in, a real Celery worker, beat and broker, an upstream over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from orders.models import Order, State
from orders.upstreams.simulator import Fault
from refunds.models import Refund, Sweep
from refunds.policy import Clause
from refunds.tests import world
from refunds.tests.conftest import KEY
from smsactivator.celery import app
from wallet import keys, ledger
from wallet.tests.attack import APPLICATION, as_owner

pytestmark = pytest.mark.django_db(transaction=True)

PROJECT = Path(settings.BASE_DIR)


def until(condition: Callable[[], bool], *, within: float = 120.0) -> None:
    """Wait for other processes to bring something about."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.05)


def database_url() -> str:
    """The test's own database, for processes beside this one."""
    named = connection.settings_dict
    user = quote(named["USER"]) + (f":{quote(named['PASSWORD'])}" if named["PASSWORD"] else "")
    host = quote(named["HOST"], safe="")
    port = f":{named['PORT']}" if named["PORT"] else ""
    role = quote(f"-c role={APPLICATION}")
    return f"postgresql://{user}@{host}{port}/{named['NAME']}?options={role}"


@contextlib.contextmanager
def worker(tmp_path: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker on this test's database and broker, gone without a trace afterwards."""
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "smsactivator", "worker"),
                *("-Q", "money,upstream,looks,audit", "--concurrency", "2", "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle", *options),
            ],
            cwd=PROJECT,
            env=os.environ
            | {"DATABASE_URL": database_url(), "UPSTREAM_KEY_SIM": KEY, "BEAT_SECONDS": "1"}
            | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the worker and all its children, wherever they are."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(autouse=True)
def empty_broker():
    app.control.purge()
    yield
    app.control.purge()


@pytest.fixture
def api(client):
    _, plain = keys.issue(world.storefront(), name="test", created_by="test")

    def call(method: str, path: str, body: object = None, **headers: str):
        return client.generic(
            method,
            f"/api/v1{path}",
            "" if body is None else json.dumps(body),
            content_type="application/json",
            headers={"Authorization": f"Bearer {plain}", **headers},
        )

    return call


def test_every_automatic_case_ends_by_itself(api, sim, upstream, tmp_path):
    assert api("PUT", "/customers/ann", {"email": "ann@example.com"}).status_code == 201
    assert (
        api("POST", "/customers/ann/deposits", {"amount": "10.00", "reference": "tx"}).status_code
        == 201
    )
    offer = world.offer("0.5000", upstream=upstream)

    def order(key: str) -> Order:
        answer = api(
            "POST", "/orders", {"customer": "ann", "offer": offer.pk}, **{"Idempotency-Key": key}
        )
        assert answer.status_code == 201, answer.content
        return Order.objects.get(pk=answer.json()["id"])

    def state(of: Order) -> str:
        return str(Order.objects.values_list("state", flat=True).get(pk=of.pk))

    with worker(tmp_path, "-B", "-s", str(tmp_path / "schedule"), ALLOCATION_TIMEOUT_SECONDS="600"):
        until(lambda: Sweep.objects.exists())
        sim.inject("getNumberV2", Fault.says("NO_NUMBERS"))
        refused = order("refused")
        until(lambda: state(refused) == State.ALLOCATION_FAILED)
        delivered, cancelled, broken, silent = map(
            order, ("delivered", "cancelled", "broken", "silent")
        )
        for one in (delivered, cancelled, broken, silent):
            until(lambda one=one: state(one) == State.AWAITING_SMS)
        refs = dict(Order.objects.values_list("pk", "upstream_ref"))
        sim.deliver_sms(refs[delivered.pk], "123456", "Your code is 123456")
        sim.break_number(refs[broken.pk])
        assert api("POST", f"/orders/{cancelled.pk}/cancel").json()["state"] == State.CANCELLED

        until(lambda: state(delivered) == State.SMS_RECEIVED)
        until(lambda: state(broken) == State.NUMBER_BROKEN)
        silent.refresh_from_db()
        assert silent.deadline - silent.allocated_at == timedelta(minutes=20)
        # Their time comes now, however long this machine took until here.
        came = timezone.now()
        Order.objects.filter(pk__in=[delivered.pk, silent.pk]).update(deadline=came)
        until(lambda: state(silent) == State.EXPIRED)
        until(lambda: state(delivered) == State.COMPLETED)
        silent.refresh_from_db()
        assert silent.ended_at > came

    answer = api("GET", f"/orders/{delivered.pk}").json()
    assert [sms["code"] for sms in answer["sms"]] == ["123456"]
    assert api("POST", f"/orders/{delivered.pk}/cancel").status_code == 409
    assert dict(Refund.objects.values_list("order_id", "clause")) == {
        refused.pk: Clause.ALLOCATION_FAILED,
        cancelled.pk: Clause.CANCELLED_BEFORE_SMS,
        broken.pk: Clause.NUMBER_BROKEN,
        silent.pk: Clause.NO_SMS_IN_TIME,
    }
    assert api("GET", "/customers/ann/wallet").json()["balance"] == "9.5000"
    assert world.assert_books_agree() == {"escrow": "0.0000", "open_orders": "0"}


def test_a_worker_killed_in_the_middle_of_a_sweep_loses_and_doubles_nothing(upstream, tmp_path):
    orders = world.overdue_orders(50)
    last = max(order.customer_id for order in orders)

    with worker(tmp_path) as process, transaction.atomic():
        # The sweep has taken its orders through their transitions when it comes to this lock.
        ledger.lock_wallets([last])
        app.send_task("refunds.tasks.sweep")
        until(waits_for_a_lock)
        kill(process)
    until(lambda: not waits_for_a_lock())
    assert set(Order.objects.values_list("state", flat=True)) == {State.AWAITING_SMS}
    assert not Refund.objects.exists()
    world.assert_books_agree()

    with worker(tmp_path):
        app.send_task("refunds.tasks.sweep")
        app.send_task("refunds.tasks.sweep")
        until(lambda: Refund.objects.count() == 50)

    assert set(Order.objects.values_list("state", flat=True)) == {State.EXPIRED}
    for order in orders:
        assert world.balance(order.customer) == Decimal("10.0000")
    world.assert_books_agree()


def test_an_order_whose_task_was_never_queued_is_allocated_by_the_beat(sim, upstream, tmp_path):
    order = world.place(what=world.offer(upstream=upstream))
    app.control.purge()
    assert timezone.now() - order.placed_at < settings.ALLOCATION_TIMEOUT

    with worker(tmp_path, "-B", "-s", str(tmp_path / "schedule"), ALLOCATION_TIMEOUT_SECONDS="600"):
        until(lambda: Order.objects.get(pk=order.pk).state == State.AWAITING_SMS)

    assert sim.bought_for_order(str(order.pk)) == 1


def waits_for_a_lock() -> bool:
    """Whether another session of this database waits for a row."""
    with as_owner(), connection.cursor() as cursor:
        # Within one transaction the view would show its first answer again and again.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
            """
        )
        [waiting] = cursor.fetchone()
    return bool(waiting)
