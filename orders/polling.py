"""Polling: what the upstreams know about our numbers.

One look at an upstream asks for its complete list of live activations, and for its history where
one of ours is missing from that list. A look counts (``looked_at``) only when all it found is
stored, so whoever trusts it knows that no SMS was overlooked. Absence alone never ends an order.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from orders.allocation import RENTAL_LOOK_EVERY, hand_out
from orders.delivery import Arrival, record_sms
from orders.locking import lock, lock_one
from orders.models import REFUNDED, Offer, Order, State, Upstream, UpstreamSide
from orders.upstreams import base
from orders.upstreams.base import (
    Activation,
    Number,
    UpstreamError,
    UpstreamState,
    UpstreamUnavailable,
)
from orders.upstreams.registry import client_for
from smsactivator.common import history
from smsactivator.common.history import Actor

log = logging.getLogger(__name__)

POLLING = Actor.automatic("polling")
RECONCILING = Actor.automatic("reconciliation")
# A look that takes longer than this is taken for dead, and another may begin.
LEASE = timedelta(minutes=5)
# How long a purchase of unknown outcome is looked for. An activation lives 20 minutes as a rule.
RECONCILE_FOR = timedelta(minutes=30)
RENTALS_A_LOOK = 200


def look(upstream_id: int) -> bool:
    """Look at one upstream and store all it tells. Returns whether the look was complete.

    One look at a time: a second one at the same moment does nothing and returns False. When the
    upstream cannot be asked, nothing changes but its ``last_error``. No request under a lock.
    """
    started_at = timezone.now()
    if not _take_lease(upstream_id, started_at):
        return False
    upstream = Upstream.objects.get(pk=upstream_id)
    error = ""
    try:
        client = client_for(upstream)
        _look_at_activations(upstream, client, started_at)
    except UpstreamError as problem:
        error = str(problem)[:200]
        log.warning("upstream %s: %s", upstream.code, error)
    else:
        _look_at_rentals(upstream, client, started_at)
    _give_lease_back(upstream_id, None if error else started_at, error)
    return not error


def _take_lease(upstream_id: int, now: datetime) -> bool:
    free = Q(look_lease_until=None) | Q(look_lease_until__lt=now)
    return bool(Upstream.objects.filter(free, pk=upstream_id).update(look_lease_until=now + LEASE))


def _give_lease_back(upstream_id: int, looked_at: datetime | None, error: str) -> None:
    Upstream.objects.filter(pk=upstream_id).update(
        look_lease_until=None,
        last_error=error,
        looked_at=looked_at if looked_at is not None else F("looked_at"),
    )


# --- activations --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Findings:
    arrivals: dict[int, list[Arrival]] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)


def _look_at_activations(upstream: Upstream, client: base.Upstream, started_at: datetime) -> None:
    live = client.list_active()
    found = _Findings()
    known = _known_orders(upstream, live)
    ended = {ref for ref, seen in live.items() if seen.state == UpstreamState.ENDED_NO_SMS}
    for order in known:
        if order.upstream_ref in live and order.upstream_ref not in ended:
            _judge(order, live[order.upstream_ref], client, found)
    absent = [
        order
        for order in known
        if (order.upstream_ref not in live or order.upstream_ref in ended)
        and order.state == State.AWAITING_SMS
        and order.allocated_at is not None
        and order.allocated_at < started_at
    ]
    if absent:
        since = min(order.placed_at for order in absent)
        past = client.history(since=since - timedelta(minutes=5))
        for order in absent:
            if order.upstream_ref in past:
                _judge(order, past[order.upstream_ref], client, found)
        _find_late(upstream, past, found)
    record_sms(found.arrivals)
    _mark_broken(found.broken)
    _reconcile(upstream, live)


def _known_orders(upstream: Upstream, live: Mapping[str, Activation]) -> list[Order]:
    """Our activations that the list may tell about: in it, or still awaiting an SMS."""
    fields = ("state", "upstream_ref", "placed_at", "allocated_at", "deadline", "upstream_side")
    return list(
        Order.objects.filter(
            Q(state=State.AWAITING_SMS) | Q(upstream_ref__in=list(live)),
            upstream=upstream,
            kind=Offer.Kind.ACTIVATION,
        ).only(*fields)
    )


def _find_late(upstream: Upstream, past: Mapping[str, Activation], found: _Findings) -> None:
    """SMS in the history for orders that ended: a late one may be what it cost us."""
    with_sms = [ref for ref, seen in past.items() if seen.messages]
    ended = Order.objects.filter(upstream=upstream, upstream_ref__in=with_sms, state__in=REFUNDED)
    for order_id, ref in ended.values_list("pk", "upstream_ref"):
        found.arrivals[order_id] = [
            Arrival(message, in_time=False) for message in past[ref].messages
        ]


def _judge(order: Order, activation: Activation, client: base.Upstream, found: _Findings) -> None:
    """What the upstream's word about one activation means to us."""
    if activation.messages:
        found.arrivals[order.pk] = [
            Arrival(message, in_time=True) for message in activation.messages
        ]
        if order.state == State.AWAITING_SMS and order.deadline and order.deadline < timezone.now():
            found.arrivals[order.pk] = _timed(order, activation, client)
    elif activation.state == UpstreamState.BROKEN or (
        activation.state == UpstreamState.ENDED_NO_SMS and _ended_early(order)
    ):
        found.broken[order.pk] = activation.signal


def _ended_early(order: Order) -> bool:
    """Whether now is clearly before the deadline.

    An upstream's own clock starts with the purchase, ours a moment later, with its answer: what
    ends there just before our deadline has expired, it is not broken.
    """
    return order.deadline is not None and timezone.now() < order.deadline - settings.ORDER_SLA / 20


def _timed(order: Order, activation: Activation, client: base.Upstream) -> list[Arrival]:
    """The SMS of an order past its deadline, each in time or late.

    Both times are the upstream's own, so its zone does not matter: an SMS is late when the upstream
    says that it came more than the order's whole time after the activation. What it does not say
    counts for the SMS.
    """
    detail = client.status(order.upstream_ref)
    bought_at = detail.upstream_time or activation.upstream_time
    assert order.deadline is not None and order.allocated_at is not None  # noqa: S101 - both are set together
    allowed = order.deadline - order.allocated_at
    return [
        Arrival(
            message,
            in_time=bought_at is None
            or message.upstream_time is None
            or message.upstream_time - bought_at <= allowed,
        )
        for message in detail.messages or activation.messages
    ]


def _mark_broken(broken: Mapping[int, str]) -> None:
    """Record that numbers are broken; the automatic refund acts on it. Locks the orders."""
    if not broken:
        return
    now = timezone.now()
    with transaction.atomic():
        orders = [
            order
            for order in lock(list(broken))
            if order.state in {State.AWAITING_SMS, State.ACTIVE} and order.broken_at is None
        ]
        for order in orders:
            order.broken_at = now
            order.broken_signal = broken[order.pk][:64]
        history.save(
            orders,
            ["broken_at", "broken_signal"],
            actor=POLLING,
            reason="The upstream reports the number broken",
        )


# --- rentals ------------------------------------------------------------------------------------


def _look_at_rentals(upstream: Upstream, client: base.Upstream, started_at: datetime) -> None:
    """Ask for each rental that is due. Half a minute apart, the longest waiting first.

    No deadline hangs on a rental, so one that cannot be asked about keeps nothing else waiting.
    """
    due = list(
        Order.objects.filter(
            upstream=upstream, state=State.ACTIVE, upstream_due_at__lte=started_at
        ).order_by("upstream_due_at")[:RENTALS_A_LOOK]
    )
    found = _Findings()
    for order in due:
        try:
            status = client.rent_status(order.upstream_ref)
        except UpstreamUnavailable as problem:
            log.warning("upstream %s: %s", upstream.code, problem)
            break
        except UpstreamError as problem:
            log.warning("order %s: %s", order.pk, problem)
            continue
        if status.messages:
            found.arrivals[order.pk] = [Arrival(message) for message in status.messages]
        if status.state == UpstreamState.BROKEN:
            found.broken[order.pk] = status.signal
    record_sms(found.arrivals)
    _mark_broken(found.broken)
    Order.objects.filter(pk__in=[order.pk for order in due], state=State.ACTIVE).update(
        upstream_due_at=timezone.now() + RENTAL_LOOK_EVERY
    )


# --- purchases of unknown outcome ---------------------------------------------------------------


def _reconcile(upstream: Upstream, live: Mapping[str, Activation]) -> None:
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
        Order.objects.filter(upstream=upstream, upstream_ref__in=list(live)).values_list(
            "upstream_ref", flat=True
        )
    )
    # Orders read after the list and owners read after the orders: what is unowned now is nobody's.
    buying_since = now - settings.ALLOCATION_TIMEOUT
    under_way = {
        (order.service, order.country)
        for order in seekers
        if order.upstream_side == UpstreamSide.BUYING
        and order.allocation_started_at is not None
        and order.allocation_started_at > buying_since
    }
    unowned = [activation for ref, activation in live.items() if ref not in owned]
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
