"""CSV for spreadsheet programs: streamed, and no cell that becomes a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

# With what a spreadsheet program begins a formula, also as the keyboards of other scripts type it.
SIGNS = "=+@\\-\uff1d\uff0b\uff20\uff0d\ufe66\ufe62\ufe6b\ufe63\u207a-\u207c\u208a-\u208c"
# What shows nothing, whatever it stands before: controls, what Unicode ignores by default, format
# characters, fillers. Blanks are not among them.
INVISIBLE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Our separator is the comma, and quotes keep it inside its cell. Who reads with another separator
# sees no quotes in the middle of a cell: there each of these, and each end of a line, begins one.
SEPARATORS = r";|\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
_BLANKS = r' "\xa0\u1680\u2000-\u200a\u202f\u205f\u3000'
_BEGINS = re.compile(
    # the text itself
    rf'\A(?=[{INVISIBLE}]|[\s"]*[{INVISIBLE}{SIGNS}])'
    # what another reader takes for a cell; a separator after a separator is looked at by itself
    rf"|(?<=[{SEPARATORS}])(?![{SEPARATORS}])(?=[{_BLANKS}]*[{INVISIBLE}{SIGNS}])"
    r"|(?<=[;|\r\n])(?=\t)"
    # nothing after the last separator: it is our closing quote that would begin the cell
    rf'|(?<=[{SEPARATORS}])(?="*\Z)'
)


def cell(text: str) -> str:
    """Text as a cell: an apostrophe goes before what a program would take for a formula.

    That is a sign, also behind quotes, blanks and what shows nothing, where the text begins and
    where a reader with another separator would begin a cell.
    """
    return _BEGINS.sub("'", text)


def rows(lines: Iterable[Iterable[object]]) -> Iterator[str]:
    """The lines as CSV (RFC 4180), one by one: constant memory.

    Text, and what is neither a figure nor a moment, goes through ``cell``. Figures stand as they
    are, also negative ones (not first in a line, where every reader begins a cell), without
    thousands separators or exponents; a moment is written in ISO 8601, UTC; None is an empty cell.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for line in lines:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([_written(value) for value in line])
        yield buffer.getvalue()


def _written(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value if value is None or isinstance(value, int | float | date) else cell(str(value))
