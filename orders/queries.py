"""Reads of orders that several places share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, F, Min, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, Greatest, Now
from django.utils import timezone

from orders.models import OPEN, Order, State, Upstream
from smsactivator.common.moments import SKEW, ahead, unless_ahead
from smsactivator.common.money import usd

BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Overdue:
    """How many orders are overdue, and the oldest deadline among them (UTC)."""

    count: int
    oldest_deadline: datetime | None


@dataclass(frozen=True, slots=True)
class OpenOrders:
    """How many orders are open, and the sum of their prices: what escrow must hold, USD."""

    count: int
    price: Decimal


def overdue_by_upstream() -> list[Q]:
    """What makes an order overdue, one condition an upstream: its SLA is certainly broken.

    An order is overdue when its deadline has passed and its upstream was looked at after the
    deadline, or could not be looked at for a grace period although it was tried. Each condition is
    a range of the awaiting orders' index, in the order of their deadlines.
    """
    return [
        Q(state=State.AWAITING_SMS, upstream=upstream.pk, deadline__lt=last_word(upstream))
        for upstream in Upstream.objects.all()
    ]


def placed_by_a_clock_ahead(now: datetime) -> Q:
    """Orders placed further after now than any clock that is right can have placed them.

    Both our clock and the database's must say so: to one that is behind, all that others have just
    placed seems to be.
    """
    latest = Greatest(Value(now), Now())
    return Q(placed_at__gt=latest + (settings.ALLOCATION_TIMEOUT + SKEW))


def last_word(upstream: Upstream) -> datetime:
    """The deadlines before this moment will not be kept any more, whatever is looked at later.

    Not having looked is no failure of the upstream: after an outage of our own the first look comes
    first. Only when nobody has looked for ten times the grace period is that not waited for. While
    looks go on that have more to ask than one of them can, what they have not asked is waited for;
    when they fail, for ten times the grace period as well.
    A moment after now, left by a clock that was ahead, is no evidence of a look or of a failure.
    """
    now = timezone.now()
    grace_over = now - settings.UPSTREAM_GRACE
    looked_at = unless_ahead(upstream.looked_at, now)
    unfinished_at = unless_ahead(upstream.unfinished_at, now)
    failing_since = unless_ahead(upstream.failing_since, now)
    failed_at = unless_ahead(upstream.failed_at, now)
    words = [looked_at or BEFORE_ALL]
    long_over = now - 10 * settings.UPSTREAM_GRACE
    failing_for_long = failing_since is not None and failing_since < long_over
    if unfinished_at is None or unfinished_at <= grace_over or failing_for_long:
        words.append(long_over)
        if failing_since is not None and failed_at is not None and failing_since < grace_over:
            words.append(min(grace_over, failed_at))
    # A look of a machine whose clock is a little ahead must not end what has not passed here.
    return min(now, max(words))


def overdue(orders: QuerySet[Order] | None = None) -> QuerySet[Order]:
    """The orders, of all or of these, that should have been refunded by now."""
    condition = Q(pk__in=[])
    for one in overdue_by_upstream():
        condition |= one
    return (Order.objects.all() if orders is None else orders).filter(condition)


def overdue_orders() -> Overdue:
    """The overdue orders' number and oldest deadline: 0 and None when all is well."""
    figures = overdue().aggregate(count=Count("pk"), oldest=Min("deadline"))
    return Overdue(figures["count"], figures["oldest"])


def oldest_overdue() -> datetime | None:
    """Since when the overdue order that waits the longest could have been refunded, or None.

    That is its deadline, or the end of the grace period when its upstream was not looked at since.
    """
    since = []
    for condition in overdue_by_upstream():
        orders = Order.objects.filter(condition).order_by("deadline")
        oldest = orders.values_list("deadline", "upstream__looked_at").first()
        if oldest is not None:
            deadline, looked_at = oldest
            assert deadline is not None  # noqa: S101 - the database checks it
            looked_at = unless_ahead(looked_at, timezone.now())
            looked = looked_at is not None and deadline < looked_at
            since.append(deadline if looked else deadline + settings.UPSTREAM_GRACE)
    return min(since, default=None)


def oldest_due() -> datetime | None:
    """Since when the order that waits the longest for its refund could have had it, or None.

    Overdue orders, broken numbers, refused purchases, and orders that were not allocated in time.
    """
    placed = Order.objects.filter(state=State.PLACED)
    broken = Order.objects.filter(
        state__in=[State.AWAITING_SMS, State.ACTIVE], broken_at__isnull=False
    )
    since = [
        oldest_overdue(),
        broken.aggregate(since=Min("broken_at"))["since"],
        placed.aggregate(since=Min("refused_at"))["since"],
        placed.filter(placed_at__lt=timezone.now() - settings.ALLOCATION_TIMEOUT).aggregate(
            since=Min("placed_at") + settings.ALLOCATION_TIMEOUT
        )["since"],
    ]
    return min((moment for moment in since if moment is not None), default=None)


def oldest_unlooked() -> datetime | None:
    """Since when orders whose deadline has passed have waited for a look, or None."""
    now = timezone.now()
    unlooked = (
        Q(upstream__looked_at=None)
        # An unfinished look reaches to exactly the oldest deadline that it left.
        | Q(upstream__looked_at__lte=F("deadline"))
        | ahead("upstream__looked_at", now)
    )
    oldest: datetime | None = Order.objects.filter(
        unlooked, state=State.AWAITING_SMS, deadline__lt=now
    ).aggregate(oldest=Min("deadline"))["oldest"]
    return oldest


def open_orders() -> OpenOrders:
    """The open orders' number and the sum of their prices: one query over the index of states."""
    figures = Order.objects.filter(state__in=OPEN).aggregate(
        count=Count("pk"), price=Coalesce(Sum("price"), usd(0))
    )
    return OpenOrders(figures["count"], figures["price"])


def storefront_order(storefront_id: int, order_id: int) -> Order | None:
    """A storefront's order with its customer and messages, or None (also when it is another's)."""
    return (
        Order.objects.select_related("customer")
        .prefetch_related("messages")
        .filter(pk=order_id, customer__storefront=storefront_id)
        .first()
    )
