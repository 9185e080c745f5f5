"""Celery tasks of the site."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from celery import shared_task
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from smsactivator import alarms, closing, proving, staff
from smsactivator.auditing import audit_ledger
from wallet import seals

log = logging.getLogger(__name__)

AUDIT_LOCK = 0x61756469  # any number that nothing else locks: "audi"


# Seconds that a full audit waits for another one to end; it comes once a day, and an audit of what
# is new, which may begin at the same moment, takes a few.
PATIENCE = 120.0
# What is proved anew each day: two closed months, at the least one whole.
PROVED = timedelta(days=62)
LOOK_AGAIN = 0.5


@shared_task
def audit(*, full: bool = False) -> bool | None:
    """Prove the books; the front page shows the result. One audit at a time.

    An audit of what is new leaves it to the one that is at work; a full one waits for its end, so
    that the beat of one never pushes out the other.
    """
    until = time.monotonic() + (PATIENCE if full else 0)
    with connection.cursor() as cursor:
        while not _locked(cursor):
            if time.monotonic() >= until:
                if full:
                    log.warning("the full audit did not begin: another one is at work for too long")
                return None
            time.sleep(LOOK_AGAIN)
        try:
            return audit_ledger(full=full).passed
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [AUDIT_LOCK])


def _locked(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [AUDIT_LOCK])
    return bool(cursor.fetchone()[0])


@shared_task
def send_password_links() -> int:
    """Mail the links by which people choose a password; returns how many."""
    return staff.send_links()


@shared_task
def seal_days() -> int:
    """Seal the days that are over; returns how many."""
    return len(seals.seal_days())


@shared_task
def prove_books() -> int:
    """Compute the seals and closes of the last weeks again; returns how many problems there are."""
    return len(proving.prove(timezone.now().date() - PROVED))


@shared_task
def close_books() -> int:
    """Close the days that are sealed, and the months whose days are closed; returns how many."""
    return len(closing.close_what_is_sealed())


@shared_task
def tell_alarms() -> int:
    """Mail the administrators what is to be told; returns how many causes."""
    return alarms.tell()
