"""Going on from a ticket that is over: a thread is a chain of tickets."""

from __future__ import annotations

from datetime import datetime

from smsactivator.common import history
from smsactivator.common.history import Actor
from support.models import Ticket, TicketOrder


def follow(
    ticket: Ticket, *, channel: str, opened_at: datetime, key: str = "", actor: Actor, reason: str
) -> Ticket:
    """A new ticket that goes on from a locked one, about its customer, subject and orders."""
    new = Ticket(
        customer_id=ticket.customer_id,
        subject=ticket.subject,
        channel=channel,
        opened_at=opened_at,
        key=key,
        follows=ticket,
    )
    history.create([new], actor=actor, reason=reason)
    orders = TicketOrder.objects.filter(ticket=ticket).values_list("order", flat=True)
    TicketOrder.objects.bulk_create(
        [TicketOrder(ticket=new, order_id=order_id) for order_id in orders]
    )
    return new
