"""Celery tasks of the site."""

from __future__ import annotations

from celery import shared_task
from django.db import connection

from smsactivator.auditing import audit_ledger

AUDIT_LOCK = 0x61756469  # any number that nothing else locks: "audi"


@shared_task
def audit() -> bool | None:
    """Prove the books; the front page shows the result. One audit at a time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [AUDIT_LOCK])
        if not cursor.fetchone()[0]:
            return None
        try:
            return audit_ledger().passed
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [AUDIT_LOCK])
