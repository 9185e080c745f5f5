"""Figures of the orders of this moment, for the front page and whoever watches over the shop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, F, Min, QuerySet, Sum
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from orders.models import OPEN, Order, State
from smsactivator.common.money import usd


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


def overdue(orders: QuerySet[Order] | None = None) -> QuerySet[Order]:
    """The orders that should have been refunded by now.

    Their deadline has passed, and their upstream was looked at after it or could not be reached
    for ``UPSTREAM_GRACE``. A range of the awaiting orders' index (upstream, deadline).
    """
    # GREATEST ignores the NULL of an upstream that was never looked at.
    seen_to = Greatest(F("upstream__looked_at"), timezone.now() - settings.UPSTREAM_GRACE)
    orders = Order.objects.all() if orders is None else orders
    return orders.filter(state=State.AWAITING_SMS, deadline__lt=seen_to)


def overdue_orders() -> Overdue:
    """The overdue orders' number and oldest deadline: 0 and None when all is well. One query."""
    figures = overdue().aggregate(count=Count("pk"), oldest=Min("deadline"))
    return Overdue(figures["count"], figures["oldest"])


def open_orders() -> OpenOrders:
    """The open orders' number and the sum of their prices: one query over the index of states."""
    figures = Order.objects.filter(state__in=OPEN).aggregate(
        count=Count("pk"), price=Coalesce(Sum("price"), usd(0))
    )
    return OpenOrders(figures["count"], figures["price"])
