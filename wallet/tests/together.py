"""Calls that happen at the same time, each on a real connection of its own."""

from __future__ import annotations

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
