"""Messages that arrive at the same moment as each other, as an agent's work, and as the beat."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from refunds.tests import world
from smsactivator.common.files import Upload
from smsactivator.common.seen import Outdated
from support import cases, casework, clocks, inbound
from support.inbound import KeyConflict
from support.models import Attachment, Message, Ticket, Wait
from support.tests.world import (
    API,
    agent,
    ask,
    decide,
    deliver,
    denied,
    fresh,
    reply,
    senior,
    write,
)
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def opened(customer, body="Hello"):
    return inbound.receive(
        customer,
        body=body,
        key="k",
        via=API,
        channel="api",
        subject="Help",
        files=[Upload("a", b"1")],
    )


def test_a_new_ticket_sent_many_times_at_once_is_one():
    customer = world.customer()
    made = at_once(*(lambda: opened(customer) for _ in range(6)))
    assert len({message.pk for message in made}) == 1
    assert [model.objects.count() for model in (Ticket, Message, Wait, Attachment)] == [1] * 4


def test_one_key_with_two_contents_at_once_is_one_ticket_and_a_named_conflict():
    customer = world.customer()
    made = at_once(lambda: opened(customer, "One"), lambda: opened(customer, "Two"))
    assert sorted(type(one).__name__ for one in made) == ["KeyConflict", "Message"]
    assert Message.objects.count() == 1


def test_a_message_sent_many_times_at_once_is_one():
    ticket = ask()
    made = at_once(*(lambda: write(ticket, key="k") for _ in range(6)))
    assert len({message.pk for message in made}) == 1
    assert (Message.objects.count(), fresh(ticket).version) == (2, 2)


def test_two_messages_at_once_are_both_kept_in_one_run_of_the_clock():
    ticket = ask()
    at_once(*(lambda: write(ticket) for _ in range(4)))
    assert (ticket.messages.count(), ticket.waits.count(), fresh(ticket).version) == (5, 1, 5)


@pytest.fixture
def resolved(settings):
    """A resolved ticket whose grace period can be let run out."""
    ticket = ask()
    deliver(reply(agent(), ticket, then="resolved"))
    return ticket


def grown_old(ticket: Ticket, by: timedelta) -> None:
    Ticket.objects.filter(pk=ticket.pk).update(resolved_at=timezone.now() - by)


def test_messages_at_once_after_the_grace_period_open_one_ticket_that_follows(resolved, settings):
    grown_old(resolved, settings.TICKET_GRACE)
    made = at_once(*(lambda: write(resolved) for _ in range(4)), casework.close_resolved)
    [new] = Ticket.objects.filter(follows=resolved)
    assert {message.ticket_id for message in made[:4]} == {new.pk}
    casework.close_resolved()
    assert fresh(resolved).state == "closed"


def test_a_message_and_the_beat_at_the_end_of_the_grace_period(resolved, settings):
    grown_old(resolved, settings.TICKET_GRACE - timedelta(milliseconds=20))
    message, _ = at_once(lambda: write(resolved), casework.close_resolved)
    ticket = fresh(message.ticket)
    # reopened in time, or a new one: never a message on a ticket that is closed
    assert ticket.state == ("open" if ticket == resolved else "new")
    assert (fresh(resolved).state == "open") == (ticket == resolved)


def test_the_same_message_to_the_old_and_the_new_ticket_of_a_thread_is_one(resolved, settings):
    grown_old(resolved, settings.TICKET_GRACE)
    new = write(resolved).ticket
    made = at_once(lambda: write(resolved, key="k"), lambda: write(new, key="k"))
    assert made[0] == made[1]
    assert made[0].ticket == new


def test_a_message_and_a_reply_at_once_leave_no_message_unseen():
    ann = agent()
    ticket = ask()
    wrote, replied = at_once(lambda: write(ticket), lambda: reply(ann, ticket, seen=1))
    if isinstance(replied, Message):
        deliver(replied)
        assert fresh(ticket).waiting_since == wrote.created_at
    else:
        assert isinstance(replied, Outdated)
        assert ticket.messages.count() == 2


def test_two_agents_claiming_at_once_are_one_claim_and_a_named_refusal():
    ticket = ask()
    people = [agent("ann"), agent("bob")]
    done = at_once(*(lambda by=by: casework.claim(by, ticket.pk) for by in people))
    [claimed] = [one for one in done if isinstance(one, Ticket)]
    [refusal] = [one for one in done if isinstance(one, casework.ClaimedByOther)]
    assert f"{claimed.claimed_by} is working on" in refusal.message


def test_a_key_is_decided_by_the_index_and_not_by_a_look(resolved):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE indexname IN "
            "('ticket_key_opens_one', 'message_key_once', 'message_of_ours_key_once')"
        )
        assert len(cursor.fetchall()) == 3
    with pytest.raises(KeyConflict):
        write(resolved, "Else", key=resolved.messages.earliest("pk").key)


@pytest.mark.parametrize("ends", ["an answer", "a decision"])
def test_a_late_clock_that_ends_while_its_breach_is_recorded_is_recorded_once(ends):
    month_ago = timezone.now() - timedelta(days=30)
    if ends == "an answer":
        ticket = ask(at=month_ago)
        message = reply(agent(), ticket)
        end, outcome = (lambda: deliver(message)), "answered"
    else:
        with time_machine.travel(month_ago):
            ticket, asked = denied()
            write(ticket)
        boss = senior()
        end, outcome = (lambda: decide(cases.uphold, boss, ticket, asked, then="open")), "decided"
    tried = []

    def meanwhile(execute, sql, params, many, context):
        if sql.startswith('UPDATE "support_wait"') and not tried:
            tried.extend(at_once(clocks.record))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(meanwhile):
        end()

    assert len(tried) == 1
    wait = ticket.waits.get(outcome=outcome)
    assert wait.breach_recorded_at is not None
