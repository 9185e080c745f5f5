"""The pages of exports, and what the upper floors' datasets hold."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.models import Order
from refunds import decisions
from refunds.models import Refund
from refunds.tests import world as refunds_world
from smsactivator.common import exports as datasets
from smsactivator.common.links import admin_url
from smsactivator.tests import world
from wallet import exports, payouts, settlement
from wallet.models import Export, ExportDownload
from wallet.tests import paying
from wallet.tests.exported import (
    NOVEMBER,
    NUMBERS,
    asked,
    at,
    days,
    file_of,
    fresh,
    rows_of,
    written,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets._datasets, "numbers", NUMBERS)


@pytest.fixture
def fiona() -> User:
    return world.person("Finance", name="fiona")


@pytest.fixture
def client(fiona: User) -> Client:
    client = Client()
    client.force_login(fiona)
    return client


def page(client: Client, export: Export) -> str:
    response = client.get(admin_url("wallet_export_change", export.pk))
    assert response.status_code == 200
    return response.content.decode()


def typed(**changed: str) -> dict[str, str]:
    return {
        "key": str(uuid4()),
        "dataset": "numbers",
        "since": "2026-11-01",
        "until": "2026-11-03",
        **changed,
    }


# --- the pages ------------------------------------------------------------------------------------


def test_an_export_is_asked_for_followed_and_taken(client: Client, fiona: User) -> None:
    form = client.get(admin_url("wallet_export_add")).content.decode()
    for dataset in datasets.datasets():
        assert f'<option value="{dataset.name}"' in form
        assert dataset.explains in form
    sent = typed()
    to = client.post(admin_url("wallet_export_add"), sent).headers["Location"]
    export = Export.objects.get()
    assert to == admin_url("wallet_export_change", export.pk)
    # Going back and sending the form again leads to the same page.
    assert client.post(admin_url("wallet_export_add"), sent).headers["Location"] == to

    waiting = page(client, export)
    assert 'data-refresh="3"' in waiting
    assert "smsactivator/refresh.js" in waiting
    assert "http-equiv" not in waiting
    assert "A worker takes it as soon as one is free." in waiting
    assert admin_url("wallet_export_do", export.pk, "cancel") in waiting
    claimed = exports.claim(export.pk)
    assert claimed
    writing = exports.steps(claimed)
    next(writing)
    running = page(client, export)
    assert '<progress class="progress" max="6000" value="2000">33 %</progress>' in running
    assert "Download the CSV" not in running
    list(writing)

    done = page(client, export)
    assert "refresh" not in done.split("<body")[1]
    assert "refresh.js" not in done
    export = fresh(export)
    assert export.sha256 in done
    assert f"{export.size:,}" in done
    assert "Nobody has taken the file." in done
    download = admin_url("wallet_export_download", export.pk)
    assert f'<form method="post" action="{download}"' in done
    assert "/do/" not in done
    response = client.post(download)
    content = b"".join(response.streaming_content)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Length"] == str(len(content))
    assert response.headers["Content-Disposition"] == (
        f'attachment; filename="numbers_2026-11-01_2026-11-03_export-{export.pk}.csv"'
    )
    assert hashlib.sha256(content).hexdigest() == export.sha256
    assert content == file_of(export)
    assert "Nobody has taken the file." not in page(client, export)
    assert [one.person for one in export.downloads.all()] == [fiona]


def test_a_get_takes_nothing(client: Client, fiona: User) -> None:
    export = written(fiona, "numbers", days(1))
    response = client.get(admin_url("wallet_export_download", export.pk))

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert not ExportDownload.objects.exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"since": "2026-11-04"}, "The first day is after the last."),
        ({"since": "2025-11-02"}, "at most 366"),
        ({"since": "1999-12-31"}, "between the years 2000 and 2999"),
        ({"since": "yesterday"}, "Enter a valid date."),
        ({"until": ""}, "This field is required."),
        ({"dataset": "passwords"}, "Select a valid choice"),
        ({"key": "x"}, ""),
    ],
)
def test_a_form_that_is_wrong_says_so(changed: dict[str, str], words: str, client: Client) -> None:
    response = client.post(admin_url("wallet_export_add"), typed(**changed))

    assert response.status_code == 422
    assert words in response.content.decode()
    assert not Export.objects.exists()


def test_one_too_many_is_refused_in_words(client: Client, fiona: User) -> None:
    for _ in range(exports.MOST_OPEN):
        asked(fiona, "numbers", days(1))
    response = client.post(admin_url("wallet_export_add"), typed())

    assert response.status_code == 409
    assert "wait for one, or cancel one" in response.content.decode()


def test_what_has_no_file_leads_back_to_its_page(client: Client, fiona: User) -> None:
    export = asked(fiona, "numbers", days(1))
    response = client.post(admin_url("wallet_export_download", export.pk), follow=True)

    assert response.redirect_chain == [(admin_url("wallet_export_change", export.pk), 302)]
    assert "it has no file" in response.content.decode()
    assert client.post(admin_url("wallet_export_download", export.pk + 1)).status_code == 404


def test_an_expired_file_is_not_offered_and_its_hash_is_still_shown(
    client: Client, fiona: User
) -> None:
    export = written(fiona, "numbers", days(1))
    with time_machine.travel(timezone.now() + timedelta(days=8), tick=False):
        exports.tend()
        client.force_login(fiona)
        shown = page(client, export)

    assert "Download the CSV" not in shown
    assert export.sha256 in shown
    assert "Was kept until (UTC)" in shown


def test_who_may_not_see_the_rows_is_not_offered_the_file(fiona: User) -> None:
    export = written(fiona, "numbers", days(1))
    auditor = Client()
    auditor.force_login(world.person("Auditor"))

    shown = page(auditor, export)

    assert export.sha256 in shown
    assert "Download the CSV" not in shown


def test_the_pages_take_as_many_queries_for_many_as_for_few(client: Client, fiona: User) -> None:
    export = written(fiona, "numbers", days(1))
    colleague = world.person("Finance", name="frank")
    urls = [
        admin_url("wallet_export_changelist"),
        admin_url("wallet_export_change", export.pk),
        admin_url("wallet_export_add"),
    ]
    counts: list[list[int]] = []
    for more in (1, 60):
        for _ in range(more):
            exports.take(colleague, export.pk)
            exports.cancel(colleague, asked(colleague, "numbers").pk)
        counts.append([])
        for url in urls:
            with CaptureQueriesContext(connection) as captured:
                client.get(url)
            counts[-1].append(len(captured))

    assert counts[0] == counts[1]
    assert "Downloads (the newest 50)" in page(client, export)
    assert max(counts[0]) <= 15


# --- the upper floors' datasets -------------------------------------------------------------------


def test_orders_are_written_as_they_stand(fiona: User) -> None:
    with time_machine.travel(at(3, 12), tick=False):
        customer = refunds_world.customer("10")
        delivered = refunds_world.delivered(of=customer)
    with time_machine.travel(at(5), tick=False):
        refunds_world.place(customer)
    order = Order.objects.select_related("settlement").get(pk=delivered.pk)

    [row] = rows_of(fiona, "orders", days(4))

    assert row == {
        "order": str(order.pk),
        "placed_at": "2026-11-03T12:00:00Z",
        "storefront": "Shop",
        "customer": customer.external_id,
        "wallet": str(customer.pk),
        "kind": "activation",
        "service": "tg",
        "country": order.country,
        "rental_hours": "",
        "price": f"{order.price:f}",
        "currency": "USD",
        "state": "sms_received",
        "allocated_at": "2026-11-03T12:00:00Z",
        "deadline": "2026-11-03T12:20:00Z",
        "rental_ends_at": "",
        "first_sms_at": "2026-11-03T12:00:00Z",
        "ended_at": "",
        "refused_at": "",
        "refusal_code": "",
        "broken_at": "",
        "upstream": "sim",
        "upstream_reference": order.upstream_ref,
        "upstream_side": order.upstream_side,
        "upstream_cost": "0.2000",
        "purchase_transfer": str(order.purchase_id),
        "settlement_transfer": str(order.settlement_id),
        "settled_at": "2026-11-03T12:00:00Z",
    }
    assert len(rows_of(fiona, "orders")) == 2


def test_refunds_and_requests_are_written_with_their_reasons(fiona: User) -> None:
    with time_machine.travel(at(3, 12), tick=False):
        customer = world.customer()
        automatic = world.refund(world.await_sms(world.place(customer)))
        order = world.place(customer)
        world.deliver(world.await_sms(order))
        asked_for = world.requested(order)
        boss = world.person("Senior agent", name="boss")
    with time_machine.travel(at(4), tick=False):
        decisions.approve(boss, asked_for.pk, reason="=1+1, agreed")
    decided = Refund.objects.get(request=asked_for)

    first, second = rows_of(fiona, "refunds")
    [request] = rows_of(fiona, "refund_requests", days(3))

    assert (first["refund"], first["posted_at"]) == (str(automatic.pk), "2026-11-03T12:00:00Z")
    assert (first["clause"], first["decided_by"], first["request"]) == (automatic.clause, "", "")
    assert second == {
        "refund": str(decided.pk),
        "posted_at": "2026-11-04T00:00:00Z",
        "order": str(order.pk),
        "storefront": "Shop",
        "customer": customer.external_id,
        "wallet": str(customer.pk),
        "clause": decided.clause,
        "policy_version": decided.policy_version,
        "amount": f"{decided.amount:f}",
        "currency": "USD",
        "part": "1",
        "transfer": str(decided.transfer_id),
        "request": str(asked_for.pk),
        "decided_by": "boss",
        "reason": decided.reason if decided.reason[0] != "=" else f"'{decided.reason}",
    }
    assert sum(Decimal(row["amount"]) for row in (first, second)) == sum(
        refund.amount for refund in Refund.objects.all()
    )
    assert (request["request"], request["state"]) == (str(asked_for.pk), "approved")
    assert (request["requested_by"], request["decided_by"]) == (
        asked_for.requested_by.username,
        "boss",
    )
    assert (request["decided_at"], request["refund"]) == (
        "2026-11-04T00:00:00Z",
        str(decided.pk),
    )
    assert request["decision_reason"] == "'=1+1, agreed"
    assert (request["amount"], request["against_verdict"]) == (
        f"{asked_for.amount:f}",
        str(asked_for.against_verdict),
    )
    assert rows_of(fiona, "refunds", NOVEMBER) == [first, second]


def test_payouts_are_written_with_what_became_of_them(fiona: User) -> None:
    with time_machine.travel(at(3, 12), tick=False):
        customer = world.customer(funds="100")
        people = paying.crew()
        waits = paying.asked(people.agent, customer, "20", memo="", reason="=Leaves")
        rejected = paying.asked(people.agent, customer, "30")
    with time_machine.travel(at(4), tick=False):
        payouts.reject(people.finance, rejected.pk, reason="Not yours")

    first, second = rows_of(fiona, "payouts", days(3))

    assert first == {
        "payout": waits.reference,
        "requested_at": "2026-11-03T12:00:00Z",
        "storefront": "Shop",
        "customer": customer.external_id,
        "wallet": str(customer.pk),
        "state": "requested",
        "attempt": "1",
        "amount": "20.0000",
        "currency": "USD",
        "sent_in": "USDT",
        "network": "TRON",
        "address": paying.TRON,
        "memo": "",
        "policy_version": "2026-05-07",
        "minimum": "20.0000",
        "requested_by": people.agent.username,
        "reason": "'=Leaves",
        "sent_again_by": "",
        **dict.fromkeys(("approved_by", "approved_at", "second_by", "second_at", "batch"), ""),
        **dict.fromkeys(("transaction_hash", "fee", "fee_currency", "settled_at", "problem"), ""),
        "failed_by": "",
        **dict.fromkeys(("decided_by", "decided_at", "decision_reason"), ""),
    }
    assert (second["payout"], second["state"], second["amount"]) == (
        rejected.reference,
        "rejected",
        "30.0000",
    )
    assert (second["decided_by"], second["decided_at"], second["decision_reason"]) == (
        people.finance.username,
        "2026-11-04T00:00:00Z",
        "Not yours",
    )
    assert rows_of(fiona, "payouts", days(2)) == []


def test_payouts_are_written_with_their_batch_and_who_said_that_they_failed_or_sent_them_again(
    fiona: User,
) -> None:
    people = paying.crew()
    with time_machine.travel(at(3, 12), tick=False):
        voided, again, back = (
            paying.asked(people.agent, world.customer(funds="100"), "20", address=paying.tron(n))
            for n in (1, 2, 3)
        )
        for payout in (voided, again, back):
            paying.approved(people, payout)
        paying.voided(paying.exported(voided))
        for payout in (again, back):
            paying.submitted(payout)
            settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
        settlement.send_again(people.finance, again.pk, reason="Again")
        settlement.give_back(people.other, back.pk, reason="Never arrives")

    def told() -> dict[str, tuple[str, str, str]]:
        return {
            row["payout"]: (row["batch"], row["failed_by"], row["sent_again_by"])
            for row in rows_of(fiona, "payouts", days(3))
        }

    # The batch is of the attempt that counts, and was not given up.
    failed_in = f"PB-{back.lines.get().batch_id:06d}"
    expected = {
        voided.reference: ("", "", ""),
        again.reference: ("", "", people.finance.username),
        back.reference: (failed_in, people.finance.username, ""),
    }
    assert told() == expected
    with time_machine.travel(at(4), tick=False):
        payouts.approve(people.other, again.pk)
        paying.submitted(again)
        paying.exported(voided)
        settlement.mark_failed(people.other, again.pk, problem="Bounced again")
    assert told() == expected | {
        voided.reference: (f"PB-{voided.lines.get(live=True).batch_id:06d}", "", ""),
        again.reference: (
            f"PB-{again.lines.get(live=True).batch_id:06d}",
            people.other.username,
            people.finance.username,
        ),
    }
