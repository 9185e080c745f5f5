"""Orders against a wholesaler over real HTTP: allocation, polling, releasing, reconciliation."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.conf import settings as configured
from django.utils import timezone
from kombu.exceptions import OperationalError

from orders import allocation, polling, releasing, rentals
from orders.models import Offer, Order, Sms, State, Upstream, UpstreamSide
from orders.upstreams.simulator import Dialect, Fault
from refunds import automatic
from refunds.models import Refund
from refunds.policy import Clause
from refunds.tests import world
from wallet.models import Transfer

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


@pytest.fixture
def clock():
    """One clock for us and for the wholesaler; it moves by hand."""
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


@pytest.fixture
def offer(upstream) -> Offer:
    return world.offer("0.5000", upstream=upstream)


def fresh(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


def bought(offer: Offer) -> Order:
    order = world.place(what=offer)
    allocation.allocate(order.pk)
    return fresh(order)


def unclear_list(*orders: Order) -> Fault:
    """A list that names the orders' numbers with a state which may hide an SMS."""
    return Fault.says(json.dumps({"activeActivations": [unclear(order) for order in orders]}))


def unclear(order: Order) -> dict[str, str | None]:
    return {
        "activationId": order.upstream_ref,
        "activationStatus": "2",
        "smsCode": None,
        "activationTime": simulated_time(order),
    }


def simulated_time(order: Order) -> str:
    """When the order's number was bought, in the simulator's zone, three hours from ours."""
    assert order.allocated_at is not None
    return f"{order.allocated_at + timedelta(hours=3):%Y-%m-%d %H:%M:%S}"


# --- allocation ---------------------------------------------------------------------------------


def test_allocation_hands_out_a_number_and_starts_the_sla_clock(sim, offer, clock):
    order = bought(offer)

    assert order.state == State.AWAITING_SMS
    assert order.upstream_side == UpstreamSide.HELD
    assert order.phone == f"+{sim.line(order.upstream_ref).phone}"
    assert order.upstream_cost == Decimal("0.2500")
    assert order.deadline == timezone.now() + timedelta(minutes=20)
    assert [row.history_change_reason for row in order.history.order_by("history_id")] == [
        "Placed by the customer",
        "Buying a number",
        "The upstream sold a number",
    ]


def test_a_rental_is_rented_for_its_hours(sim, upstream, clock):
    order = bought(world.offer("2.0000", kind=Offer.Kind.RENTAL, upstream=upstream))

    assert order.state == State.ACTIVE
    assert order.rental_ends_at == timezone.now() + timedelta(hours=4)
    assert sim.requests["getRentNumber"] == 1


def test_a_task_that_runs_twice_buys_once(sim, offer):
    order = bought(offer)

    allocation.allocate(order.pk)

    assert sim.bought_for_order(str(order.pk)) == 1
    assert fresh(order).upstream_ref == order.upstream_ref


@pytest.mark.parametrize("code", ["NO_NUMBERS", "NO_BALANCE", "BAD_SERVICE"])
def test_a_refused_allocation_is_refunded_by_the_next_sweep(sim, offer, code):
    sim.inject("getNumberV2", Fault.says(code))
    order = bought(offer)
    assert order.state == State.PLACED
    assert order.refusal_code == code

    assert automatic.sweep() == 1

    assert fresh(order).state == State.ALLOCATION_FAILED
    assert Refund.objects.get(order=order).clause == Clause.ALLOCATION_FAILED


def test_an_upstream_that_cannot_be_reached_has_sold_nothing(sim, offer):
    sim.stop()
    order = bought(offer)

    assert order.refusal_code == "UNREACHABLE"
    assert automatic.sweep() == 1


def test_without_a_key_in_the_environment_nothing_is_bought(sim, offer, settings):
    settings.UPSTREAM_KEYS = {}
    order = bought(offer)

    assert order.refusal_code == "NO_KEY"
    assert sim.requests["getNumberV2"] == 0


def test_a_lost_answer_is_never_bought_again_but_found_in_the_list(sim, upstream, offer):
    sim.inject("getNumberV2", Fault.lost())
    order = bought(offer)
    assert order.state == State.PLACED
    assert order.upstream_side == UpstreamSide.UNKNOWN
    allocation.allocate(order.pk)
    assert sim.bought_for_order(str(order.pk)) == 1

    assert polling.look(upstream.pk)

    order = fresh(order)
    assert order.state == State.AWAITING_SMS
    assert sim.line(order.upstream_ref).order_key == str(order.pk)
    assert order.history.first().history_actor == "automatic: reconciliation"


def test_a_lost_answer_found_after_the_refund_is_given_back(sim, upstream, offer, clock):
    sim.inject("getNumberV2", Fault.lost())
    order = bought(offer)
    clock.shift(configured.ALLOCATION_TIMEOUT + SECOND)
    assert automatic.sweep() == 1
    assert fresh(order).state == State.ALLOCATION_FAILED

    polling.look(upstream.pk)
    assert fresh(order).upstream_side == UpstreamSide.RELEASING
    releasing.release_due()

    assert fresh(order).upstream_side == UpstreamSide.RELEASED
    assert sim.market.balance == sim.market.opening_balance
    assert Refund.objects.filter(order=order).count() == 1


def test_a_number_whose_purchase_is_on_its_way_is_not_given_to_another_order(sim, upstream, offer):
    lost, under_way = world.place(what=offer), world.buying(world.place(what=offer))
    sim.inject("getNumberV2", Fault.lost())
    allocation.allocate(lost.pk)
    assert fresh(lost).upstream_side == UpstreamSide.UNKNOWN

    polling.look(upstream.pk)

    assert fresh(lost).upstream_side == UpstreamSide.UNKNOWN
    assert fresh(under_way).upstream_side == UpstreamSide.BUYING


def test_a_worker_that_died_while_buying_leaves_an_order_that_is_refunded(sim, offer, clock):
    order = world.buying(world.place(what=offer))
    clock.shift(configured.ALLOCATION_TIMEOUT + SECOND)

    assert automatic.sweep() == 1
    allocation.allocate(order.pk)

    assert fresh(order).state == State.ALLOCATION_FAILED
    assert sim.requests["getNumberV2"] == 0


def test_a_number_bought_after_the_cancel_is_given_back(sim, upstream, offer, monkeypatch):
    order = world.place(what=offer)
    client = allocation.client_for(upstream)
    buy = client.allocate

    def cancelled_before_the_answer_is_read(**wanted):
        number = buy(**wanted)
        automatic.cancel(order.pk, actor=world.TESTER)
        return number

    monkeypatch.setattr(client, "allocate", cancelled_before_the_answer_is_read)
    allocation.allocate(order.pk)

    order = fresh(order)
    assert order.state == State.CANCELLED
    assert order.upstream_side == UpstreamSide.RELEASING
    releasing.release_due()
    assert fresh(order).upstream_side == UpstreamSide.RELEASED
    assert not sim.line(order.upstream_ref).live


# --- polling ------------------------------------------------------------------------------------


def test_an_sms_is_stored_once_and_delivers_the_order(sim, upstream, offer):
    order = bought(offer)
    sim.deliver_sms(order.upstream_ref, "123456", "Your code is 123456")

    assert polling.look(upstream.pk)
    assert polling.look(upstream.pk)

    assert fresh(order).state == State.SMS_RECEIVED
    sms = Sms.objects.get(order=order)
    assert (sms.code, sms.text, sms.late) == ("123456", "Your code is 123456", False)
    assert Transfer.objects.get(key=f"delivery:{order.pk}").amount == Decimal("0.5000")
    world.assert_books_agree()


def test_an_sms_that_was_there_before_the_deadline_beats_the_refund(sim, upstream, offer, clock):
    sim.market.lifetime = 3600
    order = bought(offer)
    clock.shift(configured.ORDER_SLA - SECOND)
    sim.deliver_sms(order.upstream_ref, "1959")
    clock.shift(10 * SECOND)
    assert automatic.sweep() == 0, "nobody has looked since the deadline"

    polling.look(upstream.pk)

    assert automatic.sweep() == 0
    assert fresh(order).state == State.SMS_RECEIVED
    assert not Sms.objects.get(order=order).late


def test_an_sms_after_the_deadline_is_late_and_the_order_is_refunded(sim, upstream, offer, clock):
    sim.market.lifetime = 3600
    order = bought(offer)
    clock.shift(configured.ORDER_SLA + SECOND)
    sim.deliver_sms(order.upstream_ref, "2001")
    clock.shift(SECOND)

    polling.look(upstream.pk)
    assert Sms.objects.get(order=order).late
    clock.shift(SECOND)
    assert automatic.sweep() == 1

    assert fresh(order).state == State.EXPIRED
    assert Refund.objects.get(order=order).clause == Clause.NO_SMS_IN_TIME
    polling.look(upstream.pk)
    world.assert_books_agree()


def test_an_sms_after_a_cancel_is_late_and_never_delivers(sim, upstream, offer):
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)
    sim.deliver_sms(order.upstream_ref, "777")

    polling.look(upstream.pk)

    order = fresh(order)
    assert order.state == State.CANCELLED
    assert Sms.objects.get(order=order).late
    assert order.upstream_side == UpstreamSide.LOST
    world.assert_books_agree()


@pytest.mark.parametrize("end", ["break_number", "end"])
def test_a_number_ended_by_the_upstream_is_broken_and_refunded(sim, upstream, offer, end):
    order = bought(offer)
    getattr(sim, end)(order.upstream_ref)

    polling.look(upstream.pk)
    assert fresh(order).broken_at is not None
    assert automatic.sweep() == 1

    assert fresh(order).state == State.NUMBER_BROKEN
    assert Refund.objects.get(order=order).clause == Clause.NUMBER_BROKEN


def test_a_number_ended_by_the_upstream_with_an_sms_in_its_history_is_delivered(
    sim, upstream, offer
):
    order = bought(offer)
    sim.deliver_sms(order.upstream_ref, "42")
    sim.end(order.upstream_ref)

    polling.look(upstream.pk)

    assert fresh(order).state == State.SMS_RECEIVED


def test_a_number_that_expires_upstream_just_before_our_deadline_is_not_called_broken(
    sim, upstream, offer, clock
):
    order = bought(offer)
    clock.shift(configured.ORDER_SLA - SECOND)
    sim.end(order.upstream_ref)
    polling.look(upstream.pk)
    assert automatic.sweep() == 0
    clock.shift(2 * SECOND)
    polling.look(upstream.pk)
    clock.shift(SECOND)

    assert automatic.sweep() == 1
    assert Refund.objects.get(order=order).clause == Clause.NO_SMS_IN_TIME


def test_a_number_that_vanished_keeps_its_state_until_the_deadline(sim, upstream, offer, clock):
    order = bought(offer)
    sim.vanish(order.upstream_ref)
    assert polling.look(upstream.pk)
    assert automatic.sweep() == 0
    assert fresh(order).broken_at is None
    clock.shift(configured.ORDER_SLA + SECOND)
    polling.look(upstream.pk)
    clock.shift(SECOND)

    assert automatic.sweep() == 1
    assert fresh(order).state == State.EXPIRED


@pytest.mark.parametrize(
    "fault",
    [
        Fault.html(200),
        Fault.html(503),
        Fault.empty(),
        Fault.truncated(),
        Fault.says('{"status": "error", "activeActivations": []}'),
        Fault.says("ERROR_SQL"),
        Fault.says("BAD_KEY"),
        Fault.throttled("5"),
    ],
    ids=lambda fault: "",
)
def test_an_answer_without_information_changes_nothing(sim, upstream, offer, fault, clock):
    order = bought(offer)
    clock.shift(configured.ORDER_SLA + SECOND)
    sim.market.lifetime = 3600
    sim.inject("getActiveActivations", fault, times=3)

    assert not polling.look(upstream.pk)

    assert Upstream.objects.get(pk=upstream.pk).looked_at is None
    assert Upstream.objects.get(pk=upstream.pk).last_error
    assert automatic.sweep() == 0
    assert fresh(order).state == State.AWAITING_SMS


def test_what_a_look_has_read_is_kept_when_the_rest_of_it_fails(sim, upstream, offer):
    absent, delivered = bought(offer), bought(offer)
    sim.end(absent.upstream_ref)
    sim.deliver_sms(delivered.upstream_ref, "42")
    sim.inject("getHistory", Fault.html(503), times=3)

    assert not polling.look(upstream.pk)

    assert fresh(delivered).state == State.SMS_RECEIVED
    assert fresh(absent).state == State.AWAITING_SMS


def test_an_sms_past_the_deadline_whose_time_cannot_be_had_counts_for_the_customer(
    sim, upstream, offer, clock
):
    sim.market.lifetime = 3600
    orders = [bought(offer), bought(offer)]
    for order in orders:
        sim.deliver_sms(order.upstream_ref, "42")
    clock.shift(configured.ORDER_SLA + SECOND)
    sim.inject("getStatusV2", Fault.says("?"), times=2)

    assert polling.look(upstream.pk)

    assert {fresh(order).state for order in orders} == {State.SMS_RECEIVED}


def late_orders(sim, offer, clock, number: int) -> list[Order]:
    """Orders whose SMS came a minute past their deadline by the wholesaler's own times."""
    sim.market.lifetime = 86_400
    buyer = world.customer("1000")
    orders = [world.place(buyer, offer) for _ in range(number)]
    for order in orders:
        allocation.allocate(order.pk)
    orders = list(Order.objects.filter(pk__in=[order.pk for order in orders]).order_by("pk"))
    clock.shift(configured.ORDER_SLA + timedelta(minutes=1))
    for order in orders:
        sim.deliver_sms(order.upstream_ref, f"{order.pk:06d}")
    clock.shift(SECOND)
    return orders


def states() -> Counter[str]:
    return Counter(Order.objects.values_list("state", flat=True))


def test_no_late_sms_is_charged_however_many_came_at_once(sim, upstream, offer, clock):
    orders = late_orders(sim, offer, clock, 120)

    assert not polling.look(upstream.pk), "it asked for a hundred"
    clock.shift(SECOND)
    automatic.sweep()
    assert states()[State.SMS_RECEIVED] == 0
    assert polling.look(upstream.pk)
    clock.shift(SECOND)
    automatic.sweep()

    assert states() == {State.EXPIRED: 120}
    assert not Transfer.objects.filter(key__startswith="delivery:").exists()
    assert Sms.objects.filter(late=True).count() == len(orders)
    assert sim.requests["getStatusV2"] == 120, "each was asked for once"
    world.assert_books_agree()


def test_an_sms_in_time_that_a_look_could_not_ask_for_is_neither_charged_nor_refunded_until_then(
    sim, upstream, offer, clock, monkeypatch
):
    monkeypatch.setattr(polling, "DETAILS_A_LOOK", 2)
    late = late_orders(sim, offer, clock, 2)
    in_time = bought(offer)
    sim.deliver_sms(in_time.upstream_ref, "42")
    clock.shift(configured.ORDER_SLA + SECOND)

    assert not polling.look(upstream.pk)
    clock.shift(SECOND)
    automatic.sweep()
    assert [fresh(order).state for order in late] == [State.EXPIRED] * 2
    assert fresh(in_time).state == State.AWAITING_SMS
    assert not Sms.objects.filter(order=in_time).exists()

    assert polling.look(upstream.pk)
    clock.shift(SECOND)
    automatic.sweep()

    assert fresh(in_time).state == State.SMS_RECEIVED
    assert not Sms.objects.get(order=in_time).late


def test_what_looks_have_still_to_ask_for_is_waited_for_beyond_every_grace(
    sim, upstream, offer, clock, monkeypatch
):
    monkeypatch.setattr(polling, "DETAILS_A_LOOK", 1)
    orders = late_orders(sim, offer, clock, 3)

    for left in (2, 1):
        clock.shift(11 * configured.UPSTREAM_GRACE)
        assert not polling.look(upstream.pk)
        automatic.sweep()
        assert states()[State.SMS_RECEIVED] == 0
        assert Sms.objects.count() == 3 - left
        assert states()[State.AWAITING_SMS] >= left
    assert polling.look(upstream.pk)
    clock.shift(SECOND)
    automatic.sweep()

    assert states() == {State.EXPIRED: len(orders)}


def test_an_upstream_that_stops_answering_while_it_is_asked_has_decided_nothing(
    sim, upstream, offer, clock
):
    [order] = late_orders(sim, offer, clock, 1)
    sim.inject("getStatusV2", Fault.html(503), times=3)

    assert not polling.look(upstream.pk)
    clock.shift(SECOND)
    automatic.sweep()
    assert fresh(order).state == State.AWAITING_SMS
    assert Upstream.objects.get(pk=upstream.pk).failing_since is not None

    assert polling.look(upstream.pk)
    clock.shift(SECOND)
    automatic.sweep()
    assert fresh(order).state == State.EXPIRED


def test_a_number_that_may_hide_an_sms_and_was_not_asked_for_does_not_spoil_the_look(
    sim, upstream, offer, clock, monkeypatch
):
    monkeypatch.setattr(polling, "DETAILS_A_LOOK", 1)
    late, hidden = late_orders(sim, offer, clock, 2)
    row = {"activationId": hidden.upstream_ref, "activationStatus": "2", "smsCode": None}
    seen = {
        "activationId": late.upstream_ref,
        "activationStatus": "4",
        "smsCode": f"{late.pk:06d}",
        "activationTime": simulated_time(late),
    }
    sim.inject("getActiveActivations", Fault.says(json.dumps([row, seen])))
    Order.objects.filter(pk=late.pk).update(deadline=late.deadline - SECOND)

    assert not polling.look(upstream.pk)
    clock.shift(SECOND)
    assert automatic.sweep() == 1

    assert [fresh(order).state for order in (late, hidden)] == [State.EXPIRED, State.AWAITING_SMS]
    assert Upstream.objects.get(pk=upstream.pk).failing_since is None
    assert polling.look(upstream.pk)
    clock.shift(SECOND)
    assert automatic.sweep() == 1


def test_the_time_that_the_purchase_took_is_the_customers(sim, upstream, offer, clock):
    sim.market.lifetime = 3600
    order = bought(offer)
    slow = timedelta(seconds=40)
    # The answer to the purchase took forty seconds, so our deadline is forty seconds later.
    Order.objects.filter(pk=order.pk).update(
        allocated_at=order.allocated_at + slow, deadline=order.deadline + slow
    )
    clock.shift(configured.ORDER_SLA + slow - 5 * SECOND)
    sim.deliver_sms(order.upstream_ref, "42")
    clock.shift(10 * SECOND)

    polling.look(upstream.pk)

    assert fresh(order).state == State.SMS_RECEIVED


@pytest.mark.parametrize("text", ["half \ud83d of an emoji", "a \x00 in it"])
def test_an_sms_that_no_database_stores_is_stored_all_the_same(upstream, offer, sim, text):
    strange, plain = bought(offer), bought(offer)
    sim.deliver_sms(strange.upstream_ref, "7", text)
    sim.deliver_sms(plain.upstream_ref, "8")

    assert polling.look(upstream.pk)

    assert fresh(strange).state == fresh(plain).state == State.SMS_RECEIVED


def test_a_state_that_may_hide_an_sms_is_asked_for_by_itself(sim, upstream, offer):
    order = bought(offer)
    sim.deliver_sms(order.upstream_ref, "42")
    sim.inject("getActiveActivations", unclear_list(order))

    assert polling.look(upstream.pk)

    assert fresh(order).state == State.SMS_RECEIVED


def test_a_number_past_its_deadline_that_stays_unclear_makes_the_look_count_for_nothing(
    sim, upstream, offer, clock
):
    sim.market.lifetime = 3600
    order = bought(offer)
    clock.shift(configured.ORDER_SLA + SECOND)
    sim.inject("getActiveActivations", unclear_list(order))
    sim.inject("getStatusV2", Fault.says("?"))

    assert not polling.look(upstream.pk)
    assert automatic.sweep() == 0
    assert fresh(order).state == State.AWAITING_SMS


def answering_late(monkeypatch, upstream, happens) -> None:
    """The upstream's next answer about a number comes after that has happened."""
    client = polling.client_for(upstream)
    ask = client.status

    def answer(ref):
        happens()
        return ask(ref)

    monkeypatch.setattr(client, "status", answer)


def test_an_sms_that_comes_late_while_the_look_is_asking_is_not_charged(
    sim, upstream, offer, clock, monkeypatch
):
    sim.market.lifetime = 3600
    order = bought(offer)
    clock.shift(configured.ORDER_SLA - 2 * SECOND)
    sim.inject("getActiveActivations", unclear_list(order))

    def the_deadline_passes():
        clock.shift(32 * SECOND)
        sim.deliver_sms(order.upstream_ref, "2001")
        clock.shift(10 * SECOND)

    answering_late(monkeypatch, upstream, the_deadline_passes)

    assert polling.look(upstream.pk)

    assert fresh(order).state == State.AWAITING_SMS
    assert Sms.objects.get(order=order).late
    assert not Transfer.objects.filter(key=f"delivery:{order.pk}").exists()


def test_an_sms_in_time_that_is_read_while_the_deadline_passes_is_charged(
    sim, upstream, offer, clock, monkeypatch
):
    sim.market.lifetime = 3600
    order = bought(offer)
    clock.shift(configured.ORDER_SLA - 2 * SECOND)
    sim.deliver_sms(order.upstream_ref, "1959")
    sim.inject("getActiveActivations", unclear_list(order))
    answering_late(monkeypatch, upstream, lambda: clock.shift(40 * SECOND))

    assert polling.look(upstream.pk)

    assert fresh(order).state == State.SMS_RECEIVED


def test_a_number_that_stays_unclear_while_its_deadline_passes_makes_the_look_fail(
    sim, upstream, offer, clock, monkeypatch
):
    sim.market.lifetime = 3600
    order = bought(offer)
    clock.shift(configured.ORDER_SLA - 2 * SECOND)
    sim.inject("getActiveActivations", unclear_list(order))
    sim.inject("getStatusV2", Fault.says("?"))
    answering_late(monkeypatch, upstream, lambda: clock.shift(40 * SECOND))

    assert not polling.look(upstream.pk)


def test_an_sms_that_the_list_shows_is_asked_for_before_numbers_that_are_unclear(
    sim, upstream, offer, clock, monkeypatch
):
    monkeypatch.setattr(polling, "DETAILS_A_LOOK", 2)
    sim.market.lifetime = 3600
    hiding = [bought(offer), bought(offer)]
    clock.shift(SECOND)
    delivered = bought(offer)
    clock.shift(configured.ORDER_SLA - SECOND)
    seen = unclear(delivered) | {"activationStatus": "4", "smsCode": "1959"}
    clock.shift(2 * SECOND)
    rows = [*map(unclear, hiding), seen]
    sim.inject("getActiveActivations", Fault.says(json.dumps({"activeActivations": rows})))
    sim.inject("getStatusV2", Fault.says("?"), times=2)

    assert not polling.look(upstream.pk)

    assert fresh(delivered).state == State.SMS_RECEIVED


def test_what_a_look_left_is_waited_for_though_another_number_stayed_unclear(
    sim, upstream, offer, clock, monkeypatch
):
    monkeypatch.setattr(polling, "DETAILS_A_LOOK", 1)
    sim.market.lifetime = 86_400
    orders = [bought(offer), bought(offer)]
    clock.shift(configured.ORDER_SLA - SECOND)
    sim.deliver_sms(orders[1].upstream_ref, "1959")
    clock.shift(2 * SECOND)

    def look_in_vain():
        sim.inject("getActiveActivations", unclear_list(*orders))
        sim.inject("getStatusV2", Fault.says("?"))
        assert not polling.look(upstream.pk)

    look_in_vain()
    clock.shift(configured.UPSTREAM_GRACE + SECOND)
    look_in_vain()
    clock.shift(SECOND)
    assert automatic.sweep() == 0, "one of them was not asked for"

    # But not for ever: these looks get no further.
    clock.shift(9 * configured.UPSTREAM_GRACE)
    look_in_vain()
    assert automatic.sweep() == 2


def test_a_look_that_cannot_set_deadlines_right_gives_its_lease_back(upstream, monkeypatch):
    def dies(_):
        raise OperationalError

    monkeypatch.setattr(polling, "set_deadlines_right", dies)

    with pytest.raises(OperationalError):
        polling.look(upstream.pk)

    assert Upstream.objects.get(pk=upstream.pk).look_lease_until is None


def test_a_stranger_with_an_sms_is_given_to_nobody(sim, upstream, offer):
    sim.inject("getNumberV2", Fault.lost())
    order = bought(offer)
    [stranger] = sim.market.live("activation")
    sim.deliver_sms(stranger.ref, "999")

    polling.look(upstream.pk)

    assert fresh(order).upstream_side == UpstreamSide.UNKNOWN
    assert not Sms.objects.exists()


def test_a_number_dearer_than_the_order_is_not_bought(sim, upstream):
    order = bought(world.offer("0.2400", upstream=upstream))

    assert order.refusal_code.startswith("WRONG_MAX_PRICE")
    assert sim.market.charged == 0
    assert automatic.sweep() == 1


def test_a_history_that_fails_makes_the_look_count_for_nothing(sim, upstream, offer):
    order = bought(offer)
    sim.deliver_sms(order.upstream_ref, "42")
    sim.end(order.upstream_ref)
    sim.inject("getHistory", Fault.html(503), times=3)

    assert not polling.look(upstream.pk)

    assert Upstream.objects.get(pk=upstream.pk).looked_at is None
    assert fresh(order).state == State.AWAITING_SMS


def test_one_look_at_a_time(sim, upstream):
    Upstream.objects.filter(pk=upstream.pk).update(
        look_lease_until=timezone.now() + timedelta(minutes=1)
    )

    assert not polling.look(upstream.pk)

    assert sim.requests["getActiveActivations"] == 0


def test_a_look_that_died_is_taken_over_when_its_lease_runs_out(sim, upstream):
    Upstream.objects.filter(pk=upstream.pk).update(look_lease_until=timezone.now() - SECOND)

    assert polling.look(upstream.pk)


@pytest.mark.parametrize("shape", ["activeActivations", "data", "rows", "bare"])
def test_every_dialect_of_the_list_is_read(upstream, offer, sim, shape):
    sim.dialect = Dialect(active_list=shape, ids="int")
    order = bought(offer)
    sim.deliver_sms(order.upstream_ref, "5")

    polling.look(upstream.pk)

    assert fresh(order).state == State.SMS_RECEIVED


def test_a_rentals_sms_are_kept_and_its_end_reported(sim, upstream, clock):
    order = bought(world.offer("2.0000", kind=Offer.Kind.RENTAL, upstream=upstream))
    sim.deliver_sms(order.upstream_ref, "", "Hello one")
    clock.shift(allocation.RENTAL_LOOK_EVERY)
    rentals.look_at_rentals(upstream.pk)
    assert Sms.objects.get(order=order).text == "Hello one"
    assert fresh(order).state == State.ACTIVE
    rentals.look_at_rentals(upstream.pk)
    assert sim.requests["getRentStatus"] == 1, "not due yet"

    sim.break_number(order.upstream_ref)
    clock.shift(allocation.RENTAL_LOOK_EVERY)
    rentals.look_at_rentals(upstream.pk)

    assert automatic.sweep() == 1
    assert Refund.objects.get(order=order).clause == Clause.NUMBER_BROKEN


def test_a_rental_that_cannot_be_asked_about_keeps_no_other_waiting(sim, upstream, clock):
    offer = world.offer("2.0000", kind=Offer.Kind.RENTAL, upstream=upstream)
    gone, kept = bought(offer), bought(offer)
    sim.vanish(gone.upstream_ref)
    sim.deliver_sms(kept.upstream_ref, "", "Hello two")
    clock.shift(allocation.RENTAL_LOOK_EVERY)

    assert rentals.look_at_rentals(upstream.pk) == 2

    assert Sms.objects.get().order_id == kept.pk
    assert fresh(gone).state == State.ACTIVE


# --- releasing ----------------------------------------------------------------------------------


def test_our_money_comes_back_from_the_upstream(sim, upstream, offer):
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)
    assert sim.market.balance == Decimal("999.75")

    assert releasing.release_due() == 1

    assert fresh(order).upstream_side == UpstreamSide.RELEASED
    assert sim.market.balance == Decimal(1000)
    assert releasing.release_due() == 0


def test_a_cancel_refused_as_too_early_is_asked_again(sim, upstream, offer, clock):
    sim.market.early_cancel = 120
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)

    releasing.release_due()
    assert fresh(order).upstream_side == UpstreamSide.RELEASING
    assert releasing.release_due() == 0, "not before the lock is over"
    clock.shift(timedelta(seconds=121))
    releasing.release_due()

    assert fresh(order).upstream_side == UpstreamSide.RELEASED
    assert sim.market.balance == Decimal(1000)


def test_a_number_that_got_its_sms_at_the_cancel_is_lost_and_its_cost_booked(sim, upstream, offer):
    order = bought(offer)
    sim.deliver_on_cancel(order.upstream_ref, "31337")
    automatic.cancel(order.pk, actor=world.TESTER)

    releasing.release_due()

    assert fresh(order).upstream_side == UpstreamSide.LOST
    assert Sms.objects.get(order=order).late
    assert Transfer.objects.get(key=f"cost:{order.pk}").amount == Decimal("0.2500")
    world.assert_books_agree()


def test_an_upstream_that_keeps_our_money_for_good_costs_us_the_number(sim, upstream, offer):
    sim.market.free_cancel_for = -1
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)

    releasing.release_due()

    order = fresh(order)
    assert order.upstream_side == UpstreamSide.LOST
    assert "FREE_CANCELLATION_EXPIRED" in order.history.first().history_change_reason
    assert Transfer.objects.filter(key=f"cost:{order.pk}").exists()


def test_an_upstream_that_does_not_answer_is_asked_again_for_a_day(sim, upstream, offer, clock):
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)
    sim.stop()
    assert releasing.release_due() == 1
    assert fresh(order).upstream_side == UpstreamSide.RELEASING
    clock.shift(timedelta(days=1, seconds=1))

    assert releasing.release_due() == 1

    assert fresh(order).upstream_side == UpstreamSide.LOST


def test_a_number_that_ended_with_an_sms_is_paid_for(sim, upstream, offer):
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)
    sim.deliver_sms(order.upstream_ref, "42")
    sim.inject("setStatus", Fault.says("NO_ACTIVATION"))

    releasing.release_due()

    assert fresh(order).upstream_side == UpstreamSide.LOST
    assert Transfer.objects.filter(key=f"cost:{order.pk}").exists()


def test_an_upstream_that_says_too_early_for_ever_is_given_up(sim, upstream, offer, clock):
    sim.market.early_cancel = 10**9
    sim.market.lifetime = 10**9
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)
    clock.shift(timedelta(days=1, seconds=1))

    releasing.release_due()

    assert fresh(order).upstream_side == UpstreamSide.LOST


def test_a_rental_is_given_back(sim, upstream):
    order = bought(world.offer("2.0000", kind=Offer.Kind.RENTAL, upstream=upstream))
    automatic.cancel(order.pk, actor=world.TESTER)

    releasing.release_due()

    assert fresh(order).upstream_side == UpstreamSide.RELEASED
    assert sim.market.balance == Decimal(1000)


# --- what was never queued ----------------------------------------------------------------------


def test_an_order_whose_allocation_was_never_queued_is_found_by_the_beat(
    sim, offer, clock, monkeypatch
):
    order = world.place(what=offer)
    queued = []
    monkeypatch.setattr(
        allocation.tasks.allocate, "apply_async", lambda args, expires: queued.extend(args)
    )
    assert allocation.allocate_forgotten() == 0, "it may just be on its way"
    clock.shift(timedelta(seconds=configured.BEAT_SECONDS + 1))

    assert allocation.allocate_forgotten() == 1

    assert queued == [order.pk]


def test_a_broker_that_is_down_does_not_undo_an_order(
    offer, django_capture_on_commit_callbacks, caplog
):
    def refuse(**_: object) -> None:
        raise OperationalError("the broker is down")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allocation.tasks.allocate, "apply_async", refuse)
        with django_capture_on_commit_callbacks(execute=True):
            order = world.place(what=offer)

    assert fresh(order).state == State.PLACED
    assert "the broker is down" in caplog.text
