"""Result files as rows of text: CSV or XLSX, by their content; nothing in them is trusted.

Every limit is checked before what it limits is read.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import ParseError

from openpyxl.reader.excel import ExcelReader
from openpyxl.styles.stylesheet import apply_stylesheet
from openpyxl.utils.exceptions import InvalidFileException

from smsactivator.common.errors import Invalid

MOST_BYTES = 2_000_000
MOST_ROWS = 1000  # each is a transaction of its own when it is applied
MOST_COLUMNS = 64
LONGEST_CELL = 1000
# Of a workbook, which is an archive: what it becomes when it is unpacked.
MOST_UNPACKED = 8_000_000
MOST_PARTS = 100
# Of its parts: the sheets and their texts, and of any other that is XML. Bytes do not tell what a
# part costs to read, its elements do: those that 1000 rows of cells are made of cost little.
MOST_OF_A_SHEET = 4_000_000
MOST_OF_A_PART = 200_000
MOST_CELL_ELEMENTS = 200_000
MOST_OTHER_ELEMENTS = 10_000
MOST_ATTRIBUTES = 220_000

# Our columns, each with the names under which providers and their templates have it, the best
# first; capitals, spaces and underscores in a header do not count.
COLUMNS: dict[str, tuple[str, ...]] = {
    "reference": ("reference", "clientorderid", "note", "comment"),
    "status": ("status", "state"),
    "transaction_hash": ("transactionhash", "txhash", "txid", "hash"),
    "amount": ("amount",),
    "currency": ("currency", "cryptocurrency"),
    "address": ("address", "cryptoaddress"),
    "network": ("network",),
    "fee": ("fee",),
    "fee_currency": ("feecurrency",),
    "reason": ("reason", "error"),
}
REQUIRED = ("reference", "status", "transaction_hash", "amount", "currency", "address")

# The values of a row by our columns' names, without blanks around them; "" where it has none.
Cells = dict[str, str]


class SheetRefused(Invalid):
    """The file cannot be read as a table of results; the message says why."""

    code = "file_refused"


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of a file, each with its number in it, and the columns that were not read."""

    rows: list[tuple[int, Cells]]
    ignored: tuple[str, ...]


def read(content: bytes) -> Sheet:
    """The rows below the header. Raises SheetRefused."""
    lines = _xlsx(content) if content.startswith(b"PK\x03\x04") else _csv(content)
    first = next(lines, None)
    if first is None:
        raise SheetRefused("The file has no rows.")
    header = first[1]
    places, ignored = _places(header)
    rows: list[tuple[int, Cells]] = []
    for number, values in lines:
        if not any(values):
            continue
        if len(rows) == MOST_ROWS:
            raise SheetRefused(f"The file has more than {MOST_ROWS} rows: split it.")
        if len(values) > len(header) and any(values[len(header) :]):
            raise SheetRefused(f"Row {number} has more cells than the header.")
        rows.append(
            (
                number,
                {
                    name: values[places[name]]
                    if name in places and places[name] < len(values)
                    else ""
                    for name in COLUMNS
                },
            )
        )
    if not rows:
        raise SheetRefused("The file has a header and no rows.")
    return Sheet(rows, ignored)


def _places(header: list[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Where each of our columns is, and the names of the others."""
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    twice = {name for name in plain if name and plain.count(name) > 1}
    places: dict[str, int] = {}
    for name, aliases in COLUMNS.items():
        for alias in aliases:
            if alias in twice:
                raise SheetRefused(f"The header names the column {alias} twice.")
            if alias in plain:
                places[name] = plain.index(alias)
                break
    missing = [name for name in REQUIRED if name not in places]
    if missing:
        raise SheetRefused(
            f"The first row names the columns, and these are missing: {', '.join(missing)}. "
            f"A file has {', '.join(COLUMNS)}, in any order; the last four may be left out."
        )
    taken = set(places.values())
    return places, tuple(name for place, name in enumerate(header) if name and place not in taken)


def _csv(content: bytes) -> Iterator[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SheetRefused("The file is neither XLSX nor CSV in UTF-8.") from None
    if "\x00" in text:
        raise SheetRefused("The file is neither XLSX nor CSV: it holds a NUL.")
    head = text.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        for number, values in enumerate(reader, 1):
            yield number, _bounded(number, values)
    except csv.Error as error:
        raise SheetRefused(f"The CSV is broken after row {number}: {error}.") from None


_AS_CSV = "save the sheet as CSV in UTF-8, and upload that"
_SHEET = re.compile(r"xl/(worksheets/[^/]+|sharedstrings)\.xml", re.IGNORECASE)
# What rows of plain cells and their texts are made of.
_CELL = re.compile(rb"<(?:[\w.-]+:)?(?:row|c|v|f|is|si|t)[\s/>]")

# How XML begins in EBCDIC, and what encoding it declares.
_EBCDIC = "<?xml".encode("cp037")
_DECLARED = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)", re.IGNORECASE
)

# What the library raises at one or another kind of broken workbook.
_BROKEN = (
    *(InvalidFileException, zipfile.BadZipFile, zlib.error, ParseError, EOFError, OSError),
    *(KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError),
    # A part that is encrypted, or packed in a way that Python does not know.
    *(NotImplementedError, RuntimeError),
)


def _xlsx(content: bytes) -> Iterator[tuple[int, list[str]]]:
    try:
        _refuse_bomb(content)
        sheet = _first_sheet(content)
        if sheet is None:
            raise SheetRefused("The workbook has no sheet.")
        # What the sheet says of its size need not be so.
        sheet.reset_dimensions()
        for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
            # Rows that are not there are counted too: one at the end of a sheet is a million.
            if number > MOST_ROWS + 100:
                raise SheetRefused(f"The sheet is longer than {MOST_ROWS} rows.")
            yield number, _bounded(number, [_text(value) for value in values[: MOST_COLUMNS + 1]])
    except _BROKEN:
        raise SheetRefused("The XLSX file is broken: open it and save it again.") from None


def _first_sheet(content: bytes) -> Any:
    """The first sheet alone, and only what it needs.

    The library would look into every sheet that the workbook names, and a workbook can name one
    part a thousand times.
    """
    reader = ExcelReader(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
    reader.read_manifest()
    reader.read_strings()
    reader.read_workbook()
    apply_stylesheet(reader.archive, reader.wb)
    reader.parser.sheets = [
        sheet
        for sheet, relation in reader.parser.find_sheets()
        if relation.target in reader.valid_files and "chartsheet" not in relation.Type
    ][:1]
    reader.read_worksheets()
    return next(iter(reader.wb.worksheets), None)


def _refuse_bomb(content: bytes) -> None:
    """Refuse an archive that unpacks to more than a sheet of results can be, or costs more to read.

    No part is read beyond the size that it declares.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > MOST_UNPACKED:
            raise SheetRefused(f"The workbook is too large when it is unpacked: {_AS_CSV}.")
        counts: Counter[str] = Counter()
        for part in parts:
            unpacked = archive.read(part)
            if not _is_xml(unpacked):
                continue
            most = MOST_OF_A_SHEET if _SHEET.fullmatch(part.filename) else MOST_OF_A_PART
            if len(unpacked) > most:
                raise SheetRefused(
                    f"A part of the workbook, {part.filename[:100]}, is larger than {most} bytes: "
                    f"{_AS_CSV}."
                )
            _refuse_hostile(part.filename, unpacked)
            counts.update(_counted(unpacked))
    if (
        counts["cells"] > MOST_CELL_ELEMENTS
        or counts["others"] > MOST_OTHER_ELEMENTS
        or counts["attributes"] > MOST_ATTRIBUTES
    ):
        raise SheetRefused(f"The workbook has too much in it beside the results: {_AS_CSV}.")


def _counted(xml: bytes) -> dict[str, int]:
    """Of how many elements and attributes it is at most."""
    opened = xml.count(b"<") - xml.count(b"</")
    cells = sum(1 for _ in _CELL.finditer(xml))
    return {"cells": cells, "others": opened - cells, "attributes": xml.count(b"=")}


def _is_xml(unpacked: bytes) -> bool:
    """Whether a parser could take it for XML, in any encoding: a picture or a printer's settings
    it gives up at their first byte.
    """
    start = unpacked.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")
    return not start or start.startswith((b"<", _EBCDIC))


def _refuse_hostile(name: str, unpacked: bytes) -> None:
    """Refuse XML that says in another encoding what would be refused, and entities."""
    declared = _DECLARED.match(unpacked)
    try:
        unpacked.decode()
    except UnicodeDecodeError:
        plain = False
    else:
        plain = b"\x00" not in unpacked
    if not plain or (declared and declared[1].lower() != b"utf-8"):
        raise SheetRefused(f"A part of the workbook, {name[:100]}, is not in UTF-8: {_AS_CSV}.")
    # Nothing that writes workbooks declares entities, which can grow without end.
    if b"<!DOCTYPE" in unpacked or b"<!ENTITY" in unpacked:
        raise SheetRefused("The workbook declares entities, as no spreadsheet does.")


def _bounded(number: int, values: Iterable[str]) -> list[str]:
    row = [value.strip() for value in values]
    if len(row) > MOST_COLUMNS:
        raise SheetRefused(f"Row {number} has more than {MOST_COLUMNS} cells.")
    if any(len(value) > LONGEST_CELL for value in row):
        raise SheetRefused(f"A cell of row {number} is longer than {LONGEST_CELL} characters.")
    return row


def _text(value: object) -> str:
    """A cell's value as text; a figure in plain digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"
    return value.isoformat() if isinstance(value, datetime) else str(value).replace("\x00", "")
