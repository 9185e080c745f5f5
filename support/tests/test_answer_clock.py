"""The clocks of tickets: what starts, ends, joins and pauses them, and what is recorded of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine

from smsactivator.common.history import Actor
from support import calendars, cases, casework, clocks, delivery, outbox, queues, replies, tasks
from support.models import Message, Outbound, Ticket, Wait
from support.tests.world import (
    MONDAY,
    agent,
    ask,
    bounce,
    decide,
    deliver,
    delivered,
    denied,
    fail,
    fresh,
    reply,
    senior,
    version,
    waits,
    write,
)
from wallet.models import Customer
from wallet.tests import world as wallet_world
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock():
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


@pytest.fixture
def ann():
    return agent("ann")


def shown(ticket):
    """What the ticket shows of both its clocks."""
    ticket = fresh(ticket)
    return ticket.waiting_since, ticket.due_at, ticket.dispute_since, ticket.dispute_due_at


RUNNING = (MONDAY, MONDAY + DAY, None, None)
STOPPED = (None, None, None, None)


# --- what does not stop it ---


def test_follow_ups_never_reset_it(clock):
    ticket = ask()
    for _ in range(3):
        clock.shift(HOUR)
        write(ticket)
    assert shown(ticket) == RUNNING


def test_only_a_delivered_public_reply_of_a_person_stops_it(clock, ann):
    ticket = ask()
    casework.claim(ann, ticket.pk)
    replies.note(ann, ticket.pk, body="A note", key="n")
    casework.assign(ann, ticket.pk, ann.pk)
    message = reply(ann, ticket, then="waiting")
    assert shown(ticket) == RUNNING  # claimed, noted, assigned, replied: nothing has arrived
    fail(message)
    assert shown(ticket) == RUNNING
    clock.shift(HOUR)
    deliver(reply(ann, ticket))
    assert shown(ticket) == STOPPED
    assert waits(ticket) == [("answer", MONDAY, MONDAY + HOUR, "answered")]


def test_a_notice_stops_nothing(clock, ann):
    ticket = ask()
    notice = Message.objects.create(
        ticket=ticket, kind="notice", body="We are on it", created_at=MONDAY, via="auto", key="ack"
    )
    outbox.queue(notice)
    deliver(notice)
    assert shown(ticket) == RUNNING


def test_being_told_twice_that_it_arrived_changes_nothing(clock, ann):
    ticket = ask()
    out = deliver(reply(ann, ticket))
    before, count = version(ticket), ticket.history.count()
    clocks.answered(out)
    assert (version(ticket), ticket.history.count(), len(waits(ticket))) == (before, count, 1)


# --- messages that cross a reply ---


def test_a_message_that_the_author_had_not_seen_waits_from_its_own_arrival(clock, ann):
    ticket = ask()
    clock.shift(HOUR)
    message = reply(ann, ticket)
    clock.shift(HOUR)
    write(ticket)
    write(ticket)
    assert shown(ticket) == RUNNING
    clock.shift(HOUR)

    deliver(message)

    assert shown(ticket) == (MONDAY + 2 * HOUR, MONDAY + DAY + 2 * HOUR, None, None)
    assert waits(ticket) == [
        ("answer", MONDAY, MONDAY + 3 * HOUR, "answered"),
        ("answer", MONDAY + 2 * HOUR, None, ""),
    ]


def test_an_old_reply_that_arrives_late_answers_nothing_newer(clock, ann):
    ticket = ask()
    first = reply(ann, ticket, then="open")
    fail(first)
    second = reply(ann, ticket)
    deliver(second)
    clock.shift(HOUR)
    write(ticket)
    outbox.retry(ann, Outbound.objects.get(message=first).pk, reason="Try again")

    deliver(first)

    assert shown(ticket) == (MONDAY + HOUR, MONDAY + HOUR + DAY, None, None)


def test_what_reached_us_earlier_and_is_entered_later_is_waited_for_from_then(clock, ann):
    ticket = ask()
    message = reply(ann, ticket)
    write(ticket, at=MONDAY - HOUR)
    assert shown(ticket)[0] == MONDAY - HOUR
    deliver(message)
    # the reply did not answer what was entered after it
    assert shown(ticket)[0] == MONDAY - HOUR
    assert [(since, outcome) for _, since, _, outcome in waits(ticket)] == [
        (MONDAY - HOUR, ""),
        (MONDAY, "joined"),
    ]


# --- bounces ---


def test_a_bounce_starts_it_again_from_the_original_time(clock, ann):
    ticket = ask()
    message = reply(ann, ticket, then="resolved")
    clock.shift(HOUR)
    deliver(message)
    assert (fresh(ticket).state, shown(ticket)) == ("resolved", STOPPED)
    before = version(ticket)
    clock.shift(HOUR)

    bounce(message)

    assert (fresh(ticket).state, shown(ticket)) == ("open", RUNNING)
    assert waits(ticket) == [("answer", MONDAY, None, "")]
    assert version(ticket) == before + 1
    assert ticket.history.latest().history_change_reason == (
        f"Message {message.pk} came back undelivered"
    )


def test_a_bounce_joins_what_has_waited_since(clock, ann):
    ticket = ask()
    message = reply(ann, ticket)
    deliver(message)
    clock.shift(HOUR)
    write(ticket)
    clock.shift(HOUR)
    bounce(message)
    assert shown(ticket) == RUNNING
    assert waits(ticket) == [
        ("answer", MONDAY, None, ""),
        ("answer", MONDAY + HOUR, MONDAY + 2 * HOUR, "joined"),
    ]
    # and one reply that arrives answers both
    deliver(reply(ann, ticket))
    assert shown(ticket) == STOPPED


def test_a_bounce_of_one_of_two_replies_changes_nothing_for_the_clock(clock, ann):
    ticket = ask()
    first = reply(ann, ticket, then="open")
    deliver(first)
    clock.shift(HOUR)
    second = reply(ann, ticket, then="open")
    deliver(second)
    bounce(first)
    assert shown(ticket) == STOPPED
    [wait] = ticket.waits.all()
    assert (wait.reply, wait.ended_at) == (second, MONDAY + HOUR)


def closed(clock, settings, ann, **fields):
    """A closed ticket of Monday, and the reply that was delivered on it at once."""
    ticket = ask(**fields)
    message = reply(ann, ticket, then="resolved")
    deliver(message)
    clock.shift(settings.TICKET_GRACE)
    assert casework.close_resolved() == 1
    return fresh(ticket), message


def test_what_came_back_on_a_closed_ticket_waits_on_one_that_follows_it(clock, settings, ann):
    order = delivered()
    ticket, message = closed(clock, settings, ann, customer=order.customer, order_ids=[order.pk])

    bounce(message)

    later = MONDAY + settings.TICKET_GRACE
    # the closed one is as it was, and says what happened
    assert (fresh(ticket).state, shown(ticket)) == ("closed", STOPPED)
    assert waits(ticket) == [("answer", MONDAY, later, "joined")]
    assert "came back undelivered" in ticket.history.latest().history_change_reason
    # and the new one is first in the queue, since the original time
    follows = Ticket.objects.get(follows=ticket)
    assert (follows.customer_id, follows.subject, follows.channel, follows.opened_at) == (
        *(ticket.customer_id, "Code refused", "api", later),
    )
    assert (follows.state, shown(follows)) == ("new", RUNNING)
    assert list(follows.orders.all()) == [order]
    assert list(queues.BY_NAME["todo"].tickets(Ticket.objects.all(), ann)) == [follows]
    steps = follows.history.order_by("history_id").values_list(
        "history_actor", "history_user", "history_change_reason"
    )
    assert list(steps) == [
        ("automatic: delivery", None, f"Opened, for {ticket} is over"),
        (
            *("automatic: delivery", None),
            f"Reply not delivered: {message} of {ticket} came back",
        ),
    ]
    # it is worked on like any other
    deliver(reply(ann, follows, then="resolved"))
    assert (fresh(follows).state, shown(follows)) == ("resolved", STOPPED)


def test_what_came_back_on_a_closed_ticket_waits_where_its_thread_goes_on(clock, settings, ann):
    ticket, message = closed(clock, settings, ann)
    write(ticket)
    follows = Ticket.objects.get(follows=ticket)
    deliver(reply(ann, follows, then="resolved"))
    assert (fresh(follows).state, shown(follows)) == ("resolved", STOPPED)

    bounce(message)

    assert (fresh(follows).state, shown(follows)) == ("open", RUNNING)
    assert Ticket.objects.count() == 2


def test_of_two_replies_on_a_closed_ticket_one_that_came_back_is_seen_and_not_late(
    clock, settings, ann
):
    ticket = ask()
    first = reply(ann, ticket, then="open")
    deliver(first)
    deliver(reply(ann, ticket, then="resolved"))
    clock.shift(settings.TICKET_GRACE)
    casework.close_resolved()

    bounce(first)

    follows = Ticket.objects.get(follows=ticket)
    assert (follows.state, shown(follows)) == ("new", STOPPED)
    assert list(queues.BY_NAME["unassigned"].tickets(Ticket.objects.all(), ann)) == [follows]


@pytest.mark.django_db(transaction=True)
def test_one_bounce_told_twice_at_once_opens_one_ticket(settings, server):
    with time_machine.travel(MONDAY, tick=False):
        customer = wallet_world.customer()
        Customer.objects.update(email="ann@customer.test")
        ticket = ask(customer, channel="email")
        out = reply(agent(), ticket, then="resolved").deliveries.get()
        assert delivery.deliver(out.pk)
    with time_machine.travel(MONDAY + settings.TICKET_GRACE, tick=False):
        assert casework.close_resolved() == 1
    actor = Actor.automatic("mailbox")

    told = at_once(*(lambda: outbox.bounce(out.pk, actor=actor, reason="550") for _ in range(2)))

    assert sorted(type(one).__name__ for one in told) == ["DeliveryElsewhere", "Outbound"]
    follows = Ticket.objects.exclude(pk=ticket.pk).get()
    assert (fresh(ticket).state, follows.follows, follows.state) == ("closed", ticket, "new")
    assert waits(follows) == [("answer", MONDAY, None, "")]
    assert follows.history.count() == 2


# --- waiting for the customer ---


def test_it_stands_still_while_we_wait_for_the_customer(clock, ann):
    ticket = ask()
    deliver(reply(ann, ticket, then="waiting"))
    clock.shift(10 * DAY)
    assert shown(ticket) == STOPPED
    assert clocks.record() == 0
    write(ticket)
    assert shown(ticket)[0] == MONDAY + 10 * DAY


# --- business time ---


@pytest.mark.parametrize(
    ("arrived", "due"),
    [
        ("2026-06-01 10:00", "2026-06-02 10:00"),  # a Monday
        ("2026-06-05 10:00", "2026-06-08 10:00"),  # a Friday
        ("2026-06-06 12:00", "2026-06-09 09:00"),  # a Saturday: Monday's opening, then Tuesday's
        ("2026-06-01 18:00", "2026-06-03 09:00"),  # exactly at closing
        ("2026-06-01 00:00", "2026-06-02 09:00"),  # midnight
    ],
)
def test_the_due_time_follows_the_calendar(arrived, due):
    at, until = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (arrived, due))
    with time_machine.travel(at, tick=False):
        assert fresh(ask()).due_at == until


def boss():
    """Somebody who may change the calendar."""
    user = wallet_world.person("Senior agent")
    user.is_superuser = True
    user.save()
    return user


def test_a_calendar_changed_under_open_tickets_recalculates_their_due_times(clock, ann):
    waiting, disputed, done = ask(), denied()[0], ask()
    deliver(reply(ann, done))
    write(disputed)
    tuesday = (MONDAY + DAY).date()
    calendars.add_exception(boss(), day=tuesday, opens=None, closes=None, note="Moving house")
    before = version(waiting)

    assert clocks.recalculate() == 3  # the disputed ticket has both clocks running
    assert clocks.recalculate() == 0

    assert shown(waiting) == (MONDAY, MONDAY + 2 * DAY, None, None)
    assert shown(disputed) == (MONDAY, MONDAY + 2 * DAY, MONDAY, MONDAY + 2 * DAY)
    assert shown(done) == STOPPED
    assert done.waits.get().due_at == MONDAY + DAY  # what is over stays as it was
    assert version(waiting) == before
    assert waiting.history.latest().history_actor == "automatic: calendar"


def test_recalculating_costs_a_fixed_number_of_statements(
    clock, django_assert_num_queries, django_assert_max_num_queries
):
    for _ in range(6):
        ask()
    calendars.add_exception(
        boss(), day=(MONDAY + DAY).date(), opens=None, closes=None, note="Closed"
    )
    with django_assert_max_num_queries(9):
        assert clocks.recalculate() == 6


def test_in_small_batches_it_is_the_same(clock):
    tickets = [ask() for _ in range(5)]
    calendars.add_exception(
        boss(), day=(MONDAY + DAY).date(), opens=None, closes=None, note="Closed"
    )
    assert clocks.recalculate(limit=2) == 5
    assert {fresh(ticket).due_at for ticket in tickets} == {MONDAY + 2 * DAY}


# --- disputes ---


def test_a_dispute_has_a_clock_of_its_own(clock, ann):
    ticket, asked = denied(ann)
    deliver(Message.objects.get(kind="reply"))
    assert shown(ticket) == STOPPED
    clock.shift(HOUR)
    write(ticket)
    since = MONDAY + HOUR
    assert shown(ticket) == (None, None, since, since + DAY)
    clock.shift(HOUR)
    # a reply does not end it, the senior's decision does
    deliver(reply(ann, ticket, "We look into it"))
    assert shown(ticket) == (None, None, since, since + DAY)
    decide(cases.uphold, senior(), ticket, asked)
    assert shown(ticket) == STOPPED
    assert waits(ticket)[-1] == ("dispute", since, MONDAY + 2 * HOUR, "decided")


def test_a_dispute_clock_runs_until_the_last_dispute_of_the_ticket_is_decided(clock, ann):
    ticket, first = denied(ann)
    _, second = denied(ann, ticket)
    write(ticket)
    boss = senior()
    decide(cases.uphold, boss, ticket, first, then="open")
    assert (fresh(ticket).queue, shown(ticket)[2]) == ("seniors", MONDAY)
    decide(cases.dismiss, boss, ticket, second, then="open")
    assert (fresh(ticket).queue, shown(ticket)[2]) == ("agents", None)


# --- what is recorded ---


def recorded(ticket):
    wait = ticket.waits.get()
    return wait.half_warned_at, wait.three_quarters_warned_at, wait.breach_recorded_at


def test_warnings_and_the_breach_are_recorded_once_each(clock):
    ticket = ask()  # 10:00 to 10:00: nine hours of business time
    half, three_quarters = MONDAY + 4.5 * HOUR, MONDAY + 6.75 * HOUR
    due = MONDAY + DAY
    found = []
    for moment in (
        *(half - MINUTE, half, half + MINUTE, three_quarters, due, due + MINUTE, due + HOUR),
    ):
        clock.move_to(moment)
        found.append(tasks.record_clocks())
    assert found == [0, 1, 0, 1, 0, 1, 0]
    assert recorded(ticket) == (half, three_quarters, due + MINUTE)


def test_a_beat_that_was_down_records_all_that_it_missed_at_once(clock):
    ticket = ask()
    clock.shift(3 * DAY)
    assert (tasks.record_clocks(), tasks.record_clocks()) == (1, 0)
    assert recorded(ticket) == (MONDAY + 3 * DAY,) * 3


def test_an_answer_that_comes_too_late_is_recorded_as_late_without_the_beat(clock, ann):
    late, in_time = ask(), ask()
    clock.move_to(MONDAY + DAY)
    deliver(reply(ann, in_time))
    clock.shift(timedelta(seconds=1))
    deliver(reply(ann, late))
    clocks.record()
    assert recorded(late) == (None, None, MONDAY + DAY + timedelta(seconds=1))
    assert recorded(in_time) == (None, None, None)


def test_the_beat_records_a_batch_by_one_statement(clock, django_assert_num_queries):
    for _ in range(5):
        ask()
    clock.shift(5 * DAY)
    with django_assert_num_queries(1):
        assert clocks.record() == 5
    assert clocks.record(limit=2) == 0


@pytest.mark.django_db(transaction=True)
def test_beats_that_run_at_once_record_each_mark_once():
    with time_machine.travel(MONDAY, tick=False):
        tickets = [ask() for _ in range(20)]
    found = at_once(*(clocks.record_all for _ in range(4)))
    assert sum(found) == 20
    assert not Wait.objects.filter(ticket__in=tickets, breach_recorded_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_a_reply_that_arrives_while_the_beat_records_is_counted_by_both():
    for _ in range(5):
        with time_machine.travel(MONDAY, tick=False):
            ticket = ask()
            message = reply(agent(), ticket)
        at_once(lambda m=message: deliver(m), clocks.record_all, clocks.recalculate)
        [wait] = ticket.waits.all()
        assert (wait.outcome, wait.breach_recorded_at is not None) == ("answered", True)
        assert shown(ticket) == STOPPED


@pytest.mark.django_db(transaction=True)
def test_two_beats_close_each_ticket_once(settings):
    ann = agent()
    with time_machine.travel(MONDAY, tick=False):
        tickets = [ask() for _ in range(10)]
        for ticket in tickets:
            deliver(reply(ann, ticket, then="resolved"))
    before = [version(ticket) for ticket in tickets]
    found = at_once(*(casework.close_resolved for _ in range(3)))
    assert sum(found) == 10
    assert [version(ticket) for ticket in tickets] == [number + 1 for number in before]


def test_every_ticket_shows_what_its_runs_say(clock, ann):
    ticket, _ = denied(ann)
    for step in (
        lambda: write(ticket),
        lambda: deliver(Message.objects.filter(kind="reply").earliest("pk")),
        lambda: write(ticket),
        lambda: bounce(Message.objects.filter(kind="reply").earliest("pk")),
        lambda: reply(ann, ticket),
        lambda: write(ticket, via=Actor.automatic("mailbox"), key=str(uuid4())),
    ):
        step()
        clock.shift(HOUR)
        running = {wait.clock: wait for wait in ticket.waits.filter(ended_at=None)}
        answer, dispute = running.get("answer"), running.get("dispute")
        assert shown(ticket) == (
            answer and answer.since,
            answer and answer.due_at,
            dispute and dispute.since,
            dispute and dispute.due_at,
        )
