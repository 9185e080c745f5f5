"""No cell of a CSV begins a formula, whichever separator its reader takes."""

from __future__ import annotations

import csv
import io
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smsactivator.common import csvs
from wallet.profiles import PROFILES
from wallet.tests.test_profiles import Line, made

SEPARATORS = (",", ";", "\t", "|")
SIGNS = "=+-@"
# What is typed by accident or by intent before a sign: blanks, zero-width, fillers, marks of order.
HIDDEN = (
    " \t\r\n\v\f\x00\x7f\x85\xa0\xad\u034f\u115f\u180e\u200b\u200d\u200f\u2028\u202e\u2060\u2800"
    "\u3000\u3164\ufe0f\ufeff\uffa0"
)
PIECES = (
    *SEPARATORS,
    *SIGNS,
    *"\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207a\u208c",
    *HIDDEN,
    '"',
    "'",
    "a",
    "1",
    "cmd",
)

hostile = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
texts = hostile | st.text(max_size=12)
figures = st.decimals("-1000", "1000", places=2) | st.integers(-1000, 1000)
moments = st.datetimes(timezones=st.just(UTC)) | st.dates()
# Tables begin with what a row is about: a name, a moment, a number of ours.
lines = st.tuples(
    texts | moments | st.integers(0, 1000),
    st.lists(texts | figures | moments | st.none(), max_size=4),
).map(lambda line: [line[0], *line[1]])

# How long the drawing takes says something of the machine.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(text: str, separator: str) -> list[list[str]]:
    """The cells as a reader finds them that knows quotes."""
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))


def torn(text: str, separator: str) -> list[str]:
    """The cells as a reader finds them that knows no quotes."""
    for end in ("\r", "\n"):
        text = text.replace(end, separator)
    return text.split(separator)


def shows_nothing(character: str) -> bool:
    return character in '\u034f\u115f\u1160\u2800\u3164\uffa0\ufe0f"' or unicodedata.category(
        character
    ) in {"Cc", "Cf", "Zs", "Zl", "Zp"}


def begins_a_formula(cell: str) -> bool:
    seen = next((character for character in cell if not shows_nothing(character)), "")
    return bool(seen) and unicodedata.normalize("NFKC", seen)[0] in SIGNS


@unhurried
@given(table=st.lists(lines, max_size=4))
@example(table=[["a;=1+1"]])
@example(table=[["a\t=1+1"]])
@example(table=[["a|=1+1"]])
@example(table=[["a\n=1+1"]])
@example(table=[['a;"=1+1"']])
@example(table=[["\uff1d1+1"], ["\uff0b1"], ["\uff0d1"], ["\uff20a"]])
@example(table=[["\u200b=1"], ["\ufeff=1"], ["\ufeff"], ["a;\u200b=1"]])
@example(table=[["x", "a,b;"], ["=1"]])
@example(table=[["a", "\t=1"]])
@example(table=[["a;\tb", "a\n\t=1"]])
def test_no_cell_begins_a_formula_under_any_separator(table):
    written = "".join(csvs.rows(table))

    for separator in SEPARATORS:
        for row in read(written, separator):
            for cell in row:
                if separator == "," and _is_figure(cell):
                    continue
                assert not begins_a_formula(cell), (separator, cell)
                assert not cell.startswith(("\t", "\r", "\n", "\u200b", "\ufeff")), (
                    separator,
                    cell,
                )
        if separator != ",":
            assert not [cell for cell in torn(written, separator) if begins_a_formula(cell)]


def _is_figure(cell: str) -> bool:
    """A negative figure is a number, and stays one."""
    return cell.removeprefix("-").replace(".", "", 1).isascii() and (
        cell.removeprefix("-").replace(".", "", 1).isdigit()
    )


@unhurried
@given(table=st.lists(lines, max_size=4))
def test_what_is_written_is_read_back_with_apostrophes_added_and_nothing_lost(table):
    back = read("".join(csvs.rows(table)), ",")

    assert len(back) == len(table)
    for row, line in zip(back, table, strict=True):
        for cell, value in zip(row, line, strict=True):
            if isinstance(value, str):
                assert cell.replace("'", "") == value.replace("'", "")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1", "'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("\u200b=1", "'\u200b=1"),
        ("\ufeffa", "'\ufeffa"),
        ("  -1", "'  -1"),
        ('"=1"', '\'"=1"'),
        ("a;=1", "a;'=1"),
        ("a; =1;+2|@b\t-3", "a;' =1;'+2|'@b\t'-3"),
        ("a;\ufeff\uff1d1", "a;'\ufeff\uff1d1"),
        ("Dear all,\n\n- one\n- two", "Dear all,\n\n'- one\n'- two"),
        ("ends with;", "ends with;'"),
    ],
)
def test_an_apostrophe_goes_before_what_would_begin_a_formula(text, written):
    assert csvs.cell(text) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "1-1",
        "a, -b",
        "a;b|c\td",
        "Dear all,\r\n\r\nhow are you?\n  Ann",
        'He said "1,5"',
        "2026-11-03T12:00:00Z",
        "a@b.example",
        "Gr\xf6\xdfe \uff1d 1",
        "\U0001f469\u200d\U0001f680",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert csvs.cell(text) == text


def test_what_is_no_figure_and_no_moment_is_text():
    class Words:
        def __str__(self) -> str:
            return "=1+1"

    [written] = csvs.rows(
        [[Words(), date(2026, 11, 3), datetime(2026, 11, 3, tzinfo=UTC), True, -1]]
    )

    assert written == "'=1+1,2026-11-03,2026-11-03T00:00:00Z,True,-1\r\n"


@pytest.mark.parametrize("profile", PROFILES)
@unhurried
@given(memo=st.from_regex(r"\A([A-Za-z0-9][A-Za-z0-9 ._-]{0,63})?\Z"))
def test_what_a_provider_reads_is_written_as_it_is(profile, memo):
    line = Line(memo=memo, amount=Decimal("20.00"))
    [file] = made(profile, [line])["csv"]

    assert read(file.content.decode(), ",")[1] == list(map(str, PROFILES[profile].values(line)))


def test_a_long_text_takes_time_that_follows_its_length():
    for piece in ("\n ", ';"', "\n\u200b", " ;", "\t\t", '"', "\n"):
        text = piece * 50_000

        assert csvs.cell(text).replace("'", "") == text
