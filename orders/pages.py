"""What several admin pages share: how an order and its SMS are named and linked."""

from __future__ import annotations

from smsactivator.common.links import Link, admin_url


def order_link(pk: int) -> Link:
    """An order's page."""
    return Link(f"Order {pk}", admin_url("orders_order_change", pk), "orders.view_order")


def sms_link(pk: int) -> Link:
    """The page of an SMS."""
    return Link(f"SMS {pk}", admin_url("orders_sms_change", pk), "orders.view_sms")
