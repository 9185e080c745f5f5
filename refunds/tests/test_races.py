"""Two sides at once, on real connections, behind a barrier, many times: one outcome each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from orders.delivery import Arrival, finish_delivered, record_sms
from orders.models import DELIVERED, REFUNDED, Offer, Order, State
from orders.upstreams.base import Message
from refunds import automatic
from refunds.models import Refund
from refunds.tests import world
from smsactivator.common.errors import Refused
from wallet.models import Transfer
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 15


def sms_arrives(order: Order) -> Callable[[], int]:
    return lambda: record_sms({order.pk: [Arrival(Message("123456"))]})


def customer_cancels(order: Order) -> Callable[[], str]:
    """What the customer gets: the state it cancelled into, or the code of the refusal."""

    def cancel() -> str:
        try:
            return str(automatic.cancel(order.pk, actor=world.TESTER).state)
        except Refused as refusal:
            return refusal.code

    return cancel


def overdue_order() -> Order:
    return world.overdue_orders(1)[0]


def broken_overdue_order() -> Order:
    order = overdue_order()
    Order.objects.filter(pk=order.pk).update(broken_at=timezone.now(), broken_signal="10")
    return Order.objects.get(pk=order.pk)


def assert_one_outcome(order: Order) -> str:
    """Delivered or refunded, exactly one of them, and the wallet agrees. Returns the state."""
    order = Order.objects.get(pk=order.pk)
    refunds = Refund.objects.filter(order=order).count()
    deliveries = Transfer.objects.filter(key=f"delivery:{order.pk}").count()
    states = [row.state for row in order.history.order_by("history_id")]
    changes = [
        state for state, before in zip(states, ["", *states], strict=False) if state != before
    ]
    if order.state in REFUNDED:
        assert (refunds, deliveries) == (1, 0)
        assert world.balance(order.customer) == Decimal("10.0000")
    else:
        assert order.state in DELIVERED
        assert (refunds, deliveries) == (0, 1)
        assert world.balance(order.customer) == Decimal("10.0000") - order.price
    assert changes.count(order.state) == 1, "it came to its end once"
    assert changes[-1] == order.state
    world.assert_books_agree()
    return str(order.state)


def test_sms_against_expiry():
    for _ in range(ROUNDS):
        order = overdue_order()
        at_once(sms_arrives(order), automatic.sweep)
        assert assert_one_outcome(order) in {State.SMS_RECEIVED, State.EXPIRED}


def test_cancel_against_sms():
    for _ in range(ROUNDS):
        order = world.allocated()
        cancelled, _ = at_once(customer_cancels(order), sms_arrives(order))
        state = assert_one_outcome(order)
        assert (cancelled, state) in {
            (State.CANCELLED, State.CANCELLED),
            ("sms_received", State.SMS_RECEIVED),
        }


def test_cancel_against_expiry():
    for _ in range(ROUNDS):
        order = overdue_order()
        cancelled, _ = at_once(customer_cancels(order), automatic.sweep)
        state = assert_one_outcome(order)
        assert (cancelled, state) in {
            (State.CANCELLED, State.CANCELLED),
            ("already_ended", State.EXPIRED),
        }


def test_cancel_twice():
    for _ in range(ROUNDS):
        order = world.allocated()
        results = at_once(*[customer_cancels(order)] * 4)
        assert results == [State.CANCELLED] * 4
        assert assert_one_outcome(order) == State.CANCELLED


def test_broken_against_expiry():
    for _ in range(ROUNDS):
        order = broken_overdue_order()
        refunded = at_once(automatic.refund_broken, automatic.refund_expired)
        assert sum(refunded) == 1
        assert assert_one_outcome(order) in {State.NUMBER_BROKEN, State.EXPIRED}


def test_broken_rental_against_its_end():
    for _ in range(ROUNDS):
        order = world.allocated(world.place(what=world.offer("2.0000", kind=Offer.Kind.RENTAL)))
        Order.objects.filter(pk=order.pk).update(
            rental_ends_at=timezone.now(), broken_at=timezone.now()
        )
        at_once(automatic.sweep, finish_delivered)
        assert assert_one_outcome(order) == State.NUMBER_BROKEN


def test_allocation_failure_against_cancel():
    for _ in range(ROUNDS):
        order = world.place()
        Order.objects.filter(pk=order.pk).update(refused_at=timezone.now())
        at_once(automatic.sweep, customer_cancels(order))
        assert assert_one_outcome(order) in {State.ALLOCATION_FAILED, State.CANCELLED}


def test_the_same_sms_from_two_looks_at_once():
    for _ in range(ROUNDS):
        order = world.allocated()
        delivered = at_once(sms_arrives(order), sms_arrives(order))
        assert sorted(delivered) == [0, 1]
        assert order.messages.count() == 1
        assert assert_one_outcome(order) == State.SMS_RECEIVED


def test_two_sweeps_at_once_refund_each_order_once():
    customer = world.customer("100.0000")
    offer = world.offer("0.2500")
    for _ in range(3):
        orders = [world.allocated(world.place(customer, offer)) for _ in range(30)]
        orders += world.overdue_orders(10)
        Order.objects.filter(pk__in=[order.pk for order in orders]).update(
            deadline=timezone.now() - timedelta(seconds=1)
        )
        world.looked_at()

        refunded = at_once(*[lambda: automatic.refund_expired(limit=7)] * 4)
        rest = automatic.sweep()

        assert sum(refunded) + rest == 40
        assert Refund.objects.filter(order__in=orders).count() == 40
        assert world.balance(customer) == Decimal("100.0000")
        world.assert_books_agree()


def test_sweeps_orders_and_deposits_of_the_same_wallets_at_once():
    customers = [world.customer("5.0000") for _ in range(4)]
    offer = world.offer("0.5000")
    orders = [world.allocated(world.place(of, offer)) for of in customers for _ in range(5)]
    Order.objects.filter(pk__in=[order.pk for order in orders]).update(
        deadline=timezone.now() - timedelta(seconds=1)
    )
    world.looked_at()

    at_once(
        automatic.sweep,
        automatic.sweep,
        *[lambda of=of: world.place(of, offer) for of in customers],
        *[lambda of=of: world.place(of, offer) for of in reversed(customers)],
        *[customer_cancels(order) for order in orders[:4]],
    )
    automatic.sweep()

    for of in customers:
        assert world.balance(of) == Decimal("4.0000")
    assert world.assert_books_agree() == {"escrow": "4.0000", "open_orders": "4.0000"}
