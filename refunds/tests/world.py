"""A small world for tests, built through the product's own verbs."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from orders import placing
from orders.allocation import hand_out
from orders.delivery import Arrival, record_sms
from orders.models import Offer, Order, Upstream
from orders.upstreams.base import Message, Number
from refunds import decisions
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from smsactivator.auditing import CHECKS
from smsactivator.common import history
from smsactivator.common.history import Actor
from wallet import customers, deposits
from wallet.audit import audit
from wallet.models import Customer, Storefront
from wallet.tests.world import numbers

TESTER = Actor("tester")


def storefront(name: str = "Shop") -> Storefront:
    return Storefront.objects.get_or_create(name=name)[0]


def upstream(code: str = "sim") -> Upstream:
    """An upstream that nobody answers for."""
    made, _ = Upstream.objects.get_or_create(
        code=code, defaults={"name": code, "base_url": f"http://127.0.0.1:9/{code}"}
    )
    return made


def offer(price: str = "0.5000", *, kind: str = Offer.Kind.ACTIVATION, **fields: Any) -> Offer:
    number = next(numbers)
    return Offer.objects.create(
        **{
            "upstream": fields.pop("upstream", None) or upstream(),
            "service": "tg",
            "country": str(number % 100_000),
            "title": f"Telegram {number}",
            "kind": kind,
            "rental_hours": 4 if kind == Offer.Kind.RENTAL else None,
            "price": Decimal(price),
            **fields,
        }
    )


def customer(balance: str = "10.0000", *, shop: Storefront | None = None) -> Customer:
    name = f"customer-{next(numbers)}"
    made, _ = customers.create_or_update((shop or storefront()).pk, name, actor=TESTER)
    if Decimal(balance):
        deposits.deposit(made, amount=Decimal(balance), reference=f"tx-{name}")
    return made


def place(of: Customer | None = None, what: Offer | None = None) -> Order:
    order, created = placing.place(
        of or customer(),
        offer_id=(what or offer()).pk,
        idempotency_key=f"key-{next(numbers)}",
        actor=TESTER,
    )
    assert created
    return order


def buying(order: Order) -> Order:
    """As if the purchase were on its way."""
    order.start_buying(at=timezone.now())
    _save(order, ["upstream_side", "allocation_started_at"])
    return order


def allocated(order: Order | None = None, *, ref: str = "", cost: str = "0.2000") -> Order:
    """An order with a number: awaiting its SMS, or an active rental."""
    order = buying(order or place())
    ref = ref or f"ref-{next(numbers)}"
    with transaction.atomic():
        hand_out(order, Number(ref, "+79001234567", Decimal(cost)), actor=TESTER, reason="Test")
    return Order.objects.get(pk=order.pk)


def delivered(price: str = "1", *, of: Customer | None = None) -> Order:
    """An order whose SMS has arrived."""
    order = allocated(place(of, offer(price)))
    record_sms({order.pk: [Arrival(Message("1234", "Code 1234"))]})
    return Order.objects.get(pk=order.pk)


def rental(price: str = "2", *, of: Customer | None = None) -> Order:
    """An active rental of four hours."""
    return allocated(place(of, offer(price, kind=Offer.Kind.RENTAL)))


def requested(
    person: Any,
    order: Order,
    amount: str = "0.4",
    *,
    clause: str = Clause.SERVICE_REJECTED,
    reason: str = "Region block",
    key: UUID | None = None,
) -> RefundRequest:
    """A refund of a delivered order that a person asks for."""
    return decisions.request(
        person,
        order.pk,
        amount=Decimal(amount),
        clause=clause,
        reason=reason,
        key=key or uuid4(),
    )


def refunded(by: Any, approver: Any, order: Order, amount: str = "0.4", **terms: Any) -> Refund:
    """A refund that one person asked for and another approved."""
    asked = requested(by, order, amount, **terms)
    return decisions.approve(approver, asked.pk, reason="Seen").refund


def looked_at(which: Upstream | None = None) -> None:
    """As if the upstream were looked at now, and nothing found."""
    Upstream.objects.filter(pk=(which or upstream()).pk).update(looked_at=timezone.now())


def out_of_reach(which: Upstream | None = None) -> None:
    """As if a look at the upstream failed now."""
    now = timezone.now()
    Upstream.objects.filter(pk=(which or upstream()).pk).update(
        failing_since=Coalesce("failing_since", now), failed_at=now
    )


def overdue_orders(number: int, **fields: Any) -> list[Order]:
    """Orders whose deadline has passed and whose upstream was looked at since."""
    orders = [allocated(**fields) for _ in range(number)]
    Order.objects.filter(pk__in=[order.pk for order in orders]).update(
        deadline=timezone.now() - timedelta(seconds=1)
    )
    looked_at()
    return list(Order.objects.filter(pk__in=[order.pk for order in orders]).order_by("pk"))


def balance(of: Customer) -> Decimal:
    of.wallet.refresh_from_db()
    return of.wallet.balance


def assert_books_agree() -> dict[str, str]:
    """Every check of the audit passes; returns escrow and open orders."""
    run = audit(CHECKS, full=True)
    assert run.passed, [check for check in run.checks if check["count"]]
    figures: dict[str, str] = {}
    for check in run.checks:
        figures |= check["figures"]
    return {name: figures[name] for name in ("escrow", "open_orders")}


def _save(order: Order, fields: list[str]) -> None:
    with transaction.atomic():
        history.save([order], fields, actor=TESTER, reason="Test")
