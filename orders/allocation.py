"""Allocation: buying an order's number at its upstream, at most once."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Value
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from orders import tasks
from orders.locking import claim, lock_one
from orders.models import Offer, Order, State, Upstream, UpstreamSide
from orders.upstreams.base import (
    AllocationRefused,
    AllocationUnknown,
    Number,
    UpstreamError,
)
from orders.upstreams.base import Upstream as Client
from orders.upstreams.registry import client_for
from smsactivator.common import history
from smsactivator.common.history import Actor
from smsactivator.common.moments import SKEW, ahead

log = logging.getLogger(__name__)

ALLOCATION = Actor.automatic("allocation")
RENTAL_LOOK_EVERY = timedelta(seconds=30)
NUMBER_FIELDS = [
    "state",
    "allocated_at",
    "deadline",
    "rental_ends_at",
    "phone",
    "upstream_side",
    "upstream_ref",
    "upstream_cost",
    "upstream_due_at",
]


def allocate(order_id: int) -> None:
    """Buy the order's number and hand it out. Does nothing when somebody already tries or did.

    The claim is committed before the purchase is sent, so a purchase is sent once, whatever runs
    twice or dies. The purchase itself is made with no lock held and takes less than 60 s. What is
    refused, or not known within the time-out, is left to the automatic refund.
    """
    order = _claim(order_id)
    if order is None:
        return
    try:
        client = client_for(order.upstream)
    except UpstreamError as error:
        _record_refusal(order_id, AllocationRefused("NO_KEY", ours=True), str(error))
        return
    try:
        number = _buy(client, order)
    except AllocationRefused as refusal:
        _record_refusal(order_id, refusal, str(refusal))
    except AllocationUnknown as error:
        log.warning("order %s: %s", order_id, error)
        with transaction.atomic():
            order = lock_one(order_id)
            order.perhaps_bought()
            history.save(
                [order],
                ["upstream_side"],
                actor=ALLOCATION,
                reason="The purchase's answer was lost",
            )
    else:
        with transaction.atomic():
            order = lock_one(order_id)
            hand_out(order, number, actor=ALLOCATION, reason="The upstream sold a number")


def allocate_forgotten() -> int:
    """Queue the allocation of placed orders whose task never ran. Returns how many.

    All of them: what were left to the next beats would be refunded for not being allocated in time.
    """
    now = timezone.now()
    beat = timedelta(seconds=settings.BEAT_SECONDS)
    age = Q(placed_at__lt=now - beat, placed_at__gt=now - settings.ALLOCATION_TIMEOUT)
    forgotten = (
        Order.objects.filter(
            age | ahead("placed_at", now),
            state=State.PLACED,
            upstream_side=UpstreamSide.NONE,
            refused_at=None,
        )
        .order_by("placed_at")
        .values_list("pk", flat=True)
    )
    for order_id in forgotten:
        tasks.allocate.apply_async(args=[order_id], expires=settings.TASK_EXPIRES)
    return len(forgotten)


def set_deadlines_right(upstream: Upstream) -> int:
    """Begin the SLA now for numbers that were handed out by a clock which was ahead. How many.

    Else the customer would wait for as long as the clock was ahead beside the 20 minutes. Both our
    clock and the database's must say so: one that is behind must not shorten anybody's time.
    """
    now = timezone.now()
    mistimed = Order.objects.filter(
        ahead("deadline", now, settings.ORDER_SLA),
        state=State.AWAITING_SMS,
        upstream=upstream,
        allocated_at__gt=Greatest(Value(now), Now()) + SKEW,
    )
    with transaction.atomic():
        orders = claim(mistimed.order_by("deadline"), 2000)
        for order in orders:
            assert order.allocated_at is not None and order.deadline is not None  # noqa: S101 - it has a number
            ahead_by = order.allocated_at - now
            order.allocated_at -= ahead_by
            order.deadline -= ahead_by
            if order.allocation_started_at is not None:
                order.allocation_started_at -= ahead_by
        history.save(
            orders,
            ["allocated_at", "deadline", "allocation_started_at"],
            actor=ALLOCATION,
            reason="Its deadline was set by a clock that was ahead",
        )
    return len(orders)


def hand_out(order: Order, number: Number, *, actor: Actor, reason: str) -> None:
    """Record a bought number on a locked order, and hand it out if the order still waits for one.

    The SLA clock of an activation starts now. An order that ended meanwhile gives the number back.
    """
    now = timezone.now()
    order.phone = number.phone
    order.upstream_ref = number.ref
    order.upstream_cost = number.cost
    order.hold()
    if order.state != State.PLACED:
        order.release(due_at=now)
    elif order.kind == Offer.Kind.RENTAL:
        hours = order.rental_hours
        assert hours is not None  # noqa: S101 - the database checks it on the offer
        order.start_rental(at=now, ends_at=now + timedelta(hours=hours))
        order.upstream_due_at = now + RENTAL_LOOK_EVERY
    else:
        order.await_sms(at=now, deadline=now + settings.ORDER_SLA)
    history.save([order], NUMBER_FIELDS, actor=actor, reason=reason)


def _claim(order_id: int) -> Order | None:
    now = timezone.now()
    with transaction.atomic():
        order = lock_one(order_id)
        if (
            order.state != State.PLACED
            or order.upstream_side != UpstreamSide.NONE
            or order.refused_at is not None
            or order.placed_at <= now - settings.ALLOCATION_TIMEOUT
        ):
            return None
        order.start_buying(at=now)
        history.save(
            [order],
            ["upstream_side", "allocation_started_at"],
            actor=ALLOCATION,
            reason="Buying a number",
        )
    return Order.objects.select_related("upstream").get(pk=order_id)


def _buy(client: Client, order: Order) -> Number:
    if order.kind == Offer.Kind.RENTAL:
        assert order.rental_hours is not None  # noqa: S101 - the database checks it on the offer
        return client.rent(
            service=order.service,
            country=order.country,
            hours=order.rental_hours,
            order_key=str(order.pk),
        )
    return client.allocate(
        service=order.service,
        country=order.country,
        order_key=str(order.pk),
        # Never more than the customer pays; an upstream that is dearer refuses.
        max_price=order.price,
    )


def _record_refusal(order_id: int, refusal: AllocationRefused, words: str) -> None:
    # Our own account's trouble needs a person; a number out of stock does not.
    log.log(logging.ERROR if refusal.ours else logging.INFO, "order %s: %s", order_id, words)
    with transaction.atomic():
        order = lock_one(order_id)
        order.not_bought()
        order.refused_at = timezone.now()
        order.refusal_code = refusal.code[:64]
        history.save(
            [order],
            ["upstream_side", "refused_at", "refusal_code"],
            actor=ALLOCATION,
            reason=f"The upstream sold nothing: {refusal.code}",
        )
