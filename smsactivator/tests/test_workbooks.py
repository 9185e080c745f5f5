"""Workbooks hold what they were given, and nothing in them is a formula."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from smsactivator.common import workbooks


def read(content: bytes) -> dict[str, list[list[Any]]]:
    book = load_workbook(io.BytesIO(content), read_only=True)
    found = {sheet.title: [list(row) for row in sheet.iter_rows()] for sheet in book}
    book.close()
    return found


def naive(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


def one(value: object) -> Any:
    """The cell that a value becomes."""
    [[cell]] = read(workbooks.workbook([("Sheet", [[value]])]))["Sheet"]
    return cell


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "=", "#N/A", "#REF!", " =1 ", "0012"),
        *("1e5", "TRUE", "2026-01-01", "'x", 'a<b>&"c"', "ünï", "{=1}"),
    ],
)
def test_text_stays_text(text: str) -> None:
    cell = one(text)
    assert (cell.value, cell.data_type, cell.number_format) == (text, "s", "@")


def test_no_cell_is_a_formula_in_the_file_itself() -> None:
    content = workbooks.workbook([("A", [["=1+1", "=HYPERLINK(1)"]])])
    with ZipFile(io.BytesIO(content)) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml").decode()
    assert "<f" not in sheet
    assert sheet.count('t="inlineStr"') == 2


def test_what_xml_cannot_say_is_replaced() -> None:
    assert one("a\x00b\x1fc").value == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    assert one("a\r\nb\rc").value == "a\nb\nc"


def test_a_text_that_is_too_long_is_cut_and_says_so() -> None:
    assert one("x" * 32_768).value == "x" * 32_766 + "…"
    assert one("x" * 32_767).value == "x" * 32_767


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0.0000"),
        ("1.5", "0.0000"),
        ("-1234.5678", "0.0000"),
        ("99999999999.9999", "0.0000"),
        ("0.000001", "0.000000"),
        ("1E+3", "0.0000"),
    ],
)
def test_an_amount_is_a_number_with_its_places(amount: str, shown: str) -> None:
    cell = one(Decimal(amount))
    assert (Decimal(str(cell.value)), cell.data_type) == (Decimal(amount), "n")
    assert cell.number_format == shown


@given(st.decimals(min_value=-99999999999, max_value=99999999999, places=4))
def test_any_amount_of_fifteen_digits_comes_back_exactly(amount: Decimal) -> None:
    assert Decimal(str(one(amount).value)).quantize(Decimal("0.0001")) == amount


def test_a_number_too_long_for_a_spreadsheet_is_text_with_all_its_digits() -> None:
    assert one(Decimal("999999999999999.9999")).value == "999999999999999.9999"
    assert one(Decimal("100000000000000.0000")).value == 100000000000000
    assert one(1234567890123456).value == "1234567890123456"
    assert one(123456789012345).value == 123456789012345


def test_moments_are_utc_without_a_zone() -> None:
    moment = datetime(2026, 5, 7, 12, 30, 15, tzinfo=timezone(timedelta(hours=2)))
    cell = one(moment)
    assert cell.value == naive(2026, 5, 7, 10, 30, 15)
    assert cell.number_format == "yyyy-mm-dd hh:mm:ss"
    assert one(datetime(2026, 5, 7, tzinfo=UTC)).value == naive(2026, 5, 7)
    assert one(date(2026, 5, 7)).value == naive(2026, 5, 7)
    assert one(date(2026, 5, 7)).number_format == "yyyy-mm-dd"


def test_kinds_of_cells_follow_each_other_in_any_order() -> None:
    line = ["=a", Decimal("1.5"), None, "=b", 3, "#N/A", date(2026, 1, 2), Decimal(2), True, "c"]
    found = read(workbooks.workbook([("One", [line, line]), ("Two", [["x"]]), ("None", [])]))
    expected = ["=a", 1.5, None, "=b", 3, "#N/A", naive(2026, 1, 2), 2, "yes", "c"]
    assert [[cell.value for cell in row] for row in found["One"]] == [expected, expected]
    assert [[cell.value for cell in row] for row in found["Two"]] == [["x"]]
    assert found["None"] == []


def test_a_float_is_refused() -> None:
    with pytest.raises(TypeError):
        workbooks.workbook([("A", [[1.5]])])


def test_a_sheet_that_is_full_goes_on_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "SHEET_ROWS", 3)
    lines = iter([["id"], *([number] for number in range(5))])
    found = read(workbooks.workbook([("Lines", lines), ("Other", [["x"]])]))
    values = {name: [row[0].value for row in rows] for name, rows in found.items()}
    assert values == {
        "Lines": ["id", 0, 1],
        "Lines 2": ["id", 2, 3],
        "Lines 3": ["id", 4],
        "Other": ["x"],
    }
