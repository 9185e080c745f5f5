"""Tickets with messages, as the outbox finds them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.history import Actor
from smsactivator.tests import world
from support import outbox
from support.models import Message, Outbound, Ticket
from wallet.tests.world import numbers

ADDRESS = "ann@customer.test"


def ticket(
    channel: str = "email", *, email: str = ADDRESS, subject: str = "No code came"
) -> Ticket:
    """A customer's ticket, with the message that opened it."""
    now = timezone.now()
    opened = Ticket(
        customer=world.customer(email=email, funds="0"),
        subject=subject,
        channel=channel,
        opened_at=now,
    )
    history.create([opened], actor=Actor.automatic("test"), reason="Written by the customer")
    say(opened, "customer", "Where is my code?")
    return opened


def agent() -> User:
    """The one who writes here; not the person that a test signs in as."""
    found = User.objects.filter(username="agnes").first()
    return found or world.person("Support agent", name="agnes")


def say(of: Ticket, kind: str = "reply", body: str = "We look into it.", **fields: Any) -> Message:
    by_us = kind in {"reply", "note"}
    return Message.objects.create(
        ticket=of,
        kind=kind,
        body=body,
        created_at=timezone.now(),
        author=agent() if by_us else None,
        via="agnes" if by_us else "automatic: test",
        key=f"key-{next(numbers)}",
        **fields,
    )


def queued(message: Message) -> Outbound:
    """The message's delivery, as ``queue`` makes it."""
    with transaction.atomic():
        outbox.queue(message)
    return message.deliveries.get()


def delivery(channel: str = "email", **of: Any) -> Outbound:
    """The queued delivery of the first reply on a new ticket."""
    return queued(say(ticket(channel, **of)))


def steps(outbound: Outbound) -> list[tuple[str, str, str]]:
    """Its history, the oldest first: who, into which state, why."""
    rows = outbound.history.order_by("history_id")
    return [(row.history_actor, row.state, row.history_change_reason) for row in rows]
