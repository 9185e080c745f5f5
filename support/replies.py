"""What we write on a thread: replies, which go to the customer, and notes, which never do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from smsactivator.common.files import Prepared, Upload, prepare
from smsactivator.common.history import Actor
from support import attachments, casework, inbound, locking, outbox, queries
from support.models import Message, Ticket
from wallet.limits import lock, require

Kind = Message.Kind
BY_HAND = "the back-office"


def reply(
    person: Any,
    ticket_id: int,
    *,
    body: str,
    seen: int,
    key: str,
    then: str = Ticket.State.WAITING,
    files: Sequence[Upload] = (),
) -> Message:
    """Answer the customer, once per ``key``: the same form sent twice is one reply.

    ``seen`` is the ticket's version that the author saw; ``then`` what the ticket becomes: open,
    waiting or resolved. Its delivery is queued in this transaction; the answer clock ends when it
    has arrived. The author holds the claim, and is the assignee if nobody was. Locks the person,
    the ticket. Raises PermissionDenied, TextRefused, FileRefused, TicketUnknown, KeyConflict,
    TicketClosed, Outdated, ClaimedByOther, RefundUndecided.
    """
    require(person, casework.ANSWER)
    body = inbound.checked_body(body)
    prepared = prepare(files)
    print_ = inbound.fingerprint("reply", body, str(then), prepared)
    with transaction.atomic():
        attachments.store(prepared)
        lock(person)
        ticket = locking.lock(ticket_id)
        if kept := written(ticket, key, print_):
            return kept
        begin(ticket, person, seen)
        message = say(ticket, person, body, key=key, print_=print_, files=prepared)
        finish(ticket, person, then, f"Replied (message {message.pk})")
        return message


def note(
    person: Any, ticket_id: int, *, body: str, key: str, files: Sequence[Upload] = ()
) -> Message:
    """Write something down for colleagues, once per ``key``. It never goes out.

    Needs no claim and no fresh view, and a closed ticket takes it too. Locks the person, the
    ticket. Raises PermissionDenied, TextRefused, FileRefused, TicketUnknown, KeyConflict.
    """
    require(person, casework.ANSWER)
    body = inbound.checked_body(body)
    prepared = prepare(files)
    print_ = inbound.fingerprint("note", body, prepared)
    with transaction.atomic():
        attachments.store(prepared)
        lock(person)
        ticket = locking.lock(ticket_id)
        if kept := written(ticket, key, print_):
            return kept
        message = jot(ticket, person, body, key=key, print_=print_, files=prepared)
        locking.save(
            ticket, actor=Actor.person(person), reason=f"Wrote a note (message {message.pk})"
        )
        return message


# --- what the verbs of tickets and of cases share; the ticket is locked ---


def written(ticket: Ticket, key: str, print_: str) -> Message | None:
    """What was written on the ticket under this key before. Raises KeyConflict."""
    kept = ticket.messages.filter(key=key).exclude(kind=Kind.CUSTOMER).first()
    return None if kept is None else inbound.same_again(kept, print_)


def begin(ticket: Ticket, person: Any, seen: int) -> None:
    """Make sure that the person saw the ticket as it is, and holds its claim.

    Raises TicketClosed, Outdated, ClaimedByOther.
    """
    casework.refuse_closed(ticket)
    casework.refuse_outdated(ticket, seen)
    casework.hold(ticket, person)


def say(
    ticket: Ticket,
    person: Any,
    body: str,
    *,
    key: str,
    print_: str,
    files: Sequence[Prepared] = (),
    kind: Message.Kind = Kind.REPLY,
    via: str = BY_HAND,
) -> Message:
    """Write a public message and queue its delivery. A reply answers the customer's last words.

    A notice may be nobody's; ``via`` says then what it comes from.
    """
    answers = queries.last_customer_message(ticket) if kind == Kind.REPLY else None
    message = _write(ticket, person, kind, body, key, print_, files, answers, via)
    outbox.queue(message)
    return message


def jot(
    ticket: Ticket,
    person: Any,
    body: str,
    *,
    key: str,
    print_: str,
    files: Sequence[Prepared] = (),
) -> Message:
    """Write a note."""
    return _write(ticket, person, Kind.NOTE, body, key, print_, files, None)


def finish(ticket: Ticket, person: Any, then: str, reason: str) -> None:
    """Take the ticket to ``then`` and write it with what was done. Raises RefundUndecided."""
    actor = Actor.person(person)
    if ticket.assignee_id is None:
        ticket.assignee = person
    casework.move(ticket, then, actor=actor)
    locking.save(ticket, actor=actor, reason=reason)


def _write(
    ticket: Ticket,
    person: Any,
    kind: Message.Kind,
    body: str,
    key: str,
    print_: str,
    files: Sequence[Prepared],
    answers: Message | None,
    via: str = BY_HAND,
) -> Message:
    message = Message.objects.create(
        ticket=ticket,
        kind=kind,
        body=body,
        created_at=timezone.now(),
        author=person,
        via=via,
        key=key,
        fingerprint=print_,
        answers=answers,
    )
    attachments.attach(message, files)
    return message
