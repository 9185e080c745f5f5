"""Working on tickets: who has them, what they are about, and when they are done.

Whoever answers or decides holds the ticket's claim, a lease that runs out. Locks are taken in one
order: the person, the ticket.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from orders.locking import OrderUnknown
from smsactivator.common import moments
from smsactivator.common.errors import Invalid, NotFound, Refused
from smsactivator.common.history import Actor
from smsactivator.common.seen import outdated
from support import clocks, inbound, locking, queries
from support.models import Ticket, TicketOrder, Wait
from wallet.deciding import given
from wallet.limits import lock, require

State = Ticket.State
ANSWER, ASSIGN = "support.answer_ticket", "support.assign_ticket"
BATCH = 500
GRACE = Actor.automatic("grace period")


class ClaimedByOther(Refused):
    """Somebody else is working on the ticket."""

    code = "claimed_by_other"


class NotClaimed(Refused):
    """The person does not hold the claim that they want to let go of."""

    code = "not_claimed"


class TicketClosed(Refused):
    """The ticket is closed for good."""

    code = "ticket_closed"


class StillUnanswered(Refused):
    """The customer waits for an answer, so the ticket cannot be done with."""

    code = "still_unanswered"


class RefundUndecided(Refused):
    """A refund of the ticket is not decided, so the ticket cannot be done with."""

    code = "refund_undecided"


class CannotAnswer(Invalid):
    """The person that a ticket is given to may not work on tickets."""

    code = "cannot_answer"


class PersonUnknown(NotFound):
    """There is no such person."""

    code = "unknown_person"


# --- the claim ---


def claim(person: Any, ticket_id: int) -> Ticket:
    """Take the ticket up for ``settings.TICKET_LEASE``, or for as long again. A new one is open.

    Raises PermissionDenied, TicketUnknown, TicketClosed, ClaimedByOther.
    """
    require(person, ANSWER)
    with transaction.atomic():
        ticket = locking.lock(ticket_id)
        hold(ticket, person)
        if ticket.state == State.NEW:
            ticket.work_on()
            locking.save(ticket, actor=Actor.person(person), reason="Took it up")
        else:
            _save_claim(ticket)
        return ticket


def release(person: Any, ticket_id: int) -> Ticket:
    """Let go of one's own claim; letting go of one that has run out is harmless.

    Raises PermissionDenied, TicketUnknown, NotClaimed when somebody else holds it.
    """
    require(person, ANSWER)
    with transaction.atomic():
        ticket = locking.lock(ticket_id)
        if ticket.claimed_by_id not in {None, person.pk}:
            raise NotClaimed(f"{ticket} is claimed by {ticket.claimed_by}, not by you.")
        let_go(ticket)
        _save_claim(ticket)
        return ticket


def take_over(person: Any, ticket_id: int) -> Ticket:
    """Take the claim, whoever holds it. Raises PermissionDenied, TicketUnknown, TicketClosed."""
    require(person, ANSWER, ASSIGN)
    with transaction.atomic():
        ticket = locking.lock(ticket_id)
        refuse_closed(ticket)
        before = ticket.claimed_by if _is_held_by_other(ticket, person) else None
        let_go(ticket)
        hold(ticket, person)
        if ticket.state == State.NEW:
            ticket.work_on()
        why = f"Took it over from {before}" if before else "Took it up"
        locking.save(ticket, actor=Actor.person(person), reason=why)
        return ticket


def hold(ticket: Ticket, person: Any) -> None:
    """Give the claim of a locked ticket to the person, from now on; the caller writes it.

    Raises TicketClosed, and ClaimedByOther while somebody else's lease lasts.
    """
    refuse_closed(ticket)
    if _is_held_by_other(ticket, person):
        raise ClaimedByOther(
            f"{ticket.claimed_by} is working on {ticket} until "
            f"{ticket.claimed_until:%H:%M:%S} UTC. Wait, or have it taken over."
        )
    ticket.claimed_by = person
    ticket.claimed_until = timezone.now() + settings.TICKET_LEASE


def let_go(ticket: Ticket) -> None:
    """Nobody claims a locked ticket any more; the caller writes it."""
    ticket.claimed_by = ticket.claimed_until = None


def is_claimed(ticket: Ticket, now: datetime) -> bool:
    """Whether somebody's claim lasts; one for twice as long as claims last was never given.

    Less than that may be seen by a machine whose clock is behind, and the claim holds.
    """
    until = ticket.claimed_until
    return (
        until is not None
        and until > now
        and not moments.is_ahead(until, now, 2 * settings.TICKET_LEASE)
    )


def _is_held_by_other(ticket: Ticket, person: Any) -> bool:
    return ticket.claimed_by_id != person.pk and is_claimed(ticket, timezone.now())


def _save_claim(ticket: Ticket) -> None:
    Ticket.objects.filter(pk=ticket.pk).update(
        claimed_by=ticket.claimed_by, claimed_until=ticket.claimed_until
    )


# --- whose it is, and what it is about ---


def assign(person: Any, ticket_id: int, to_id: int | None, *, reason: str = "") -> Ticket:
    """Give the ticket to a person, or to nobody. A new one is open then.

    Taking one that is nobody's, and giving back one's own, needs no more than answering; anything
    else needs ``support.assign_ticket``. The same again changes nothing. Raises PermissionDenied,
    TicketUnknown, TicketClosed, PersonUnknown, CannotAnswer.
    """
    require(person, ANSWER)
    with transaction.atomic():
        ticket = locking.lock(ticket_id)
        refuse_closed(ticket)
        if ticket.assignee_id == to_id:
            return ticket
        if {ticket.assignee_id, to_id} != {person.pk, None}:
            require(person, ASSIGN)
        to = None if to_id is None else _colleague(to_id)
        ticket.assignee = to
        if to is not None and ticket.state == State.NEW:
            ticket.work_on()
        done = f"Assigned to {to}" if to is not None else "Assigned to nobody"
        words = f"{done}: {reason.strip()}" if reason.strip() else done
        locking.save(ticket, actor=Actor.person(person), reason=words)
        return ticket


def link_orders(person: Any, ticket_id: int, order_ids: Collection[int]) -> Ticket:
    """Note that the ticket is about these orders of its customer too.

    What is linked already stays. Raises PermissionDenied, TicketUnknown, TicketClosed,
    OrderUnknown, for another customer's order too.
    """
    require(person, ANSWER)
    with transaction.atomic():
        ticket = locking.lock(ticket_id)
        refuse_closed(ticket)
        mine = queries.orders_of(ticket.customer_id, order_ids)
        for order_id in order_ids:
            if order_id not in mine:
                raise OrderUnknown(f"There is no order {order_id} of this customer.")
        linked = TicketOrder.objects.filter(ticket=ticket).values_list("order", flat=True)
        if added := sorted(mine - set(linked)):
            inbound.link(ticket, added)
            names = ", ".join(str(order_id) for order_id in added)
            locking.save(ticket, actor=Actor.person(person), reason=f"Linked order {names}")
        return ticket


def _colleague(person_id: int) -> Any:
    found = get_user_model().objects.filter(pk=person_id, is_active=True).first()
    if found is None:
        raise PersonUnknown("There is no such person here, or not any more.")
    if not found.has_perm(ANSWER):
        raise CannotAnswer(f"{found} may not answer tickets: choose somebody who may.")
    return found


# --- when it is done ---


def resolve(person: Any, ticket_id: int, *, seen: int) -> Ticket:
    """Be done with a ticket whose customer has been answered. Locks the person, the ticket.

    Raises PermissionDenied, TicketUnknown, Outdated, TicketClosed, ClaimedByOther, RefundUndecided,
    StillUnanswered.
    """
    return _resolve(person, ticket_id, seen, "Resolved")


def resolve_without_reply(person: Any, ticket_id: int, *, seen: int, reason: str) -> Ticket:
    """Be done with a ticket whose customer needs no answer, and say why: the answer clock ends.

    As ``resolve``. Raises ReasonMissing.
    """
    return _resolve(person, ticket_id, seen, f"Resolved without a reply: {given(reason)}", True)


def _resolve(person: Any, ticket_id: int, seen: int, words: str, waive: bool = False) -> Ticket:
    require(person, ANSWER)
    with transaction.atomic():
        lock(person)
        ticket = locking.lock(ticket_id)
        refuse_closed(ticket)
        refuse_outdated(ticket, seen)
        hold(ticket, person)
        if waive:
            clocks.end(ticket, Wait.Clock.ANSWER, Wait.Outcome.WAIVED, at=timezone.now())
        move(ticket, State.RESOLVED, actor=Actor.person(person))
        locking.save(ticket, actor=Actor.person(person), reason=words)
        return ticket


def close_resolved(limit: int = BATCH) -> int:
    """Close the tickets whose grace period is over, in batches; returns how many.

    One on which a clock still runs stays: its answer has not arrived. Tickets that somebody works
    on are left to them or to the next beat.
    """
    total = 0
    while True:
        with transaction.atomic():
            tickets = locking.claim(
                Ticket.objects.filter(
                    state=State.RESOLVED,
                    resolved_at__lte=timezone.now() - settings.TICKET_GRACE,
                    due_at=None,
                    dispute_due_at=None,
                ).order_by("resolved_at"),
                limit,
            )
            for ticket in tickets:
                ticket.close()
                let_go(ticket)
            locking.save(*tickets, actor=GRACE, reason="Closed: the grace period is over")
        total += len(tickets)
        if len(tickets) < limit:
            return total


def move(ticket: Ticket, then: str, *, actor: Actor) -> None:
    """Take a locked ticket to ``then``: open, waiting for the customer, or resolved.

    The caller writes it. Whoever is done with it lets go of it. Raises RefundUndecided and
    StillUnanswered for a ticket that cannot be resolved.
    """
    if then not in {State.OPEN, State.WAITING, State.RESOLVED}:
        raise Invalid(f"A ticket does not become {then}: leave it open, waiting, or resolved.")
    if ticket.state == State.RESOLVED and then != State.RESOLVED:
        ticket.reopen()
        ticket.resolved_at = None
        if then == State.WAITING:
            locking.save(ticket, actor=actor, reason="Opened again", quietly=True)
    if then == State.OPEN and ticket.state != State.OPEN:
        ticket.reopen() if ticket.state == State.WAITING else ticket.work_on()
    elif then == State.WAITING and ticket.state != State.WAITING:
        ticket.wait_for_customer()
    elif then == State.RESOLVED and ticket.state != State.RESOLVED:
        _refuse_unfinished(ticket)
        ticket.resolve()
        ticket.resolved_at = timezone.now()
    if then != State.OPEN:
        let_go(ticket)


def refuse_closed(ticket: Ticket) -> None:
    """Raise TicketClosed unless somebody can still work on it."""
    if ticket.state == State.CLOSED:
        raise TicketClosed(
            f"{ticket} is closed for good. The customer's next message opens one that follows it."
        )


def refuse_outdated(ticket: Ticket, seen: int) -> None:
    """Raise Outdated, with what happened in words, unless ``seen`` is the ticket as it is now."""
    if seen != ticket.version:
        raise outdated(ticket, queries.what_happened(ticket, seen))


def _refuse_unfinished(ticket: Ticket) -> None:
    case = queries.undecided(ticket).first()
    if case is not None:
        raise RefundUndecided(
            f"{case.request} is {case.request.get_state_display().lower()}: it is decided before "
            "the ticket is resolved."
        )
    if ticket.due_at is not None and not queries.is_replied(ticket):
        raise StillUnanswered(
            "The customer waits for an answer: write one, or resolve the ticket without a reply "
            "and say why."
        )
