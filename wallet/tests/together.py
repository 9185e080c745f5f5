"""What state machines share: calls at the same moment, and scripts instead of chance."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from django.db import connection

from smsactivator.common.errors import Refused

PATIENCE = 60  # seconds until a thread that waits for the others gives up


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Let the calls loose together and return what each returned, or the Refused it raised.

    Every other exception comes out of its thread. The caller is a transactional test.
    """
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            barrier.wait(PATIENCE)
            return call()
        except Refused as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result(PATIENCE) for future in [threads.submit(run, c) for c in calls]]


def somebody_waits_for_a_lock() -> None:
    """Return as soon as another session of this test's database waits for one that is held."""
    until = time.monotonic() + PATIENCE
    with connection.cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE NOT granted AND datname = current_database())"
            )
            if cursor.fetchone() == (True,):
                return
    raise AssertionError("Nobody waits for a lock.")


class Chosen:
    """What a script chose, for a rule of a state machine that would draw it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def draw(self, _strategy: Any) -> Any:
        return self.value
