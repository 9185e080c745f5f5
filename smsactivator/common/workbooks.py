"""Workbooks for spreadsheet programs (XLSX): written row by row, and no cell that is a formula."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import IO, Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell

CONTENT_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SHEET_ROWS = 1_048_576  # a sheet holds no more
LONGEST_TEXT = 32_767  # characters of a cell
DIGITS = 15  # what a spreadsheet program keeps of a number

# What XML 1.0 cannot say. CR it says, but a reader turns it into LF, so it is written as that.
UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
NEWLINES = re.compile("\r\n?")

Sheets = Iterable[tuple[str, Iterable[Iterable[object]]]]


def workbook(sheets: Sheets) -> bytes:
    """The sheets, each a title and its lines, as the bytes of one workbook."""
    file = io.BytesIO()
    write(file, sheets)
    return file.getvalue()


def write(file: IO[bytes], sheets: Sheets) -> None:
    """Write the sheets into a file, line by line: constant memory.

    A ``str`` is text whatever it begins with, also where a person edits the cell: its format is
    text, and its type says so. A ``Decimal`` is a number with four places or more; a number of more
    digits than a spreadsheet program keeps is written as text, so that none is lost. A moment is
    written in UTC, without a zone, since workbooks know none; None is an empty cell. What a sheet
    has no room for goes on in another one, under the same first line. A title has at most 31
    characters, and none of ``[]:*?/\\``. Raises TypeError for any other value, a float among them.
    """
    book = Workbook(write_only=True)
    for title, lines in sheets:
        _fill(book, title, lines)
    book.save(file)


def _fill(book: Any, title: str, lines: Iterable[Iterable[object]]) -> None:
    sheet = book.create_sheet(title)
    written = _writer(sheet)
    first: list[object] | None = None
    number, row = 1, 0
    for line in lines:
        if row == SHEET_ROWS:
            number += 1
            sheet = book.create_sheet(f"{title[:27]} {number}")
            written = _writer(sheet)
            sheet.append(written(first or ()))
            row = 1
        if first is None:
            line = first = list(line)
        sheet.append(written(line))
        row += 1


def _writer(sheet: Any) -> Callable[[Iterable[object]], Iterator[Any]]:
    """How lines become cells of the sheet.

    A cell of each kind is used again and again, as it is written before the next one is asked for.
    Each has a style of its own: openpyxl tries its values out on a cell without one.
    """
    text, amount, count, moment, day = (WriteOnlyCell(sheet) for _ in range(5))
    text.number_format = "@"
    count.number_format = "0"
    moment.number_format = "yyyy-mm-dd hh:mm:ss"
    day.number_format = "yyyy-mm-dd"

    def texts(value: str) -> Any:
        said = UNSPEAKABLE.sub("\N{REPLACEMENT CHARACTER}", NEWLINES.sub("\n", value))
        text.value = said if len(said) <= LONGEST_TEXT else f"{said[: LONGEST_TEXT - 1]}…"
        # It took what begins with = for a formula, and #N/A for an error.
        text.data_type = "s"
        return text

    def cell(value: object) -> Any:
        if value is None:
            return None
        if isinstance(value, bool):
            return texts("yes" if value else "no")
        if isinstance(value, str):
            return texts(str(value))
        if isinstance(value, Decimal):
            if not value.is_finite() or _digits(value) > DIGITS:
                return texts(f"{value:f}")
            shown = f"0.{'0' * max(4, -int(value.as_tuple().exponent))}"
            if amount.number_format != shown:
                amount.number_format = shown
            amount.value = value
            return amount
        if isinstance(value, int):
            if _digits(Decimal(value)) > DIGITS:
                return texts(str(value))
            count.value = value
            return count
        if isinstance(value, datetime):
            moment.value = value.astimezone(UTC).replace(tzinfo=None)
            return moment
        if isinstance(value, date):
            day.value = value
            return day
        raise TypeError(f"{type(value).__name__} is nothing that a cell holds")

    return lambda line: (cell(value) for value in line)


def _digits(value: Decimal) -> int:
    """Digits that count, from the first that is not 0 to the last that is not."""
    return len("".join(map(str, value.as_tuple().digits)).rstrip("0"))
