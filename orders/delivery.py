"""Delivery: SMS arrive, and what was delivered is earned."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.db import DataError, IntegrityError, transaction
from django.utils import timezone
from django_fsm import TransitionNotAllowed

from orders.locking import claim, lock
from orders.models import OPEN, Order, Sms, State, UpstreamSide
from orders.upstreams.base import Message
from smsactivator.common import history
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from wallet import ledger
from wallet.models import Account, Transfer

log = logging.getLogger(__name__)

# What the database, the ledger and the state machine say of one order's data that are wrong.
CONTRADICTIONS = (Refused, DataError, IntegrityError, TransitionNotAllowed)
POLLING = Actor.automatic("polling")
FINISHING = Actor.automatic("finishing")


@dataclass(frozen=True, slots=True)
class Arrival:
    """An SMS found at the upstream; ``in_time`` is false when it surely came past the deadline."""

    message: Message
    in_time: bool = True


def record_sms(arrivals: Mapping[int, Sequence[Arrival]]) -> int:
    """Store the SMS of some orders, by order number, and deliver the orders they were awaited for.

    An SMS in time delivers an order that still awaits one: its price goes from escrow to sales, and
    its refund can no longer happen. On an order that has ended, or past the deadline, the SMS is
    kept as late and its cost is booked. The same SMS again changes nothing. Locks the orders.
    An order whose data contradict themselves keeps no other waiting: it is logged at error.
    Returns how many orders were delivered.
    """
    # The same SMS is found again and again: only orders with a new one are worth a lock.
    known = known_messages(arrivals)
    fresh = [
        order_id
        for order_id, found in arrivals.items()
        if any(not is_known(arrival.message, known[order_id]) for arrival in found)
    ]
    try:
        return _record(fresh, arrivals)
    except CONTRADICTIONS:
        log.exception("a batch of SMS was refused; it is taken apart")
    delivered = 0
    for order_id in fresh:
        try:
            delivered += _record([order_id], arrivals)
        except CONTRADICTIONS as error:
            # Its words may name the row, and so the text of an SMS.
            log.error("order %s: its SMS is refused (%s)", order_id, type(error).__name__)  # noqa: TRY400
    return delivered


def _record(fresh: Sequence[int], arrivals: Mapping[int, Sequence[Arrival]]) -> int:
    now = timezone.now()
    with transaction.atomic():
        orders = lock(fresh)
        known = known_messages(fresh)
        messages: list[Sms] = []
        delivered: list[Order] = []
        rentals: list[Order] = []
        lost: list[Order] = []
        for order in orders:
            for arrival in arrivals[order.pk]:
                if is_known(arrival.message, known[order.pk]):
                    continue
                known[order.pk].append(arrival.message)
                late = _is_late(order, arrival)
                messages.append(_sms(order, arrival.message, late))
                if late:
                    if order.upstream_side == UpstreamSide.RELEASING:
                        order.lose()
                        lost.append(order)
                elif order.state == State.AWAITING_SMS:
                    order.receive_sms(at=now)
                    delivered.append(order)
                elif order.state == State.ACTIVE and order.first_sms_at is None:
                    order.first_sms_at = now
                    rentals.append(order)
        Sms.objects.bulk_create(messages)
        earn(delivered)
        book_cost(lost)
        history.save(
            delivered,
            ["state", "first_sms_at", "settlement"],
            actor=POLLING,
            reason="An SMS arrived in time",
        )
        history.save(rentals, ["first_sms_at"], actor=POLLING, reason="The rental's first SMS")
        history.save(
            lost,
            ["upstream_side", "upstream_due_at"],
            actor=POLLING,
            reason="An SMS came after the order's end: the upstream keeps its price",
        )
        return len(delivered)


def earn(orders: Sequence[Order]) -> None:
    """Move the prices of locked, delivered orders from escrow to sales, and book their costs.

    Sets ``settlement``; the caller saves it. Once per order (``delivery:<order>``).
    """
    transfers = ledger.post(
        [
            ledger.Posting(
                kind=Transfer.Kind.DELIVERY,
                debit=Account.ORDER_ESCROW,
                credit=Account.SALES,
                amount=order.price,
                key=f"delivery:{order.pk}",
            )
            for order in orders
        ]
    )
    for order, transfer_id in zip(orders, transfers, strict=True):
        order.settlement_id = transfer_id
    book_cost(orders)


def finish_delivered(limit: int = 2000) -> int:
    """Complete delivered activations whose time is over, and end rentals. Returns how many.

    A second SMS may come until the deadline. The price of a rental goes to sales at its end.
    """
    now = timezone.now()
    with transaction.atomic():
        completed = claim(
            Order.objects.filter(state=State.SMS_RECEIVED, deadline__lt=now).order_by("deadline"),
            limit,
        )
        for order in completed:
            order.complete(at=now)
            _finish_upstream_side(order)
        history.save(
            completed,
            ["state", "ended_at", "upstream_side", "upstream_due_at"],
            actor=FINISHING,
            reason="Its time is over",
        )
    with transaction.atomic():
        rentals = claim(
            Order.objects.filter(
                state=State.ACTIVE, rental_ends_at__lte=now, broken_at=None
            ).order_by("rental_ends_at"),
            limit,
        )
        for order in rentals:
            order.end_rental(at=now)
            _finish_upstream_side(order)
        earn(rentals)
        history.save(
            rentals,
            ["state", "ended_at", "upstream_side", "upstream_due_at", "settlement"],
            actor=FINISHING,
            reason="The rented time is over",
        )
    return len(completed) + len(rentals)


def cut_short(order: Order, *, actor: Actor, reason: str) -> None:
    """End a locked, active rental before its time: its price goes to sales, to be refunded from.

    Policy, by ticket: "silent disconnections" have no signal, so a person ends such a rental.
    """
    order.cut_short(at=timezone.now())
    _finish_upstream_side(order)
    earn([order])
    history.save(
        [order],
        ["state", "ended_at", "upstream_side", "upstream_due_at", "settlement"],
        actor=actor,
        reason=reason,
    )


def book_cost(orders: Sequence[Order]) -> None:
    """Book what the upstream keeps for the numbers of locked orders. Once per order."""
    ledger.post(
        [
            ledger.Posting(
                kind=Transfer.Kind.UPSTREAM_COST,
                debit=Account.UPSTREAM_COST,
                credit=Account.UPSTREAM_PREPAID,
                amount=order.upstream_cost,
                key=f"cost:{order.pk}",
            )
            for order in orders
            if order.upstream_cost
        ]
    )


def _finish_upstream_side(order: Order) -> None:
    if order.upstream_side == UpstreamSide.HELD:
        order.finish()


def _is_late(order: Order, arrival: Arrival) -> bool:
    # A second SMS is the customer's as well, until the order is completed.
    if order.state == State.SMS_RECEIVED:
        return False
    return order.state not in OPEN or not arrival.in_time


def is_known(message: Message, known: Sequence[Message]) -> bool:
    """Whether the SMS is one of those."""
    return any(_is_same(message, one) for one in known)


def _is_same(one: Message, other: Message) -> bool:
    """Whether two sightings are one SMS: one may tell its code alone, the other its text alone."""
    if one.code and other.code:
        return one.code == other.code
    if one.code:
        return one.code in other.text
    if other.code:
        return other.code in one.text
    return one.text == other.text


def known_messages(order_ids: Collection[int]) -> defaultdict[int, list[Message]]:
    """The SMS that are stored of these orders, by order number."""
    known: defaultdict[int, list[Message]] = defaultdict(list)
    stored = Sms.objects.filter(order__in=order_ids).values_list("order_id", "code", "text")
    for order_id, code, text in stored:
        known[order_id].append(Message(code, text))
    return known


def _sms(order: Order, message: Message, late: bool) -> Sms:
    return Sms(
        order=order,
        digest=hashlib.sha256((message.code or message.text).encode()).hexdigest(),
        code=message.code,
        text=message.text,
        sender=message.sender,
        received_at=timezone.now(),
        late=late,
    )
