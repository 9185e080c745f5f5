"""Who has a ticket open at this moment. A hint for people: it locks and refuses nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from smsactivator.common.moments import ahead
from support.models import Ticket, Viewing
from wallet.limits import require

# A page says that it is open every 20 seconds.
OPEN_FOR = timedelta(seconds=60)


def look(person: Any, ticket_id: int) -> list[Any]:
    """Note that the person, who may answer, has the ticket open; tell who else has, by name.

    Raises PermissionDenied, and Ticket.DoesNotExist.
    """
    require(person, "support.answer_ticket")
    ticket = Ticket.objects.only("pk").get(pk=ticket_id)
    now = timezone.now()
    Viewing.objects.bulk_create(
        [Viewing(ticket=ticket, person=person, seen_at=now)],
        update_conflicts=True,
        unique_fields=["ticket", "person"],
        update_fields=["seen_at"],
    )
    return others(person, ticket_id)


def others(person: Any, ticket_id: int) -> list[Any]:
    """Who else has the ticket open, by name: one query."""
    now = timezone.now()
    return [
        viewing.person
        for viewing in Viewing.objects.filter(
            ~ahead("seen_at", now), ticket=ticket_id, seen_at__gt=now - OPEN_FOR
        )
        .exclude(person=person)
        .select_related("person")
        .order_by("person__username")
    ]


def words(people: list[Any]) -> str:
    """What the page says of them."""
    if not people:
        return ""
    names = ", ".join(str(one) for one in people)
    return f"{names} {'has' if len(people) == 1 else 'have'} this open too."
