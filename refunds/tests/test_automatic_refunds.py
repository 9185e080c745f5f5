"""The four automatic clauses of the policy, and what is no case for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_fsm import TransitionNotAllowed

from orders.delivery import Arrival, finish_delivered, record_sms
from orders.models import Offer, Order, Sms, State, Upstream, UpstreamSide
from orders.queries import oldest_overdue
from orders.upstreams.base import Message
from refunds import automatic
from refunds.automatic import AlreadyEnded, SmsArrived
from refunds.models import Refund, Sweep
from refunds.policy import Clause
from refunds.tests import world
from wallet import ledger
from wallet.models import Account, Transfer

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def refund_of(order: Order) -> Refund:
    return Refund.objects.get(order=order)


def test_no_sms_within_the_sla_refunds_the_full_price(clock):
    customer = world.customer("10.0000")
    order = world.allocated(world.place(customer, world.offer("0.7500")))
    assert order.deadline == NOON + timedelta(minutes=20)
    assert world.balance(customer) == Decimal("9.2500")

    clock.shift(timedelta(minutes=20))
    world.looked_at()
    assert automatic.sweep() == 0, "the deadline itself is still in time"
    clock.shift(SECOND)
    world.looked_at()
    assert automatic.sweep() == 1

    order = Order.objects.get(pk=order.pk)
    assert order.state == State.EXPIRED
    assert order.ended_at == NOON + timedelta(minutes=20, seconds=1)
    assert world.balance(customer) == Decimal("10.0000")
    refund = refund_of(order)
    assert refund.clause == Clause.NO_SMS_IN_TIME
    assert refund.policy_version == "2026-05-07"
    assert refund.amount == Decimal("0.7500")
    assert refund.created_at == order.ended_at
    assert refund.transfer_id == order.settlement_id
    assert refund.facts == {
        "state": "awaiting_sms",
        "price": "0.7500",
        "placed_at": "2026-06-01T12:00:00+00:00",
        "allocated_at": "2026-06-01T12:00:00+00:00",
        "deadline": "2026-06-01T12:20:00+00:00",
        "first_sms_at": None,
        "refusal_code": "",
        "broken_at": None,
        "broken_signal": "",
        "upstream_looked_at": "2026-06-01T12:20:01+00:00",
        "upstream_failing_since": None,
    }
    last = order.history.order_by("-history_id").first()
    assert last.history_actor == "automatic: refund sweep"
    assert last.history_change_reason == "No SMS arrived by the deadline"
    assert last.state == State.EXPIRED
    assert order.upstream_side == UpstreamSide.RELEASING
    world.assert_books_agree()


def test_an_order_is_not_overdue_before_its_upstream_was_looked_at(clock):
    order = world.allocated()
    clock.shift(timedelta(minutes=20) - SECOND)
    world.looked_at()

    clock.shift(2 * SECOND)
    assert automatic.sweep() == 0

    world.looked_at()
    clock.shift(SECOND)
    assert automatic.sweep() == 1
    assert Order.objects.get(pk=order.pk).state == State.EXPIRED


def test_an_upstream_out_of_reach_delays_the_refund_by_the_grace_period_only(clock):
    order = world.allocated()
    world.out_of_reach()
    clock.shift(timedelta(minutes=20) + settings.UPSTREAM_GRACE)
    world.out_of_reach()
    assert automatic.sweep() == 0

    clock.shift(SECOND)

    assert automatic.sweep() == 1
    assert refund_of(order).clause == Clause.NO_SMS_IN_TIME


def test_after_an_outage_of_our_own_the_first_look_comes_before_any_refund(clock):
    order = world.allocated()
    clock.shift(timedelta(minutes=20) + 5 * settings.UPSTREAM_GRACE)
    assert automatic.sweep() == 0, "nobody has tried to look"
    record_sms({order.pk: [Arrival(Message("1"))]})

    world.looked_at()
    clock.shift(SECOND)

    assert automatic.sweep() == 0
    assert Order.objects.get(pk=order.pk).state == State.SMS_RECEIVED


def test_an_upstream_that_failed_before_the_deadline_alone_is_looked_at_again_first(clock):
    world.allocated()
    world.out_of_reach()
    clock.shift(timedelta(minutes=20) + 2 * settings.UPSTREAM_GRACE)
    assert automatic.sweep() == 0, "the failure is older than the deadline"

    world.out_of_reach()
    clock.shift(SECOND)

    assert automatic.sweep() == 1


def test_no_refund_waits_for_ever_for_a_look(clock):
    world.allocated()
    clock.shift(timedelta(minutes=20) + 10 * settings.UPSTREAM_GRACE)
    assert automatic.sweep() == 0

    clock.shift(SECOND)

    assert automatic.sweep() == 1


def test_a_look_of_a_clock_that_is_ahead_ends_nothing_before_a_right_look(clock):
    world.allocated()
    clock.shift(timedelta(minutes=19))
    Upstream.objects.update(looked_at=timezone.now() + timedelta(hours=1))

    assert automatic.sweep() == 0

    clock.shift(timedelta(minutes=1) + SECOND)
    assert automatic.sweep() == 0, "a look after now is none"
    world.looked_at()
    clock.shift(SECOND)
    assert automatic.sweep() == 1


def test_a_look_of_a_clock_that_is_a_little_ahead_ends_nothing_before_its_time(clock):
    world.allocated()
    clock.shift(timedelta(minutes=20))
    Upstream.objects.update(looked_at=timezone.now() + 3 * SECOND)

    assert automatic.sweep() == 0, "the deadline itself is still in time"

    clock.shift(SECOND)
    assert automatic.sweep() == 1


def test_cancelled_before_any_sms_refunds_at_once():
    customer = world.customer("1.0000")
    order = world.allocated(world.place(customer, world.offer("1.0000")))
    assert world.balance(customer) == Decimal("0.0000")

    automatic.cancel(order.pk, actor=world.TESTER)

    assert world.balance(customer) == Decimal("1.0000")
    assert refund_of(order).clause == Clause.CANCELLED_BEFORE_SMS
    assert Order.objects.get(pk=order.pk).state == State.CANCELLED
    assert order.history.first().history_actor == "tester"
    world.assert_books_agree()


def test_cancelled_before_a_number_was_allocated_refunds_at_once():
    order = world.place()

    automatic.cancel(order.pk, actor=world.TESTER)

    assert refund_of(order).clause == Clause.CANCELLED_BEFORE_SMS
    assert Order.objects.get(pk=order.pk).upstream_side == UpstreamSide.NONE


def test_cancelling_twice_refunds_once():
    order = world.allocated()

    first = automatic.cancel(order.pk, actor=world.TESTER)
    second = automatic.cancel(order.pk, actor=world.TESTER)

    assert first.settlement_id == second.settlement_id
    assert Refund.objects.filter(order=order).count() == 1
    assert order.history.filter(state=State.CANCELLED).count() == 1


def test_a_cancel_after_an_sms_is_refused_with_the_reason():
    order = world.allocated()
    record_sms({order.pk: [Arrival(Message("123456"))]})

    with pytest.raises(SmsArrived, match="received an SMS"):
        automatic.cancel(order.pk, actor=world.TESTER)

    assert Order.objects.get(pk=order.pk).state == State.SMS_RECEIVED
    assert not Refund.objects.exists()


def test_a_cancel_after_another_refund_is_refused_with_the_reason():
    [order] = world.overdue_orders(1)
    automatic.sweep()

    with pytest.raises(AlreadyEnded, match="ended as expired"):
        automatic.cancel(order.pk, actor=world.TESTER)


def test_a_broken_number_refunds_the_full_price():
    customer = world.customer("2.0000")
    order = world.allocated(world.place(customer, world.offer("2.0000")))
    Order.objects.filter(pk=order.pk).update(
        broken_at=timezone.now(), broken_signal="STATUS_CANCEL"
    )

    assert automatic.sweep() == 1

    assert world.balance(customer) == Decimal("2.0000")
    refund = refund_of(order)
    assert refund.clause == Clause.NUMBER_BROKEN
    assert refund.facts["broken_signal"] == "STATUS_CANCEL"
    assert Order.objects.get(pk=order.pk).state == State.NUMBER_BROKEN
    world.assert_books_agree()


def test_a_broken_rental_refunds_the_full_price():
    order = world.allocated(world.place(what=world.offer("2.0000", kind=Offer.Kind.RENTAL)))
    assert order.state == State.ACTIVE
    Order.objects.filter(pk=order.pk).update(
        broken_at=timezone.now(), broken_signal="STATUS_REVOKE"
    )

    assert automatic.sweep() == 1

    assert refund_of(order).amount == Decimal("2.0000")
    assert Order.objects.get(pk=order.pk).state == State.NUMBER_BROKEN


def test_a_refused_allocation_refunds_the_full_price():
    customer = world.customer("3.0000")
    order = world.place(customer, world.offer("3.0000"))
    Order.objects.filter(pk=order.pk).update(refused_at=timezone.now(), refusal_code="NO_NUMBERS")

    assert automatic.sweep() == 1

    assert world.balance(customer) == Decimal("3.0000")
    assert refund_of(order).clause == Clause.ALLOCATION_FAILED
    assert refund_of(order).facts["refusal_code"] == "NO_NUMBERS"
    assert Order.objects.get(pk=order.pk).state == State.ALLOCATION_FAILED
    world.assert_books_agree()


def test_an_order_not_allocated_in_time_is_refunded(clock):
    order = world.place()
    clock.shift(settings.ALLOCATION_TIMEOUT)
    assert automatic.sweep() == 0

    clock.shift(SECOND)

    assert automatic.sweep() == 1
    assert refund_of(order).clause == Clause.ALLOCATION_FAILED


def test_an_sms_in_time_is_no_case_for_a_refund(clock):
    customer = world.customer("1.0000")
    order = world.allocated(world.place(customer, world.offer("1.0000")), cost="0.3000")
    record_sms({order.pk: [Arrival(Message("4711", "Your code is 4711"))]})

    clock.shift(timedelta(hours=1))
    world.looked_at()
    assert automatic.sweep() == 0
    assert finish_delivered() == 1

    order = Order.objects.get(pk=order.pk)
    assert order.state == State.COMPLETED
    assert order.upstream_side == UpstreamSide.FINISHED
    assert world.balance(customer) == Decimal("0.0000")
    assert order.settlement.kind == Transfer.Kind.DELIVERY
    cost = Transfer.objects.get(key=f"cost:{order.pk}")
    assert cost.amount == Decimal("0.3000")
    world.assert_books_agree()


def test_an_sms_after_the_deadline_is_kept_as_late_and_the_order_refunded(clock):
    [order] = world.overdue_orders(1)

    delivered = record_sms({order.pk: [Arrival(Message("99"), in_time=False)]})

    assert delivered == 0
    assert Sms.objects.get(order=order).late
    assert automatic.sweep() == 1
    assert refund_of(order).clause == Clause.NO_SMS_IN_TIME
    world.assert_books_agree()


def test_an_sms_after_the_refund_is_kept_as_late_and_its_cost_booked():
    order = world.allocated(cost="0.2000")
    automatic.cancel(order.pk, actor=world.TESTER)

    record_sms({order.pk: [Arrival(Message("99"))]})

    assert Sms.objects.get(order=order).late
    order = Order.objects.get(pk=order.pk)
    assert order.state == State.CANCELLED
    assert order.upstream_side == UpstreamSide.LOST
    assert Transfer.objects.get(key=f"cost:{order.pk}").amount == Decimal("0.2000")
    assert Refund.objects.filter(order=order).count() == 1
    world.assert_books_agree()


def test_a_second_sms_belongs_to_the_customer_until_the_order_is_completed():
    order = world.allocated()
    record_sms({order.pk: [Arrival(Message("1"))]})
    record_sms({order.pk: [Arrival(Message("1")), Arrival(Message("2"))]})

    assert [(sms.code, sms.late) for sms in Sms.objects.order_by("pk")] == [
        ("1", False),
        ("2", False),
    ]
    assert Transfer.objects.filter(kind=Transfer.Kind.DELIVERY).count() == 1


def test_one_sms_told_once_by_its_code_and_once_by_its_text_is_one():
    order = world.allocated()
    record_sms({order.pk: [Arrival(Message("4711"))]})
    record_sms({order.pk: [Arrival(Message("", "Your code is 4711"))]})
    record_sms({order.pk: [Arrival(Message("", "Another one: 4712"))]})
    record_sms({order.pk: [Arrival(Message("4712", "Another one: 4712"))]})

    assert [(sms.code, sms.text) for sms in Sms.objects.order_by("pk")] == [
        ("4711", ""),
        ("", "Another one: 4712"),
    ]


def test_a_rental_that_ends_is_earned(clock):
    order = world.allocated(world.place(what=world.offer("2.0000", kind=Offer.Kind.RENTAL)))
    assert order.rental_ends_at == NOON + timedelta(hours=4)
    record_sms({order.pk: [Arrival(Message("1"))]})
    clock.shift(timedelta(hours=4) - SECOND)
    assert finish_delivered() == 0

    clock.shift(SECOND)

    assert finish_delivered() == 1
    order = Order.objects.get(pk=order.pk)
    assert order.state == State.ENDED
    assert order.settlement.kind == Transfer.Kind.DELIVERY
    world.assert_books_agree()


def test_a_rental_with_an_sms_cannot_be_cancelled():
    order = world.allocated(world.place(what=world.offer(kind=Offer.Kind.RENTAL)))
    record_sms({order.pk: [Arrival(Message("1"))]})

    with pytest.raises(SmsArrived):
        automatic.cancel(order.pk, actor=world.TESTER)


def test_one_sweep_refunds_all_clauses_and_leaves_a_trace():
    world.overdue_orders(3)
    broken = world.allocated()
    Order.objects.filter(pk=broken.pk).update(broken_at=timezone.now())
    refused = world.place()
    Order.objects.filter(pk=refused.pk).update(refused_at=timezone.now())

    assert automatic.sweep() == 5

    assert Sweep.objects.get(name="refunds").refunded == 5
    assert world.assert_books_agree() == {"escrow": "0.0000", "open_orders": "0"}


def test_many_orders_of_one_wallet_are_refunded_in_one_batch():
    customer = world.customer("10.0000")
    offer = world.offer("0.2500")
    orders = [world.allocated(world.place(customer, offer)) for _ in range(40)]
    assert world.balance(customer) == Decimal("0.0000")
    Order.objects.filter(pk__in=[order.pk for order in orders]).update(
        deadline=timezone.now() - SECOND
    )
    world.looked_at()

    assert automatic.sweep() == 40

    assert world.balance(customer) == Decimal("10.0000")
    versions = Transfer.objects.filter(wallet=customer.pk).order_by("wallet_version")
    assert [line.wallet_version for line in versions] == list(range(1, 82))
    world.assert_books_agree()


def test_a_batch_of_any_size_takes_the_same_number_of_statements(django_assert_num_queries):
    world.overdue_orders(2)
    with django_assert_num_queries(7):
        assert automatic.refund_expired() == 2
    world.overdue_orders(60)
    with django_assert_num_queries(7):
        assert automatic.refund_expired() == 60


def test_broken_and_unallocated_batches_take_a_fixed_number_of_statements_too():
    def statements(number: int) -> list[int]:
        broken = [world.allocated() for _ in range(number)]
        refused = [world.place() for _ in range(number)]
        for orders, fact in ((broken, "broken_at"), (refused, "refused_at")):
            Order.objects.filter(pk__in=[order.pk for order in orders]).update(
                **{fact: timezone.now()}
            )
        counts = []
        for refund in (automatic.refund_broken, automatic.refund_unallocated):
            with CaptureQueriesContext(connection) as captured:
                assert refund() == number
            counts.append(len(captured))
        return counts

    assert statements(2) == statements(20)


def test_an_order_that_contradicts_itself_keeps_no_other_from_its_refund(caplog):
    orders = world.overdue_orders(9)
    wrong = orders[4]
    # As if a program of long ago had used its key for something else.
    ledger.post(
        [
            ledger.Posting(
                kind=Transfer.Kind.UPSTREAM_COST,
                debit=Account.UPSTREAM_COST,
                credit=Account.UPSTREAM_PREPAID,
                amount=Decimal("0.0100"),
                key=f"refund:auto:{wrong.pk}",
            )
        ]
    )

    assert automatic.sweep() == 8

    left = Order.objects.get(state=State.AWAITING_SMS)
    assert left.pk == wrong.pk
    assert f"order {wrong.pk} cannot be refunded" in caplog.text
    assert automatic.sweep() == 0
    assert oldest_overdue() == left.deadline


def test_a_limit_takes_the_oldest_deadlines_first():
    orders = world.overdue_orders(3)
    for age, order in enumerate(orders, start=1):
        Order.objects.filter(pk=order.pk).update(deadline=timezone.now() - timedelta(minutes=age))

    assert automatic.refund_expired(limit=2) == 2

    left = Order.objects.get(state=State.AWAITING_SMS)
    assert left.pk == orders[0].pk


def test_only_an_overdue_order_can_expire():
    order = world.allocated()

    with pytest.raises(TransitionNotAllowed):
        order.expire(at=timezone.now())


def test_states_change_through_transitions_alone():
    order = world.allocated()

    with pytest.raises(AttributeError):
        order.state = State.CANCELLED
    with pytest.raises(AttributeError):
        order.upstream_side = UpstreamSide.LOST


def test_each_upstream_has_its_own_last_word(clock):
    slow = world.upstream("slow")
    here = world.allocated()
    there = world.allocated(world.place(what=world.offer(upstream=slow)))
    clock.shift(timedelta(minutes=20) + SECOND)
    world.looked_at()
    clock.shift(SECOND)

    assert automatic.sweep() == 1

    assert Order.objects.get(pk=here.pk).state == State.EXPIRED
    assert Order.objects.get(pk=there.pk).state == State.AWAITING_SMS
    assert Upstream.objects.get(pk=slow.pk).looked_at is None
