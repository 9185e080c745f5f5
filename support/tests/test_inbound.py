"""What customers say: once, on the right ticket, and what it sets going."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.core.exceptions import PermissionDenied

from orders.locking import OrderUnknown
from refunds.models import RefundRequest
from refunds.tests import world
from smsactivator.common.files import Upload
from smsactivator.common.history import Actor
from support import cases, casework, inbound
from support.inbound import KeyConflict, TextRefused
from support.locking import TicketUnknown
from support.models import LONGEST_BODY, LONGEST_SUBJECT, Message, Ticket, TicketRefund
from support.tests.world import (
    API,
    MONDAY,
    agent,
    ask,
    bounce,
    decide,
    deliver,
    delivered,
    denied,
    fresh,
    refund,
    reply,
    senior,
    version,
    waits,
    write,
)
from wallet.tests.world import person

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def clock():
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


def said(customer, **fields):
    """A message as the API hands it in."""
    return inbound.receive(
        customer,
        **{"body": "Hello", "key": "k", "via": API, "channel": "api", "subject": "Help", **fields},
    )


# --- a new ticket ---


def test_a_first_message_opens_a_ticket_and_starts_the_answer_clock(clock):
    customer = world.customer()
    order = delivered(customer)

    message = said(customer, order_ids=[order.pk], files=[Upload("proof.txt", b"proof")])

    ticket = fresh(message.ticket)
    assert (ticket.customer, ticket.subject, ticket.channel) == (customer, "Help", "api")
    assert (ticket.state, ticket.queue, ticket.version) == ("new", "agents", 1)
    assert (ticket.opened_at, ticket.waiting_since) == (MONDAY, MONDAY)
    assert ticket.due_at == MONDAY + timedelta(days=1)
    assert waits(ticket) == [("answer", MONDAY, None, "")]
    assert (message.kind, message.body, message.created_at) == ("customer", "Hello", MONDAY)
    assert message.via == "API key sf_1234567… of Shop"
    assert [file.name for file in message.attachments.all()] == ["proof.txt"]
    assert list(ticket.orders.all()) == [order]
    assert list(
        ticket.history.order_by("pk").values_list("history_actor", "history_change_reason")
    ) == [
        (API.label, "Opened"),
        (API.label, f"The customer wrote (message {message.pk})"),
    ]


def test_the_same_again_is_the_first_message():
    customer = world.customer()
    first = said(customer, files=[Upload("a", b"1")])

    assert said(customer, files=[Upload("a", b"1")]) == first
    assert (Ticket.objects.count(), Message.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"body": "Something else"},
        {"subject": "Another"},
        {"files": [Upload("a", b"2")]},
        {"files": [Upload("b", b"1")]},
        {"files": []},
    ],
)
def test_the_same_key_with_other_content_is_refused_by_name(other):
    customer = world.customer()
    first = said(customer, files=[Upload("a", b"1")])

    with pytest.raises(KeyConflict, match=f"stands for Message {first.pk} of Ticket"):
        said(customer, **{"files": [Upload("a", b"1")], **other})
    assert Message.objects.count() == 1


def test_two_customers_may_use_the_same_key():
    assert said(world.customer()).ticket != said(world.customer()).ticket


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": ""},
        {"body": " \n"},
        {"body": "x" * (LONGEST_BODY + 1)},
        {"body": "a\x00b"},
        {"body": "\ud800"},
        {"subject": ""},
        {"subject": " "},
        {"subject": "x" * (LONGEST_SUBJECT + 1)},
        {"subject": "Hi\nBcc: everybody@example.com"},
        {"subject": "Hi\x00"},
        {"key": ""},
        {"key": "a b"},
        {"key": "x" * 129},
        {"key": "k\n"},
        {"order_ids": range(1, 22)},
    ],
)
def test_a_message_that_is_none_is_refused_and_nothing_is_kept(wrong):
    with pytest.raises(TextRefused):
        said(world.customer(), **wrong)
    assert (Ticket.objects.count(), Message.objects.count()) == (0, 0)


def test_a_file_alone_is_a_message():
    assert said(world.customer(), body="", files=[Upload("a", b"1")]).body == ""


def test_another_customers_order_is_not_found_and_nothing_is_kept():
    theirs = delivered()
    with pytest.raises(OrderUnknown, match=f"no order {theirs.pk}"):
        said(world.customer(), order_ids=[theirs.pk])
    assert not Ticket.objects.exists()


def test_a_person_enters_what_reached_us_otherwise(clock):
    by, customer = agent("ann"), world.customer()
    message = inbound.enter(
        by,
        customer,
        body="By phone",
        key="form-1",
        channel="email",
        subject="Call",
        at=MONDAY - HOUR,
    )
    assert (message.via, message.author, message.created_at) == (
        "ann, who entered it",
        by,
        MONDAY - HOUR,
    )
    assert fresh(message.ticket).waiting_since == MONDAY - HOUR
    with pytest.raises(PermissionDenied):
        inbound.enter(person("Finance"), customer, body="x", key="f", channel="email", subject="y")


def test_what_is_said_to_come_later_than_now_came_now(clock):
    assert ask(at=MONDAY + HOUR).opened_at == MONDAY


# --- on a thread ---


def test_a_message_on_a_waiting_ticket_opens_it_again_and_waits_from_its_own_arrival(clock):
    ticket = ask()
    deliver(reply(agent(), ticket))
    assert (fresh(ticket).state, fresh(ticket).due_at) == ("waiting", None)
    before = version(ticket)
    clock.shift(HOUR)

    message = write(ticket)

    ticket = fresh(ticket)
    assert (message.ticket, ticket.state, ticket.version) == (ticket, "open", before + 1)
    assert ticket.waiting_since == MONDAY + HOUR
    assert [wait[1:] for wait in waits(ticket)] == [
        (MONDAY, MONDAY, "answered"),
        (MONDAY + HOUR, None, ""),
    ]


def test_a_further_message_never_resets_the_clock(clock):
    ticket = ask()
    clock.shift(HOUR)
    write(ticket)
    assert (fresh(ticket).waiting_since, fresh(ticket).due_at) == (
        MONDAY,
        MONDAY + timedelta(days=1),
    )
    assert len(waits(ticket)) == 1


def resolved(ticket: Ticket) -> Ticket:
    deliver(reply(agent(), ticket, then="resolved"))
    return fresh(ticket)


def test_a_message_within_the_grace_period_reopens_a_resolved_ticket(clock, settings):
    ticket = resolved(ask())
    clock.shift(settings.TICKET_GRACE - timedelta(microseconds=1))

    assert write(ticket).ticket == ticket
    assert (fresh(ticket).state, fresh(ticket).resolved_at) == ("open", None)


@pytest.mark.parametrize("closed", [False, True])
def test_a_message_after_the_grace_period_opens_a_ticket_that_follows(clock, settings, closed):
    order = delivered()
    ticket = resolved(ask(order.customer, order_ids=[order.pk]))
    clock.shift(settings.TICKET_GRACE)
    if closed:
        assert casework.close_resolved() == 1

    message = write(ticket, key="later")

    new = fresh(message.ticket)
    assert (new.follows, new.subject, new.state) == (ticket, "Code refused", "new")
    assert list(new.orders.all()) == [order]
    assert new.waiting_since == MONDAY + settings.TICKET_GRACE
    assert fresh(ticket).state == ("closed" if closed else "resolved")
    # and whoever still writes to the old one is on the new one, once a key
    assert write(ticket, key="later") == message
    assert write(ticket).ticket == new
    with pytest.raises(KeyConflict):
        write(ticket, "Other words", key="later")
    assert Ticket.objects.count() == 2


def test_a_thread_goes_on_over_many_closed_tickets(clock, settings):
    tickets = [ask()]
    for _ in range(3):
        resolved(tickets[-1])
        clock.shift(settings.TICKET_GRACE)
        casework.close_resolved()
        tickets.append(write(tickets[0]).ticket)
    assert [ticket.follows_id for ticket in tickets[1:]] == [ticket.pk for ticket in tickets[:-1]]


def test_the_same_again_on_a_thread_is_the_first_message():
    ticket = ask()
    first = write(ticket, key="k")
    before = version(ticket)
    assert write(ticket, key="k") == first
    assert version(ticket) == before
    with pytest.raises(KeyConflict):
        write(ticket, "Other words", key="k")


def test_a_key_of_ours_is_no_key_of_the_customers():
    ticket = ask()
    reply(agent(), ticket, key="same")
    assert write(ticket, key="same").kind == "customer"


def test_another_customers_ticket_is_not_found():
    ticket, other = ask(), world.customer()
    for ticket_id in (ticket.pk, ticket.pk + 1):
        with pytest.raises(TicketUnknown, match=f"no ticket {ticket_id}"):
            said(other, ticket_id=ticket_id)
    assert Message.objects.count() == 1


# --- disputes ---


def test_the_next_message_after_a_denial_disputes_it_with_its_files(clock):
    ticket, asked = denied()
    assert fresh(ticket).state == "resolved"
    clock.shift(HOUR)

    message = write(ticket, "Thanks?", files=[Upload("shot.png", b"\x89PNG\r\n\x1a\n")])

    ticket, asked = fresh(ticket), RefundRequest.objects.get()
    assert (asked.state, asked.disputed_at) == ("disputed", MONDAY + HOUR)
    assert TicketRefund.objects.get().disputed_by == message
    assert [file.name for file in message.attachments.all()] == ["shot.png"]
    assert (ticket.state, ticket.queue) == ("open", "seniors")
    assert (ticket.dispute_since, ticket.dispute_due_at) == (
        MONDAY + HOUR,
        MONDAY + HOUR + timedelta(days=1),
    )
    assert ticket.waiting_since == MONDAY  # the reply has not been delivered yet
    assert ticket.history.latest().history_change_reason == (
        f"The customer disputed a denial (message {message.pk})"
    )
    assert RefundRequest.history.latest().history_actor == API.label


def test_a_second_message_after_a_dispute_is_just_a_message(clock):
    ticket, _asked = denied()
    deliver(Message.objects.get(kind="reply"))
    first = write(ticket)
    clock.shift(HOUR)

    second = write(ticket, "And another thing")

    assert TicketRefund.objects.get().disputed_by == first
    assert (fresh(ticket).dispute_since, fresh(ticket).waiting_since) == (MONDAY, MONDAY + HOUR)
    assert second.disputes.count() == 0


def test_after_the_final_decision_a_message_is_just_a_message(clock):
    ticket, asked = denied()
    write(ticket)
    decide(cases.uphold, senior(), ticket, asked)
    write(ticket, "No!")
    assert RefundRequest.objects.get().state == "upheld"
    assert (fresh(ticket).dispute_since, fresh(ticket).queue) == (None, "agents")


def test_a_denial_is_disputed_on_the_ticket_that_follows(clock, settings):
    ticket, asked = denied()
    deliver(Message.objects.get(kind="reply"))
    clock.shift(settings.TICKET_GRACE)
    casework.close_resolved()

    message = write(ticket)

    new = fresh(message.ticket)
    assert (new.follows, new.queue) == (ticket, "seniors")
    assert (new.dispute_since, new.waiting_since) == (message.created_at, None)
    assert TicketRefund.objects.get().disputed_by == message
    # and it is decided there
    with pytest.raises(casework.TicketClosed):
        decide(cases.uphold, senior(), ticket, asked)
    decide(cases.overturn, senior(), new, asked, reply_body="You are right")
    assert RefundRequest.objects.get().state == "overturned"
    assert world.balance(ticket.customer) == Decimal("9.5")
    assert (fresh(new).state, fresh(new).dispute_since) == ("resolved", None)


def test_one_message_disputes_every_denial_of_its_ticket():
    ticket, _ = denied()
    denied(ticket=ticket)

    message = write(ticket)

    assert message.disputes.count() == 2
    assert set(RefundRequest.objects.values_list("state", flat=True)) == {"disputed"}
    assert ticket.waits.filter(clock="dispute").count() == 1


def test_what_was_said_before_the_denial_disputes_nothing(clock):
    ticket, _asked = denied()
    write(ticket, at=MONDAY - HOUR)
    assert RefundRequest.objects.get().state == "denied"


def test_a_denial_is_disputed_whatever_else_is_asked_of_the_order():
    by = agent()
    ticket = ask()
    order = delivered(ticket.customer)
    refund(by, ticket, order, deny=True, then="open")
    refund(by, ticket, order, clause="ticket.wrong_service")
    write(ticket)
    assert list(RefundRequest.objects.order_by("pk").values_list("state", flat=True)) == [
        "disputed",
        "escalated",
    ]


def test_a_message_on_another_ticket_disputes_nothing():
    ticket, _ = denied()
    write(ask(ticket.customer))
    assert RefundRequest.objects.get().state == "denied"


def test_a_bounced_denial_is_answered_by_a_dispute_all_the_same():
    ticket, _ = denied()
    message = Message.objects.get(kind="reply")
    deliver(message)
    bounce(message)
    assert fresh(ticket).state == "open"
    write(ticket)
    assert RefundRequest.objects.get().state == "disputed"


def test_who_says_what_is_in_the_history():
    ticket = ask()
    write(ticket, via=Actor.automatic("mailbox"))
    assert ticket.history.latest().history_actor == "automatic: mailbox"
