"""The preview: what a version would have said of past orders, and what it would have cost."""

from __future__ import annotations

import csv
import gc
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders.delivery import Arrival, finish_delivered, record_sms
from orders.models import Offer, Order
from orders.upstreams.base import Message
from refunds import automatic, decisions, disputes, replay
from refunds.models import RefundRequest
from refunds.policy import Clause, Outcome, PolicyMissing
from refunds.replay import Judged, PeriodRefused, TooManyOrders
from refunds.tests import every_order, world
from refunds.tests.versions import JULY
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
ONE = Decimal(1)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def activation(clock: Any, *, sms_after: int | None, price: str = "1") -> Order:
    """One that has ended, with an SMS after so many minutes or without one."""
    order = world.allocated(world.place(what=world.offer(price)))
    if sms_after is not None:
        clock.shift(sms_after * MINUTE)
        record_sms({order.pk: [Arrival(Message("1234", "Code 1234"))]})
    clock.shift(21 * MINUTE)
    world.looked_at()
    clock.shift(timedelta(seconds=1))
    automatic.sweep()
    finish_delivered()
    order = Order.objects.get(pk=order.pk)
    assert order.ended_at is not None
    return order


def asked(order: Order, clause: str, amount: str = "1") -> RefundRequest:
    return decisions.request(
        person("Senior agent"),
        order.pk,
        amount=Decimal(amount),
        clause=clause,
        reason="Region block",
        key=uuid4(),
    )


def approved(order: Order, clause: str, amount: str = "1") -> RefundRequest:
    request = asked(order, clause, amount)
    return decisions.approve(person("Senior agent"), request.pk, reason="As the ticket shows")


def denied(order: Order, clause: str, amount: str = "1") -> RefundRequest:
    request = asked(order, clause, amount)
    return decisions.deny(person("Senior agent"), request.pk, reason="No evidence")


def july(clock: Any, **options: Any) -> replay.Replay:
    """July's version over all that has ended."""
    return replay.replay("2026-07-01", NOON - DAY, NOON + 30 * DAY, **options)


def test_the_version_in_force_differs_from_what_happened_only_where_people_decided_otherwise(
    clock: Any,
) -> None:
    activation(clock, sms_after=None)
    activation(clock, sms_after=1)
    approved(activation(clock, sms_after=1), Clause.SERVICE_REJECTED, "0.4")
    denied(activation(clock, sms_after=1), Clause.WRONG_SERVICE)
    asked(activation(clock, sms_after=1), Clause.SERVICE_REJECTED)
    approved(activation(clock, sms_after=1), Clause.BANNED_LATER)
    against = activation(clock, sms_after=1)
    # Said of a rental, of which it is none.
    approved(against, Clause.RENTAL_ISSUE, "0.25")

    again = replay.replay("2026-05-07", NOON - DAY, NOON + DAY)
    [found] = list(again.differences())

    assert found.order == against.pk
    assert found.then == Judged(Outcome.TICKET, Clause.RENTAL_ISSUE, Decimal("0.25"))
    assert found.now == Judged(Outcome.NONE, "")
    assert (found.least, found.most) == (Decimal("-0.25"), Decimal("-0.25"))
    assert (again.orders, again.differing, again.cost) == (7, 1, "-0.2500")


def test_what_the_next_version_changes_is_listed_with_its_money(
    clock: Any, add_version: Any
) -> None:
    add_version("v2026_07_01", JULY)
    expired = activation(clock, sms_after=None)
    soon = activation(clock, sms_after=10)
    slow = activation(clock, sms_after=11, price="2")
    paid = activation(clock, sms_after=15, price="3")
    approved(paid, Clause.SERVICE_REJECTED, "0.5")
    banned = activation(clock, sms_after=1, price="4")
    denied(banned, Clause.BANNED_LATER)
    goodwill = activation(clock, sms_after=1, price="5")
    approved(goodwill, Clause.BANNED_LATER, "2")

    preview = july(clock)
    found = {one.order: one for one in preview.differences()}

    assert set(found) == {slow.pk, paid.pk, banned.pk, goodwill.pk}
    assert expired.pk not in found
    assert soon.pk not in found
    none = Judged(Outcome.NONE, "")
    assert (found[slow.pk].then, found[slow.pk].now) == (
        none,
        Judged(Outcome.AUTOMATIC, "auto.no_sms_in_time", Decimal(2)),
    )
    assert found[slow.pk].why == "The SMS took more than 10 minutes"
    assert (found[paid.pk].then.known, found[paid.pk].now.known) == (Decimal("0.5"), Decimal(3))
    # People would decide: nothing is certain, up to the price.
    assert (found[banned.pk].then, found[banned.pk].now) == (
        Judged(Outcome.NOT_REFUNDABLE, "none.banned_later"),
        Judged(Outcome.TICKET, "ticket.banned_later", Decimal(0), Decimal(4)),
    )
    assert (found[banned.pk].least, found[banned.pk].most) == (Decimal(0), Decimal(4))
    # Goodwill was given beside the policy.
    assert (found[goodwill.pk].then.known, found[goodwill.pk].most) == (Decimal(0), Decimal(5))

    assert (preview.least, preview.most) == (Decimal("4.5"), Decimal("13.5"))
    assert preview.cost == "between 4.5000 and 13.5000"
    totals = {clause: total for _, clause, total in preview.by_clause()}
    assert list(totals) == [
        *("auto.no_sms_in_time", "ticket.banned_later", "ticket.service_rejected"),
        *("none.banned_later", ""),
    ]
    sla = totals["auto.no_sms_in_time"]
    assert (sla.then.orders, sla.then.known) == (1, ONE)
    assert (sla.now.orders, sla.now.known, sla.now.undecided) == (3, Decimal(6), 0)
    by_ticket = totals["ticket.banned_later"].now
    assert (by_ticket.orders, by_ticket.known, by_ticket.undecided, by_ticket.up_to) == (2, 0, 2, 9)


def test_what_waits_for_a_decision_is_to_be_decided_on_both_sides(
    clock: Any, add_version: Any
) -> None:
    add_version("v2026_07_01", JULY)
    same = activation(clock, sms_after=1)
    asked(same, Clause.SERVICE_REJECTED, "0.3")
    disputed = activation(clock, sms_after=1)
    disputes.dispute(denied(disputed, Clause.WRONG_SERVICE).pk, actor=world.TESTER)
    slow = activation(clock, sms_after=11)
    asked(slow, Clause.SERVICE_REJECTED, "0.3")
    taken_back = activation(clock, sms_after=1)
    request = asked(taken_back, Clause.SERVICE_REJECTED)
    decisions.withdraw(request.requested_by, request.pk)

    preview = july(clock)
    [found] = list(preview.differences())

    assert found.order == slow.pk
    assert found.then == Judged(Outcome.TICKET, Clause.SERVICE_REJECTED, Decimal(0), Decimal("0.3"))
    # The whole price by itself, instead of what might have been granted.
    assert (found.least, found.most) == (Decimal("0.7"), ONE)
    totals = {clause: total for _, clause, total in preview.by_clause()}
    assert totals[Clause.SERVICE_REJECTED].now.up_to == Decimal("0.3")
    assert totals[Clause.WRONG_SERVICE].then.up_to == ONE
    assert totals[""].then.orders == 1


def test_a_terminated_customer_is_judged_as_of_the_request(clock: Any) -> None:
    before = activation(clock, sms_after=1)
    approved(before, Clause.SERVICE_REJECTED)
    clock.shift(MINUTE)
    every_order.happens([before.pk], "terminate")

    again = replay.replay("2026-05-07", NOON - DAY, NOON + DAY)

    assert list(again.differences()) == []


def test_a_period_holds_what_ended_in_it(clock: Any) -> None:
    order = activation(clock, sms_after=None)
    world.allocated()  # open
    ended = order.ended_at

    def found(since: datetime, until: datetime) -> int:
        asked = replay.replay("2026-05-07", since, until)
        list(asked.differences())
        return asked.orders

    moment = timedelta(microseconds=1)
    assert found(ended, ended + moment) == 1
    assert found(ended - DAY, ended) == 0
    assert found(ended + moment, ended + DAY) == 0


def test_a_batch_takes_five_queries_at_most_and_batches_join_without_a_seam(
    clock: Any, add_version: Any
) -> None:
    add_version("v2026_07_01", JULY)
    # All of them end in the same moment.
    orders = [world.allocated() for _ in range(10)]
    approved_one = activation(clock, sms_after=11)
    approved(approved_one, Clause.SERVICE_REJECTED)
    assert (
        len(set(Order.objects.filter(pk__in=[o.pk for o in orders]).values_list("ended_at"))) == 1
    )

    for chunk, batches in ((3, 4), (4, 3), (11, 1), (100, 1)):
        preview = july(clock, chunk=chunk)
        with CaptureQueriesContext(connection) as captured:
            found = list(preview.differences())
        assert preview.orders == 11
        assert [one.order for one in found] == [approved_one.pk]
        # And one that finds nothing more, when the last batch was full.
        assert len(captured) <= 5 * batches + 1, chunk


def test_no_more_than_a_batch_is_held_in_memory(clock: Any, add_version: Any) -> None:
    add_version("v2026_07_01", JULY)
    orders = [world.allocated() for _ in range(30)]
    clock.shift(15 * MINUTE)
    record_sms({o.pk: [Arrival(Message("", f"Code {o.pk:06}"))] for o in orders})
    clock.shift(10 * MINUTE)
    finish_delivered()

    def held() -> int:
        return sum(type(one) is Order for one in gc.get_objects())

    before = held()
    walked = 0
    for _found in july(clock, chunk=5).differences():
        walked += 1
        # The next batch is read while the last one is still there.
        assert held() - before <= 2 * 5
    assert walked == 30


# --- asked for ------------------------------------------------------------------------------------


def test_a_page_asks_within_bounds_and_with_the_permission(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    senior = person("Senior agent")
    with pytest.raises(PermissionDenied):
        replay.preview(person("Support agent"), "2026-05-07", NOON, NOON + DAY)
    with pytest.raises(PeriodRefused, match="31 days at most"):
        replay.preview(senior, "2026-05-07", NOON, NOON + 31 * DAY + MINUTE)
    with pytest.raises(PeriodRefused, match="begins before it ends"):
        replay.preview(senior, "2026-05-07", NOON, NOON)
    with pytest.raises(PolicyMissing):
        replay.preview(senior, "2020-01-01", NOON, NOON + DAY)
    activation(clock, sms_after=None)
    activation(clock, sms_after=None)
    monkeypatch.setattr(replay, "MOST", 2)
    assert replay.preview(senior, "2026-05-07", NOON, NOON + 31 * DAY).version.name == "2026-05-07"
    monkeypatch.setattr(replay, "MOST", 1)
    with pytest.raises(TooManyOrders, match="More than 1 orders ended"):
        replay.preview(person("Finance"), "2026-05-07", NOON, NOON + DAY)


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("preview_policy", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_lists_sums_up_and_writes_csv(
    clock: Any, add_version: Any, tmp_path: Path
) -> None:
    add_version("v2026_07_01", JULY)
    slow = activation(clock, sms_after=11, price="2")
    banned = activation(clock, sms_after=1)
    denied(banned, Clause.BANNED_LATER)
    days = ("--since", "2026-06-01", "--until", "2026-06-01")

    text = told("2026-07-01", *days, "--chunk", "1")

    assert text.splitlines() == [
        f"Order {slow.pk}: nothing 0.0000 -> auto.no_sms_in_time 2.0000 USD. "
        "The SMS took more than 10 minutes.",
        f"Order {banned.pk}: none.banned_later 0.0000 -> ticket.banned_later 0.0000 "
        "(people decide, up to 1.0000) USD. An SMS arrived in time; claimed by "
        f"{banned.refund_requests.get().requested_by}: the account was banned later.",
        "2 orders, 2 differ from what happened.",
        "  auto.no_sms_in_time: orders 0 -> 1, USD 0.0000 -> 2.0000",
        "  ticket.banned_later: orders 0 -> 1, USD 0.0000 -> 0.0000, "
        "to be decided 1 (up to 1.0000)",
        "  none.banned_later: orders 1 -> 0, USD 0.0000 -> 0.0000",
        "  No clause applies: orders 1 -> 0, USD 0.0000 -> 0.0000",
        "It would have cost between 2.0000 and 3.0000 USD more than what happened.",
    ]
    file = tmp_path / "differences.csv"
    assert "It would have cost" in told("2026-07-01", *days, "--csv", str(file))
    head, *rows = csv.reader(StringIO(file.read_text()), strict=True)
    assert tuple(head) == replay.COLUMNS
    assert rows[0] == [
        str(slow.pk),
        "2026-06-01T12:00:00Z",
        slow.ended_at.isoformat().replace("+00:00", "Z"),
        *("2.0000", "none", "", "0.0000"),
        *("automatic", "auto.no_sms_in_time", "2.0000", "0.0000", "2.0000", "2.0000"),
        "The SMS took more than 10 minutes",
    ]
    assert rows[1][10:13] == ["1.0000", "0.0000", "1.0000"]
    with pytest.raises(CommandError, match="File exists"):
        told("2026-07-01", *days, "--csv", str(file))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("2020-01-01", "--since", "2026-06-01", "--until", "2026-06-02"), "no version 2020-01-01"),
        (("2026-05-07", "--since", "2026-06-02", "--until", "2026-06-01"), "begins before it ends"),
        (("2026-05-07", "--since", "June", "--until", "2026-06-01"), "invalid _day value"),
        (("2026-05-07", "--since", "2026-06-01"), "--until"),
    ],
)
def test_the_command_says_what_it_cannot_do(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        told(*arguments)


def test_a_long_list_is_cut_on_the_screen_and_counted(
    clock: Any, add_version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version("v2026_07_01", JULY)
    monkeypatch.setattr("smsactivator.management.commands.preview_policy.PRINTED", 1)
    for _ in range(3):
        activation(clock, sms_after=11)

    text = told("2026-07-01", "--since", "2026-06-01", "--until", "2026-06-01")

    assert "… and 2 more: take them with --csv." in text
    assert text.count("Order ") == 1


def test_what_an_upstream_wrote_cannot_become_a_formula(clock: Any, add_version: Any) -> None:
    strict = JULY.replace('"The SMS took more than 10 minutes"', '"=1+1"')
    add_version("v2026_07_01", strict)
    activation(clock, sms_after=11)

    _, row = csv.reader(StringIO("".join(replay.as_csv(july(clock)))))

    assert row[-1] == "'=1+1"


def test_a_rental_is_replayed_too(clock: Any) -> None:
    order = world.allocated(world.place(what=world.offer("2", kind=Offer.Kind.RENTAL)))
    approved(order, Clause.RENTAL_ISSUE, "0.5")

    again = replay.replay("2026-05-07", NOON, NOON + DAY)

    assert list(again.differences()) == []
    assert again.totals[Outcome.TICKET, Clause.RENTAL_ISSUE].then.known == Decimal("0.5")
