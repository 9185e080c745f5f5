"""A small shop for the admin's tests, its money moved through the ledger as everywhere."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone

from orders.models import Offer, Order, Sms, Upstream
from refunds import decisions, policy
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from smsactivator.common import history
from smsactivator.common.history import Actor
from wallet import customers, deposits, ledger
from wallet.models import Account, Customer, Storefront, Transfer
from wallet.tests.world import numbers

ACTOR = Actor.automatic("test")


def person(role: str = "", *, name: str = "") -> User:
    """One of our people in a role; an administrator without one."""
    name = name or role.lower().replace(" ", ".") or "admin"
    user = User.objects.create_user(name, is_staff=True, is_superuser=not role)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


def storefront(name: str = "Shop") -> Storefront:
    return Storefront.objects.get_or_create(name=name)[0]


def customer(external_id: str = "", *, email: str = "", funds: str = "100") -> Customer:
    """A customer of the shop with ``funds`` USD in the wallet, as one deposit."""
    made, _ = customers.create_or_update(
        storefront().pk,
        external_id or f"c{next(numbers)}",
        email=email,
        status="active",
        actor=ACTOR,
    )
    if Decimal(funds):
        deposits.deposit(made, amount=Decimal(funds), reference=f"pay-{next(numbers)}")
    return made


def upstream(name: str = "Hub") -> Upstream:
    code = name.lower().replace(" ", "-")
    return Upstream.objects.get_or_create(
        code=code, defaults={"name": name, "base_url": f"https://{code}.test"}
    )[0]


def offer(
    *, service: str = "tg", country: str = "gb", price: str = "1.5", at: str = "Hub"
) -> Offer:
    return Offer.objects.get_or_create(
        upstream=upstream(at),
        service=service,
        country=country,
        defaults={"title": f"{service} in {country}", "price": Decimal(price)},
    )[0]


def post(kind: str, debit: int, credit: int, amount: Decimal, key: str) -> int:
    [transfer] = ledger.post([ledger.Posting(kind, debit, credit, amount, key)])
    return transfer


def place(buyer: Customer, *, of: Offer | None = None, at: datetime | None = None) -> Order:
    """An order that has been paid into escrow."""
    of = of or offer()
    key = f"key-{next(numbers)}"
    with transaction.atomic():
        purchase = post(
            Transfer.Kind.PURCHASE,
            buyer.pk,
            Account.ORDER_ESCROW,
            of.price,
            f"purchase:{buyer.pk}:{key}",
        )
        order = Order(
            customer=buyer,
            offer=of,
            upstream=of.upstream,
            kind=of.kind,
            service=of.service,
            country=of.country,
            rental_hours=of.rental_hours,
            price=of.price,
            idempotency_key=key,
            placed_at=at or timezone.now(),
            purchase_id=purchase,
        )
        history.create([order], actor=ACTOR, reason="Placed by the storefront")
    return order


def await_sms(
    order: Order, *, phone: str = "", deadline: datetime | None = None, reason: str = ""
) -> Order:
    """Its number is handed out; by default the deadline passed a minute ago."""
    now = timezone.now()
    order.phone = phone or f"+4477009{next(numbers):05d}"
    order.await_sms(at=now, deadline=deadline or now - timedelta(minutes=1))
    _saved(order, ["state", "phone", "allocated_at", "deadline"], reason or "Number allocated")
    return order


def deliver(order: Order, *, text: str = "Your code is 482915", code: str = "482915") -> Sms:
    """An SMS arrives for an awaiting order."""
    now = timezone.now()
    with transaction.atomic():
        order.receive_sms(at=now)
        order.settlement_id = post(
            Transfer.Kind.DELIVERY,
            Account.ORDER_ESCROW,
            Account.SALES,
            order.price,
            f"delivery:{order.pk}",
        )
        _saved(order, ["state", "first_sms_at", "settlement"], "SMS received")
    return sms(order, text=text, code=code)


def sms(order: Order, *, text: str, code: str, late: bool = False) -> Sms:
    return Sms.objects.create(
        order=order,
        text=text,
        code=code,
        sender="Telegram",
        late=late,
        received_at=timezone.now(),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def refund(order: Order, clause: Clause = Clause.NO_SMS_IN_TIME) -> Refund:
    """The order ends by an automatic clause and its price goes back."""
    now = timezone.now()
    ending = {
        Clause.NO_SMS_IN_TIME: order.expire,
        Clause.CANCELLED_BEFORE_SMS: order.cancel,
        Clause.NUMBER_BROKEN: order.break_number,
        Clause.ALLOCATION_FAILED: order.fail_allocation,
    }[clause]
    if clause == Clause.NUMBER_BROKEN:
        order.broken_at = now
    with transaction.atomic():
        ending(at=now)
        order.settlement_id = post(
            Transfer.Kind.AUTOMATIC_REFUND,
            Account.ORDER_ESCROW,
            order.customer_id,
            order.price,
            f"refund:auto:{order.pk}",
        )
        _saved(order, ["state", "ended_at", "settlement", "broken_at"], policy.title(clause))
        return Refund.objects.create(
            order=order,
            transfer_id=order.settlement_id,
            clause=clause,
            policy_version=policy.in_force(order.placed_at).name,
            facts={"deadline": order.deadline and order.deadline.isoformat(), "sms": False},
            amount=order.price,
            created_at=now,
        )


def _saved(order: Order, fields: list[str], reason: str) -> None:
    with transaction.atomic():
        history.save([order], fields, actor=ACTOR, reason=reason)


def figures(**named: Any) -> list[dict[str, Any]]:
    """The checks of an audit that compared escrow with the open orders."""
    return [
        {
            "name": "escrow equals the prices of open orders",
            "seconds": 0.001,
            "count": 0,
            "differences": [],
            "figures": named,
        }
    ]


def requested(order: Order, by: User | None = None, **terms: Any) -> RefundRequest:
    """A refund of a delivered order that an agent asks for: by default half a dollar."""
    asked: dict[str, Any] = {
        "amount": Decimal("0.5"),
        "clause": Clause.SERVICE_REJECTED,
        "reason": "Region block",
        "key": uuid4(),
    }
    by = by or person("Support agent", name=f"agent-{next(numbers)}")
    return decisions.request(by, order.pk, **asked | terms)
