"""Locks on orders, taken in one order everywhere: orders by primary key, then wallets."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import QuerySet

from orders.models import Order
from smsactivator.common.errors import NotFound


class OrderUnknown(NotFound):
    """There is no such order."""

    code = "unknown_order"


def lock(order_ids: Collection[int]) -> list[Order]:
    """The orders that exist, locked by primary key, FOR NO KEY UPDATE, for the transaction."""
    return list(
        Order.objects.select_for_update(no_key=True).filter(pk__in=order_ids).order_by("pk")
    )


def lock_one(order_id: int) -> Order:
    """One order, locked. Raises OrderUnknown."""
    orders = lock([order_id])
    if not orders:
        raise OrderUnknown(f"There is no order {order_id}.")
    return orders[0]


def claim(orders: QuerySet[Order], limit: int) -> list[Order]:
    """Up to ``limit`` of the orders, locked; those that somebody else holds are left to them.

    The database reads each row again after locking it, so all still match.
    """
    return list(orders.select_for_update(no_key=True, skip_locked=True)[:limit])
