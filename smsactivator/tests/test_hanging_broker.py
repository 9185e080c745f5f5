"""A broker that accepts connections and stays silent: nobody waits for it, and nothing is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import time_machine
from django.conf import settings as configured
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from orders import allocation
from orders.models import Order, State
from refunds.tests import world
from smsactivator import staff
from smsactivator.celery import app
from smsactivator.tests import world as staff_world
from smsactivator.tests.test_admin_roles import SUPPORT

pytestmark = pytest.mark.django_db

# What an order took was 15 s. A busy machine may take seconds for its part, but not so many.
FAR_BELOW = 8.0
TRIES = 2  # connections made anew for what is queued


class Relay:
    """The real broker behind a port that may fall silent, for connections old and new."""

    def __init__(self, host: str, port: int) -> None:
        self.broker = (host, port)
        self.silent = threading.Event()
        self.connections = 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self.listening]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.listening.getsockname()[1]}/0"

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                self.connections += 1
                broker = socket.create_connection(self.broker)
                self._open += [client, broker]
                for ends in ((client, broker), (broker, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, there: socket.socket, back: socket.socket) -> None:
        with suppress(OSError):
            while some := there.recv(65_536):
                if not self.silent.is_set():
                    back.sendall(some)


@pytest.fixture
def relay(monkeypatch) -> Iterator[Relay]:
    broker = urlsplit(configured.REDIS_URL)
    with closing(Relay(broker.hostname or "127.0.0.1", broker.port or 6379)) as made:
        monkeypatch.setenv("CELERY_BROKER_WRITE_URL", made.url)
        monkeypatch.setattr(app, "_pool", None)
        monkeypatch.setattr(app.amqp, "_producer_pool", None)
        yield made
        app.pool.force_close_all()


@pytest.fixture
def placed(django_capture_on_commit_callbacks):
    """Place an order as a storefront's request does; tell it, and how long that took."""
    buyer, what = world.customer("100"), world.offer()

    def place() -> tuple[Order, float]:
        began = time.monotonic()
        with django_capture_on_commit_callbacks(execute=True):
            order = world.place(buyer, what)
        return order, time.monotonic() - began

    return place


def test_what_an_order_may_wait_for_is_well_below_two_seconds():
    options = app.connection_for_write().transport_options
    longest = max(options["socket_connect_timeout"], options["socket_timeout"])
    retries = configured.CELERY_TASK_PUBLISH_RETRY_POLICY["max_retries"]
    pause = configured.CELERY_TASK_PUBLISH_RETRY_POLICY["interval_max"]

    # One that was there, and then each time one made anew.
    assert retries == 1
    assert options["max_retries"] == 0
    assert 4 * longest + pause < 1.5


def test_workers_wait_for_their_broker_as_long_as_before():
    options = app.connection_for_read().transport_options

    assert (options["socket_connect_timeout"], options["socket_timeout"]) == (3, 5)


@pytest.mark.parametrize("connected", [True, False])
def test_an_order_is_placed_and_found_by_the_beat(relay, placed, caplog, connected):
    if connected:
        placed()
        assert relay.connections
    relay.silent.set()
    met = relay.connections

    order, took = placed()

    # Two tries, however busy the machine is; how long each may wait is asked above.
    assert relay.connections - met <= TRIES
    assert took < FAR_BELOW
    assert Order.objects.get(pk=order.pk).state == State.PLACED
    assert "orders.tasks.allocate was not queued, the beat will find it" in caplog.text
    relay.silent.clear()
    Order.objects.exclude(pk=order.pk).update(refused_at=timezone.now(), refusal_code="TEST")
    with time_machine.travel(timezone.now() + timedelta(seconds=configured.BEAT_SECONDS + 1)):
        assert allocation.allocate_forgotten() == 1


def test_the_next_order_does_not_even_ask_a_silent_broker(relay, placed):
    relay.silent.set()
    placed()
    met = relay.connections
    assert met

    placed()

    assert relay.connections == met


def test_an_invitation_does_not_ask_a_broker_that_is_known_to_be_silent(
    relay, placed, django_capture_on_commit_callbacks
):
    relay.silent.set()
    placed()
    met = relay.connections
    role = Group.objects.get(name=SUPPORT)

    with django_capture_on_commit_callbacks(execute=True):
        staff.invite(
            staff_world.person(name="boss"),
            name="Ann Lee",
            email="ann.lee@example.com",
            roles=[role],
            reason="Starts on Monday",
        )

    assert relay.connections == met
    assert staff.send_links() == 1


def test_health_asks_a_silent_broker_once(relay, settings):
    relay.silent.set()
    settings.REDIS_URL = relay.url

    answer = Client().get("/healthz")

    assert answer.status_code == 503
    assert "The broker does not answer." in answer.json()["problems"]
    assert relay.connections == 1
