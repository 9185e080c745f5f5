"""The one way in for what customers say, whatever carries it."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.locking import OrderUnknown
from refunds import disputes
from refunds.models import RefundRequest
from smsactivator.common import history
from smsactivator.common.errors import Invalid, Refused
from smsactivator.common.files import Prepared, Upload, prepare
from smsactivator.common.history import Actor
from support import attachments, clocks, locking, queries
from support.following import follow
from support.models import (
    LONGEST_BODY,
    LONGEST_SUBJECT,
    Message,
    Ticket,
    TicketOrder,
    TicketRefund,
    Wait,
)
from wallet.limits import require
from wallet.models import Customer

State, Queue = Ticket.State, Ticket.Queue
KEY = r"[\x21-\x7e]{1,128}"
MOST_ORDERS = 20  # that one message names


class TextRefused(Invalid):
    """A text is missing, too long, or holds what no text holds."""

    code = "text_refused"


class KeyConflict(Refused):
    """The same idempotency key was used for another message."""

    code = "idempotency_conflict"


@dataclass(frozen=True, slots=True)
class _Said:
    """A customer message that was looked at and may be kept."""

    customer: Customer
    body: str
    key: str
    via: Actor
    fingerprint: str
    order_ids: tuple[int, ...]
    files: Sequence[Prepared]
    at: datetime | None


def receive(
    customer: Customer,
    *,
    body: str,
    key: str,
    via: Actor,
    channel: str,
    subject: str = "",
    ticket_id: int | None = None,
    order_ids: Collection[int] = (),
    files: Sequence[Upload] = (),
    at: datetime | None = None,
) -> Message:
    """Keep what a customer said, once per ``key``; see ``receive_once``."""
    return receive_once(
        customer,
        body=body,
        key=key,
        via=via,
        channel=channel,
        subject=subject,
        ticket_id=ticket_id,
        order_ids=order_ids,
        files=files,
        at=at,
    )[0]


def receive_once(
    customer: Customer,
    *,
    body: str,
    key: str,
    via: Actor,
    channel: str,
    subject: str = "",
    ticket_id: int | None = None,
    order_ids: Collection[int] = (),
    files: Sequence[Upload] = (),
    at: datetime | None = None,
) -> tuple[Message, bool]:
    """Keep what a customer said, and whether this call kept it: the same again changes nothing.

    Without ``ticket_id`` it opens a ticket with this ``subject``, once per customer and key. With
    one it goes on the customer's thread, once per thread and key: it reopens a ticket that waits
    for the customer or was resolved within the grace period, and opens a ticket that follows one
    that is closed. It disputes what was denied on the thread before it, or else starts the answer
    clock. ``at`` is when it reached us (UTC), by default now.

    Policy, "Disputes": "reply to the support thread with additional evidence and we will escalate
    to a senior agent." Locks the tickets of the thread, then what it disputes. Raises TextRefused,
    FileRefused, TicketUnknown, OrderUnknown, KeyConflict.
    """
    subject = "" if ticket_id else checked_subject(subject)
    prepared = prepare(files)
    body = checked_body(body, may_be_empty=bool(prepared))
    if not re.fullmatch(KEY, key):
        raise TextRefused("An idempotency key is 1 to 128 printable ASCII characters.")
    orders = tuple(sorted(set(order_ids)))
    if len(orders) > MOST_ORDERS:
        raise TextRefused(f"Name {MOST_ORDERS} orders at most.")
    said = _Said(
        customer=customer,
        body=body,
        key=key,
        via=via,
        fingerprint=fingerprint(subject, body, orders, prepared),
        order_ids=orders,
        files=prepared,
        at=at,
    )
    with transaction.atomic():
        attachments.store(prepared)
        if ticket_id is None:
            return _open(said, Ticket.Channel(channel), subject)
        return _go_on(said, Ticket.Channel(channel), ticket_id)


def enter(person: Any, customer: Customer, **message: Any) -> Message:
    """``receive`` of what reached us outside of the wires, by the person who enters it.

    It is the customer's message to be answered, and shown as entered; it is no proof of what the
    customer said (decision 0034). Raises PermissionDenied.
    """
    require(person, "support.answer_ticket")
    via = Actor(f"{person.get_username()}, who entered it", person.pk)
    return receive(customer, via=via, **message)


def checked_body(body: str, *, may_be_empty: bool = False) -> str:
    """The text of a message as it is; a form's line ends become plain ones. Raises TextRefused."""
    body = body.replace("\r\n", "\n")
    if not body.strip() and not may_be_empty:
        raise TextRefused("The message is empty: write what it is about.")
    if len(body) > LONGEST_BODY:
        raise TextRefused(
            f"The message has {len(body)} characters, and {LONGEST_BODY} are the most."
        )
    return _storable(body, "message")


def checked_subject(subject: str) -> str:
    """The subject in one line, without blanks around it. Raises TextRefused."""
    subject = subject.strip()
    if not subject:
        raise TextRefused("A new ticket has a subject.")
    if len(subject) > LONGEST_SUBJECT:
        raise TextRefused(
            f"The subject has {len(subject)} characters, and {LONGEST_SUBJECT} are the most."
        )
    # It becomes a header of our mails.
    if any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in subject):
        raise TextRefused("The subject is one line, without control characters.")
    return _storable(subject, "subject")


def fingerprint(*content: Any) -> str:
    """A hash over what was sent under a key."""
    plain = json.dumps(
        [
            [[file.sha256, file.name] for file in part]
            if isinstance(part, list) and part and isinstance(part[0], Prepared)
            else part
            for part in content
        ],
        ensure_ascii=True,
    )
    return hashlib.sha256(plain.encode()).hexdigest()


def same_again(kept: Message, print_: str) -> Message:
    """The message that was kept under this key before. Raises KeyConflict if it said otherwise."""
    if kept.fingerprint != print_:
        raise KeyConflict(
            f"This idempotency key stands for {kept} of {kept.ticket}, which says something else: "
            "use a new key for a new message."
        )
    return kept


def _open(said: _Said, channel: Ticket.Channel, subject: str) -> tuple[Message, bool]:
    """A new ticket. Whether the key is new is decided by the index of keys."""
    try:
        with transaction.atomic():
            ticket = _new(said, channel, subject)
            message = _write(ticket, said, ticket.opened_at)
            clocks.start(ticket, Wait.Clock.ANSWER, message.created_at)
            locking.save(
                ticket,
                actor=said.via,
                reason=_wrote(message),
                quietly=True,
            )
            return message, True
    except IntegrityError:
        opened = Ticket.objects.filter(customer=said.customer, key=said.key, follows=None).first()
        kept = opened and opened.messages.filter(key=said.key, kind=Message.Kind.CUSTOMER).first()
        if not kept:
            raise
        return same_again(kept, said.fingerprint), False


def _go_on(said: _Said, channel: Ticket.Channel, ticket_id: int) -> tuple[Message, bool]:
    """A message on a thread: on its last ticket, or on a new one that follows it."""
    thread = locking.lock_thread(ticket_id, said.customer.pk)
    kept = (
        Message.objects.select_related("ticket")
        .filter(ticket__in=thread, key=said.key, kind=Message.Kind.CUSTOMER)
        .first()
    )
    if kept is not None:
        return same_again(kept, said.fingerprint), False
    ticket = thread[-1]
    if not _takes_messages(ticket):
        ticket = follow(
            ticket,
            channel=channel,
            opened_at=_moment(said),
            key=said.key,
            actor=said.via,
            reason=f"Opened, for {ticket} is over",
        )
    elif ticket.state in {State.WAITING, State.RESOLVED}:
        ticket.reopen()
        ticket.resolved_at = None
    message = _write(ticket, said, _moment(said))
    if _dispute(ticket, message, said.via):
        reason = _wrote(message, disputed=True)
        clocks.start(ticket, Wait.Clock.DISPUTE, message.created_at)
        ticket.queue = Queue.SENIORS
    else:
        reason = _wrote(message)
        clocks.start(ticket, Wait.Clock.ANSWER, message.created_at)
    locking.save(ticket, actor=said.via, reason=reason)
    return message, True


def _wrote(message: Message, *, disputed: bool = False) -> str:
    """What happened, for the history: a customer sent it, or one of us entered it."""
    if message.entered:
        what = "Entered what the customer said"
        what += ", which disputes a denial" if disputed else ""
    else:
        what = "The customer disputed a denial" if disputed else "The customer wrote"
    return f"{what} (message {message.pk})"


def _takes_messages(ticket: Ticket) -> bool:
    """Whether a message still goes on this ticket: it is not closed, nor past its grace period."""
    if ticket.state == State.RESOLVED:
        assert ticket.resolved_at is not None  # noqa: S101 - the database checks it
        return timezone.now() < ticket.resolved_at + settings.TICKET_GRACE
    return bool(ticket.state != State.CLOSED)


def _new(said: _Said, channel: Ticket.Channel, subject: str) -> Ticket:
    ticket = Ticket(
        customer=said.customer,
        subject=subject,
        channel=channel,
        opened_at=_moment(said),
        key=said.key,
    )
    history.create([ticket], actor=said.via, reason="Opened")
    return ticket


def _write(ticket: Ticket, said: _Said, at: datetime) -> Message:
    """The message with its files and orders. Raises OrderUnknown."""
    mine = queries.orders_of(said.customer.pk, said.order_ids)
    for order_id in said.order_ids:
        if order_id not in mine:
            raise OrderUnknown(f"There is no order {order_id}.")
    message = Message.objects.create(
        ticket=ticket,
        kind=Message.Kind.CUSTOMER,
        body=said.body,
        created_at=at,
        author_id=said.via.user_id,
        via=said.via.label[:200],
        key=said.key,
        fingerprint=said.fingerprint,
    )
    attachments.attach(message, said.files)
    link(ticket, said.order_ids)
    return message


def link(ticket: Ticket, order_ids: Collection[int] | Any) -> None:
    """Note that a ticket is about these orders of its customer."""
    TicketOrder.objects.bulk_create(
        [TicketOrder(ticket=ticket, order_id=order_id) for order_id in order_ids],
        ignore_conflicts=True,
    )


def _moment(said: _Said) -> datetime:
    """When it reached us: not later than now, which is taken under the lock."""
    now = timezone.now()
    return min(said.at or now, now)


def _dispute(ticket: Ticket, message: Message, via: Actor) -> bool:
    """Let the message dispute what was denied on its thread before it; whether it did.

    An unclear message counts as a dispute; a senior agent closes it if it was none.
    """
    denied = TicketRefund.objects.filter(
        ticket__in=queries.ancestors(ticket),
        request__state=RefundRequest.State.DENIED,
        request__decided_at__lte=message.created_at,
        disputed_by=None,
    ).order_by("request")
    disputed = False
    for case in denied:
        try:
            disputes.dispute(case.request_id, actor=via)
        except disputes.NotDisputable:
            # Somebody was quicker on a ticket of the thread that we have not locked.
            continue
        case.disputed_by = message
        case.save(update_fields=["disputed_by"])
        disputed = True
    return disputed


def _storable(text: str, what: str) -> str:
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise TextRefused(f"The {what} holds characters that no text has.")
    return text
