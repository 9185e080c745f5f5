"""The policy in the admin: its verdict beside an order, and the preview of a version."""

from __future__ import annotations

import csv
import io
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import strip_tags

from orders.models import Order
from refunds import admin_policy, replay
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import test_replay as made
from refunds.tests import world as shop
from refunds.tests.test_request_rules import insert
from refunds.tests.versions import JULY
from smsactivator.tests import world
from wallet.models import Transfer
from wallet.tests.attack import run

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PAGE = reverse("admin:refunds_policy_preview")
CSV = reverse("admin:refunds_policy_preview_csv")
JUNE = {"version": "2026-07-01", "since": "2026-06-01", "until": "2026-06-30"}


def signed_in(role: str) -> Client:
    client = Client()
    client.force_login(world.person(role))
    return client


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def slow(clock: Any, add_version: Any) -> Order:
    """An order of 2 USD whose SMS took 11 minutes, which from July on is too long."""
    add_version("v2026_07_01", JULY)
    return made.activation(clock, sms_after=11, price="2")


def words(response: Any) -> str:
    return " ".join(strip_tags(response.content.decode()).split())


# --- beside an order ------------------------------------------------------------------------------


def order_page(order: Order, role: str = "Support agent") -> Any:
    client = Client()
    client.force_login(world.person(role, name=f"{role}-{order.pk}"))
    return client.get(reverse("admin:orders_order_change", args=[order.pk]))


def by_the_policy(response: Any) -> dict[str, str]:
    [group] = [group for group in response.context["facts"] if group.title == "By the policy"]
    return {label: strip_tags(str(value)) for label, value in group.rows}


def test_an_order_s_page_tells_the_verdict_the_clause_and_the_version(clock: Any) -> None:
    expired = made.activation(clock, sms_after=None)

    page = order_page(expired)

    assert by_the_policy(page) == {
        "Verdict": "Refunded automatically",
        "Why": "No SMS had arrived by 2026-06-01 12:20:00 UTC",
        "Clause": "No SMS within the SLA",
        "In its words": "“No SMS within the 20-minute SLA — the order auto-cancels and the full "
        "price is credited back to the wallet.”",
        "Name": "auto.no_sms_in_time",
        "Version in force": "2026-05-07",
        "What can be done": "Nothing is left to refund.",
    }
    assert "By the policy" in words(page)
    assert "the full price is credited back to the wallet.”" in words(page)


def test_an_order_s_page_judges_what_its_request_reports(clock: Any) -> None:
    order = made.activation(clock, sms_after=1)
    plain = by_the_policy(order_page(order))
    assert (plain["Verdict"], "Clause" in plain) == ("No clause applies", False)

    request = made.asked(order, Clause.SERVICE_REJECTED)

    page = by_the_policy(order_page(order, "Senior agent"))
    assert page["Verdict"] == "Refundable by ticket"
    assert page["Why"] == "An SMS arrived in time"
    claim = f"claimed by {request.requested_by}: the service rejected it"
    assert page["Not known, but"] == claim
    assert page["Reported"] == f"SMS rejected by the service ({request})"
    assert page["What can be done"] == f"{request} waits for another person to approve or deny it."


def facts_page(role: str, model: str, pk: int) -> dict[str, dict[str, str]]:
    client = Client()
    client.force_login(world.person(role, name=f"{role}-{model}"))
    shown = client.get(reverse(f"admin:refunds_{model}_change", args=[pk]))
    return {
        group.title: {label: strip_tags(str(value)) for label, value in group.rows}
        for group in shown.context["facts"]
    }


def test_a_refund_and_its_request_tell_what_was_claimed_apart_from_what_was_known(
    clock: Any,
) -> None:
    order = made.activation(clock, sms_after=1)
    request = made.approved(order, Clause.SERVICE_REJECTED)
    claimed = {"Claimed": "SMS rejected by the service", "By": str(request.requested_by)}

    for page in (
        facts_page("Support agent", "refundrequest", request.pk),
        facts_page("Senior agent", "refund", request.refund.pk),
    ):
        assert page["What was claimed"] == claimed
        assert page["What was known"]["SMS"] == "1"
        assert not {"Reported", "Reported by"} & set(page["What was known"])
    assert facts_page("Auditor", "refundrequest", request.pk)["The policy's verdict"]["Why"] == (
        f"An SMS arrived in time; claimed by {request.requested_by}: the service rejected it"
    )


def test_a_request_from_before_claims_were_told_apart_stays_readable_and_says_so(
    clock: Any,
) -> None:
    order = made.activation(clock, sms_after=1)
    ann = world.person("Support agent", name="ann")
    old = "An SMS arrived and the service rejected it"
    facts = '{"sms": 1, "reported": "ticket.service_rejected"}'
    run(insert(order, ann, facts=f"'{facts}'", verdict_why=f"'{old}'"))

    page = facts_page("Senior agent", "refundrequest", RefundRequest.objects.get().pk)

    assert page["What was claimed"] == {"Claimed": "SMS rejected by the service", "By": "ann"}
    assert page["What was known"] == {"SMS": "1"}
    assert page["The policy's verdict"]["Why"] == old
    assert page["The policy's verdict"]["Read it as"] == (
        "What ann claimed is told as if it had been known."
    )


def test_an_order_s_page_takes_the_same_queries_whatever_was_decided(clock: Any) -> None:
    plain = made.activation(clock, sms_after=1)
    busy = made.activation(clock, sms_after=1)
    made.approved(plain, Clause.SERVICE_REJECTED, "0.1")
    for _ in range(3):
        made.approved(busy, Clause.SERVICE_REJECTED, "0.1")
    client = signed_in("Support agent")

    counts = []
    for order in (plain, plain, busy):
        with CaptureQueriesContext(connection) as captured:
            client.get(reverse("admin:orders_order_change", args=[order.pk]))
        counts.append(len(captured))

    assert counts[1] == counts[2]


# --- the preview ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("Support agent", False), ("Senior agent", True), ("Finance", True), ("", True)],
)
def test_who_may_preview(slow: Order, role: str, allowed: bool) -> None:
    client = signed_in(role)

    for url in (PAGE, CSV):
        assert client.get(url, JUNE).status_code == (200 if allowed else 403)
    assert (PAGE in client.get(reverse("admin:index")).content.decode()) == allowed


def test_a_stranger_is_asked_to_sign_in_and_a_user_without_role_is_refused(slow: Order) -> None:
    newcomer = world.person(name="newcomer")
    newcomer.is_superuser = False
    newcomer.save()
    client = Client()
    client.force_login(newcomer)

    for url in (PAGE, CSV):
        assert Client().get(url, JUNE).status_code == 302
        assert client.get(url, JUNE).status_code == 403


def test_the_preview_is_read_with_get_and_changes_nothing(slow: Order) -> None:
    client = signed_in("Finance")
    before = [list(model.objects.order_by("pk").values()) for model in (Order, Refund, Transfer)]

    for url in (PAGE, CSV):
        assert client.post(url, JUNE).status_code == 405
        assert client.put(url).status_code == 405
        assert client.delete(url).status_code == 405
        assert client.head(url, JUNE).status_code == 200
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(url, JUNE)
            assert b"".join(answer) if answer.streaming else answer.content
        assert {query["sql"].split()[0] for query in captured} == {"SELECT"}
    after = [list(model.objects.order_by("pk").values()) for model in (Order, Refund, Transfer)]
    assert before == after


def test_the_page_shows_the_form_alone_until_it_is_asked(slow: Order) -> None:
    page = signed_in("Senior agent").get(PAGE)

    assert page.status_code == 200
    assert "asked" not in page.context
    assert "31 days and 50,000 orders at most" in words(page)
    options = page.content.decode().split("<select")[1].split("</select>")[0]
    assert options.index("2026-07-01") < options.index("2026-05-07")


def test_the_page_lists_where_the_version_differs_and_what_it_would_cost(slow: Order) -> None:
    page = signed_in("Senior agent").get(PAGE, JUNE)

    text = words(page)
    assert "Version 2026-07-01 would have cost 2.0000 USD more than what happened." in text
    assert "Of 1 orders, 1 differ." in text
    [row] = page.context["tables"][1].rows
    assert [strip_tags(str(cell)) for cell in (*row[:1], *row[2:])] == [
        f"Order {slow.pk}",
        *("No clause applies", "0.0000"),
        *("No SMS within the SLA", "2.0000"),
        "2.0000",
        "The SMS took more than 10 minutes",
    ]
    assert reverse("admin:orders_order_change", args=[slow.pk]) in page.content.decode()
    totals = [[strip_tags(str(cell)) for cell in row] for row in page.context["tables"][0].rows]
    assert totals == [
        [
            *("No SMS within the SLA", "Refunded automatically"),
            *("0", "0.0000", "1", "2.0000", "0", "0.0000"),
        ],
        ["None", "No clause applies", "1", "0.0000", "0", "0.0000", "0", "0.0000"],
    ]


def test_a_version_that_says_what_happened_differs_nowhere(slow: Order) -> None:
    page = signed_in("Senior agent").get(PAGE, {**JUNE, "version": "2026-05-07"})

    assert "would have cost 0.0000 USD" in words(page)
    assert "Nowhere: it says what happened." in words(page)


def test_the_page_shows_the_first_and_the_csv_has_all(
    slow: Order, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = made.activation(clock, sms_after=12, price="3")
    monkeypatch.setattr(admin_policy, "SHOWN", 1)
    client = signed_in("Finance")

    page = client.get(PAGE, JUNE)

    assert "Of 2 orders, 2 differ; the first 1 are shown, the CSV has all." in words(page)
    assert len(page.context["tables"][1].rows) == 1
    assert "cost 5.0000 USD" in words(page)
    head, *rows = csv.reader(
        io.StringIO(b"".join(client.get(page.context["csv_url"]).streaming_content).decode()),
        strict=True,
    )
    assert tuple(head) == replay.COLUMNS
    assert [row[0] for row in rows] == [str(slow.pk), str(second.pk)]
    assert sum(Decimal(row[11]) for row in rows) == 5


def test_the_csv_is_a_download_and_is_noted(slow: Order, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        answer = signed_in("Finance").get(CSV, JUNE)

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == (
        'attachment; filename="policy-2026-07-01_2026-06-01_2026-06-30.csv"'
    )
    assert "takes the preview of version 2026-07-01 as CSV: 2026-06-01_2026-06-30" in caplog.text


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"version": "2026-07-01"}, "This field is required."),
        ({**JUNE, "version": "2020-01-01"}, "2020-01-01 is not one of the available choices."),
        ({**JUNE, "since": "x"}, "Enter a valid date."),
        ({**JUNE, "since": "2026-07-01"}, "The period begins before it ends."),
        ({**JUNE, "since": "2026-05-30"}, "A page looks at 31 days at most."),
        ({**JUNE, "until": "9999-12-31"}, "Choose an earlier day."),
        ({**JUNE, "version": "2026-07-01\x00"}, "is not one of the available choices."),
    ],
)
def test_what_the_form_may_not_ask_is_answered_with_400(
    slow: Order, query: dict[str, str], error: str
) -> None:
    client = signed_in("Senior agent")

    page = client.get(PAGE, query)

    assert page.status_code == 400
    assert any(words_.startswith(error) or error in words_ for words_ in page.context["errors"])
    assert client.get(CSV, query).status_code == 400


def test_too_many_orders_are_refused_with_what_to_do(
    slow: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST", 0)

    page = signed_in("Senior agent").get(PAGE, JUNE)

    assert page.status_code == 400
    assert "More than 0 orders ended in these days" in words(page)
    assert "manage.py preview_policy" in words(page)


def test_a_longer_preview_takes_more_batches_and_no_more_queries_each(
    slow: Order, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in("Senior agent")
    senior = User.objects.get(groups__name="Senior agent")

    def queries() -> int:
        client.force_login(senior)
        with CaptureQueriesContext(connection) as captured:
            client.get(PAGE, JUNE)
        return len(captured)

    few = queries()
    for _ in range(6):
        shop.allocated()
    clock.shift(timedelta(minutes=30))
    made.activation(clock, sms_after=None)

    assert queries() == few
