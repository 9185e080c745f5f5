"""Exports for tests: a dataset of numbers, and files read back by a strict reader."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

from smsactivator.common.exports import Dataset
from smsactivator.common.periods import Period
from wallet import exports
from wallet.models import Export

NOVEMBER = Period(date(2026, 11, 1), date(2026, 11, 30))
# As many rows as its days have, times 2,000: its size is chosen by its period.
NUMBERS = Dataset(
    name="numbers",
    label="Numbers",
    explains="2,000 a day.",
    permission="wallet.view_transfer",
    columns=("number", "text", "amount"),
    sql="""
        SELECT number, 'Number ' || number, number / 10000.0000
        FROM generate_series(1, 2000 * extract(day FROM
            %(until)s::timestamptz - %(since)s::timestamptz)::integer) AS number
    """,
)


def days(number: int) -> Period:
    """The first days of November 2026."""
    return Period(date(2026, 11, 1), date(2026, 11, number))


def at(day: int, hour: int = 0, *rest: int) -> datetime:
    """A moment in November 2026."""
    return datetime(2026, 11, day, hour, *rest, tzinfo=UTC)


def asked(person: Any, dataset: str, period: Period = NOVEMBER) -> Export:
    """A queued export."""
    return exports.ask(person, dataset, period, key=uuid4())


def fresh(export: Export) -> Export:
    return Export.objects.select_related("requested_by").get(pk=export.pk)


def written(person: Any, dataset: str, period: Period = NOVEMBER) -> Export:
    """An export that is done."""
    export = asked(person, dataset, period)
    assert exports.write(export.pk)
    return fresh(export)


def file_of(export: Export) -> bytes:
    """What a download of it would bring; its size and hash are the export's."""
    export = fresh(export)
    content = b"".join(exports._content(export))
    assert (len(content), hashlib.sha256(content).hexdigest()) == (export.size, export.sha256)
    return content


def read(content: bytes) -> Iterator[dict[str, str]]:
    """The rows of a file by their columns. Raises for one that is not as wide as the heading."""
    heading, *rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    for row in rows:
        yield dict(zip(heading, row, strict=True))


def rows_of(person: Any, dataset: str, period: Period = NOVEMBER) -> list[dict[str, str]]:
    """The rows of a dataset, through an export that counts them."""
    export = written(person, dataset, period)
    rows = list(read(file_of(export)))
    assert len(rows) == export.rows_done == export.rows_expected
    return rows
