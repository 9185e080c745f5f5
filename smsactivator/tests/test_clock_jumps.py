"""A clock that ran ahead and came back: what it wrote is believed by nobody whose clock is right.

Here it is two hours ahead, a worker's alone or everybody's, while something is done, and right
again after that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import time_machine
from celery import Celery
from celery.schedules import crontab
from django.conf import settings as configured
from django.test import Client
from django.utils import timezone

from orders import allocation, polling, releasing, rentals
from orders.models import Offer, Order, State, Upstream, UpstreamSide
from orders.upstreams.simulator import Fault
from refunds import automatic
from refunds.facts import facts_of
from refunds.models import Refund, Sweep
from refunds.policy import Clause
from refunds.tests import world
from smsactivator.auditing import CHECKS
from smsactivator.beat import Scheduler
from support import casework, delivery, presence
from support.models import Outbound
from support.tests import threads
from support.tests.world import agent, ask
from wallet import exports
from wallet.audit import audit
from wallet.models import AuditRun, Export
from wallet.tests.exported import asked, fresh
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
JUMP = timedelta(hours=2)


@pytest.fixture
def clock():
    """Everybody's clock, the wholesaler's too; it moves by hand."""
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


@pytest.fixture
def ahead(clock):
    """``with ahead():`` the clock is two hours ahead, and afterwards it is right again."""

    @contextmanager
    def jump() -> Iterator[None]:
        clock.shift(JUMP)
        yield
        clock.shift(-JUMP)

    return jump


@pytest.fixture
def offer(upstream) -> Offer:
    return world.offer("0.5000", upstream=upstream)


def bought(what: Offer) -> Order:
    order = world.place(what=what)
    allocation.allocate(order.pk)
    return Order.objects.get(pk=order.pk)


def state_of(order: Order) -> str:
    return Order.objects.get(pk=order.pk).state


# --- looks --------------------------------------------------------------------------------------


def test_no_order_ends_by_a_look_that_seems_to_have_been_after_now(
    sim, upstream, offer, clock, ahead
):
    sim.market.lifetime = 3600
    with ahead():
        assert polling.look(upstream.pk)
    orders = [bought(offer) for _ in range(3)]
    clock.shift(configured.ORDER_SLA - SECOND)
    for order in orders:
        sim.deliver_sms(order.upstream_ref, f"{order.pk:06d}")
    clock.shift(2 * SECOND)

    assert automatic.sweep() == 0, "nobody has looked"
    assert polling.look(upstream.pk)
    assert Upstream.objects.get(pk=upstream.pk).looked_at == timezone.now()
    clock.shift(SECOND)
    assert automatic.sweep() == 0

    assert {state_of(order) for order in orders} == {State.SMS_RECEIVED}


def test_a_right_look_that_fails_begins_the_grace_period_anew(sim, upstream, offer, clock, ahead):
    sim.stop()
    with ahead():
        assert not polling.look(upstream.pk)
    order = world.allocated(world.place(what=offer))
    assert not polling.look(upstream.pk)
    assert Upstream.objects.get(pk=upstream.pk).failing_since == timezone.now()

    clock.shift(configured.ORDER_SLA + configured.UPSTREAM_GRACE)
    assert not polling.look(upstream.pk)
    assert automatic.sweep() == 0
    clock.shift(SECOND)

    assert automatic.sweep() == 1
    assert state_of(order) == State.EXPIRED


def test_a_lease_for_longer_than_leases_last_keeps_nobody_from_looking(sim, upstream, clock, ahead):
    with ahead():
        # As a worker leaves it that is killed in its look.
        Upstream.objects.update(look_lease_until=timezone.now() + polling.LEASE)

    assert polling.look(upstream.pk)


def test_an_unfinished_look_after_now_lets_nobody_wait(upstream, clock, ahead):
    with ahead():
        Upstream.objects.update(unfinished_at=timezone.now())
    world.allocated(world.place(what=world.offer(upstream=upstream)))
    clock.shift(configured.ORDER_SLA + 10 * configured.UPSTREAM_GRACE + SECOND)

    assert automatic.sweep() == 1


def test_a_clock_that_was_set_back_looks_as_before(sim, upstream, offer, clock):
    assert polling.look(upstream.pk)
    clock.shift(-JUMP)
    order = bought(offer)
    sim.deliver_sms(order.upstream_ref, "1234")

    assert polling.look(upstream.pk)

    assert state_of(order) == State.SMS_RECEIVED


# --- deadlines and due times --------------------------------------------------------------------


def test_a_number_handed_out_by_a_clock_that_was_ahead_has_its_20_minutes_from_now(
    sim, upstream, offer, clock, ahead
):
    sim.market.lifetime = 86_400
    with ahead():
        silent, in_time = bought(offer), bought(offer)

    assert polling.look(upstream.pk)
    silent.refresh_from_db()
    assert silent.deadline == timezone.now() + configured.ORDER_SLA
    assert silent.history.order_by("-history_id").first().history_change_reason == (
        "Its deadline was set by a clock that was ahead"
    )
    clock.shift(configured.ORDER_SLA + SECOND)
    sim.deliver_sms(in_time.upstream_ref, "1234")
    assert polling.look(upstream.pk)
    clock.shift(SECOND)
    automatic.sweep()

    assert state_of(silent) == State.EXPIRED
    assert polling.look(upstream.pk)


def test_a_worker_whose_clock_is_behind_shortens_nobody_s_time(sim, upstream, offer, clock):
    order = bought(offer)
    clock.shift(-JUMP)

    assert polling.look(upstream.pk)

    assert Order.objects.get(pk=order.pk).deadline == order.deadline


def test_an_order_placed_by_a_clock_that_was_ahead_is_allocated_or_refunded(
    offer, ahead, monkeypatch
):
    queued: list[int] = []
    monkeypatch.setattr(
        allocation.tasks.allocate, "apply_async", lambda args, expires: queued.extend(args)
    )
    with ahead():
        order, lost = world.place(what=offer), world.buying(world.place(what=offer))

    assert allocation.allocate_forgotten() == 1
    assert queued == [order.pk]
    allocation.allocate(order.pk)
    assert automatic.sweep() == 1

    assert state_of(order) == State.AWAITING_SMS
    assert state_of(lost) == State.ALLOCATION_FAILED
    assert Refund.objects.get(order=lost).clause == Clause.ALLOCATION_FAILED


def test_a_sweeper_whose_clock_is_behind_refunds_no_order_that_was_just_placed(offer, clock):
    order = world.buying(world.place(what=offer))
    clock.shift(-(configured.ALLOCATION_TIMEOUT + 10 * SECOND))

    assert automatic.sweep() == 0

    assert state_of(order) == State.PLACED
    assert not facts_of(order).allocation_timed_out


def test_the_facts_of_an_order_placed_by_a_clock_that_was_ahead_are_those_of_the_sweep(
    offer, ahead
):
    with ahead():
        order = world.buying(world.place(what=offer))
    assert facts_of(order).allocation_timed_out

    assert automatic.sweep() == 1

    assert facts_of(Order.objects.get(pk=order.pk)).allocation_timed_out


def test_a_rental_is_asked_for_again_at_once(sim, upstream, clock, ahead):
    order = bought(world.offer("2.0000", kind=Offer.Kind.RENTAL, upstream=upstream))
    with ahead():
        assert rentals.look_at_rentals(upstream.pk) == 1
    sim.break_number(order.upstream_ref)

    assert rentals.look_at_rentals(upstream.pk) == 1
    assert rentals.look_at_rentals(upstream.pk) == 0, "its next turn is in half a minute"
    assert automatic.sweep() == 1

    assert state_of(order) == State.NUMBER_BROKEN


def test_a_number_is_given_back_though_its_time_seems_to_be_far_away(
    sim, upstream, offer, clock, ahead
):
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)
    sim.inject("setStatus", Fault.says("EARLY_CANCEL_DENIED"))
    with ahead():
        assert releasing.release_due() == 1
    assert Order.objects.get(pk=order.pk).upstream_side == UpstreamSide.RELEASING
    clock.shift(timedelta(minutes=3))

    assert releasing.release_due() == 1

    assert Order.objects.get(pk=order.pk).upstream_side == UpstreamSide.RELEASED


def test_an_upstream_s_long_lock_is_asked_about_again_within_minutes(sim, upstream, offer, clock):
    sim.market.early_cancel = 7200
    sim.market.lifetime = 86_400
    order = bought(offer)
    automatic.cancel(order.pk, actor=world.TESTER)
    assert releasing.release_due() == 1
    clock.shift(releasing.LONGEST_WAIT)

    assert releasing.release_due() == 1


# --- people and what they wait for --------------------------------------------------------------


def test_a_reply_that_seems_to_be_due_far_from_now_is_delivered(ahead):
    with ahead():
        outbound = threads.delivery("api")

    assert delivery.deliver_due(Outbound.Way.API) == 1
    assert Outbound.objects.get(pk=outbound.pk).state == Outbound.State.SENT


def test_an_attempt_whose_lease_seems_to_last_for_hours_is_flagged(ahead):
    with ahead():
        outbound = threads.delivery("email")
        assert delivery._claim(outbound.pk)

    assert delivery.flag_lost() == 1
    assert Outbound.objects.get(pk=outbound.pk).state == Outbound.State.UNKNOWN


def test_a_mail_that_is_being_sent_is_not_flagged_by_a_worker_whose_clock_is_behind(clock):
    outbound = threads.delivery("email")
    assert delivery._claim(outbound.pk)
    clock.shift(-configured.OUTBOX_LEASE)

    assert delivery.flag_lost() == 0
    assert Outbound.objects.get(pk=outbound.pk).state == Outbound.State.SENDING


def test_an_export_is_taken_from_a_worker_that_was_last_heard_of_after_now(ahead, monkeypatch):
    queued: list[int] = []
    monkeypatch.setattr(
        "wallet.tasks.write_export.apply_async", lambda args, **options: queued.extend(args)
    )
    with ahead():
        export = asked(person("Finance"), "transfers")
        assert exports.claim(export.pk)

    exports.tend()

    assert fresh(export).state == Export.State.QUEUED
    assert queued == [export.pk], "it is queued anew though it was asked for after now"


def test_a_claim_for_longer_than_claims_last_is_nobody_s(ahead):
    ticket = ask()
    with ahead():
        casework.claim(agent("ann"), ticket.pk)

    assert casework.claim(agent("bob"), ticket.pk).claimed_by.username == "bob"


def test_a_colleague_s_claim_holds_on_a_machine_whose_clock_is_behind(clock):
    ticket = ask()
    casework.claim(agent("ann"), ticket.pk)
    clock.shift(-configured.TICKET_LEASE)

    with pytest.raises(casework.ClaimedByOther):
        casework.claim(agent("bob"), ticket.pk)


def test_nobody_has_a_ticket_open_after_now(ahead):
    ticket = ask()
    with ahead():
        presence.look(agent("ann"), ticket.pk)

    assert presence.look(agent("bob"), ticket.pk) == []


# --- what is told -------------------------------------------------------------------------------


def test_health_calls_a_sweep_and_a_look_after_now_a_problem(sim, upstream, ahead):
    with ahead():
        automatic.sweep()
        assert polling.look(upstream.pk)

    answer = Client().get("/healthz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "bad",
        "problems": [
            "The last sweep ran 7200 s after now: a clock is wrong, or was when it ran.",
            "The last look at sim began 7200 s after now: a clock is wrong, or was when it began.",
        ],
        "last_sweep_age": None,
        "oldest_overdue_age": None,
        "oldest_unlooked_age": None,
        "oldest_delivery_age": None,
    }

    automatic.sweep()
    assert polling.look(upstream.pk)
    assert Client().get("/healthz").status_code == 200


def test_clocks_that_differ_by_a_few_seconds_are_healthy(clock):
    Sweep.objects.create(name="refunds", finished_at=timezone.now() + 3 * SECOND, refunded=0)

    answer = Client().get("/healthz")

    assert (answer.status_code, answer.json()["last_sweep_age"]) == (200, 0.0)


def test_an_audit_from_after_now_hides_no_later_one_that_failed(clock):
    world.customer()

    def ran(at, passed: bool) -> None:
        AuditRun.objects.create(
            started_at=at, finished_at=at, passed=passed, after_id=0, through_id=1, checks=[]
        )

    ran(timezone.now() + JUMP, passed=True)
    ran(timezone.now(), passed=False)

    assert audit(CHECKS).after_id == 0, "while the last full one failed, each is full"


# --- the beat -----------------------------------------------------------------------------------


def beat_of(app: Celery, file: str) -> Scheduler:
    return Scheduler(app, schedule_filename=file)


def ticked(beat: Scheduler) -> Counter[str]:
    """What the beat queues until it would sleep."""
    before = {name: entry.total_run_count for name, entry in beat.schedule.items()}
    while not beat.tick():
        pass
    return Counter(
        {name: entry.total_run_count - before[name] for name, entry in beat.schedule.items()}
    )


@pytest.fixture
def app():
    with Celery("beat", broker="memory://", set_as_current=False) as made:
        made.conf.update(
            timezone="UTC",
            result_expires=None,
            beat_schedule={
                "sweep": {"task": "sweep", "schedule": 5},
                "audit": {"task": "audit", "schedule": crontab(hour=3, minute=30)},
            },
        )
        yield made


@pytest.mark.parametrize("restarted", [False, True])
def test_the_beat_goes_on_from_its_first_tick(app, clock, tmp_path, restarted):
    clock.move_to(timezone.now().replace(hour=12, minute=0, second=0, microsecond=0))
    file = str(tmp_path / "schedule")
    beat = beat_of(app, file)
    ticked(beat)
    clock.shift(JUMP)
    assert ticked(beat)["sweep"] == 1
    if restarted:
        beat.close()
        beat = beat_of(app, file)
    clock.shift(-JUMP)

    assert ticked(beat)["sweep"] == 1
    assert ticked(beat)["sweep"] == 0
    clock.shift(6 * SECOND)

    assert ticked(beat) == {"sweep": 1, "audit": 0}
    beat.close()


def test_a_beat_that_was_stopped_meanwhile_still_queues_what_it_missed(app, clock, tmp_path):
    clock.move_to(timezone.now().replace(hour=3, minute=0, second=0, microsecond=0))
    file = str(tmp_path / "schedule")
    beat = beat_of(app, file)
    ticked(beat)
    beat.close()
    clock.shift(timedelta(hours=1))

    beat = beat_of(app, file)

    assert ticked(beat) == {"sweep": 1, "audit": 1}
    beat.close()


def test_the_beat_of_the_shop_is_this_one():
    assert configured.CELERY_BEAT_SCHEDULER == "smsactivator.beat:Scheduler"
    assert configured.CELERY_BEAT_MAX_LOOP_INTERVAL == configured.BEAT_SECONDS
