"""Days with money in them, sealed and closed, for the tests of closes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import time_machine
from django.db import connection, transaction

from orders.models import Order
from refunds.policy import Clause
from smsactivator import closing
from smsactivator.tests import world
from wallet import seals
from wallet.ledger import Posting
from wallet.ledger import post as post_all
from wallet.models import Account, Close, CloseFigure, Transfer

FIRST = date(2025, 10, 30)


def at(day: int, hour: int = 12, *, month: int = 10) -> datetime:
    return datetime(2025, month, day, hour, tzinfo=UTC)


def on(moment: datetime) -> Any:
    return time_machine.travel(moment, tick=False)


def post(kind: str, debit: int, credit: int, amount: str, key: str, reverses: int = 0) -> int:
    with transaction.atomic():
        [pk] = post_all([Posting(kind, debit, credit, Decimal(amount), key, reverses or None)])
    return pk


def sell(buyer: Any, price: str = "10") -> Order:
    with transaction.atomic():
        order = world.await_sms(world.place(buyer, of=world.offer(service=price, price=price)))
        world.deliver(order)
    return order


def charge(order: Order, cost: str) -> int:
    """The upstream charges us."""
    return post(
        *(Transfer.Kind.UPSTREAM_COST, Account.UPSTREAM_COST, Account.UPSTREAM_PREPAID),
        *(cost, f"cost:{order.pk}"),
    )


def seal(through: datetime) -> None:
    with on(through):
        seals.seal_days()


def close_all(through: datetime) -> list[Close]:
    """Seal and close everything that is over at this moment; the database has looked at it."""
    with on(through):
        seals.seal_days()
        made = closing.close_what_is_sealed()
    settle()
    return made


def settle() -> None:
    """What the database looks at of closes on commit, it looks at now."""
    if connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS close_adds_up IMMEDIATE")
            cursor.execute("SET CONSTRAINTS close_adds_up DEFERRED")


def a_shop() -> dict[str, Any]:
    """Two days of October and one of November, with orders, a refund and costs."""
    with on(at(30)):
        buyer = world.customer(funds="100")
        sold = sell(buyer)
        charge(sold, "4.0001")
    with on(at(31)), transaction.atomic():
        waiting = world.await_sms(world.place(buyer, of=world.offer(service="10", price="10")))
        lost = world.place(buyer, of=world.offer(service="10", price="10"))
        charge(lost, "3")
    with on(at(1, month=11)), transaction.atomic():
        world.refund(world.await_sms(lost), Clause.NO_SMS_IN_TIME)
        other = world.customer(funds="0.0005")
    return {"buyer": buyer, "other": other, "sold": sold, "waiting": waiting, "lost": lost}


def told(close: Close) -> dict[str, tuple[int, str]]:
    """What a close says of what there was."""
    rows = CloseFigure.objects.filter(close=close, count__gt=0).order_by("number")
    return {
        " ".join(filter(None, (row.figure, row.part))): (row.count, str(row.amount)) for row in rows
    }


def ends(close: Close) -> tuple[str, str, str]:
    """What is owed at its end: in wallets, in escrow, in payouts."""
    return str(close.closing_wallets), str(close.closing_escrow), str(close.closing_payouts)
