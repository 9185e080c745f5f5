"""Alarms to the administrators: kept as rows, one for each cause, and mailed by the beat.

A request never waits for a mail server. It leaves a row, and what is told of it names the place in
our code, for an error's own words may hold what a customer wrote, or a password.
"""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPException
from types import TracebackType
from typing import Any

from django.conf import settings
from django.core.mail import mail_admins
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.db.models import F, Q
from django.http import HttpRequest
from django.utils import timezone

from smsactivator.models import Alarm

log = logging.getLogger(__name__)

# What goes on is told again after this time.
AGAIN = timedelta(days=1)
TOLD = 50  # causes that one mail names
SENDING = 0x616C6172  # any number that nothing else locks: "alar"


def keep(cause: str, text: str) -> None:
    """Keep an alarm; the beat tells it, once a day for all with the same cause."""
    now = timezone.now()
    alarm = Alarm(cause=cause, text=text, first_at=now, last_at=now)
    Alarm.objects.bulk_create([alarm], ignore_conflicts=True)
    Alarm.objects.filter(cause=cause, last_at__lte=now).update(last_at=now, text=text)
    Alarm.objects.filter(cause=cause).update(count=F("count") + 1)


def keep_failed_request(sender: Any, request: HttpRequest | None = None, **more: Any) -> None:
    """Keep an alarm for a request that ended in an error of ours (Django's signal).

    Nothing is kept when the database is what failed: it would be waited for again, and `/healthz`
    says so.
    """
    error = sys.exc_info()[1]
    if error is None or isinstance(error, OperationalError | InterfaceError):
        return
    match = request.resolver_match if request else None
    where = f"{request.method} {match.route}" if request and match else "no address of ours"
    place = _place(error.__traceback__) or where
    try:
        keep(
            f"{type(error).__name__} at {place}"[:200],
            f"A request ended in an error of ours: {where}. The log of web at that time has more.",
        )
    except DatabaseError:
        log.exception("the alarm about a failed request was not kept")


def tell() -> int:
    """Mail what is to be told, in one mail; returns how many causes it names.

    One sender at a time. Who dies between the mail and its note has it sent again.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [SENDING])
        if not cursor.fetchone()[0]:
            return 0
        try:
            return _tell()
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [SENDING])


def _tell() -> int:
    now = timezone.now()
    due = list(
        Alarm.objects.filter(
            Q(mailed_at=None)
            # A moment that is still to come says nothing.
            | Q(mailed_at__gt=now)
            | Q(mailed_at__lte=now - AGAIN, last_at__gt=F("mailed_at"))
        ).order_by("first_at", "pk")[:TOLD]
    )
    if not due:
        return 0
    lines = [
        f"{alarm.cause}\n  {alarm.text}\n  {alarm.count} times, the first at "
        f"{alarm.first_at:%Y-%m-%d %H:%M}, the last at {alarm.last_at:%Y-%m-%d %H:%M} UTC\n"
        for alarm in due
    ]
    lines.append("What to do: docs/operations.md, Alarms.")
    try:
        mail_admins(f"{len(due)} kinds of error", "\n".join(lines))
    except (SMTPException, OSError):
        # The rows stay due, and the next beat tries again.
        log.exception("the mail about alarms was not sent")
        return 0
    Alarm.objects.filter(pk__in=[alarm.pk for alarm in due]).update(mailed_at=now)
    return len(due)


def _place(found: TracebackType | None) -> str:
    """The innermost place in our own code, as file and function, or ""."""
    root = Path(settings.BASE_DIR)
    places = [
        f"{Path(frame.filename).relative_to(root)} {frame.name}"
        for frame in traceback.extract_tb(found)
        if Path(frame.filename).is_relative_to(root) and ".venv" not in Path(frame.filename).parts
    ]
    return places[-1] if places else ""
