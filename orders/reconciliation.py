"""Reconciliation: purchases whose answer was lost are looked for, never sent again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from orders.allocation import hand_out
from orders.locking import lock_one
from orders.models import Offer, Order, State, Upstream, UpstreamSide
from orders.upstreams.base import Activation, Number, UpstreamState
from smsactivator.common.history import Actor
from smsactivator.common.moments import is_ahead

log = logging.getLogger(__name__)

RECONCILING = Actor.automatic("reconciliation")
# How long a purchase of unknown outcome is looked for. An activation lives 20 minutes as a rule.
RECONCILE_FOR = timedelta(minutes=30)


def reconcile(upstream: Upstream, live: Mapping[str, Activation]) -> None:
    """Give numbers that we bought without learning of it to the orders they were bought for.

    Numbers of one service and country are alike, so any unowned one will do. While a purchase of
    that service and country is on its way, an unowned number may be its, and is left alone: the
    claim of a purchase is committed before the purchase is sent, so no such number is overlooked.
    """
    now = timezone.now()
    seekers = list(
        Order.objects.filter(
            upstream=upstream,
            kind=Offer.Kind.ACTIVATION,
            upstream_side__in=[UpstreamSide.BUYING, UpstreamSide.UNKNOWN],
            placed_at__gt=now - RECONCILE_FOR,
        ).order_by("placed_at")
    )
    # Whoever still waits for a number comes before whoever has been refunded already.
    seekers.sort(key=lambda order: order.state != State.PLACED)
    if not seekers:
        return
    owned = set(
        Order.objects.filter(
            ~Q(upstream_ref=""), upstream=upstream, upstream_ref__in=list(live)
        ).values_list("upstream_ref", flat=True)
    )
    # Orders read after the list and owners read after the orders: what is unowned now is nobody's.
    buying_since = now - settings.ALLOCATION_TIMEOUT
    under_way = {
        (order.service, order.country)
        for order in seekers
        if order.upstream_side == UpstreamSide.BUYING
        and order.allocation_started_at is not None
        and order.allocation_started_at > buying_since
        and not is_ahead(order.allocation_started_at, now, settings.ALLOCATION_TIMEOUT)
    }
    # One that has an SMS already, or no phone to show, is no use to anybody who waits.
    unowned = [
        activation
        for ref, activation in live.items()
        if ref not in owned
        and activation.state == UpstreamState.WAITING
        and not activation.messages
        and activation.phone
    ]
    for activation in unowned:
        wanted = (activation.service, activation.country)
        if wanted in under_way:
            continue
        seeker = next((o for o in seekers if (o.service, o.country) == wanted), None)
        if seeker is None:
            log.warning("upstream %s: number %s is nobody's", upstream.code, activation.ref)
            continue
        seekers.remove(seeker)
        number = Number(activation.ref, activation.phone, activation.cost)
        with transaction.atomic():
            order = lock_one(seeker.pk)
            if order.upstream_side in {UpstreamSide.BUYING, UpstreamSide.UNKNOWN}:
                hand_out(
                    order, number, actor=RECONCILING, reason="Found in the upstream's own list"
                )
