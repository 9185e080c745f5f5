"""The queues that tickets wait in, each in the order in which they are due.

Every queue is a range of an index, so a page of it and its count cost the same however many tickets
there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import F, QuerySet
from django.utils import timezone

from refunds.models import RefundRequest
from support.models import Ticket, TicketRefund

LIVE = (Ticket.State.NEW, Ticket.State.OPEN, Ticket.State.WAITING)
OURS = (Ticket.State.NEW, Ticket.State.OPEN)
COUNTED = 100  # a count says "99+" from here on
DECIDED = 1_000  # of today's decisions, the newest that the list reaches

BY_DUE = (F("due_at").asc(nulls_last=True), "id")


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: its name in addresses, its label, its tickets for a person, and their order.

    ``empty`` is what to say when there are none.
    """

    name: str
    label: str
    tickets: Callable[[QuerySet[Ticket], Any], QuerySet[Ticket]]
    order: tuple[Any, ...]
    empty: str = "Nothing here: no ticket waits."


def _decided_today(tickets: QuerySet[Ticket], _person: Any) -> QuerySet[Ticket]:
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    # Two ranges, each of an index of its own, which one condition would not be.
    decided = RefundRequest.objects.filter(decided_at__gte=midnight)
    resolved = RefundRequest.objects.filter(resolved_at__gte=midnight)
    cases = (
        TicketRefund.objects.filter(request__in=decided.values("pk").union(resolved.values("pk")))
        .order_by("-id")
        .values_list("ticket", "disputed_by__ticket")[:DECIDED]
    )
    # What was disputed on a ticket that follows was decided there.
    return tickets.filter(pk__in={disputed_on or ticket for ticket, disputed_on in cases})


QUEUES: tuple[Queue, ...] = (
    Queue(
        "todo",
        "To answer",
        lambda tickets, _person: tickets.filter(queue=Ticket.Queue.AGENTS, due_at__isnull=False),
        ("due_at", "id"),
    ),
    Queue(
        "mine",
        "Mine",
        lambda tickets, person: tickets.filter(assignee=person, state__in=LIVE),
        BY_DUE,
        "No ticket is assigned to you.",
    ),
    Queue(
        "unassigned",
        "Unassigned",
        lambda tickets, _person: tickets.filter(assignee__isnull=True, state__in=OURS),
        BY_DUE,
    ),
    Queue(
        "senior",
        "Waiting for a senior",
        lambda tickets, _person: tickets.filter(queue=Ticket.Queue.SENIORS, state__in=LIVE),
        BY_DUE,
    ),
    Queue(
        "disputes",
        "Disputes",
        lambda tickets, _person: tickets.filter(dispute_due_at__isnull=False),
        ("dispute_due_at", "id"),
    ),
    Queue(
        "decided",
        "Decided today",
        _decided_today,
        ("-id",),
        "Nothing here: no refund was decided today.",
    ),
)
BY_NAME = {queue.name: queue for queue in QUEUES}


def count(queue: Queue, person: Any) -> str:
    """How many tickets wait in a queue, in words: "" for none, "99+" from ``COUNTED`` on."""
    found = queue.tickets(Ticket.objects.all(), person).order_by()[:COUNTED].count()
    if found >= COUNTED:
        return f"{COUNTED - 1}+"
    return str(found) if found else ""
