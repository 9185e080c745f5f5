"""The rules of the policy and the verbs that carry them out say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders import delivery, polling
from orders.delivery import Arrival, finish_delivered, record_sms
from orders.models import OPEN, Offer, Order, State
from orders.upstreams.base import Message
from refunds import automatic, policy
from refunds.automatic import NotPromised
from refunds.facts import facts_of, verdict_on
from refunds.models import Refund
from refunds.policy import Outcome
from refunds.replay import replay
from refunds.tests import every_order, world
from refunds.tests.versions import JULY, STRICT

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def verdicts(order_ids: Any) -> dict[int, tuple[str, str]]:
    """The policy's verdict on each order now."""
    found = {}
    for order in Order.objects.select_related("upstream").filter(pk__in=order_ids):
        verdict = verdict_on(order, facts_of(order))
        found[order.pk] = (verdict.outcome, verdict.clause)
    return found


def refunded() -> dict[int, tuple[str, str]]:
    """What was refunded automatically, by which clause."""
    return {
        order: (Outcome.AUTOMATIC, clause)
        for order, clause in Refund.objects.values_list("order_id", "clause")
    }


@pytest.mark.parametrize("sweeping", [True, False], ids=["sweeping", "all at once"])
def test_whatever_happens_to_an_order_rules_and_verbs_agree(clock: Any, sweeping: bool) -> None:
    told = every_order.tell(every_order.STORIES, clock, sweeping=sweeping)

    before = verdicts(told)
    automatic.sweep()
    after, by_verbs = verdicts(told), refunded()

    for pk, story in told.items():
        # What the rules call automatic is what the verbs refund, under the same clause; and once
        # the order has ended, the rules still say so.
        expected = by_verbs.get(pk)
        assert (before[pk] if before[pk][0] == Outcome.AUTOMATIC else None) == expected, story
        assert (after[pk] if after[pk][0] == Outcome.AUTOMATIC else None) == expected, story

    # Each of the four clauses and the termination came up, and so did orders that they leave be.
    assert {outcome for outcome, _ in after.values()} == {"automatic", "not_refundable", "none"}
    assert {clause for _, clause in after.values()} == {*policy.AUTOMATIC, "none.terminated", ""}

    # Time ends what is left: it is delivered.
    clock.shift(timedelta(hours=4))
    delivery.finish_delivered()
    assert automatic.sweep() == 0
    assert not Order.objects.filter(state__in=OPEN).exists()
    assert refunded() == by_verbs
    assert {pk: v for pk, v in verdicts(told).items() if v[0] == Outcome.AUTOMATIC} == by_verbs

    # And replayed over all of it, the version says what happened.
    again = replay("2026-05-07", NOON, NOON + timedelta(days=1), chunk=100)
    assert list(again.differences()) == []
    assert again.orders == len(told)


def test_a_rental_that_broke_after_an_sms_and_before_its_end_is_refunded(clock: Any) -> None:
    order = world.allocated(world.place(what=world.offer("2", kind=Offer.Kind.RENTAL)))
    record_sms({order.pk: [Arrival(Message("1"))]})
    clock.shift(timedelta(hours=4) - SECOND)
    polling.mark_broken({order.pk: "STATUS_REVOKE"})
    clock.shift(timedelta(minutes=5))

    # Its time is over by now, but it broke before: nobody earns it.
    assert finish_delivered() == 0
    assert verdicts([order.pk]) == {order.pk: ("automatic", "auto.number_broken")}
    assert automatic.sweep() == 1
    assert verdicts([order.pk]) == refunded()


def test_a_rental_reported_broken_after_its_end_was_delivered(clock: Any) -> None:
    order = world.allocated(world.place(what=world.offer("2", kind=Offer.Kind.RENTAL)))
    clock.shift(timedelta(hours=4))
    polling.mark_broken({order.pk: "STATUS_REVOKE"})

    assert verdicts([order.pk])[order.pk][0] == Outcome.NONE
    assert automatic.sweep() == 0
    assert finish_delivered() == 1
    assert Order.objects.get(pk=order.pk).state == State.ENDED


def test_the_verdict_waits_for_the_look_as_the_refund_does(clock: Any) -> None:
    order = world.allocated()
    clock.shift(timedelta(minutes=20) + SECOND)

    open_order = Order.objects.get(pk=order.pk)
    verdict = verdict_on(open_order, facts_of(open_order))
    assert (
        verdict.why == "The deadline has passed; the upstream is asked for an SMS that was in time"
    )
    assert automatic.sweep() == 0

    world.looked_at()
    clock.shift(SECOND)
    assert verdicts([order.pk]) == {order.pk: ("automatic", "auto.no_sms_in_time")}
    assert automatic.sweep() == 1


def test_an_upstream_out_of_reach_is_waited_for_by_both(clock: Any) -> None:
    order = world.allocated()
    clock.shift(timedelta(minutes=20) + settings.UPSTREAM_GRACE)
    world.out_of_reach()
    assert (verdicts([order.pk])[order.pk][0], automatic.sweep()) == (Outcome.NONE, 0)

    clock.shift(settings.UPSTREAM_GRACE + SECOND)
    world.out_of_reach()
    assert verdicts([order.pk])[order.pk][0] == Outcome.AUTOMATIC
    assert automatic.sweep() == 1


def test_a_broken_number_past_its_deadline_is_refunded_as_broken(clock: Any) -> None:
    order = world.allocated()
    polling.mark_broken({order.pk: "STATUS_CANCEL"})
    clock.shift(timedelta(minutes=20) + SECOND)
    world.looked_at()
    clock.shift(SECOND)

    assert automatic.refund_expired() == 0
    assert automatic.refund_broken() == 1
    assert Refund.objects.get().clause == "auto.number_broken"


def test_a_terminated_customer_s_refunded_order_keeps_its_verdict(clock: Any) -> None:
    order = world.allocated()
    automatic.cancel(order.pk, actor=world.TESTER)
    later = world.place(order.customer)
    every_order.happens([later.pk], "terminate")

    assert verdicts([order.pk, later.pk]) == {
        order.pk: ("automatic", "auto.cancelled_before_sms"),
        later.pk: ("not_refundable", "none.terminated"),
    }


# --- two versions ---------------------------------------------------------------------------------

MIDNIGHT = datetime(2026, 7, 1, tzinfo=UTC)


def around_midnight(clock: Any) -> list[Order]:
    """Orders placed in the last microsecond of June, and at 00:00 UTC of July."""
    orders = []
    for moment in (MIDNIGHT - timedelta(microseconds=1), MIDNIGHT):
        clock.move_to(moment)
        orders.append(world.allocated())
    return orders


def test_one_batch_refunds_each_order_by_the_version_it_was_placed_under(
    clock: Any, add_version: Any
) -> None:
    add_version("v2026_07_01", JULY)
    old, new = around_midnight(clock)
    clock.shift(timedelta(minutes=20) + SECOND)
    world.looked_at()
    clock.shift(SECOND)

    with CaptureQueriesContext(connection) as captured:
        assert automatic.refund_expired() == 2

    assert len([q for q in captured if "INSERT INTO refunds_refund" in q["sql"]]) == 1
    assert dict(Refund.objects.values_list("order_id", "policy_version")) == {
        old.pk: "2026-05-07",
        new.pk: "2026-07-01",
    }
    assert verdicts([old.pk, new.pk]) == refunded()


def test_a_version_that_drops_a_clause_refunds_nothing_under_it(
    clock: Any, add_version: Any, caplog: pytest.LogCaptureFixture
) -> None:
    add_version("v2026_07_01", STRICT)
    old, new = around_midnight(clock)
    polling.mark_broken({old.pk: "STATUS_CANCEL", new.pk: "STATUS_CANCEL"})

    assert automatic.sweep() == 1

    refund = Refund.objects.get()
    assert (refund.order_id, refund.policy_version) == (old.pk, "2026-05-07")
    assert f"order {new.pk} cannot be refunded: Version 2026-07-01" in caplog.text
    assert verdicts([new.pk])[new.pk][0] == Outcome.NONE


def test_a_cancel_that_the_version_does_not_promise_is_refused(
    clock: Any, add_version: Any
) -> None:
    add_version("v2026_07_01", STRICT)
    old, new = around_midnight(clock)

    assert automatic.cancel(old.pk, actor=world.TESTER).state == State.CANCELLED
    with pytest.raises(NotPromised, match=r"has no automatic refund auto\.cancelled_before_sms"):
        automatic.cancel(new.pk, actor=world.TESTER)

    assert Order.objects.get(pk=new.pk).state == State.AWAITING_SMS
    assert world.balance(new.customer) == 10 - new.price
