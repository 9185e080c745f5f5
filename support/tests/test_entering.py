"""What customers say elsewhere, entered by a person on the customer's page."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from refunds.models import RefundRequest
from smsactivator.common.links import admin_url
from support import cases
from support.models import Message, Ticket
from support.tests.test_case_page import page, panel, text
from support.tests.world import agent, ask, decide, denied, fresh, senior, write
from wallet import keys
from wallet.deciding import OwnRequest
from wallet.tests.attack import RESTRICT, assert_refused
from wallet.tests.forms import carried

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann():
    return agent("ann")


def enter(by: Any, about: Ticket, /, **typed: Any) -> Any:
    """Send the form of the page of the ticket's customer."""
    client = Client()
    client.force_login(by)
    form = carried(about.customer, "enter") | {
        "channel": "email",
        "body": "I called you\n",
        **typed,
    }
    return client.post(admin_url("wallet_customer_do", about.customer_id, "enter"), form)


def rows(by: Any, asked: RefundRequest, title: str) -> list[tuple[str, str]]:
    """A group of facts on the request's page, as it is read."""
    client = Client()
    client.force_login(by)
    shown = client.get(admin_url("refunds_refundrequest_change", asked.pk))
    [group] = [one for one in shown.context["facts"] if one.title == title]
    return [(label, text(str(value))) for label, value in group.rows]


def test_it_opens_a_ticket_once_and_names_who_entered_it(ann):
    other = ask()
    form = {"subject": "By phone", "key": str(uuid4())}

    first, again = enter(ann, other, **form), enter(ann, other, **form)

    made = Ticket.objects.exclude(pk=other.pk).get()
    assert first.status_code == again.status_code == 302
    assert first["Location"] == admin_url("support_ticket_change", made.pk)
    message = made.messages.get()
    assert (message.kind, message.body, message.author) == ("customer", "I called you\n", ann)
    assert message.via == "ann, who entered it"
    assert (made.customer, made.channel, made.subject) == (other.customer, "email", "By phone")
    assert (made.due_at is not None, made.state) == (True, "new")


def test_on_a_thread_it_disputes_what_was_denied_there(ann):
    ticket, asked = denied()

    assert enter(ann, ticket, ticket=ticket.pk).status_code == 302

    assert RefundRequest.objects.get(pk=asked.pk).state == "disputed"
    assert (fresh(ticket).queue, ticket.messages.filter(kind="customer").count()) == ("seniors", 2)


def test_a_dispute_that_one_of_us_entered_says_so_wherever_it_is_read(ann):
    ticket, asked = denied()
    enter(ann, ticket, ticket=ticket.pk)
    message = ticket.messages.get(author=ann, kind="customer")
    boss = senior()

    assert asked.history.latest().history_change_reason == "Disputed by a message that was entered"
    assert asked.history.latest().history_actor == "ann, who entered it"
    assert fresh(ticket).history.latest().history_change_reason == (
        f"Entered what the customer said, which disputes a denial (message {message.pk})"
    )
    shown = page(boss, ticket)
    assert (
        f"The customer disputes it by message {message.pk}, which ann entered: it did not come "
        "from the customer by a wire of ours." in text(panel(shown, f"decide-{asked.pk}"))
    )
    assert "Customer entered by ann" in text(panel(shown, "thread"))
    [disputed] = rows(boss, asked, "What disputed it")
    assert disputed == ("Message", f"Message {message.pk}, entered by ann, on Ticket {ticket.pk}")


def test_a_dispute_that_the_customer_sent_says_so(ann):
    ticket, asked = denied()
    message = write(ticket)
    shown = panel(page(senior(), ticket), f"decide-{asked.pk}")
    assert f"The customer disputes it by message {message.pk}; what is decided" in text(shown)
    [disputed] = rows(senior(), asked, "What disputed it")
    assert disputed == (
        "Message",
        f"Message {message.pk}, sent by the customer (API key sf_1234567… of Shop), on Ticket "
        f"{ticket.pk}",
    )


@pytest.mark.parametrize("verb", [cases.uphold, cases.overturn, cases.dismiss])
def test_who_entered_a_dispute_took_part_in_it(verb):
    boss, other = senior("boss"), senior("other")
    ticket, asked = denied()
    enter(boss, ticket, ticket=ticket.pk)

    with pytest.raises(OwnRequest, match="You entered the message that disputes it"):
        decide(verb, boss, ticket, asked, reply_body="So")
    shown = panel(page(boss, ticket), f"decide-{asked.pk}")
    assert "You entered the message that disputes it, so another senior agent decides." in text(
        shown
    )
    assert 'name="act"' not in shown

    decide(verb, other, ticket, asked, reply_body="So")
    assert RefundRequest.objects.get(pk=asked.pk).resolved_by == other


def test_the_database_lets_nobody_resolve_a_dispute_that_they_entered():
    boss = senior()
    ticket, asked = denied()
    enter(boss, ticket, ticket=ticket.pk)
    for state in ("upheld", "dismissed"):
        assert_refused(
            RESTRICT,
            "entered the message that disputes it",
            f"UPDATE refunds_refundrequest SET state = '{state}', resolved_by_id = {boss.pk}, "
            f"resolved_at = now(), resolution_reason = 'So' WHERE id = {asked.pk}",
        )


def test_the_storefront_is_told_which_messages_one_of_us_entered(ann):
    ticket = ask()
    enter(ann, ticket, ticket=ticket.pk)
    _, key = keys.issue(ticket.customer.storefront, name="test", created_by="tester")
    read = (
        Client()
        .get(f"/api/v1/tickets/{ticket.pk}", headers={"authorization": f"Bearer {key}"})
        .json()
    )
    assert [(one["by"], one["entered"]) for one in read["messages"]] == [
        ("customer", False),
        ("customer", True),
    ]


def test_another_customers_ticket_and_a_missing_subject_are_refused_and_the_text_is_kept(ann):
    mine, theirs = ask(), ask()
    for typed, status in (({"ticket": theirs.pk}, 404), ({}, 422)):
        answer = enter(ann, mine, **typed)
        assert answer.status_code == status
        assert "I called you" in answer.content.decode()
    assert Message.objects.count() == 2
