"""Locks on tickets, and the one way in which a locked ticket is written.

Locks are taken in one order everywhere: the person, the tickets of a thread by primary key, the
refund request, orders, wallets. A file's bytes are stored before any of them.
"""

from __future__ import annotations

from django.db.models import QuerySet

from smsactivator.common import history
from smsactivator.common.errors import NotFound
from smsactivator.common.history import Actor
from support.models import Ticket

# All that changes of a ticket. The row is locked, so writing every column is as right as one.
_CHANGING = (
    *("state", "queue", "version", "resolved_at", "assignee", "claimed_by", "claimed_until"),
    *("waiting_since", "due_at", "dispute_since", "dispute_due_at"),
)


class TicketUnknown(NotFound):
    """There is no such ticket."""

    code = "unknown_ticket"


def lock(ticket_id: int) -> Ticket:
    """The ticket, locked FOR NO KEY UPDATE for the transaction. Raises TicketUnknown."""
    found = Ticket.objects.select_for_update(no_key=True).filter(pk=ticket_id).first()
    if found is None:
        raise TicketUnknown(f"There is no ticket {ticket_id}.")
    return found


def lock_thread(ticket_id: int, customer_id: int) -> list[Ticket]:
    """The customer's ticket and those that follow it, the oldest first, locked.

    A follow-up is younger than what it follows, so this is the order of primary keys. Raises
    TicketUnknown, for another customer's ticket too.
    """
    ticket = lock(ticket_id)
    if ticket.customer_id != customer_id:
        raise TicketUnknown(f"There is no ticket {ticket_id}.")
    thread = [ticket]
    # A follow-up is made under the lock of what it follows, so none appears behind our back.
    while next_id := Ticket.objects.filter(follows=thread[-1]).values_list("pk", flat=True).first():
        thread.append(lock(next_id))
    return thread


def claim(tickets: QuerySet[Ticket], limit: int) -> list[Ticket]:
    """Up to ``limit`` of the tickets, locked; those that somebody else holds are left to them.

    The database reads each row again after locking it, so all still match.
    """
    return list(tickets.select_for_update(no_key=True, skip_locked=True)[:limit])


def save(*tickets: Ticket, actor: Actor, reason: str, quietly: bool = False) -> None:
    """Write locked tickets and their history: one statement.

    What happened makes every view of them outdated, unless it happens ``quietly``: nobody's reply
    or decision depends on it.
    """
    if not quietly:
        for ticket in tickets:
            ticket.version += 1
    history.save(tickets, _CHANGING, actor=actor, reason=reason)
