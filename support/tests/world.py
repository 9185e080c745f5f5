"""Tickets for tests, made through the product's own verbs."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.utils import timezone

from orders.delivery import Arrival, record_sms
from orders.models import Order
from orders.upstreams.base import Message as Sms
from refunds.models import RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from smsactivator.common import history
from smsactivator.common.history import Actor
from support import cases, clocks, inbound, payouts, replies
from support.models import Message, Outbound, Ticket
from wallet.models import Customer, Payout
from wallet.tests import paying
from wallet.tests.world import numbers, person

API = Actor.api_key("Shop", "sf_1234567")
MONDAY = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)  # within the hours that migrations give: 9 to 18

AGENT, SENIOR = "Support agent", "Senior agent"


def agent(name: str = "") -> Any:
    return person(AGENT, name=name)


def senior(name: str = "") -> Any:
    return person(SENIOR, name=name)


def delivered(of: Customer | None = None, price: str = "1") -> Order:
    """An order whose SMS arrived."""
    order = world.allocated(world.place(of or world.customer(), world.offer(price)))
    record_sms({order.pk: [Arrival(Sms("1234", "Code 1234"))]})
    return Order.objects.get(pk=order.pk)


def ask(customer: Customer | None = None, body: str = "It did not work", **fields: Any) -> Ticket:
    """A new ticket by the customer's message."""
    message = inbound.receive(
        customer or world.customer(),
        **{
            "body": body,
            "key": f"key-{next(numbers)}",
            "via": API,
            "channel": "api",
            "subject": "Code refused",
            **fields,
        },
    )
    return fresh(message.ticket)


def write(ticket: Ticket, body: str = "Are you there?", **fields: Any) -> Message:
    """A further message of the customer."""
    return inbound.receive(
        ticket.customer,
        **{
            "body": body,
            "key": f"key-{next(numbers)}",
            "via": API,
            "channel": "api",
            "ticket_id": ticket.pk,
            **fields,
        },
    )


def reply(by: Any, ticket: Ticket, body: str = "Look again, please", **fields: Any) -> Message:
    """A reply of a person who has just looked."""
    return replies.reply(
        by,
        ticket.pk,
        **{"body": body, "seen": version(ticket), "key": str(uuid4()), "then": "waiting", **fields},
    )


def deliver(message: Message) -> Outbound:
    """As the outbox does when a message has arrived."""
    out = Outbound.objects.get(message=message)
    with transaction.atomic():
        _lock(out)
        out.begin()
        out.attempts += 1
        out.succeed()
        out.sent_at, out.due_at = timezone.now(), None
        _save(out)
        clocks.answered(out)
    return out


def fail(message: Message) -> Outbound:
    """As the outbox does when a message cannot be sent."""
    out = Outbound.objects.get(message=message)
    with transaction.atomic():
        out.begin()
        out.fail()
        out.due_at = None
        _save(out)
    return out


def bounce(message: Message) -> Outbound:
    """As the outbox does when a delivered message comes back."""
    out = Outbound.objects.get(message=message)
    with transaction.atomic():
        _lock(out)
        out.fail()
        out.sent_at = None
        _save(out)
        clocks.bounced(out)
    return out


def _lock(out: Outbound) -> None:
    Ticket.objects.select_for_update(no_key=True).get(pk=out.message.ticket_id)


def _save(out: Outbound) -> None:
    fields = ["state", "sent_at", "due_at", "attempts"]
    history.save([out], fields, actor=Actor.automatic("test"), reason="Test")


def refund(by: Any, ticket: Ticket, order: Order, **fields: Any) -> RefundRequest:
    """A refund that a person asks for on the ticket."""
    return cases.open_refund(
        by,
        ticket.pk,
        order.pk,
        **{
            "clause": Clause.SERVICE_REJECTED,
            "amount": Decimal("0.5"),
            "reason": "Region block",
            "seen": version(ticket),
            "key": uuid4(),
            **fields,
        },
    )


def decide(verb: Any, by: Any, ticket: Ticket, asked: RefundRequest, **fields: Any) -> Any:
    """A decision on the ticket by a person who has just looked."""
    return verb(
        by,
        ticket.pk,
        asked.pk,
        **{"reason": "Looked at it", "seen": version(ticket), "key": str(uuid4()), **fields},
    )


def denied(by: Any = None, ticket: Ticket | None = None) -> tuple[Ticket, RefundRequest]:
    """A ticket with a denied refund of an order of its customer."""
    ticket = ticket or ask()
    asked = refund(
        by or agent(),
        ticket,
        delivered(ticket.customer),
        deny=True,
        then="resolved",
        reply_body="Sorry",
    )
    return fresh(ticket), asked


TRON = "TJRabPrwbZy45sbavfcjinPJC18kjpRTv8"
HASH = "ab" * 32


def leaving(balance: str = "100") -> Ticket:
    """A new ticket of a customer who wants to leave with this balance, USD."""
    return ask(world.customer(balance), "Pay me out, please", subject="I want to leave")


def payout(by: Any, ticket: Ticket, amount: str | None = "50", **fields: Any) -> Payout:
    """A payout that a person asks for on the ticket."""
    return payouts.request(
        by,
        ticket.pk,
        **{
            "method": "USDT-TRON",
            "address": TRON,
            "amount": None if amount is None else Decimal(amount),
            "reason": "Leaves us",
            "seen": version(ticket),
            "key": uuid4(),
            **fields,
        },
    )


def on_its_way(asked: Payout) -> Payout:
    """An approved payout, its batch handed over."""
    return paying.submitted(asked)


def fresh(ticket: Ticket) -> Ticket:
    return Ticket.objects.get(pk=ticket.pk)


def version(ticket: Ticket) -> int:
    return Ticket.objects.values_list("version", flat=True).get(pk=ticket.pk)


def waits(ticket: Ticket) -> list[tuple[str, Any, Any, str]]:
    """The runs of the ticket's clocks: which, since, until, outcome."""
    return list(
        ticket.waits.order_by("since", "pk").values_list("clock", "since", "ended_at", "outcome")
    )
