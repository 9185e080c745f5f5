"""What customers say elsewhere, entered by a person on the customer's page."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from refunds.models import RefundRequest
from smsactivator.common.links import admin_url
from support.models import Message, Ticket
from support.tests.world import agent, ask, denied, fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann():
    return agent("ann")


def enter(by: Any, about: Ticket, /, **typed: Any) -> Any:
    """Send the form of the page of the ticket's customer."""
    client = Client()
    client.force_login(by)
    form = {"key": str(uuid4()), "channel": "email", "body": "I called you\n", **typed}
    return client.post(admin_url("wallet_customer_do", about.customer_id, "enter"), form)


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


def test_another_customers_ticket_and_a_missing_subject_are_refused_and_the_text_is_kept(ann):
    mine, theirs = ask(), ask()
    for typed, status in (({"ticket": theirs.pk}, 404), ({}, 422)):
        answer = enter(ann, mine, **typed)
        assert answer.status_code == status
        assert "I called you" in answer.content.decode()
    assert Message.objects.count() == 2
