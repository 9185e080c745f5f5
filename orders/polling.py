"""Polling: what the upstreams know about our activations.

One look at an upstream asks for its complete list of live activations, and for its history where
one of ours is missing from that list. What is found is stored at once; the look counts
(``looked_at``) only when all was asked, read and stored, so whoever trusts it knows that no SMS was
overlooked. What a look had no time to ask for is asked for by the next: until then the look counts
for the deadlines before it alone. Absence alone never ends an order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Q, When
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from orders.allocation import set_deadlines_right
from orders.delivery import Arrival, is_known, known_messages, record_sms
from orders.locking import lock
from orders.models import REFUNDED, Offer, Order, State, Upstream, rental_is_over
from orders.reconciliation import reconcile
from orders.upstreams import base
from orders.upstreams.base import Activation, UpstreamError, UpstreamProtocolError, UpstreamState
from orders.upstreams.registry import client_for
from smsactivator.common import history
from smsactivator.common.history import Actor
from smsactivator.common.moments import ahead, due, is_ahead

log = logging.getLogger(__name__)

POLLING = Actor.automatic("polling")
# A look that takes longer than this is taken for dead and another may begin. Two at once are
# harmless: what they store, they store once, and the later start counts.
LEASE = timedelta(seconds=60)
# An upstream's history goes back 30 days at most.
HISTORY_REACH = timedelta(days=28)
# Numbers that one look asks for by themselves, of the list and of the history; it ends in time.
DETAILS_A_LOOK = 100
# What may mean that there is an SMS which this answer does not show.
UNCLEAR = {UpstreamState.UNKNOWN, UpstreamState.RECEIVED, UpstreamState.FINISHED}


def look(upstream_id: int) -> bool:
    """Look at one upstream and store all it tells. Returns whether the look was complete.

    One look at a time: a second one at the same moment does nothing and returns False. A look that
    fails half-way keeps what it found and counts as failed; one that left numbers to the next has
    looked, up to the oldest deadline among them. No request is made under a lock.
    """
    started_at = timezone.now()
    lease = started_at + LEASE
    free = Q(look_lease_until=None) | due("look_lease_until", started_at, LEASE)
    if not Upstream.objects.filter(free, pk=upstream_id).update(look_lease_until=lease):
        return False
    stored: list[_Findings] = []
    try:
        upstream = Upstream.objects.get(pk=upstream_id)
        set_deadlines_right(upstream)
        _look(upstream, client_for(upstream), started_at, stored)
    except UpstreamError as problem:
        log.warning("upstream %s: %s", upstream.code, problem)
        unfinished = {} if _left_from(stored) is None else {"unfinished_at": started_at}
        Upstream.objects.filter(pk=upstream_id).update(
            **unfinished,
            failing_since=Coalesce(_past("failing_since", started_at), started_at),
            failed_at=started_at,
            last_error=str(problem)[:200],
        )
        return False
    else:
        left_from = _left_from(stored)
        reached = started_at if left_from is None else min(left_from, started_at)
        Upstream.objects.filter(pk=upstream_id).update(
            looked_at=Greatest(_past("looked_at", started_at), reached),
            unfinished_at=None if left_from is None else started_at,
            failing_since=None,
            last_error="",
        )
        return left_from is None
    finally:
        # Somebody else's lease, taken when ours ran out, is not ours to give back.
        Upstream.objects.filter(pk=upstream_id, look_lease_until=lease).update(
            look_lease_until=None
        )


def _past(field: str, now: datetime) -> Case:
    """What the field says, or NULL when a clock that was ahead wrote it."""
    return Case(When(ahead(field, now), then=None), default=field)


@dataclass(slots=True)
class _Findings:
    """What to store, and what could not be found out."""

    arrivals: dict[int, list[Arrival]] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    # The refs of orders about which nothing certain could be read.
    unclear: list[str] = field(default_factory=list)
    # The oldest deadline of the orders that wait for the next look to ask for them.
    left_from: datetime | None = None
    asked: int = 0
    silence: UpstreamError | None = None

    def store(self) -> None:
        """Store it. Raises UpstreamError when not one number could be asked for."""
        record_sms(self.arrivals)
        mark_broken(self.broken)
        if self.silence is not None and self.left_from is not None and not self.asked:
            raise self.silence

    def leave(self, order: Order) -> None:
        assert order.deadline is not None  # noqa: S101 - it is overdue
        self.left_from = min(self.left_from or order.deadline, order.deadline)


def _left_from(stored: Iterable[_Findings]) -> datetime | None:
    """From which deadline on the next look has to ask; None when nothing was left to it."""
    return min((part.left_from for part in stored if part.left_from), default=None)


def _look(
    upstream: Upstream, client: base.Upstream, started_at: datetime, stored: list[_Findings]
) -> None:
    """Store what the upstream knows; ``stored`` says what was, also when the rest fails."""
    live = client.list_active()
    known = _known_orders(upstream, live)
    # What the list says of an ended one is confirmed by the history, as if it were absent.
    ended = {ref for ref, seen in live.items() if seen.state == UpstreamState.ENDED_NO_SMS}
    present, absent = [], []
    for order in known:
        if order.upstream_ref in live and order.upstream_ref not in ended:
            present.append(order)
        elif (
            order.state == State.AWAITING_SMS
            and order.allocated_at is not None
            # What was handed out meanwhile may be missing from the list.
            and (order.allocated_at < started_at or is_ahead(order.allocated_at, started_at))
        ):
            absent.append(order)

    found = _judged(present, live, client)
    found.store()
    stored.append(found)
    reconcile(upstream, live)
    if absent:
        oldest = min(order.placed_at for order in absent) - timedelta(minutes=5)
        past = client.history(since=max(oldest, started_at - HISTORY_REACH))
        found = _judged([order for order in absent if order.upstream_ref in past], past, client)
        _find_late(upstream, past, found)
        found.store()
        stored.append(found)
    if unclear := sum(len(part.unclear) for part in stored):
        raise UpstreamProtocolError(f"{unclear} numbers past their deadline are unclear")


def _known_orders(upstream: Upstream, live: Mapping[str, Activation]) -> list[Order]:
    """Our activations that the list may tell about: in it, or still awaiting an SMS."""
    ours = Order.objects.filter(upstream=upstream, kind=Offer.Kind.ACTIVATION).only(
        "state",
        "upstream_ref",
        "placed_at",
        "allocation_started_at",
        "allocated_at",
        "deadline",
    )
    awaiting = ours.filter(state=State.AWAITING_SMS)
    # Said in the words of the partial index, which a long list of refs does not imply.
    listed = ours.filter(~Q(upstream_ref=""), upstream_ref__in=list(live))
    return list({order.pk: order for order in (*awaiting, *listed)}.values())


def _judged(
    orders: Iterable[Order], seen: Mapping[str, Activation], client: base.Upstream
) -> _Findings:
    """What the upstream's words about some activations mean to us.

    Those come first of which an SMS is seen: asking for one of them always settles it, and what
    stays unclear must not use up every look. Then the oldest deadline comes first, so what is left
    to the next look has its turn there.
    """
    found = _Findings()
    now = timezone.now()
    by_deadline = sorted(
        orders,
        key=lambda order: (not seen[order.upstream_ref].messages, order.deadline or now),
    )
    overdue = {order.pk for order in by_deadline if _is_overdue(order, now)}
    known = known_messages(overdue)
    for order in by_deadline:
        activation = seen[order.upstream_ref]
        if known[order.pk] and all(is_known(one, known[order.pk]) for one in activation.messages):
            continue  # a late one, judged already, is there until its order expires
        if order.pk in overdue and activation.messages:
            _judge_past_deadline(order, activation, client, found)
        else:
            _judge(order, activation, client, found, overdue=order.pk in overdue)
    return found


def _is_overdue(order: Order, now: datetime) -> bool:
    return bool(order.state == State.AWAITING_SMS and order.deadline and order.deadline < now)


def _judge(
    order: Order,
    activation: Activation,
    client: base.Upstream,
    found: _Findings,
    *,
    overdue: bool,
) -> None:
    awaiting = order.state == State.AWAITING_SMS
    if awaiting and not activation.messages and activation.state in UNCLEAR:
        detail = _detailed(order, activation, client, found)
        # Asking for those before it takes its time: the deadline may have passed meanwhile.
        overdue = overdue or _is_overdue(order, timezone.now())
        if detail is None:
            if overdue:
                found.leave(order)
            return
        activation = detail
        if activation.messages:
            # Seen after the deadline or before it, the upstream's own times tell what was in time.
            found.arrivals[order.pk] = _timed(order, activation)
            return
        if activation.state in UNCLEAR and overdue:
            found.unclear.append(order.upstream_ref)
    if activation.messages:
        found.arrivals[order.pk] = [Arrival(message) for message in activation.messages]
    elif activation.state == UpstreamState.BROKEN or (
        activation.state == UpstreamState.ENDED_NO_SMS and _ended_early(order)
    ):
        found.broken[order.pk] = activation.signal


def _judge_past_deadline(
    order: Order, activation: Activation, client: base.Upstream, found: _Findings
) -> None:
    """An SMS is there after the deadline: when it came decides, and must have been asked for."""
    detail = _detailed(order, activation, client, found)
    if detail is None:
        found.leave(order)
    else:
        found.arrivals[order.pk] = _timed(order, detail)


def _detailed(
    order: Order, activation: Activation, client: base.Upstream, found: _Findings
) -> Activation | None:
    """The activation asked for by itself, or as it was when the answer tells nothing.

    None when it was not asked for: this look asked for enough, or the upstream has stopped
    answering. That tells nothing, so nothing may follow from it.
    """
    if found.asked >= DETAILS_A_LOOK or found.silence is not None:
        return None
    try:
        detail = client.status(order.upstream_ref)
    except UpstreamProtocolError as problem:
        log.warning("order %s: %s", order.pk, problem)
        detail = activation
    except UpstreamError as problem:
        log.warning("order %s: not asked for: %s", order.pk, problem)
        found.silence = problem
        return None
    found.asked += 1
    # Alone, an ended one is told as cancelled or completed: that decides nothing.
    if detail.state == UpstreamState.ENDED_NO_SMS:
        return activation
    return replace(
        detail,
        messages=detail.messages or activation.messages,
        upstream_time=detail.upstream_time or activation.upstream_time,
    )


def _ended_early(order: Order) -> bool:
    """Whether now is clearly before the deadline.

    An upstream's own clock starts with the purchase, ours a moment later, with its answer: what
    ends there just before our deadline has expired, it is not broken.
    """
    return order.deadline is not None and timezone.now() < order.deadline - settings.ORDER_SLA / 20


def _timed(order: Order, activation: Activation) -> list[Arrival]:
    """The SMS of an order, each in time or late, by what its number's own answer told.

    Both times are the upstream's own, so its zone does not matter: an SMS is late when the upstream
    says that it came more than the order's whole time after the purchase, counted from the moment
    we sent it. What the upstream was asked for and does not say counts for the SMS.
    """
    bought_at = activation.upstream_time
    begun_at = order.allocation_started_at or order.allocated_at
    assert order.deadline is not None and begun_at is not None  # noqa: S101 - it has a number
    allowed = order.deadline - begun_at
    return [
        Arrival(
            message,
            in_time=bought_at is None
            or message.upstream_time is None
            or message.upstream_time - bought_at <= allowed,
        )
        for message in activation.messages
    ]


def _find_late(upstream: Upstream, past: Mapping[str, Activation], found: _Findings) -> None:
    """SMS in the history for orders that ended: a late one may be what it cost us."""
    with_sms = [ref for ref, seen in past.items() if seen.messages]
    ended = Order.objects.filter(
        ~Q(upstream_ref=""), upstream=upstream, upstream_ref__in=with_sms, state__in=REFUNDED
    )
    for order_id, ref in ended.values_list("pk", "upstream_ref"):
        found.arrivals[order_id] = [
            Arrival(message, in_time=False) for message in past[ref].messages
        ]


def mark_broken(broken: Mapping[int, str]) -> None:
    """Record that numbers are broken, with the upstream's word; the automatic refund acts on it.

    Locks the orders. One that has ended, or is known as broken already, is left alone, and so is a
    rental whose time is over, though nobody has ended it yet.
    """
    if not broken:
        return
    now = timezone.now()
    with transaction.atomic():
        orders = [
            order
            for order in lock(list(broken))
            if order.state in {State.AWAITING_SMS, State.ACTIVE}
            and order.broken_at is None
            and not rental_is_over(order)
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
