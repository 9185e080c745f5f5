"""The reports as pages and as CSV: the same figures, for those who may, and by GET alone."""

from __future__ import annotations

import csv
import io
import json
import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from smsactivator.common import csvs
from smsactivator.common.links import admin_url
from smsactivator.tests import world
from support.admin.tables import Table
from support.tests.month import FORMULA, Month, at, on, ticket, wait

pytestmark = pytest.mark.django_db

NAMES = ("refunds", "decisions", "answers")
NOVEMBER = {"since": "2026-11-01", "until": "2026-11-30"}


def signed_in(role: str = "Finance", *, name: str = "") -> Client:
    client = Client()
    client.force_login(world.person(role, name=name))
    return client


def page(client: Client, name: str, **query: Any) -> Any:
    return client.get(reverse("reports:page", args=[name]), query)


def rows(client: Client, name: str, **query: Any) -> list[list[str]]:
    answer = client.get(reverse("reports:csv", args=[name]), query)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(answer.streaming_content).decode()
    return list(csv.reader(io.StringIO(text), strict=True))


@pytest.fixture
def month() -> Month:
    made = Month()
    case = ticket(made.buyer, opened=at(2))
    day = timedelta(days=1)
    wait(case, at(2), due=at(3), ended=at(2, 12), by=made.ann)
    wait(case, at(4), due=at(5), ended=at(5, 11), by=made.abe)
    wait(case, at(6), due=at(7), ended=at(6, 11), outcome="waived")
    wait(case, at(8), due=at(8) + day)
    return made


def test_the_page_has_the_figures_of_the_period_and_their_total(month: Month) -> None:
    shown = page(signed_in(), "refunds", by="service", **NOVEMBER)

    [table] = shown.context["tables"]
    assert [[str(cell) for _, cell in row] for row in table["rows"]] == [
        [
            *("tg", "5", "5.0000", "55.56 %", "71.43 %", "71.43 %"),
            *("3", "3.0000", "1", "1.0000", "1", "1.0000", "5", "7", "7.0000"),
        ],
        [
            *("wa", "3", "4.0000", "44.44 %", "66.67 %", "53.33 %"),
            *("1", "2.5000", "2", "1.5000", "0", "0.0000", "2", "3", "7.5000"),
        ],
    ]
    assert [strip(cell) for _, cell in table["total"]] == [
        *("All", "8", "9.0000", "100.00 %", "70.00 %", "62.07 %"),
        *("4", "5.5000", "3", "2.5000", "1", "1.0000", "7", "10", "14.5000"),
    ]


def test_the_chart_draws_what_the_table_says_without_gaps_in_time(month: Month) -> None:
    shown = page(signed_in(), "refunds", by="day", **NOVEMBER)

    chart = json.loads(shown.context["tables"][0]["chart"])
    assert len(chart["labels"]) == 30
    assert {one["label"]: sum(map(Decimal, one["data"])) for one in chart["datasets"]} == {
        "Automatic": Decimal("5.5"),
        "Decided": Decimal("2.5"),
        "Goodwill": Decimal("1"),
    }
    assert len({one["backgroundColor"] for one in chart["datasets"]}) == 3


def as_csv(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return csvs.cell(value) if isinstance(value, str) else str(value)


def test_every_csv_is_its_table_on_the_page(month: Month, caplog: Any) -> None:
    client = signed_in()
    caplog.set_level(logging.INFO)
    seen = []
    for name, ways in (
        ("refunds", ("clause", "upstream", "country", "agent", "day", "week", "month")),
        ("decisions", ("clause", "agent")),
        ("answers", ("day", "agent")),
    ):
        for by in ways:
            shown = page(client, name, by=by, **NOVEMBER)
            tables: list[Table] = shown.context["figures"]
            for table, context in zip(tables, shown.context["tables"], strict=True):
                got = rows(client, name, by=by, table=table.name, **NOVEMBER)
                assert got == [[as_csv(cell) for cell in line] for line in table.cells()]
                assert len(got) == 1 + len(context["rows"]) + (context["total"] is not None)
                for line, row in zip(got[1:], context["rows"], strict=False):
                    for text, (kind, cell) in zip(line, row, strict=True):
                        if kind in {"count", "usd", "share"} and text:
                            assert f">{text}" in f">{strip(cell)}", (table.name, line)
                seen.append(table.name)
    assert seen.count("refunds") == 7
    assert {"decisions", "disputes", "against", "clocks", "waits"} <= set(seen)
    assert "takes the report refunds as CSV: " in caplog.text


def strip(cell: Any) -> str:
    """A cell without its link and its thousands separators."""
    text = str(cell)
    return (text.split(">")[1].split("<")[0] if "<" in text else text).replace(",", "")


def test_no_cell_becomes_a_formula(month: Month) -> None:
    client = signed_in()
    type(month.abe).objects.filter(pk=month.abe.pk).update(username="@abe+1")

    upstreams = rows(client, "refunds", by="upstream", **NOVEMBER)
    agents = rows(client, "refunds", by="agent", **NOVEMBER)

    assert {line[0] for line in upstreams[1:]} == {"Alpha", f"'{FORMULA}", "All"}
    assert "'@abe+1" in {line[0] for line in agents}
    written = "".join(
        csvs.rows([["=1", "+1", "-1", "@a", "\tx", "\rx", "\nx", "1-1", ""], [-1, Decimal("-0.5")]])
    )
    assert list(csv.reader(io.StringIO(written, newline=""))) == [
        ["'=1", "'+1", "'-1", "'@a", "'\tx", "'\rx", "'\nx", "1-1", ""],
        ["-1", "-0.5"],
    ]


def test_text_of_ours_is_text_on_the_page(month: Month) -> None:
    type(month.b.upstream).objects.filter(pk=month.b.upstream_id).update(name="<b>Beta</b>")

    text = page(signed_in(), "refunds", by="upstream", **NOVEMBER).content.decode()

    assert "&lt;b&gt;Beta&lt;/b&gt;" in text
    assert "<b>Beta" not in text


def test_figures_lead_to_the_lists_behind_them(month: Month) -> None:
    client = signed_in("Senior agent")
    for name, by, least in (("refunds", "clause", 4), ("refunds", "day", 6), ("answers", "day", 6)):
        shown = page(client, name, by=by, **NOVEMBER)
        links = {
            str(cell).split('href="')[1].split('"')[0].replace("&amp;", "&")
            for table in shown.context["tables"]
            for row in table["rows"]
            for _, cell in row
            if 'href="' in str(cell)
        }
        assert len(links) >= least
        for link in links:
            assert client.get(link).status_code == 200, link

    clause = "auto.cancelled_before_sms"
    listed = client.get(
        admin_url(
            "refunds_refund_changelist",
            clause__exact=clause,
            created_at_from_0="2026-11-01",
            created_at_to_0="2026-11-30",
        )
    )
    assert listed.context["cl"].result_count == 3


@pytest.mark.parametrize(
    ("standing", "number"),
    [("in_time", 1), ("late", 1), ("open_late", 1), ("open", 0), ("waived", 1), ("", 4)],
)
def test_the_list_of_waits_stands_as_the_report_counts(
    month: Month, standing: str, number: int
) -> None:
    with on(at(20)):
        client = signed_in()
        listed = client.get(admin_url("support_wait_changelist", standing=standing))
        [clock] = page(client, "answers", **NOVEMBER).context["figures"][0].rows

    assert listed.context["cl"].result_count == number
    assert number == (getattr(clock, standing) if standing else clock.count)


def test_the_agents_offered_are_those_who_answer_customers_and_whom_the_address_asks_for(
    month: Month,
) -> None:
    client = signed_in(name="fay")
    fay = get_user_model().objects.get(username="fay")

    def offered(name: str, **query: Any) -> list[str]:
        field = page(client, name, **NOVEMBER, **query).context["form"].fields["agent"]
        return [label for _, label in field.choices][1:]

    for name in NAMES:
        assert offered(name) == ["abe", "ann", "sam", "sonia"]
        assert offered(name, agent=fay.pk) == ["abe", "ann", "fay", "sam", "sonia"]


def test_a_decision_against_the_verdict_is_listed_with_why(month: Month) -> None:
    shown = page(signed_in(), "decisions", by="agent", **NOVEMBER)

    against = shown.context["tables"][2]
    [line] = [[str(cell) for _, cell in row] for row in against["rows"]]
    assert line[2:4] == ["Approved as goodwill", "sonia"]
    assert line[5:7] == ["1.0000", "Wrong service or country ordered"]
    assert line[8] == "Seen"
    assert f"agent={month.sonia.pk}#against" in shown.content.decode()


def test_without_days_it_is_this_month_and_one_day_brings_the_other() -> None:
    with on(at(17)):
        client = signed_in()
        for query, days in (
            ({}, ("2026-11-01", "2026-11-17")),
            ({"since": "2026-11-10"}, ("2026-11-10", "2026-11-17")),
            ({"since": "2026-12-24"}, ("2026-12-24", "2026-12-24")),
            ({"until": "2026-10-05"}, ("2026-10-01", "2026-10-05")),
        ):
            period = page(client, "refunds", **query).context["form"].cleaned_data["period"]
            assert (str(period.since), str(period.until)) == days


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_period_says_so(name: str) -> None:
    shown = page(signed_in(), name, **NOVEMBER)

    assert shown.status_code == 200
    assert all(not table["rows"] and not table["chart"] for table in shown.context["tables"])
    for table in shown.context["tables"]:
        assert table["empty"].split(";")[0] in shown.content.decode().replace("&#x27;", "'")
    assert rows(signed_in("Senior agent"), name, **NOVEMBER)[0]


@pytest.mark.parametrize("name", NAMES)
def test_bad_parameters_are_answered_with_400_and_why(name: str) -> None:
    client = signed_in()
    for query, words in (
        ({"since": "2026-11-31"}, "Enter a valid date"),
        ({"since": "x"}, "Enter a valid date"),
        ({"until": "9999-12-31"}, "between the years"),
        ({"since": "0001-01-01"}, "between the years"),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "after the last"),
        ({"since": "2025-01-01", "until": "2026-01-02"}, "at most 366"),
        ({"by": "customer"}, "Select a valid choice"),
        ({"agent": "999999"}, "Select a valid choice"),
        ({"agent": "9" * 30}, "Select a valid choice"),
        ({"agent": "\x00"}, "Null characters"),
        *(
            [
                ({"service": "x" * 33}, "at most 32"),
                ({"country": "a\x00"}, "Null characters"),
                ({"upstream": "x"}, "Select a valid choice"),
                ({"clause": "auto.nothing"}, "Select a valid choice"),
                ({"way": "x"}, "Select a valid choice"),
            ]
            if name == "refunds"
            else []
        ),
    ):
        shown = page(client, name, **query)
        assert shown.status_code == 400, query
        assert words in shown.content.decode(), query
        assert shown.context["tables"] == []
        assert client.get(reverse("reports:csv", args=[name]), query).status_code == 400, query
    bad_table = client.get(reverse("reports:csv", args=[name]), {"table": "secrets"})
    assert bad_table.status_code == 400


def test_the_reports_are_for_seniors_finance_and_administrators_by_get_alone() -> None:
    for role, allowed in (
        ("Support agent", False),
        ("Senior agent", True),
        ("Finance", True),
        ("", True),
    ):
        client = signed_in(role)
        front = client.get(reverse("admin:index")).content.decode()
        for name in NAMES:
            for url in (
                reverse("reports:page", args=[name]),
                reverse("reports:csv", args=[name]),
                admin_url("support_wait_changelist"),
            ):
                assert client.get(url).status_code == (200 if allowed else 403), (role, url)
                for method in (client.post, client.put, client.delete):
                    assert method(url).status_code in {403, 405}, (role, url)
            assert (f'href="{reverse("reports:page", args=[name])}"' in front) == allowed
        assert (f'href="{admin_url("support_wait_changelist")}"' in front) == allowed
    stranger = world.person(name="newcomer")
    stranger.is_superuser = False
    stranger.save()
    newcomer = Client()
    newcomer.force_login(stranger)
    assert page(newcomer, "refunds").status_code == 403
    assert page(Client(), "refunds").status_code == 302
    assert signed_in("Finance", name="fin").get("/admin/reports/secrets/").status_code == 404


def test_pages_have_as_many_queries_however_much_they_count(month: Month) -> None:
    client = signed_in()
    for name, by in (("refunds", "upstream"), ("decisions", "agent"), ("answers", "agent")):
        counted = []
        for period in ({"since": "2026-11-03", "until": "2026-11-05"}, NOVEMBER):
            with CaptureQueriesContext(connection) as queries:
                assert page(client, name, by=by, **period).status_code == 200
            counted.append(len(queries))
        # A short period may have no agent to name, and nothing against the verdict to list.
        assert counted[0] <= counted[1] <= counted[0] + 2 <= 16, (name, counted)
