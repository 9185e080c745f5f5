"""Finance's pages: who sees and closes, each figure's transfers, exports, and constant queries."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from openpyxl import load_workbook

from smsactivator import closing
from smsactivator.common.links import admin_url
from smsactivator.tests import world
from smsactivator.tests.closing import a_shop, at, charge, close_all, on, seal, sell
from wallet import closes
from wallet.models import Close, CloseFigure, Holding, LiabilityCheck, Seal, Transfer
from wallet.tests.forms import carried

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books]

ROLES = ("Support agent", "Senior agent", "Finance", "Auditor")
VIEWERS = {"Senior agent", "Finance", "Auditor"}


def signed_in(role: str) -> Client:
    client = Client()
    client.force_login(world.person(role, name=f"{role} {uuid4().hex[:6]}"))
    return client


@pytest.fixture
def made() -> list[Close]:
    a_shop()
    return close_all(at(2, month=11))


def text(response: Any) -> str:
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("role", ROLES)
def test_seniors_finance_and_auditors_see_the_closes_and_agents_nothing(
    role: str, made: list[Close]
) -> None:
    client = signed_in(role)
    close = made[0].pk
    expected = 200 if role in VIEWERS else 403
    for url in (
        admin_url("wallet_close_changelist"),
        admin_url("wallet_close_changelist", kind__exact="month"),
        admin_url("wallet_close_change", close),
        admin_url("wallet_close_change", made[-1].pk),
        admin_url("wallet_close_figure", close, "deposits"),
        admin_url("wallet_close_csv", close),
        admin_url("wallet_close_xlsx", close),
        admin_url("wallet_holding_changelist"),
        admin_url("wallet_liabilitycheck_changelist"),
    ):
        assert client.get(url).status_code == expected, url
        assert client.post(url).status_code in {403, 405}, url
    # Who may enter is told what is missing; and a forged form enters nothing.
    may = role == "Finance"
    forged = Client(enforce_csrf_checks=True)
    forged.cookies = client.cookies
    for page in ("wallet_holding_add", "wallet_liabilitycheck_add"):
        assert client.get(admin_url(page)).status_code == (200 if may else 403)
        assert client.post(admin_url(page), {}).status_code == (422 if may else 403)
        assert forged.post(admin_url(page), {}).status_code == 403


@pytest.mark.parametrize("role", ROLES)
def test_finance_alone_closes_days_and_months_by_hand(role: str) -> None:
    a_shop()
    seal(at(2, month=11))
    client = signed_in(role)
    last = Seal.objects.get(day=date(2025, 11, 1))
    url = admin_url("wallet_seal_do", last.pk, "close")
    listed = client.get(admin_url("wallet_close_changelist"))
    form = client.get(url)
    assert not Close.objects.exists()

    answer = client.post(url, carried(last, "close"))

    if role != "Finance":
        assert form.status_code == answer.status_code == 403
        assert not Close.objects.exists()
        assert "Close 2025-10-30" not in listed.content.decode()
        return
    assert "Close 2025-10-30 to 2025-11-01…" in text(listed)
    assert answer.status_code == 302
    assert [c.period for c in Close.objects.order_by("pk")] == [
        "2025-10-30",
        "2025-10-31",
        "2025-11-01",
    ]
    # Sent again, it closes nothing again.
    assert client.post(url, carried(last, "close")).status_code == 302
    assert Close.objects.count() == 3
    day = Close.objects.get(last=date(2025, 10, 31))
    assert "Close 2025-10…" in text(client.get(admin_url("wallet_close_changelist")))
    month = admin_url("wallet_close_do", day.pk, "close-month")
    assert client.post(month, carried(day, "close-month")).status_code == 302
    assert Close.objects.get(kind="month").closed_by.username.startswith("Finance")
    # What it says is what the server says.
    assert "Close 2025-10…" not in text(client.get(admin_url("wallet_close_changelist")))


def test_a_close_shows_its_figures_balances_seal_and_digest(made: list[Close]) -> None:
    page = text(signed_in("Auditor").get(admin_url("wallet_close_change", made[2].pk)))
    close = made[2]
    for shown in (
        close.digest,
        close.previous,
        close.seal.digest,
        "No SMS within the SLA",
        "80.0005",
        "+10.0005",
        "Nothing of this period was corrected after its end.",
    ):
        assert shown in page, shown
    assert admin_url("wallet_close_figure", close.pk, "automatic_refunds") in page
    assert admin_url("wallet_close_figure", close.pk, "sales") not in page
    month = text(signed_in("Auditor").get(admin_url("wallet_close_change", made[-1].pk)))
    assert "2025-10-01 to 2025-10-31" in month
    assert "Owed to customers at the end of each day, USD" in month


def test_each_figure_opens_exactly_the_transfers_behind_it(made: list[Close]) -> None:
    client = signed_in("Finance")
    for close in made:
        for row in CloseFigure.objects.filter(close=close, count__gt=0):
            figure = closing.BY_NAME[row.figure]
            behind = closes.behind(close, figure, row.part)
            query = {"part": row.part} if row.part else {}
            page = text(client.get(admin_url("wallet_close_figure", close.pk, row.figure, **query)))
            for line in Transfer.objects.all():
                there = f">Transfer {line.pk}<" in page
                assert there == (line in behind), (close, row, line)


def test_a_long_figure_is_paged() -> None:
    with on(at(30)):
        for _ in range(120):
            world.customer(funds="1")
    [close] = close_all(at(31, 1))
    client = signed_in("Finance")
    url, seen = admin_url("wallet_close_figure", close.pk, "deposits"), []
    pages = 0
    while url:
        page = client.get(url)
        pages += 1
        seen += [row[0] for row in page.context_data["tables"][0].rows]
        url = page.context_data["older"]
    assert (pages, len(seen), len(set(map(str, seen)))) == (3, 120, 120)


def test_a_figure_that_there_is_not_is_not_found(made: list[Close]) -> None:
    client = signed_in("Finance")
    close = made[0].pk
    for name, query in (("nothing", {}), ("deposits", {"part": "auto.no_sms_in_time"})):
        url = admin_url("wallet_close_figure", close, name, **query)
        assert client.get(url).status_code == 404
    assert client.get(admin_url("wallet_close_figure", 0, "deposits")).status_code == 404
    # What is no number is no place to go on from, and a part is a value, never SQL.
    for query in ({"before": "x"}, {"before": "999999999"}):
        url = admin_url("wallet_close_figure", close, "deposits", **query)
        assert client.get(url).status_code == 200
    url = admin_url("wallet_close_figure", made[2].pk, "automatic_refunds", part="' OR true --")
    assert client.get(url).status_code == 404


def test_an_export_says_what_the_page_says_in_csv_and_xlsx(made: list[Close]) -> None:
    client = signed_in("Auditor")
    close = made[2]
    answer = client.get(admin_url("wallet_close_csv", close.pk))
    assert answer["Content-Disposition"] == 'attachment; filename="close_2025-11-01.csv"'
    rows = list(csv.reader(io.StringIO(answer.content.decode(), newline=""), strict=True))
    head, *lines = rows
    assert {len(line) for line in rows} == {len(head)}
    by_csv = [dict(zip(head, line, strict=True)) for line in lines]
    figures = list(CloseFigure.objects.filter(close=close).order_by("number"))
    assert [(r["figure"], r["part"], r["transfers"], r["amount_usd"]) for r in by_csv] == [
        *((f.figure, f.part, str(f.count), f"{f.amount:.4f}") for f in figures),
        ("opening_wallets", "", "", "70.0000"),
        ("opening_escrow", "", "", "20.0000"),
        ("opening_payouts", "", "", "0.0000"),
        ("closing_wallets", "", "", "80.0005"),
        ("closing_escrow", "", "", "10.0000"),
        ("closing_payouts", "", "", "0.0000"),
    ]

    answer = client.get(admin_url("wallet_close_xlsx", close.pk))
    assert answer["Content-Type"].endswith("spreadsheetml.sheet")
    book = load_workbook(io.BytesIO(answer.content))
    assert book.sheetnames == ["Close", "Figures", "Later corrections"]
    by_xlsx = [[cell.value for cell in row] for row in book["Figures"].iter_rows()]
    assert by_xlsx[0] == head
    for line, cells in zip(lines, by_xlsx[1:], strict=True):
        for said, cell in zip(line, cells, strict=True):
            if isinstance(cell, int | float):
                assert Decimal(str(cell)) == Decimal(said)
            else:
                assert (cell or "") == said
    facts = dict(row[:2] for row in book["Close"].iter_rows(values_only=True))
    assert facts["SHA-256"] == close.digest
    assert facts["owed at the end, USD"] == 90.0005


def test_text_that_looks_like_a_formula_stays_text(made: list[Close]) -> None:
    finance = world.person("Finance", name="=cmd")
    with on(at(3, 1, month=11)):
        seal(at(3, 1, month=11))
        closing.close_days(finance, date(2025, 11, 2))
    close = Close.objects.latest("pk")
    client = signed_in("Auditor")
    book = load_workbook(io.BytesIO(client.get(admin_url("wallet_close_xlsx", close.pk)).content))
    cell = next(row[1] for row in book["Close"].iter_rows() if row[0].value == "closed by")
    assert (cell.value, cell.data_type, cell.number_format) == ("=cmd", "s", "@")


def queries(client: Client, url: str) -> int:
    client.get(url)
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert client.get(url).status_code == 200
    return len(seen)


def test_pages_take_the_same_queries_with_little_and_with_much() -> None:
    a_shop()
    close_all(at(2, month=11))
    client = signed_in("Finance")

    def urls() -> dict[str, str]:
        first = Close.objects.get(first=date(2025, 10, 31), kind="day")
        month = Close.objects.get(kind="month")
        return {
            "list": admin_url("wallet_close_changelist"),
            "day": admin_url("wallet_close_change", first.pk),
            "month": admin_url("wallet_close_change", month.pk),
            "figure": admin_url("wallet_close_figure", month.pk, "purchases"),
            "checks": admin_url("wallet_liabilitycheck_changelist"),
        }

    little = {name: queries(client, url) for name, url in urls().items()}
    with on(at(2, 13, month=11)):
        buyer = world.customer(funds="1000")
        for _ in range(30):
            charge(sell(buyer, "3"), "1")
    close_all(at(20, month=11))
    much = {name: queries(client, url) for name, url in urls().items()}
    assert much == little
    assert max(much.values()) < 35


def test_what_is_held_is_entered_checked_and_said_in_words(made: list[Close]) -> None:
    client = signed_in("Finance")
    page = text(client.get(admin_url("wallet_liabilitycheck_changelist")))
    assert "nobody knows whether it is covered" in page
    typed = {
        "name": "Cold wallet",
        "amount": "90.0004",
        "source": "=Statement",
        "key": str(uuid4()),
        "seen": "0",
    }
    when = "2025-11-03 12:00"
    for url, given in (
        (admin_url("wallet_holding_add"), {**typed, "as_of": when}),
        (admin_url("wallet_liabilitycheck_add"), {"at": when, "key": str(uuid4()), "seen": "1"}),
    ):
        assert client.get(url).status_code == 200
        assert client.post(url, {}).status_code == 422
        assert client.post(url, given).status_code == 302
        assert client.post(url, given).status_code == 302
    check = LiabilityCheck.objects.get()
    assert Holding.objects.get().source == "=Statement"
    assert (check.owed, check.held) == (Decimal("90.0005"), Decimal("90.0004"))
    for url in (
        admin_url("wallet_liabilitycheck_change", check.pk),
        admin_url("wallet_liabilitycheck_changelist"),
    ):
        page = text(client.get(url))
        assert "Short by 0.0001 USD" in page
        assert "\N{MINUS SIGN}0.0001" in page
    late = {"at": "2999-01-01 00:00", "key": str(uuid4()), "seen": "1"}
    refused = client.post(admin_url("wallet_liabilitycheck_add"), late)
    assert refused.status_code == 422
    assert "not known yet" in refused.content.decode()
    less = {**typed, "as_of": when, "amount": "-1", "key": str(uuid4())}
    refused = client.post(admin_url("wallet_holding_add"), less)
    assert refused.status_code == 422
    assert "What is held is 0 USD or more." in refused.content.decode()


def test_the_moment_to_check_at_is_settled_to_the_second_and_has_one_way_to_it() -> None:
    add = admin_url("wallet_liabilitycheck_add")
    with time_machine.travel(datetime(2025, 11, 3, 12, 0, 29, tzinfo=UTC), tick=False):
        client = signed_in("Finance")
        form = client.get(add).content.decode()
        page = client.get(admin_url("wallet_liabilitycheck_changelist")).content.decode()
    assert 'value="2025-11-03 11:59:59"' in form
    assert "Now, 2025-11-03 12:00:29 UTC" in page
    assert page.count(f'href="{add}"') == 1


def test_an_old_entry_is_not_said_to_cover_anything(made: list[Close]) -> None:
    client = signed_in("Finance")
    typed = {
        "name": "Cold wallet",
        "amount": "1000000",
        "source": "Statement",
        "as_of": "2025-11-03 12:00",
        "key": str(uuid4()),
        "seen": "0",
    }
    client.post(admin_url("wallet_holding_add"), typed)
    said = []
    for when in ("2025-11-04 12:00", "2025-11-04 12:01"):
        given = {"at": when, "key": str(uuid4()), "seen": "1"}
        client.post(admin_url("wallet_liabilitycheck_add"), given)
        check = LiabilityCheck.objects.latest("pk")
        page = text(client.get(admin_url("wallet_liabilitycheck_change", check.pk)))
        said.append(("Covered" in page, "Too old" in page))
    assert said == [(True, False), (False, True)]
    named = "Not comparable: the entry of Cold wallet is of 2025-11-03 12:00"
    assert page.count(named) == 2
    # In the list, which names no place: of that check; and of how it stands now.
    page = text(client.get(admin_url("wallet_liabilitycheck_changelist")))
    old = "Not comparable: an entry is of 2025-11-03 12:00"
    assert (page.count(old), page.count(named), page.count("Covered")) == (1, 1, 1)


def test_with_nothing_there_the_pages_say_so() -> None:
    client = signed_in("Auditor")
    closes = text(client.get(admin_url("wallet_close_changelist")))
    assert "There are no closes yet." in closes
    assert (
        "A day is sealed soon after midnight (UTC), and closed some minutes after that." in closes
    )
    assert "Nothing is to be closed now." in closes
    for page, said in (
        ("wallet_holding_changelist", "Finance enters each place where money is held"),
        ("wallet_export_changelist", "Finance asks for the rows of some days"),
        ("wallet_resultfile_changelist", "Finance uploads here what a provider reports"),
    ):
        assert said in text(client.get(admin_url(page)))
    assert "no holdings yet" in text(client.get(admin_url("wallet_holding_changelist")))
    assert "0.0000" in text(client.get(admin_url("wallet_liabilitycheck_changelist")))


@pytest.mark.parametrize("name", ["close", "close-month"])
def test_a_close_that_a_colleague_made_meanwhile_is_told_and_nothing_is_closed(name: str) -> None:
    a_shop()
    seal(at(2, month=11))
    frank = world.person("Finance", name="frank")
    row: Any = Seal.objects.get(day=date(2025, 10, 31))
    page = "wallet_seal_do"
    if name == "close-month":
        closing.close_days(frank, date(2025, 10, 31))
        row, page = Close.objects.get(last=date(2025, 10, 31)), "wallet_close_do"
    client = signed_in("Finance")
    url = admin_url(page, row.pk, name)
    form = client.get(url).context["form"]
    typed = {field.name: str(field.value()) for field in form}
    closing.close_days(frank, date(2025, 11, 1))
    before = list(Close.objects.values())

    answer = client.post(url, typed)

    assert answer.status_code == 409
    said = answer.content.decode()
    assert "The list of closes has changed since you looked at it, so nothing was done." in said
    assert "frank: closed 2025-11-01 (" in said
    assert list(Close.objects.values()) == before
