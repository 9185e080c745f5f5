"""What refunds and refund requests tell on timelines, and what is told of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib import admin

from orders.models import DELIVERED, REFUNDED, Order
from orders.pages import order_link
from refunds import policy
from refunds.models import Refund, RefundRequest
from smsactivator.common.display import amount
from smsactivator.common.links import Link, admin_url
from smsactivator.common.timeline import (
    LONGEST,
    Entry,
    Origin,
    entries_for,
    histories,
    told_of,
)

SEES_REQUESTS = "refunds.view_historicalrefundrequest"


def refund_link(pk: int, clause: str) -> Link:
    """A refund's page, by its clause."""
    return Link(
        f"Refund {pk}: {policy.title(clause)}",
        admin_url("refunds_refund_change", pk),
        "refunds.view_refund",
    )


def request_link(asked: RefundRequest) -> Link:
    """A refund request's page, by what it asks for."""
    has_page = admin.site.is_registered(RefundRequest)
    return Link(
        f"Refund request {asked.pk}: {amount(asked.amount)} USD, {policy.title(asked.clause)}",
        admin_url("refunds_refundrequest_change", asked.pk) if has_page else "",
        "refunds.view_refundrequest",
    )


@entries_for("orders.Order")
def requests_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """What people asked to be refunded from these orders, and what became of it."""
    newest = RefundRequest.objects.filter(order_id__in=pks).order_by("-pk")[: LONGEST + 1]
    found = {asked.pk: asked for asked in newest}
    entries: dict[int, list[Entry]] = defaultdict(list)
    for pk, steps in histories(
        RefundRequest,
        list(found),
        named=lambda pk: request_link(found[pk]),
        permission=SEES_REQUESTS,
    ).items():
        entries[found[pk].order_id].extend(steps)
    return entries


@entries_for("orders.Order")
def refunds_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """The refunds of these orders."""
    entries: dict[int, list[Entry]] = defaultdict(list)
    for refund in _newest(Refund.objects.filter(order_id__in=pks)):
        entries[refund.order_id].append(_refund(refund))
    return entries


@entries_for("wallet.Customer")
def refunds_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """The refunds of these customers' newest orders, in short."""
    orders = Order.objects.filter(customer_id__in=pks, state__in=(*REFUNDED, *DELIVERED))
    newest = orders.order_by("-pk").values_list("pk", "customer_id")[: LONGEST + 1]
    customers = dict(newest)
    entries: dict[int, list[Entry]] = defaultdict(list)
    for refund in _newest(Refund.objects.filter(order_id__in=list(customers))):
        entries[customers[refund.order_id]].append(_refund(refund))
    return entries


@entries_for("refunds.Refund")
def orders_of_refunds(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """All that happened to the orders that these refunds are of, their requests included."""
    return _with_orders(Refund.objects.filter(pk__in=pks))


@entries_for("refunds.RefundRequest")
def orders_of_requests(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """All that happened to the orders that these requests are about."""
    return _with_orders(RefundRequest.objects.filter(pk__in=pks))


def _with_orders(rows: Any) -> dict[int, list[Entry]]:
    orders = dict(rows.values_list("pk", "order_id"))
    told = told_of(
        Order, sorted(set(orders.values())), order_link, permission="orders.view_historicalorder"
    )
    return {pk: told[order] for pk, order in orders.items()}


def _newest(refunds: Any) -> list[Refund]:
    return list(refunds.select_related("decided_by").order_by("-created_at", "-pk")[: LONGEST + 1])


def _refund(refund: Refund) -> Entry:
    by = refund.decided_by
    return Entry(
        at=refund.created_at,
        key=f"refund:{refund.pk}",
        what=f"Refunded to the wallet: {amount(refund.amount)} USD",
        who=by.get_username() if by is not None else "policy",
        origin=Origin.PERSON if by is not None else Origin.AUTOMATIC,
        about=refund_link(refund.pk, refund.clause),
        permission="refunds.view_refund",
    )
