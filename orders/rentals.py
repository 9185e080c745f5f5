"""Rentals: what the upstreams know about rented numbers, asked one by one."""

from __future__ import annotations

import logging
import time

from django.db import transaction
from django.utils import timezone

from orders.allocation import RENTAL_LOOK_EVERY
from orders.delivery import Arrival, record_sms
from orders.locking import claim
from orders.models import Order, State, Upstream
from orders.polling import mark_broken
from orders.upstreams.base import UpstreamError, UpstreamState, UpstreamUnavailable
from orders.upstreams.registry import client_for
from smsactivator.common.moments import due

log = logging.getLogger(__name__)


def look_at_rentals(upstream_id: int, *, seconds: float = 10.0) -> int:
    """Ask for each rental of an upstream that is due, for about ``seconds``. Returns how many.

    Each is asked about every half minute, the longest waiting first; what is left waits for the
    next beat. No deadline hangs on a rental, and none waits for another. No request under a lock.
    """
    upstream = Upstream.objects.get(pk=upstream_id)
    until = time.monotonic() + seconds
    asked = 0
    try:
        client = client_for(upstream)
        while time.monotonic() < until and (order := _claim_due(upstream)) is not None:
            try:
                status = client.rent_status(order.upstream_ref)
            except UpstreamUnavailable:
                raise
            except UpstreamError as problem:
                log.warning("order %s: %s", order.pk, problem)
                continue
            finally:
                asked += 1
            record_sms({order.pk: [Arrival(message) for message in status.messages]})
            if status.state == UpstreamState.BROKEN:
                mark_broken({order.pk: status.signal})
    except UpstreamError as problem:
        log.warning("upstream %s: %s", upstream.code, problem)
    return asked


def _claim_due(upstream: Upstream) -> Order | None:
    """The rental that has waited the longest, put off until its next turn."""
    now = timezone.now()
    waiting = Order.objects.filter(
        due("upstream_due_at", now, RENTAL_LOOK_EVERY), upstream=upstream, state=State.ACTIVE
    ).order_by("upstream_due_at")
    with transaction.atomic():
        for order in claim(waiting, 1):
            Order.objects.filter(pk=order.pk).update(upstream_due_at=now + RENTAL_LOOK_EVERY)
            return order
    return None
