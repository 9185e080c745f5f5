"""Daily seals: a chain of hashes over the transfers of each UTC day, so that later tampering shows.

A seal is SHA-256 over the seal of the day before, the day, and one line for each of the day's
transfers in the order of their numbers, with every column; text is written as JSON, so that no two
days have the same lines. Whoever keeps a digest elsewhere can
prove that nothing up to that day was changed since, not even by the owner of the database.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from wallet.horizon import writers_have_ended
from wallet.models import Seal, Transfer

log = logging.getLogger(__name__)

# After the end of a day, before it is sealed: machines' clocks need not agree to the second.
SEAL_AFTER = timedelta(minutes=10)
# After that, until a day without a seal is a fault; the beat seals once an hour.
OVERDUE_AFTER = timedelta(hours=2)
PATIENCE = 30.0  # seconds to wait for transactions that may still write to the day
SEALING = 0x7365616C  # any advisory lock that nothing else takes: "seal"
CHUNK = 10_000  # rows in memory at a time

LINE = """
    SELECT concat_ws('|', id, to_json(kind), debit_account, credit_account, amount,
        to_json(currency), to_char(posted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
        coalesce(wallet_id::text, '-'), coalesce(wallet_version::text, '-'),
        coalesce(balance_after::text, '-'), coalesce(reverses_id::text, '-'), to_json(key))
    FROM wallet_transfer
    WHERE posted_at >= %s AND posted_at < %s
    ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of one day; ``problem`` is empty when its seal is right."""

    day: date
    transfers: int
    problem: str = ""


def seal_days() -> list[Seal]:
    """Seal every day that is over and not sealed yet, the oldest first. Returns the new seals.

    Begins with the day of the first transfer; a day without transfers is sealed as well. A day is
    sealed when it is over for SEAL_AFTER and every transaction that was at work then has ended, so
    that nothing can be added to it. Two at once seal each day once; blocks nobody.
    """
    with _alone() as alone:
        first = _first_unsealed() if alone else None
        last = _last_to_seal()
        if first is None or first > last or not writers_have_ended(PATIENCE):
            return []
        return [_seal(first + timedelta(days=n)) for n in range((last - first).days + 1)]


def verify(
    since: date | None = None,
    until: date | None = None,
    *,
    progress: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Compute the seals of the days again, both ends included, and return what is wrong.

    A row that was changed, added or removed shows on its day; a seal that was changed or removed
    shows where the chain is broken, and one that is missing on its day. By default to the last
    seal, or to the last day that must be sealed by now, so that the end of the chain cannot be
    taken away; and never from before the day of the first transfer or seal. Reads one snapshot, in
    constant memory.
    """
    wrong = []
    with transaction.atomic(), _snapshot():
        seals = {seal.day: seal for seal in Seal.objects.all()}
        began = min([day for day in (_first_day(), *seals) if day], default=None)
        first = max(since, began) if since and began else began
        if first is None:
            return []
        last = until or max([_last_to_seal(OVERDUE_AFTER), *seals])
        for number in range((last - first).days + 1):
            verdict = _verify(first + timedelta(days=number), seals)
            if verdict.problem:
                wrong.append(verdict)
            if progress:
                progress(verdict)
    return wrong


def newest() -> Seal | None:
    """The last seal."""
    return Seal.objects.order_by("-day").first()


def _verify(day: date, seals: dict[date, Seal]) -> Verdict:
    seal, before = seals.get(day), seals.get(day - timedelta(days=1))
    if seal is None:
        return Verdict(day, 0, "has no seal")
    digest, transfers = _digest(day, seal.previous)
    if transfers != seal.transfers:
        problem = f"has {transfers} transfers, {seal.transfers} were sealed"
    elif digest != seal.digest:
        problem = "is not as it was sealed: a transfer or the seal was changed"
    elif seal.previous != (before.digest if before else ""):
        problem = "does not continue the seal of the day before"
    else:
        problem = ""
    return Verdict(day, transfers, problem)


def _seal(day: date) -> Seal:
    with transaction.atomic(), _snapshot():
        before = newest()
        previous = before.digest if before else ""
        digest, transfers = _digest(day, previous)
    seal = Seal.objects.create(
        day=day,
        transfers=transfers,
        digest=digest,
        previous=previous,
        sealed_at=timezone.now(),
    )
    log.info("%s: %s transfers, %s", seal, transfers, digest)
    return seal


def _digest(day: date, previous: str) -> tuple[str, int]:
    """The day's digest after ``previous``, and how many transfers it has."""
    digest = hashlib.sha256(f"{previous}|{day.isoformat()}\n".encode())
    transfers = 0
    for line in _lines(day):
        digest.update(f"{line}\n".encode())
        transfers += 1
    return digest.hexdigest(), transfers


def _lines(day: date) -> Iterator[str]:
    begins = datetime.combine(day, time(), tzinfo=UTC)
    with connection.chunked_cursor() as cursor:
        cursor.execute(LINE, [begins, begins + timedelta(days=1)])
        while rows := cursor.fetchmany(CHUNK):
            yield from (line for (line,) in rows)


def _first_day() -> date | None:
    first = Transfer.objects.order_by("posted_at").values_list("posted_at", flat=True).first()
    return first.astimezone(UTC).date() if first else None


def _first_unsealed() -> date | None:
    last = newest()
    return last.day + timedelta(days=1) if last else _first_day()


def _last_to_seal(late: timedelta = timedelta(0)) -> date:
    """The newest day that could be sealed ``late`` ago."""
    return (timezone.now() - SEAL_AFTER - late).astimezone(UTC).date() - timedelta(days=1)


@contextmanager
def _snapshot() -> Iterator[None]:
    """One moment for all that is read, if the transaction has just begun."""
    if len(connection.savepoint_ids) == 0:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    yield


@contextmanager
def _alone() -> Iterator[Any]:
    """Whether nobody else seals at this moment; if so, nobody does until the end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [SEALING])
        alone = cursor.fetchone()[0]
        try:
            yield alone
        finally:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [SEALING])
