"""Reads of orders that several places share."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from orders.models import Order, State, Upstream


def overdue() -> list[QuerySet[Order]]:
    """Orders whose SLA is certainly broken, the oldest deadline first; one queryset an upstream.

    An order is overdue when its deadline has passed and its upstream was looked at after the
    deadline, or could not be looked at for a grace period. Each queryset reads an index in order,
    so it costs what it returns.
    """
    grace_over = timezone.now() - settings.UPSTREAM_GRACE
    return [
        Order.objects.filter(
            state=State.AWAITING_SMS,
            upstream=upstream_id,
            deadline__lt=max(looked_at or grace_over, grace_over),
        ).order_by("deadline")
        for upstream_id, looked_at in Upstream.objects.values_list("pk", "looked_at")
    ]


def storefront_order(storefront_id: int, order_id: int) -> Order | None:
    """A storefront's order with its customer and messages, or None (also when it is another's)."""
    return (
        Order.objects.select_related("customer")
        .prefetch_related("messages")
        .filter(pk=order_id, customer__storefront=storefront_id)
        .first()
    )


def oldest_overdue() -> datetime | None:
    """Since when the overdue order that waits the longest could have been refunded, or None.

    That is its deadline, or the end of the grace period when its upstream was not looked at since.
    """
    since = []
    for orders in overdue():
        oldest = orders.values_list("deadline", "upstream__looked_at").first()
        if oldest is not None:
            deadline, looked_at = oldest
            assert deadline is not None  # noqa: S101 - the database checks it
            looked = looked_at is not None and deadline < looked_at
            since.append(deadline if looked else deadline + settings.UPSTREAM_GRACE)
    return min(since, default=None)
