"""The files of each profile: their headers byte for byte, the same values read back, the limits."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from decimal import Decimal

import pytest
from openpyxl import load_workbook

from wallet import profiles
from wallet.models import Payout, PayoutMethod
from wallet.profiles import PROFILES, Made, ProfileUnknown
from wallet.tests.paying import TRON

FORMULA = (*"=+-@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\u200b", "\ufeff")
HEADERS = {
    "canonical": b"reference,address,memo,currency,network,amount,note\r\n",
    "coinspaid": b"Address,Tag,Currency,Amount,Note\r\n",
    "inqud": b"cryptoAddress,cryptoCurrency,amount,clientOrderId,comment\r\n",
}
LINES = {
    "canonical": f"PO-000007,{TRON},12 a,USDT,TRON,1234.50,PO-000007\r\n",
    "coinspaid": f"{TRON},12 a,USDTT,1234.50,PO-000007\r\n",
    "inqud": f"{TRON},USDTT,1234.50,PO-000007,PO-000007\r\n",
}


@dataclass
class Line:
    """A line of a batch that no database has looked at."""

    reference: str = "PO-000007"
    address: str = TRON
    memo: str = "12 a"
    currency: str = "USDT"
    network: str = "TRON"
    code: str = "USDTT"
    amount: Decimal = Decimal("1234.5000")
    note: str = "PO-000007"


def made(profile: str, lines: list[Line]) -> dict[str, list[Made]]:
    files = list(PROFILES[profile].files(lines))
    return {kind: [file for file in files if file.format == kind] for kind in ("csv", "xlsx")}


def read_csv(content: bytes) -> list[list[str]]:
    text = io.StringIO(content.decode("utf-8"), newline="")
    return list(csv.reader(text, strict=True))


def read_xlsx(content: bytes) -> list[list[object]]:
    [sheet] = load_workbook(io.BytesIO(content)).worksheets
    return [["" if value is None else value for value in row] for row in sheet.values]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_file_begins_with_the_published_header_and_ends_its_lines_as_rfc_4180_has_it(profile):
    [file] = made(profile, [Line()])["csv"]

    assert file.content == HEADERS[profile] + LINES[profile].encode()
    assert (file.number, file.rows, file.total) == (1, 1, Decimal("1234.50"))


@pytest.mark.parametrize("profile", PROFILES)
def test_both_formats_read_back_as_the_same_values(profile):
    lines = [
        Line(reference=f"PO-{n:06d}", note=f"PO-{n:06d}", amount=Decimal(n) / 100 + 20, memo=memo)
        for n, memo in enumerate(["", "7", "a.b-c_d e", "007"], 1)
    ]
    files = made(profile, lines)

    rows = read_csv(files["csv"][0].content)
    cells = read_xlsx(files["xlsx"][0].content)

    assert rows[0] == cells[0] == list(PROFILES[profile].header)
    place = [name.lower() for name in rows[0]].index("amount")
    assert [row[place] for row in rows[1:]] == ["20.01", "20.02", "20.03", "20.04"]
    for row, read in zip(rows[1:], cells[1:], strict=True):
        assert Decimal(str(read[place])) == Decimal(row[place])
        assert isinstance(read[place], float)
        # What looks like a number is text where it is none: a memo keeps its zeros.
        assert row[:place] + row[place + 1 :] == read[:place] + read[place + 1 :]


def test_amounts_in_a_workbook_are_numbers_with_two_places_and_all_else_is_text():
    [file] = made("canonical", [Line(memo="0012", amount=Decimal("100.0000"))])["xlsx"]

    [sheet] = load_workbook(io.BytesIO(file.content)).worksheets
    row = sheet[2]

    assert [cell.data_type for cell in row] == ["s", "s", "s", "s", "s", "n", "s"]
    assert (row[5].value, row[5].number_format) == (100, "0.00")
    assert row[2].value == "0012"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("begin", FORMULA)
def test_nothing_becomes_a_formula_whatever_a_row_holds(profile, begin):
    hostile = f'{begin}HYPERLINK("http://evil.test","x"),1'
    line = Line(memo=hostile, note=hostile, reference=hostile, code=hostile, address=hostile)
    files = made(profile, [line])

    [_, row] = read_csv(files["csv"][0].content)
    [sheet] = load_workbook(io.BytesIO(files["xlsx"][0].content)).worksheets

    assert f"'{hostile}" in row
    assert not [cell for cell in row if cell.startswith(FORMULA)]
    texts = [cell for cell in sheet[2] if cell.data_type != "n"]
    assert {cell.data_type for cell in texts} == {"s"}
    # A line break within a cell is the same in XML whichever it was.
    plain = hostile.replace("\r", "\n")
    assert plain in {str(cell.value).replace("_x000D_", "\n").replace("\r", "\n") for cell in texts}


def test_quotes_commas_and_line_breaks_stay_in_their_cell():
    note = 'He said "1,5"\r\nand left'
    [file] = made("coinspaid", [Line(note=note)])["csv"]

    assert read_csv(file.content)[1][4] == note


@pytest.mark.parametrize(
    ("count", "parts"), [(1, [1]), (500, [500]), (501, [500, 1]), (1000, [500, 500])]
)
@pytest.mark.parametrize("profile", ["coinspaid", "inqud"])
def test_a_file_is_split_at_500_rows(profile, count, parts):
    lines = [Line(reference=f"PO-{n:06d}", amount=Decimal(20)) for n in range(count)]
    files = made(profile, lines)

    for kind in ("csv", "xlsx"):
        assert [file.rows for file in files[kind]] == parts
        assert [file.number for file in files[kind]] == list(range(1, len(parts) + 1))
        assert sum(file.total for file in files[kind]) == 20 * count
    read = [row for file in files["csv"] for row in read_csv(file.content)[1:]]
    assert read == [list(map(str, (*PROFILES[profile].values(line),))) for line in _plain(lines)]
    assert [len(read_xlsx(file.content)) - 1 for file in files["xlsx"]] == parts


def _plain(lines: list[Line]) -> list[Line]:
    return [Line(reference=line.reference, amount=Decimal("20.00")) for line in lines]


def test_a_file_is_split_at_one_megabyte():
    head = len(HEADERS["coinspaid"])
    empty = len(f"{TRON},,USDTT,20.00,\r\n")

    def of(size: int) -> Line:
        """A line of exactly so many bytes."""
        return Line(memo="", note="n" * (size - empty), amount=Decimal(20))

    exact = [of(500_000), of(500_000 - head)]
    over = [of(500_000), of(500_000 - head + 1)]

    assert [len(file.content) for file in made("coinspaid", exact)["csv"]] == [1_000_000]
    assert [file.rows for file in made("coinspaid", over)["csv"]] == [1, 1]
    assert [file.rows for file in made("coinspaid", over)["xlsx"]] == [1, 1]
    with pytest.raises(ValueError, match="PO-000007 alone is above the limit"):
        made("coinspaid", [of(1_000_000)])


def test_the_same_lines_make_the_same_csv():
    lines = [Line(reference=f"PO-{n:06d}") for n in range(3)]
    assert made("inqud", lines)["csv"] == made("inqud", lines)["csv"]


def test_a_profile_says_what_it_does_not_send():
    tron = PayoutMethod(code="USDC-TRON", currency="USDC", network="TRON", inqud_code="TRON_USDC")
    payout = Payout(method=tron, memo="12")

    assert {name: profile.refuses(payout) for name, profile in PROFILES.items()} == {
        "canonical": "",
        "coinspaid": "CoinsPaid has no code for USDC on TRON",
        "inqud": "Inqud's files have no column for its memo",
    }
    assert PROFILES["inqud"].refuses(Payout(method=tron)) == ""
    with pytest.raises(ProfileUnknown, match="There is no profile excel"):
        profiles.named("excel")
