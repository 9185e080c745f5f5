"""The outbox: each public message is queued for the customer once, and people mend what failed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Min
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import NotFound, Refused
from smsactivator.common.history import Actor
from smsactivator.common.queueing import queue as queue_task
from smsactivator.common.seen import refuse_outdated
from support import clocks, mails, tasks
from support.models import Message, Outbound, Ticket
from support.models.outbox import MOST_TRIES
from wallet import limits

PERMISSION = "support.retry_outbound"
SAVED = [
    *("state", "attempts", "tries_left", "due_at", "sent_at"),
    *("mail_id", "sent_to", "problem"),
]
# What can be sent again, and what can come back.
RETRIED = (Outbound.State.FAILED, Outbound.State.UNKNOWN)
BOUNCED = (Outbound.State.SENT, Outbound.State.UNKNOWN)
MOST_COUNTED = 100


class DeliveryUnknown(NotFound):
    """There is no such delivery."""

    code = "unknown_delivery"


class DeliveryElsewhere(Refused):
    """The delivery is not, or no longer, in a state in which this can be done."""

    code = "delivery_not_possible"


# --- queuing ---


def queue(message: Message) -> None:
    """Queue a reply or notice for the customer by the ticket's channel, once, and schedule it.

    In the caller's transaction, under the ticket's lock, which is taken if it is not held. A mail
    to a customer without an address has failed at once, for people to see. Raises ValueError for a
    note or a customer's message: those never go out.
    """
    if message.kind not in {Message.Kind.REPLY, Message.Kind.NOTICE}:
        raise ValueError(f"{message} is a {message.kind}, and never goes out")
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("a message is queued in the transaction that wrote it")
    ticket = _lock(message.ticket_id)
    way = Outbound.Way(ticket.channel)
    key = f"message:{message.pk}:{way}"
    if Outbound.objects.filter(key=key).exists():
        return
    now = timezone.now()
    problem = mails.problem_with(ticket.customer.email) if way == Outbound.Way.EMAIL else ""
    outbound = Outbound(
        message=message,
        way=way,
        key=key,
        queued_at=now,
        state=Outbound.State.FAILED if problem else Outbound.State.QUEUED,
        due_at=None if problem else now,
        problem=problem,
    )
    history.create(
        [outbound],
        actor=Actor(message.via, message.author_id),
        reason=problem or "Queued with the message",
    )
    if not problem:
        schedule(outbound)


def schedule(outbound: Outbound) -> None:
    """Queue the delivery's task when the transaction commits."""
    pk = outbound.pk
    # A broker that is down must not undo the message: the beat finds what was never queued.
    task = tasks.send if outbound.way == Outbound.Way.EMAIL else tasks.show
    transaction.on_commit(lambda: queue_task(task, pk), robust=True)


# --- what people do ---


def retry(person: Any, outbound_id: int, *, reason: str, seen: int | None = None) -> Outbound:
    """Send a failed or perhaps sent delivery again, now and as often as a new one.

    What was perhaps sent goes out under the same Message-ID, so that the customer's mail program
    may show it once; what surely did not arrive gets a new one. Needs support.retry_outbound.
    Raises DeliveryUnknown, Outdated, DeliveryElsewhere.
    """
    limits.require(person, PERMISSION)
    with transaction.atomic():
        outbound = lock(outbound_id)
        refuse_outdated(outbound, seen)
        _require_state(outbound, *RETRIED)
        if why := why_not_retry(outbound):
            raise DeliveryElsewhere(why)
        if outbound.state == Outbound.State.FAILED:
            outbound.mail_id = ""
        outbound.retry()
        outbound.tries_left = MOST_TRIES
        outbound.due_at = timezone.now()
        outbound.problem = ""
        _save(outbound, Actor.person(person), reason)
        schedule(outbound)
    return outbound


def why_not_retry(outbound: Outbound) -> str:
    """Why it cannot be sent again now; "" if nothing stands in the way."""
    if outbound.way != Outbound.Way.EMAIL:
        return ""
    problem = mails.problem_with(outbound.message.ticket.customer.email)
    return f"{problem} Its storefront sets it, then try again." if problem else ""


def confirm_sent(
    person: Any, outbound_id: int, *, reason: str, seen: int | None = None
) -> Outbound:
    """A person found that a perhaps sent delivery arrived: it counts as delivered from now on.

    Needs support.retry_outbound. Raises DeliveryUnknown, Outdated, DeliveryElsewhere.
    """
    limits.require(person, PERMISSION)
    with transaction.atomic():
        outbound = lock(outbound_id)
        refuse_outdated(outbound, seen)
        _require_state(outbound, Outbound.State.UNKNOWN)
        outbound.succeed()
        outbound.sent_at = timezone.now()
        outbound.problem = ""
        _save(outbound, Actor.person(person), reason)
        clocks.answered(outbound)
    return outbound


def mark_bounced(
    person: Any, outbound_id: int, *, reason: str, seen: int | None = None
) -> Outbound:
    """A person learned that a mail came back. Needs support.retry_outbound.

    Raises DeliveryUnknown, Outdated, DeliveryElsewhere.
    """
    limits.require(person, PERMISSION)
    return bounce(outbound_id, actor=Actor.person(person), reason=reason, seen=seen)


def bounce(outbound_id: int, *, actor: Actor, reason: str, seen: int | None = None) -> Outbound:
    """A mail that was accepted, or perhaps, came back: it has failed, and its clock runs again.

    For whoever reads the mailbox, and for people through ``mark_bounced``. Raises DeliveryUnknown,
    Outdated, DeliveryElsewhere.
    """
    with transaction.atomic():
        outbound = lock(outbound_id)
        refuse_outdated(outbound, seen)
        if outbound.way != Outbound.Way.EMAIL:
            raise DeliveryElsewhere(f"{outbound} went to the storefront: only mail comes back.")
        _require_state(outbound, *BOUNCED)
        was_sent = outbound.state == Outbound.State.SENT
        outbound.fail()
        outbound.sent_at = None
        outbound.problem = "The mail came back."
        _save(outbound, actor, reason)
        if was_sent:
            clocks.bounced(outbound)
    return outbound


def _require_state(outbound: Outbound, *states: Outbound.State) -> None:
    if outbound.state not in states:
        wanted = " or ".join(f"“{state.label}”" for state in states)
        raise DeliveryElsewhere(
            f"{outbound} is “{Outbound.State(outbound.state).label}” by now, and this needs it to "
            f"be {wanted}: look at it again."
        )


def _save(outbound: Outbound, actor: Actor, reason: str) -> None:
    history.save([outbound], SAVED, actor=actor, reason=reason)


# --- locks: the ticket, then its delivery ---


def lock(outbound_id: int) -> Outbound:
    """The delivery, locked after its ticket. Raises DeliveryUnknown."""
    ticket_id = (
        Outbound.objects.filter(pk=outbound_id).values_list("message__ticket", flat=True).first()
    )
    if ticket_id is None:
        raise DeliveryUnknown(f"There is no delivery {outbound_id}.")
    _lock(ticket_id)
    return (
        Outbound.objects.select_for_update(no_key=True, of=("self",))
        .select_related("message__ticket__customer")
        .get(pk=outbound_id)
    )


def _lock(ticket_id: int) -> Ticket:
    return (
        Ticket.objects.select_for_update(no_key=True, of=("self",))
        .select_related("customer")
        .get(pk=ticket_id)
    )


# --- what is read ---


def oldest_due() -> datetime | None:
    """Since when the delivery has waited that should have been tried, or have ended, first."""
    due: datetime | None = Outbound.objects.filter(due_at__lte=timezone.now()).aggregate(
        oldest=Min("due_at")
    )["oldest"]
    return due


def undelivered() -> dict[Outbound.State, int]:
    """How many failed and unknown deliveries wait for a person, up to ``MOST_COUNTED`` each.

    Those of closed tickets wait for nobody any more.
    """
    return {
        state: Outbound.objects.filter(state=state)
        .exclude(message__ticket__state=Ticket.State.CLOSED)
        .order_by("-pk")[:MOST_COUNTED]
        .count()
        for state in RETRIED
    }
