"""Daily seals: a chain of hashes over what was written each UTC day, so that tampering shows.

A seal is SHA-256 over the seal of the day before, the day, one line for each of the day's
transfers in the order of their numbers, with every column, and one line for each chunk of what
decisions rest on (``wallet.evidence``); text is written as JSON, so that no two days have the same
lines. The first seals were over transfers alone, and stay what they are. Whoever keeps a digest
elsewhere can prove that nothing up to that day was changed since, not even by the owner of the
database.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from wallet import evidence
from wallet.horizon import TRANSFERS, writers_have_ended
from wallet.models import Close, Seal, SealedRows, Transfer

log = logging.getLogger(__name__)

# After the end of a day, before it is sealed: machines' clocks need not agree to the second.
SEAL_AFTER = timedelta(minutes=10)
# After that, until a day without a seal is a fault; the beat seals once an hour.
OVERDUE_AFTER = timedelta(hours=2)
PATIENCE = 30.0  # seconds to wait for transactions that may still write to the day
SEALING = 0x7365616C  # any advisory lock that nothing else takes: "seal"
CHUNK = 10_000  # rows in memory at a time
CHUNKS = 10  # of hashes of as many rows, in memory at a time
NAMED = 20  # rows of a day that are named; the count is always whole

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
    """What is to be said of one day; ``problem`` is empty when its seal is right.

    ``rows`` names the first NAMED of the rows that are not as they were sealed.
    """

    day: date
    transfers: int
    problem: str = ""
    rows: Sequence[str] = ()


def seal_days() -> list[Seal]:
    """Seal every day that is over and not sealed yet, the oldest first. Returns the new seals.

    Begins with the day of the first transfer; a day without transfers is sealed as well. A day is
    sealed when it is over for SEAL_AFTER and every transaction that was at work then has ended, so
    that nothing can be added to it. Two at once seal each day once; blocks nobody.
    """
    with _alone() as alone:
        first = _first_unsealed() if alone else None
        last = _last_to_seal()
        if first is None or first > last:
            return []
        ends = evidence.Ends()
        if not writers_have_ended(PATIENCE, [*TRANSFERS, *ends.evidence]):
            return []
        return [_seal(first + timedelta(days=n), ends) for n in range((last - first).days + 1)]


def verify(
    since: date | None = None,
    until: date | None = None,
    *,
    progress: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Compute the seals of the days again, both ends included, and return what is wrong.

    A row that was changed, added or removed is named with its day; a seal that was changed or
    removed shows where the chain is broken, and one that is missing on its day. By default to the
    last seal, to the last day of which something else says that it was sealed, or to the last that
    must be sealed by now, so that the end of the chain cannot be taken away; and never from before
    the day of the first transfer or seal. Reads one snapshot, in constant memory.
    """
    wrong = []
    with transaction.atomic(), _snapshot():
        seals = {seal.day: seal for seal in Seal.objects.all()}
        began = min([day for day in (_first_day(), *seals) if day], default=None)
        first = max(since, began) if since and began else began
        if first is None:
            return []
        after = evidence.sealed_before(first)
        last = until or max([_last_to_seal(OVERDUE_AFTER), *seals, *_said_to_be_sealed()])
        for number in range((last - first).days + 1):
            verdict = _verify(first + timedelta(days=number), seals, after)
            if verdict.problem:
                wrong.append(verdict)
            if progress:
                progress(verdict)
    return wrong


def newest() -> Seal | None:
    """The last seal."""
    return Seal.objects.order_by("-day").first()


def _verify(day: date, seals: Mapping[date, Seal], after: dict[str, int]) -> Verdict:
    seal, before = seals.get(day), seals.get(day - timedelta(days=1))
    chunks = _chunks(day)
    gapless = _continue(chunks, after)
    rows, named = _differences(chunks)
    if seal is None:
        return Verdict(day, 0, "has no seal", named)
    digest, transfers = _digest(day, seal.previous, chunks if seal.version > 1 else None)
    if transfers != seal.transfers:
        problem = f"has {transfers} transfers, {seal.transfers} were sealed"
    elif digest != seal.digest:
        problem = "is not as it was sealed: a transfer or the seal was changed"
    elif seal.previous != (before.digest if before else ""):
        problem = "does not continue the seal of the day before"
    elif seal.version < (before.version if before else seal.version):
        problem = "covers less than the seal of the day before"
    elif not gapless:
        problem = "leaves out rows between those that were sealed"
    elif rows:
        problem = f"is not as it was sealed: {rows} {'row' if rows == 1 else 'rows'}"
    else:
        problem = ""
    return Verdict(day, transfers, problem, named)


def _differences(chunks: QuerySet[SealedRows]) -> tuple[int, list[str]]:
    """How many rows are not as they were sealed; some of them, in words."""
    rows, named = 0, []
    for chunk in chunks.iterator(chunk_size=CHUNKS):
        for row in evidence.differences(chunk):
            rows += 1
            if rows <= NAMED:
                named.append(row)
    if rows > NAMED:
        named.append(f"and {rows - NAMED} more")
    return rows, named


def _continue(chunks: QuerySet[SealedRows], after: dict[str, int]) -> bool:
    """Whether each chunk begins where the one before it of its table ended; and remember that."""
    gapless = True
    for chunk in chunks.defer("hashes"):
        gapless &= chunk.after == after.get(chunk.name, 0)
        after[chunk.name] = chunk.through
    return gapless


def _seal(day: date, ends: evidence.Ends) -> Seal:
    with transaction.atomic(), _snapshot(read_only=False):
        before = newest()
        previous = before.digest if before else ""
        ends.of_day(day, _begins(day + timedelta(days=1)), timezone.now())
        digest, transfers = _digest(day, previous, _chunks(day))
        seal = Seal.objects.create(
            day=day,
            version=Seal.EVIDENCE,
            transfers=transfers,
            digest=digest,
            previous=previous,
            sealed_at=timezone.now(),
        )
    log.info("%s: %s transfers, %s", seal, transfers, digest)
    return seal


def _chunks(day: date) -> QuerySet[SealedRows]:
    return SealedRows.objects.filter(day=day).order_by("name", "after")


def _digest(
    day: date, previous: str, chunks: QuerySet[SealedRows] | None = None
) -> tuple[str, int]:
    """The day's digest after ``previous``, and how many transfers it has."""
    digest = hashlib.sha256(f"{previous}|{day.isoformat()}\n".encode())
    transfers = 0
    for line in _lines(day):
        digest.update(f"{line}\n".encode())
        transfers += 1
    for chunk in () if chunks is None else chunks.iterator(chunk_size=CHUNKS):
        digest.update(f"{evidence.line(chunk)}\n".encode())
    return digest.hexdigest(), transfers


def _begins(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _lines(day: date) -> Iterator[str]:
    begins = _begins(day)
    with connection.chunked_cursor() as cursor:
        cursor.execute(LINE, [begins, begins + timedelta(days=1)])
        while rows := cursor.fetchmany(CHUNK):
            yield from (line for (line,) in rows)


def _first_day() -> date | None:
    first = Transfer.objects.order_by("posted_at").values_list("posted_at", flat=True).first()
    return first.astimezone(UTC).date() if first else None


def _said_to_be_sealed() -> list[date]:
    """The last days that closes and sealed rows name: each has a seal."""
    named = (
        Close.objects.order_by("-last").values_list("last", flat=True).first(),
        SealedRows.objects.order_by("-day").values_list("day", flat=True).first(),
    )
    return [day for day in named if day]


def _first_unsealed() -> date | None:
    last = newest()
    return last.day + timedelta(days=1) if last else _first_day()


def _last_to_seal(late: timedelta = timedelta(0)) -> date:
    """The newest day that could be sealed ``late`` ago."""
    return (timezone.now() - SEAL_AFTER - late).astimezone(UTC).date() - timedelta(days=1)


@contextmanager
def _snapshot(*, read_only: bool = True) -> Iterator[None]:
    """One moment for all that is read, if the transaction has just begun; rows as the same text."""
    with connection.cursor() as cursor:
        if len(connection.savepoint_ids) == 0:
            access = "READ ONLY" if read_only else "READ WRITE"
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, {access}")
        # Whatever the server or the role is set to.
        cursor.execute("SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'")
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
