"""Result files as tables: what is read of CSV and XLSX, and what is refused, each in words."""

from __future__ import annotations

import io
import zipfile
from decimal import Decimal

import pytest
from openpyxl import Workbook

from wallet import resultsheets
from wallet.resultsheets import COLUMNS, SheetRefused, read

HEADER = ("reference", "status", "transaction_hash", "amount", "currency", "address")
ROW = ("PO-000001", "paid", "ab", "50.00", "USDT", "T1")
EMPTY = dict.fromkeys(COLUMNS, "")
CELLS = EMPTY | dict(zip(HEADER, ROW, strict=True))


def as_csv(*rows: tuple[object, ...], end: str = "\r\n", by: str = ",") -> bytes:
    return "".join(by.join(map(str, row)) + end for row in rows).encode()


def as_xlsx(*rows: tuple[object, ...]) -> bytes:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def repacked(content: bytes, **parts: bytes) -> bytes:
    """A workbook with some of its parts replaced, by the ends of their names."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            ending = name.rsplit("/", 1)[-1].removesuffix(".xml")
            new.writestr(name, parts.get(ending, old.read(name)))
    return out.getvalue()


def with_part(content: bytes, name: str, part: bytes) -> bytes:
    """A workbook with one more part."""
    out = io.BytesIO(content)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, part)
    return out.getvalue()


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("by", [",", ";"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_is_read_however_its_lines_end_and_its_cells_are_parted(end, by, mark):
    sheet = read(mark + as_csv(HEADER, ROW, end=end, by=by))
    assert sheet.rows == [(2, CELLS)]
    assert sheet.ignored == ()


def test_columns_are_found_in_any_order_and_under_the_names_of_providers():
    header = ("Comment", "State", "clientOrderId", "cryptoAddress", "Batch", "cryptoCurrency")
    more = ("TX hash", "Amount", "Fee", "Fee currency", "Error", "Note")
    row = ("memo", "paid", "PO-000001", "T1", "9", "TRON_USDT", "ab", "50", "1.5", "TRX", "e", "n")
    sheet = read(as_csv(header + more, row))

    assert sheet.rows == [
        (
            2,
            {
                "reference": "PO-000001",
                "status": "paid",
                "transaction_hash": "ab",
                "amount": "50",
                "currency": "TRON_USDT",
                "address": "T1",
                "network": "",
                "fee": "1.5",
                "fee_currency": "TRX",
                "reason": "e",
            },
        )
    ]
    assert sheet.ignored == ("Comment", "Batch", "Note")


def test_a_workbook_is_read_with_its_figures_in_plain_digits():
    row = ("PO-000001", "paid", "ab", 50.1, "USDT", " T1 ", 1e-05, "TRX")
    sheet = read(as_xlsx((*HEADER, "fee", "fee_currency"), row, (), ROW))

    assert [number for number, _ in sheet.rows] == [2, 4]
    first = sheet.rows[0][1]
    assert (first["amount"], first["fee"], first["address"]) == ("50.1", "0.00001", "T1")
    assert Decimal(first["amount"]) == Decimal("50.10")
    assert sheet.rows[1][1] == CELLS


def test_short_rows_are_filled_and_empty_ones_passed_over():
    sheet = read(as_csv((*HEADER, "reason"), ROW, ("", "", ""), ("PO-000002",)))
    assert sheet.rows == [(2, CELLS), (4, EMPTY | {"reference": "PO-000002"})]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file has no rows."),
        (as_csv(HEADER), "The file has a header and no rows."),
        (as_csv(ROW), "these are missing: reference, status, transaction_hash, amount, currency"),
        (as_csv(HEADER[:5], ROW[:5]), "these are missing: address."),
        (as_csv((*HEADER, "Status"), (*ROW, "failed")), "names the column status twice"),
        (as_csv(HEADER, (*ROW, "x")), "Row 2 has more cells than the header."),
        (as_csv(HEADER, ("x" * 1001,)), "A cell of row 2 is longer than 1000 characters."),
        (as_csv(HEADER, ("x",) * 65), "Row 2 has more than 64 cells."),
        (as_csv(HEADER, *[ROW] * 1001), "more than 1000 rows: split it."),
        (as_csv(HEADER) + b'"PO-1"x,paid', "The CSV is broken after row 1"),
        (as_csv(HEADER) + b'"PO-1,paid', "The CSV is broken after row 1"),
        (as_csv(HEADER) + b"\xff\xfe", "neither XLSX nor CSV in UTF-8"),
        (as_csv(HEADER, ("PO\x00",)), "it holds a NUL"),
        (b"%PDF-1.7 \xe2\xe3", "neither XLSX nor CSV in UTF-8"),
        (b"PK\x03\x04", "The XLSX file is broken"),
        (as_xlsx(HEADER, ROW)[:-200], "The XLSX file is broken"),
        (repacked(as_xlsx(HEADER, ROW), sheet1=b"<worksheet>"), "The XLSX file is broken"),
        (repacked(as_xlsx(HEADER, ROW), workbook=b"<workbook/>"), "The workbook has no sheet."),
        (as_xlsx(("a", "b")), "these are missing: reference"),
        (as_xlsx(HEADER, *[ROW] * 1001), "more than 1000 rows: split it."),
        (as_xlsx(HEADER, (*["x"] * 65,)), "Row 2 has more than 64 cells."),
    ],
)
def test_what_is_no_table_of_results_is_refused_in_words(content, words):
    with pytest.raises(SheetRefused) as refused:
        read(content)
    assert words in refused.value.message


def test_the_most_rows_that_are_read_are_read():
    assert len(read(as_csv(HEADER, *[ROW] * 1000)).rows) == 1000
    assert len(read(as_xlsx(HEADER, *[ROW] * 1000)).rows) == 1000


def test_an_archive_without_a_workbook_is_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "Hello")
    with pytest.raises(SheetRefused, match="The XLSX file is broken"):
        read(out.getvalue())


def test_a_workbook_that_grows_when_it_is_unpacked_is_refused():
    bomb = repacked(as_xlsx(HEADER, ROW), sheet1=b" " * (resultsheets.MOST_UNPACKED + 1))
    assert len(bomb) < 100_000
    with pytest.raises(SheetRefused, match="too large when it is unpacked"):
        read(bomb)


MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def filled(head: str, unit: str, tail: str, count: int) -> bytes:
    """A part of many elements."""
    return f"{head}{unit * count}{tail}".encode()


def test_each_part_has_a_limit_of_its_own():
    book = as_xlsx(HEADER, ROW)

    def padded(name: str, part: str, size: int) -> bytes:
        with zipfile.ZipFile(io.BytesIO(book)) as archive:
            content = archive.read(name)
        return repacked(book, **{part: content + b" " * (size - len(content))})

    for name, part, most in (
        ("xl/worksheets/sheet1.xml", "sheet1", 4_000_000),
        ("xl/styles.xml", "styles", 200_000),
        ("xl/workbook.xml", "workbook", 200_000),
        ("[Content_Types].xml", "[Content_Types]", 200_000),
        ("xl/_rels/workbook.xml.rels", "workbook.xml.rels", 200_000),
    ):
        assert read(padded(name, part, most)).rows == [(2, CELLS)]
        with pytest.raises(SheetRefused) as refused:
            read(padded(name, part, most + 1))
        assert refused.value.message == (
            f"A part of the workbook, {name}, is larger than {most} bytes: save the sheet as CSV "
            "in UTF-8, and upload that."
        )
    texts = f"<sst {MAIN}>" + " " * 4_000_000
    with pytest.raises(SheetRefused, match=r"xl/sharedStrings.xml, is larger than 4000000 bytes"):
        read(with_part(book, "xl/sharedStrings.xml", texts.encode()))


@pytest.mark.filterwarnings("ignore:Workbook contains no default style")
@pytest.mark.parametrize(
    ("part", "head", "unit", "tail", "most"),
    [
        ("styles", f"<styleSheet {MAIN}><cellXfs>", "<xf/>", "</cellXfs></styleSheet>", 9_500),
        ("sheet1", f"<worksheet {MAIN}>", "<sheetViews/>", "</worksheet>", 9_500),
        (
            "sheet1",
            f"<worksheet {MAIN}><sheetData><row><c t='inlineStr'><is>",
            "<r/>",
            "</is></c></row></sheetData></worksheet>",
            9_500,
        ),
        (
            "sheet1",
            f"<worksheet {MAIN}><sheetData><row>",
            "<c/>",
            "</row></sheetData></worksheet>",
            199_900,
        ),
        (
            "sheet1",
            f"<worksheet {MAIN}><sheetData><row>",
            "<c r='A1' s='0' t='n' a='' b='' d='' e='' f='' g='' h=''/>",
            "</row></sheetData></worksheet>",
            21_900,
        ),
    ],
)
def test_what_costs_more_to_read_than_results_do_is_refused(part, head, unit, tail, most):
    too_much = (
        "The workbook has too much in it beside the results: save the sheet as CSV in UTF-8, and "
        "upload that."
    )
    for count, refused in ((most, False), (most + 600, True)):
        content = repacked(as_xlsx(HEADER, ROW), **{part: filled(head, unit, tail, count)})
        assert len(content) < 20_000
        said = ""
        try:
            read(content)
        except SheetRefused as refusal:
            said = refusal.message
        assert (said == too_much) is refused


def test_a_workbook_of_a_million_styles_is_refused():
    styles = filled(f"<styleSheet {MAIN}><cellXfs>", "<xf/>", "</cellXfs></styleSheet>", 1_000_000)
    with pytest.raises(SheetRefused, match=r"xl/styles.xml, is larger than 200000 bytes"):
        read(repacked(as_xlsx(HEADER, ROW), styles=styles))


def test_the_most_rows_with_a_cell_in_each_column_that_is_read_are_read():
    more = tuple(f"column {number}" for number in range(58))
    rows = read(as_xlsx((*HEADER, *more), *[(*ROW, *more)] * 1000)).rows
    assert rows == [(number, CELLS) for number in range(2, 1002)]


def test_no_sheet_but_the_first_is_looked_into():
    book = Workbook()
    for row in (HEADER, ROW):
        book.active.append(row)
    book.create_sheet("Broken")
    out = io.BytesIO()
    book.save(out)
    assert read(repacked(out.getvalue(), sheet2=b"<worksheet>")).rows == [(2, CELLS)]


def test_a_workbook_of_very_many_parts_is_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(101):
            archive.writestr(f"{number}.xml", "")
    with pytest.raises(SheetRefused, match="too large when it is unpacked"):
        read(out.getvalue())


def test_a_workbook_that_declares_entities_is_refused():
    hostile = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><worksheet>&b;</worksheet>'
    with pytest.raises(SheetRefused, match="declares entities"):
        read(repacked(as_xlsx(HEADER, ROW), sheet1=hostile))


@pytest.mark.parametrize(
    ("encoding", "declared", "mark"),
    [
        ("utf-16", "UTF-16", b""),
        ("utf-16-le", "UTF-16", b""),
        ("utf-16-be", "UTF-16", b""),
        ("utf-16-le", "UTF-16", b"\n\x00"),
        ("utf-32", "UTF-32", b""),
        ("utf-32-be", "UTF-32", b""),
        ("cp037", "cp037", b""),
        ("ascii", "windows-1252", b""),
        ("ascii", "utf-7", b""),
        ("ascii", "utf-7", b"\xef\xbb\xbf"),
        ("ascii", "utf-7", b"\n"),
        ("latin-1", "UTF-8", "<é>".encode("latin-1")),
        ("ascii", "UTF-8", b"<a/>\x00"),
    ],
)
@pytest.mark.parametrize("part", ["sheet1", "styles", "workbook", "media/picture.png"])
def test_a_part_in_another_encoding_than_utf_8_is_refused(encoding, declared, mark, part):
    hostile = (
        f'<?xml version="1.0" encoding="{declared}"?>'
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><worksheet>&b;</worksheet>'
    )
    content = repacked(as_xlsx(HEADER, ROW), **{part: mark + hostile.encode(encoding)})
    if "/" in part:
        content = with_part(as_xlsx(HEADER, ROW), f"xl/{part}", mark + hostile.encode(encoding))
    with pytest.raises(SheetRefused, match=r"A part of the workbook, .*, is not in UTF-8"):
        read(content)


@pytest.mark.parametrize("declared", ["UTF-8", "utf-8"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_part_that_says_that_it_is_in_utf_8_is_read(declared, mark):
    book = as_xlsx(HEADER, (*ROW[:5], "é"))
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    sheet = sheet[sheet.index("<worksheet") :]
    marked = f"{mark}<?xml version='1.0' encoding='{declared}' standalone='yes'?>\n{sheet}"
    [(_, cells)] = read(repacked(book, sheet1=marked.encode())).rows
    assert cells["address"] == "é"


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n<!DOCTYPE\xff",
        "Lexmark".encode("utf-16-le"),
        b"\x01\x00\x00\x00\x6c",
    ],
)
def test_pictures_and_settings_of_printers_are_no_xml_and_passed_over(content):
    book = with_part(as_xlsx(HEADER, ROW), "xl/printerSettings/printerSettings1.bin", content)
    assert read(book).rows == [(2, CELLS)]


def test_a_cell_at_the_end_of_a_sheet_does_not_make_it_a_million_rows():
    book = Workbook()
    for row in (HEADER, ROW):
        book.active.append(row)
    book.active.cell(1_048_576, 1, "x")
    out = io.BytesIO()
    book.save(out)
    with pytest.raises(SheetRefused, match="The sheet is longer than 1000 rows"):
        read(out.getvalue())
