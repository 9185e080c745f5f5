"""Releasing: getting our own money back from the upstream for numbers that served nobody.

The customer's refund never waits for this.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from orders.delivery import Arrival, book_cost, record_sms
from orders.locking import claim, lock_one
from orders.models import Offer, Order, UpstreamSide
from orders.upstreams.base import (
    CancelOutcome,
    CancelResult,
    Upstream,
    UpstreamError,
    UpstreamUnavailable,
)
from orders.upstreams.registry import client_for
from smsactivator.common import history
from smsactivator.common.history import Actor
from smsactivator.common.moments import due

log = logging.getLogger(__name__)

RELEASING = Actor.automatic("releasing")
# While one process asks for a number, nobody else does; if it dies, the number is due again.
LEASE = timedelta(seconds=60)
ASK_AGAIN_AFTER = timedelta(seconds=60)
# No lock against cancelling lasts longer, and asking too early is harmless.
LONGEST_WAIT = timedelta(minutes=10)
GIVE_UP_AFTER = timedelta(days=1)


def release_due(*, batch: int = 50, seconds: float = 10.0) -> int:
    """Ask the upstreams for our money back for numbers that are due. Returns how many were asked.

    Works for about ``seconds``; what is left waits for the next beat. Asking twice is harmless.
    """
    asked = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until and (orders := _claim_due(batch)):
        silent: set[int] = set()
        for order in orders:
            # What is left here, or at an upstream that does not answer, is due again after its
            # lease.
            if time.monotonic() >= until:
                break
            if order.upstream_id not in silent:
                asked += 1
                if not _release(order):
                    silent.add(order.upstream_id)
    return asked


def _due(now: datetime) -> QuerySet[Order]:
    return Order.objects.filter(
        due("upstream_due_at", now, LONGEST_WAIT), upstream_side=UpstreamSide.RELEASING
    ).order_by("upstream_due_at")


def _claim_due(batch: int) -> list[Order]:
    now = timezone.now()
    with transaction.atomic():
        orders = claim(_due(now), batch)
        Order.objects.filter(pk__in=[order.pk for order in orders]).update(
            upstream_due_at=now + LEASE
        )
    return list(Order.objects.select_related("upstream").filter(pk__in=[o.pk for o in orders]))


def _release(order: Order) -> bool:
    """Ask for one number, and return whether its upstream answered at all."""
    try:
        result = _ask(client_for(order.upstream), order)
    except UpstreamError as error:
        log.warning("order %s: not released yet: %s", order.pk, error)
        answered = not isinstance(error, UpstreamUnavailable)
        if not _is_given_up(order):
            return answered
        result = CancelResult(CancelOutcome.TOO_LATE, signal="no answer within a day")
    else:
        answered = True
    _record(order.pk, result)
    return answered


def _is_given_up(order: Order) -> bool:
    return order.ended_at is not None and order.ended_at <= timezone.now() - GIVE_UP_AFTER


def _ask(client: Upstream, order: Order) -> CancelResult:
    rental = order.kind == Offer.Kind.RENTAL
    result = (client.rent_cancel if rental else client.cancel)(order.upstream_ref)
    if result.outcome == CancelOutcome.HAS_SMS and not result.messages:
        # Most say only that there is one; what it is belongs to the record of this order.
        seen = (client.rent_status if rental else client.status)(order.upstream_ref)
        return replace(result, messages=seen.messages)
    if result.outcome == CancelOutcome.ALREADY_ENDED and not rental:
        # It may have ended with an SMS, which we pay for.
        seen = client.status(order.upstream_ref)
        if seen.messages:
            return replace(result, outcome=CancelOutcome.HAS_SMS, messages=seen.messages)
    return result


def _record(order_id: int, result: CancelResult) -> None:
    if result.outcome == CancelOutcome.HAS_SMS and result.messages:
        record_sms({order_id: [Arrival(message, in_time=False) for message in result.messages]})
    with transaction.atomic():
        order = lock_one(order_id)
        if order.upstream_side != UpstreamSide.RELEASING:
            return
        if result.outcome == CancelOutcome.TOO_EARLY and not _is_given_up(order):
            # No change of state: only when to ask again.
            wait = min(result.retry_after or ASK_AGAIN_AFTER, LONGEST_WAIT)
            order.upstream_due_at = timezone.now() + wait
            Order.objects.filter(pk=order.pk).update(upstream_due_at=order.upstream_due_at)
            return
        if result.outcome in {CancelOutcome.CANCELLED, CancelOutcome.ALREADY_ENDED}:
            order.released()
            reason = "The upstream took the number back"
        else:
            order.lose()
            book_cost([order])
            reason = "The upstream keeps the number's price"
        if result.signal:
            reason += f" ({result.signal})"
        history.save([order], ["upstream_side", "upstream_due_at"], actor=RELEASING, reason=reason)
