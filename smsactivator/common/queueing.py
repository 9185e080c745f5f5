"""Queueing tasks from a request: the work is in the database, and a beat finds what was not queued.

So a broker that is down or hangs keeps nobody waiting for long: whoever has met it queues nothing
for a while, neither for the rest of a request that would queue hundreds nor for the next one.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Task
from django.conf import settings
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


class _Broker:
    silent_until = 0.0  # by time.monotonic()


def queue(task: Task, *args: Any) -> None:
    """Queue a task that a beat would find; a broker that does not answer is logged and left."""
    if time.monotonic() < _Broker.silent_until:
        return
    given = {"args": list(args)} if args else {}
    try:
        task.apply_async(**given, expires=settings.TASK_EXPIRES)
    except OperationalError as error:
        _Broker.silent_until = time.monotonic() + settings.BROKER_PAUSE
        log.warning("%s was not queued, the beat will find it: %s", task.name, error)


def forget() -> None:
    """Trust the broker again."""
    _Broker.silent_until = 0.0
