"""The page of deliveries, and the front page's warning."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from smsactivator.common.links import admin_url
from smsactivator.tests import world
from support import delivery, outbox
from support.models import Outbound, Ticket
from support.tests import threads
from support.tests.mailserver import Answers
from wallet.tests.forms import carried

pytestmark = pytest.mark.django_db

LIST = "/admin/support/outbound/"


def signed_in(role: str = "Support agent") -> Client:
    client = Client()
    client.force_login(world.person(role))
    return client


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, url
    return response.content.decode()


def test_a_failed_delivery_is_retried_from_the_front_page_in_three_steps(server) -> None:
    client = signed_in()
    assert "Not delivered" not in text_of(client, "/admin/")
    server.rcpt = "550 No such user"
    outbound = threads.delivery()
    delivery.deliver(outbound.pk)
    server.rcpt = "250 OK"

    front = text_of(client, "/admin/")
    assert "Replies that did not reach a customer" in front
    assert f'href="{LIST}?state__exact=failed">failed 1</a>' in front
    assert "state__exact=unknown" not in front
    page = admin_url("support_outbound_change", outbound.pk)
    assert page in text_of(client, f"{LIST}?state__exact=failed")
    assert page not in text_of(client, f"{LIST}?state__exact=sent")
    shown = text_of(client, page)
    for words in (
        "The mail server answered 550 No such user",
        "ann@customer.test",
        "We look into it.",
        "Attempt 1 begins",
        "Automatic",
        "outbox",
    ):
        assert words in shown
    assert f"{page.removesuffix('change/')}do/sent/" not in shown
    answer = client.post(
        admin_url("support_outbound_do", outbound.pk, "retry"),
        carried(outbound, "retry") | {"reason": "The address works again"},
    )

    assert answer.status_code == 302
    assert "is queued again" in text_of(client, page)
    assert "The address works again" in text_of(client, page)
    assert delivery.deliver_due("email") == 1
    assert "Not delivered" not in text_of(client, "/admin/")
    assert len(server.letters) == 1


def test_what_is_no_longer_so_is_refused_in_words(server) -> None:
    server.taken = Answers.DROP
    outbound = threads.delivery()
    delivery.deliver(outbound.pk)
    client = signed_in()
    outbox.confirm_sent(threads.agent(), outbound.pk, reason="Ann answered it")

    answer = client.post(
        admin_url("support_outbound_do", outbound.pk, "retry"),
        carried(outbound, "retry") | {"reason": "Nothing came"},
    )

    assert answer.status_code == 409
    page = answer.content.decode()
    assert "is “Delivered” by now" in page
    assert "Nothing came" in page
    assert Outbound.objects.get(pk=outbound.pk).state == "sent"


def test_the_list_of_a_ticket_shows_its_own_deliveries() -> None:
    mine, other = threads.delivery(), threads.delivery("api")

    page = text_of(signed_in(), f"{LIST}?message__ticket={mine.message.ticket_id}")

    assert admin_url("support_outbound_change", mine.pk) in page
    assert admin_url("support_outbound_change", other.pk) not in page


def test_the_list_and_the_front_page_take_constant_queries() -> None:
    client = signed_in()
    counts = []
    for many in (2, 20):
        for _ in range(many):
            threads.delivery(email="")
        for url in (LIST, f"{LIST}?state__exact=failed", "/admin/"):
            with CaptureQueriesContext(connection) as captured:
                client.get(url)
            counts.append(len(captured))

    assert counts[:3] == counts[3:]


def test_the_warning_stops_counting_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_COUNTED", 2)
    for _ in range(3):
        threads.delivery(email="")

    assert "2 or more" in text_of(signed_in(), "/admin/")


@pytest.mark.parametrize("role", ["Finance"])
def test_who_does_not_speak_with_customers_is_not_warned(role: str) -> None:
    threads.delivery(email="")
    assert "Not delivered" not in text_of(signed_in(role), "/admin/")


def test_closed_tickets_warn_nobody() -> None:
    failed = threads.delivery(email="")
    of = Ticket.objects.filter(pk=failed.message.ticket_id)
    of.update(state="resolved", resolved_at=failed.queued_at)
    of.update(state="closed")
    assert "Not delivered" not in text_of(signed_in(), "/admin/")
