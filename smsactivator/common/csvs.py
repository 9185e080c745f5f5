"""CSV for spreadsheet programs: streamed, and no cell that becomes a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal

# Characters with which a spreadsheet program begins a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(text: str) -> str:
    """Text as a cell: an apostrophe goes before what would be taken for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def rows(lines: Iterable[Iterable[object]]) -> Iterator[str]:
    """The lines as CSV (RFC 4180), one by one: constant memory.

    A ``str`` goes through ``cell``. Numbers are figures and stand as they are, also negative ones,
    without thousands separators or exponents; a moment is written in ISO 8601, UTC; None is an
    empty cell.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for line in lines:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([_written(value) for value in line])
        yield buffer.getvalue()


def _written(value: object) -> object:
    if isinstance(value, str):
        return cell(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return f"{value:f}" if isinstance(value, Decimal) else value
