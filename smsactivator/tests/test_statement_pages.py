"""Statements as a page, as CSV and for printing: they agree with the ledger to the last digit."""

from __future__ import annotations

import csv
import io
import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from smsactivator.common import csvs
from smsactivator.common.links import admin_url
from smsactivator.tests import world
from wallet import deposits, statements
from wallet.models import Customer

pytestmark = pytest.mark.django_db


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def signed_in(role: str = "Finance") -> Client:
    client = Client()
    client.force_login(world.person(role))
    return client


def pay(customer: Customer, amount: str, reference: str, moment: datetime) -> None:
    with time_machine.travel(moment, tick=False):
        deposits.deposit(customer, amount=Decimal(amount), reference=reference)


@pytest.fixture
def ada() -> Customer:
    """10 USD on the 2nd, an order of 1.5 on the 3rd that is refunded on the 5th."""
    with time_machine.travel(at(1), tick=False):
        customer = world.customer("ada", funds="0")
    pay(customer, "10", "tx-1", at(2, 0))
    with time_machine.travel(at(3), tick=False):
        order = world.place(customer)
    with time_machine.travel(at(5), tick=False):
        world.refund(world.await_sms(order))
    return customer


def page(client: Client, customer: Customer, **query: Any) -> Any:
    return client.get(admin_url("wallet_wallet_change", customer.pk, **query))


def rows(client: Client, customer: Customer, **query: str) -> list[list[str]]:
    answer = client.get(admin_url("wallet_wallet_csv", customer.pk, **query))
    assert answer.status_code == 200
    text = b"".join(answer.streaming_content).decode()
    return list(csv.reader(io.StringIO(text), strict=True))


def test_a_period_has_its_opening_lines_and_closing(ada: Customer) -> None:
    shown = page(signed_in(), ada, since="2026-11-03", until="2026-11-04")

    period = shown.context["period"]
    assert (period.opening, period.closing, period.count) == (Decimal(10), Decimal("8.5"), 1)
    assert [(line["version"], line["debit"]) for line in shown.context["lines"]] == [(2, "1.5000")]
    text = shown.content.decode()
    assert "Opening balance" in text
    assert "Closing balance" in text


def test_the_balance_at_a_moment_counts_the_lines_that_show_this_second(ada: Customer) -> None:
    # The purchase is shown with 12:00:00.
    client = signed_in()
    for asked, balance in (("12:00:00", "8.5000"), ("11:59:59", "10.0000")):
        shown = page(client, ada, at=f"2026-11-03T{asked}")
        assert shown.context["standing"]["balance"] == balance


def test_the_balance_at_a_moment_is_shown(ada: Customer) -> None:
    shown = page(signed_in(), ada, at="2026-11-03T12:00:01")

    assert shown.context["standing"]["balance"] == "8.5000"
    before = page(signed_in("Senior agent"), ada, at="2026-11-01T00:00")
    assert before.context["standing"]["balance"] == "0.0000"
    assert "before its first line." in before.content.decode()


def test_who_asks_for_the_balance_at_a_moment_keeps_the_period(ada: Customer) -> None:
    shown = page(signed_in(), ada, since="2026-11-03", until="2026-11-04").content.decode()

    for name, day in (("since", "2026-11-03"), ("until", "2026-11-04")):
        assert f'<input type="hidden" name="{name}" value="{day}">' in shown


@pytest.mark.parametrize(
    "query",
    [
        {"since": "2026-11-31"},
        {"since": "x"},
        {"until": "9999-12-31"},
        {"since": "0001-01-01"},
        {"since": "2026-11-05", "until": "2026-11-04"},
        {"at": "yesterday"},
    ],
)
def test_a_period_that_is_none_is_answered_with_400(ada: Customer, query: dict[str, str]) -> None:
    client = signed_in()

    shown = page(client, ada, **query)

    assert shown.status_code == 400
    assert shown.context["errors"]
    for name in ("csv", "print"):
        url = admin_url(f"wallet_wallet_{name}", ada.pk, **query)
        assert client.get(url).status_code == 400


@pytest.mark.parametrize("upto", ["0", "abc", "99999", "-3", "9" * 30])
def test_an_odd_line_number_shows_the_nearest_page(ada: Customer, upto: str) -> None:
    assert page(signed_in(), ada, upto=upto).status_code == 200


def test_a_period_without_lines_says_so(ada: Customer) -> None:
    shown = page(signed_in(), ada, since="2026-11-04", until="2026-11-04")

    assert "Nothing was posted in this period." in shown.content.decode()
    assert (shown.context["closing"], shown.context["brought_forward"]) == ("8.5000", "8.5000")


def test_the_csv_is_the_ledger_to_the_last_digit(ada: Customer, caplog: Any) -> None:
    order = ada.orders.get()
    with caplog.at_level(logging.INFO):
        head, *lines = rows(signed_in(), ada, since="2026-11-03")

    assert tuple(head) == statements.COLUMNS
    assert [line[:7] for line in lines] == [
        ["", "2026-11-03T00:00:00Z", "Opening balance", "", "", "", "10.0000"],
        ["2", "2026-11-03T12:00:00Z", "Purchase", f"Order {order.pk}", "1.5000", "", "8.5000"],
        [
            "3",
            "2026-11-05T12:00:00Z",
            "Automatic refund",
            f"Order {order.pk}, Refund {order.refunds.get().pk}: No SMS within the SLA",
            "",
            "1.5000",
            "10.0000",
        ],
        ["", "", "Closing balance", "", "", "", "10.0000"],
    ]
    assert {line[7] for line in lines} == {"USD"}
    assert f"takes the statement of wallet {ada.pk} as CSV: 2026-11-03_now, 2 lines" in caplog.text


@pytest.mark.parametrize("reference", ["=1+1", "+1", "-1", "@sum", 'a,b"c\nd'])
def test_a_cell_cannot_become_a_formula(reference: str) -> None:
    customer = world.customer("eve", funds="0")
    deposits.deposit(customer, amount=Decimal(1), reference=reference)

    line = rows(signed_in(), customer)[2]

    assert line[3] == f"Deposit {reference}"
    assert line[9].endswith(reference)
    assert csvs.cell(reference) == (f"'{reference}" if reference[0] in "=+-@" else reference)


def test_the_printed_statement_has_every_line_and_the_totals(ada: Customer) -> None:
    answer = signed_in().get(admin_url("wallet_wallet_print", ada.pk))

    text = answer.content.decode()
    assert answer.status_code == 200
    assert [line["balance"] for line in answer.context["lines"]] == ["10.0000", "8.5000", "10.0000"]
    assert (answer.context["debits"], answer.context["credits"]) == ("1.5000", "11.5000")
    assert "<script" not in text


def test_a_statement_that_is_too_long_to_print_says_what_to_do(
    ada: Customer, monkeypatch: Any
) -> None:
    monkeypatch.setattr(statements, "PRINTED", 2)

    text = signed_in().get(admin_url("wallet_wallet_print", ada.pk)).content.decode()

    assert "This period has 3 lines; 2 can be printed." in text


def test_pages_and_downloads_have_as_many_queries_however_long_they_are(ada: Customer) -> None:
    client = signed_in()
    counts: dict[str, list[int]] = {"change": [], "print": [], "csv": []}
    for _ in range(2):
        for name, counted in counts.items():
            url = admin_url(f"wallet_wallet_{name}", ada.pk, since="2026-11-01")
            with CaptureQueriesContext(connection) as queries:
                answer = client.get(url)
                if name == "csv":
                    list(answer.streaming_content)
            counted.append(len(queries))
        for number in range(60):
            pay(ada, "0.0001", f"more-{number}", at(6))
    assert all(first == second for first, second in counts.values()), counts


@pytest.mark.parametrize("name", ["csv", "print"])
def test_downloads_are_for_those_who_may_see_the_lines(ada: Customer, name: str) -> None:
    url = admin_url(f"wallet_wallet_{name}", ada.pk)
    for role in ("Support agent", "Senior agent", "Finance"):
        assert signed_in(role).get(url).status_code == 200
    stranger = world.person(name="newcomer")
    stranger.is_superuser = False
    stranger.save()
    client = Client()
    client.force_login(stranger)
    assert client.get(url).status_code == 403
    assert Client().get(url).status_code == 302
    assert signed_in("").get(admin_url(f"wallet_wallet_{name}", 999_999)).status_code == 404


def test_a_reversal_and_what_it_reverses_lead_to_each_other(ada: Customer) -> None:
    from uuid import uuid4

    from wallet import corrections
    from wallet.models import Transfer

    deposit = Transfer.objects.get(wallet=ada.pk, kind="deposit")
    finance, senior = world.person("Finance", name="fin"), world.person("Senior agent")
    asked = corrections.request_reversal(finance, deposit.pk, reason="Mistake", key=uuid4())
    done = corrections.confirm(senior, asked.pk)
    client = signed_in("")

    reversal = client.get(admin_url("wallet_transfer_change", done.transfer_id))
    original = client.get(admin_url("wallet_transfer_change", deposit.pk))

    assert f"Reverses transfer {deposit.pk}" in reversal.content.decode()
    assert str(done) in reversal.content.decode()
    assert f"Reversed by transfer {done.transfer_id}" in original.content.decode()
