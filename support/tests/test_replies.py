"""Replies and notes: by whom, on what view, once, and never the wrong one to the customer."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied

from smsactivator.common.errors import Invalid
from smsactivator.common.files import FileRefused, Upload
from smsactivator.common.seen import Outdated
from support import casework, outbox, replies
from support.casework import ClaimedByOther, RefundUndecided, TicketClosed
from support.inbound import KeyConflict, TextRefused
from support.locking import TicketUnknown
from support.models import LONGEST_BODY, Message, Outbound, Ticket
from support.tests.world import (
    MONDAY,
    agent,
    ask,
    deliver,
    delivered,
    fresh,
    refund,
    reply,
    senior,
    version,
    write,
)
from wallet.tests.attack import CHECK, assert_refused
from wallet.tests.world import person

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


@pytest.fixture
def ann():
    return agent("ann")


@pytest.fixture
def bob():
    return agent("bob")


def test_a_reply_answers_the_last_message_and_its_delivery_is_queued(clock, ann):
    ticket = ask()
    last = write(ticket)

    message = reply(ann, ticket, "Try again", files=[Upload("how.txt", b"So")])

    ticket = fresh(ticket)
    assert (message.kind, message.body, message.author) == ("reply", "Try again", ann)
    assert (message.answers, message.created_at) == (last, MONDAY)
    assert [file.name for file in message.attachments.all()] == ["how.txt"]
    [out] = message.deliveries.all()
    assert (out.way, out.state, out.queued_at) == ("api", "queued", MONDAY)
    assert (ticket.state, ticket.assignee, ticket.version) == ("waiting", ann, 3)
    assert (ticket.claimed_by, ticket.claimed_until) == (None, None)
    assert ticket.waiting_since == MONDAY  # queued is not delivered
    written = ticket.history.latest()
    assert (written.history_actor, written.history_change_reason, written.version) == (
        "ann",
        f"Replied (message {message.pk})",
        3,
    )


@pytest.mark.parametrize("before", ["new", "open", "waiting", "resolved"])
@pytest.mark.parametrize("then", ["open", "waiting", "resolved"])
def test_a_reply_takes_the_ticket_where_its_author_says(ann, before, then):
    ticket = ask()
    if before != "new":
        reply(ann, ticket, then=before)
    assert fresh(ticket).state == before

    reply(ann, ticket, then=then)

    ticket = fresh(ticket)
    assert ticket.state == then
    assert (ticket.resolved_at is not None) == (then == "resolved")
    assert (ticket.claimed_by == ann) == (then == "open")


@pytest.mark.parametrize("then", ["new", "closed", "", "gone"])
def test_a_reply_takes_no_ticket_elsewhere(ann, then):
    ticket = ask()
    with pytest.raises(Invalid, match="leave it open, waiting, or resolved"):
        reply(ann, ticket, then=then)
    assert not Message.objects.filter(kind="reply").exists()


def test_a_reply_on_an_outdated_view_is_refused_and_says_what_happened(clock, ann, bob):
    ticket = ask()
    seen = version(ticket)
    clock.shift(timedelta(minutes=5))
    message = reply(bob, ticket, "Mine")
    said = write(ticket)
    before = (version(ticket), Message.objects.count(), Outbound.objects.count())

    with pytest.raises(Outdated) as refusal:
        reply(ann, ticket, "Yours", seen=seen)

    assert refusal.value.message == (
        f"Ticket {ticket.pk} has changed since you looked at it, so nothing was done. Meanwhile: "
        f"bob: Replied (message {message.pk}) (2026-06-01 10:05:00 UTC); "
        f"API key sf_1234567… of Shop: The customer wrote (message {said.pk}) "
        "(2026-06-01 10:05:00 UTC). Look at it again first."
    )
    assert (version(ticket), Message.objects.count(), Outbound.objects.count()) == before
    assert fresh(ticket).claimed_by is None


def test_of_many_changes_the_last_are_told(ann):
    ticket = ask()
    for number in range(7):
        replies.note(ann, ticket.pk, body=f"Note {number}", key=str(uuid4()))
    with pytest.raises(Outdated) as refusal:
        reply(ann, ticket, seen=1)
    assert refusal.value.message.count("Wrote a note") == 5
    assert "Meanwhile: …; ann:" in refusal.value.message


@pytest.mark.parametrize("seen", [0, 99, -1])
def test_a_version_that_never_was_is_outdated(ann, seen):
    with pytest.raises(Outdated):
        reply(ann, ask(), seen=seen)


def test_the_same_form_sent_twice_is_one_reply(ann):
    ticket = ask()
    seen, key = version(ticket), str(uuid4())

    first = reply(ann, ticket, seen=seen, key=key)
    again = reply(ann, ticket, seen=seen, key=key)

    assert again == first
    assert (Message.objects.filter(kind="reply").count(), Outbound.objects.count()) == (1, 1)
    for other in ({"body": "Else"}, {"then": "open"}, {"files": [Upload("a", b"1")]}):
        with pytest.raises(KeyConflict):
            reply(ann, ticket, seen=seen, key=key, **other)


def test_while_one_has_it_nobody_else_answers_until_the_lease_runs_out(clock, settings, ann, bob):
    ticket = ask()
    casework.claim(ann, ticket.pk)

    with pytest.raises(ClaimedByOther, match=r"ann is working on Ticket \d+ until 10:15:00 UTC"):
        reply(bob, ticket)
    clock.shift(settings.TICKET_LEASE - timedelta(microseconds=1))
    with pytest.raises(ClaimedByOther):
        reply(bob, ticket)
    clock.shift(timedelta(microseconds=1))
    assert reply(bob, ticket, then="open").author == bob
    assert fresh(ticket).claimed_by == bob


def test_a_ticket_with_an_undecided_refund_is_not_resolved(ann):
    ticket = ask()
    refund(ann, ticket, delivered(ticket.customer))
    with pytest.raises(RefundUndecided, match="is waiting for approval: it is decided before"):
        reply(ann, ticket, then="resolved")
    assert not Message.objects.filter(kind="reply").exists()
    reply(ann, ticket, then="waiting")


def test_a_closed_ticket_takes_notes_only(clock, settings, ann):
    ticket = ask()
    deliver(reply(ann, ticket, then="resolved"))
    clock.shift(settings.TICKET_GRACE)
    casework.close_resolved()
    with pytest.raises(TicketClosed, match="opens one that follows it"):
        reply(ann, ticket)
    assert replies.note(ann, ticket.pk, body="Remember", key="n").kind == "note"


def test_a_note_needs_no_claim_no_fresh_view_and_makes_views_outdated(ann, bob):
    ticket = ask()
    casework.claim(ann, ticket.pk)
    before = version(ticket)

    note = replies.note(bob, ticket.pk, body="Known fraud", key="n")
    again = replies.note(bob, ticket.pk, body="Known fraud", key="n")

    assert note == again
    assert (note.kind, note.author, note.answers, note.public) == ("note", bob, None, False)
    assert version(ticket) == before + 1
    assert fresh(ticket).claimed_by == ann
    with pytest.raises(KeyConflict):
        replies.note(bob, ticket.pk, body="Else", key="n")


def test_a_note_never_goes_out(ann):
    ticket = ask()
    note = replies.note(ann, ticket.pk, body="Secret", key="n")

    assert not Outbound.objects.exists()
    columns = (
        "message_id, way, key, state, queued_at, attempts, tries_left, due_at, mail_id, sent_to, "
        "problem"
    )
    for message in (note.pk, ticket.messages.get(kind="customer").pk):
        assert_refused(
            CHECK,
            "is not for the customer",
            f"INSERT INTO support_outbound ({columns}) "
            f"VALUES ({message}, 'api', 'k', 'queued', now(), 0, 8, now(), '', '', '')",
        )
    with pytest.raises(ValueError, match="never goes out"):
        outbox.queue(note)
    assert not Outbound.objects.exists()


def test_the_line_ends_of_a_browser_are_kept_as_plain_ones(ann):
    assert reply(ann, ask(), "Hello,\r\n\r\nbye").body == "Hello,\n\nbye"


@pytest.mark.parametrize("body", ["", "  \n", "x" * (LONGEST_BODY + 1), "a\x00b"])
def test_an_empty_or_endless_text_is_refused(ann, body):
    ticket = ask()
    with pytest.raises(TextRefused):
        reply(ann, ticket, body)
    with pytest.raises(TextRefused):
        replies.note(ann, ticket.pk, body=body, key="n")
    assert Message.objects.count() == 1


def test_a_file_that_is_refused_takes_the_reply_with_it(ann):
    ticket = ask()
    with pytest.raises(FileRefused):
        reply(ann, ticket, files=[Upload("a", b"")])
    assert Message.objects.count() == 1


@pytest.mark.parametrize("role", ["Finance", ""])
def test_only_those_who_answer_tickets_write_on_them(role):
    ticket = ask()
    by = person(role) if role else world_outsider()
    with pytest.raises(PermissionDenied):
        reply(by, ticket)
    with pytest.raises(PermissionDenied):
        replies.note(by, ticket.pk, body="x", key="n")
    assert Message.objects.count() == 1


def world_outsider():
    from django.contrib.auth.models import User

    return User.objects.create_user("outsider", is_staff=True)


def test_what_is_unknown_is_not_found(ann):
    with pytest.raises(TicketUnknown):
        replies.note(ann, 1, body="x", key="n")
    with pytest.raises(TicketUnknown):
        replies.reply(ann, 1, body="x", key="k", seen=1, then="open")


# --- claims, assignment, orders, resolving ---


def test_a_claim_opens_a_new_ticket_and_is_renewed(clock, settings, ann):
    ticket = ask()
    claimed = casework.claim(ann, ticket.pk)
    assert (claimed.state, claimed.claimed_until) == ("open", MONDAY + settings.TICKET_LEASE)
    assert fresh(ticket).history.latest().history_change_reason == "Took it up"
    before = version(ticket)
    clock.shift(timedelta(minutes=10))
    casework.claim(ann, ticket.pk)
    assert fresh(ticket).claimed_until == MONDAY + timedelta(minutes=10) + settings.TICKET_LEASE
    assert version(ticket) == before


def test_a_claim_is_let_go_of_by_its_holder_alone(ann, bob):
    ticket = ask()
    casework.claim(ann, ticket.pk)
    with pytest.raises(casework.NotClaimed, match="is claimed by ann"):
        casework.release(bob, ticket.pk)
    casework.release(ann, ticket.pk)
    casework.release(ann, ticket.pk)
    assert casework.claim(bob, ticket.pk).claimed_by == bob


def test_only_who_assigns_takes_over(ann, bob):
    ticket, boss = ask(), senior()
    casework.claim(ann, ticket.pk)
    with pytest.raises(PermissionDenied):
        casework.take_over(bob, ticket.pk)
    assert casework.take_over(boss, ticket.pk).claimed_by == boss
    assert fresh(ticket).history.latest().history_change_reason == "Took it over from ann"


def test_one_may_take_what_is_nobodys_and_give_back_ones_own(ann, bob):
    ticket, boss = ask(), senior()
    assert casework.assign(ann, ticket.pk, ann.pk).state == "open"
    before = version(ticket)
    casework.assign(ann, ticket.pk, ann.pk)
    assert version(ticket) == before
    for by, to in ((bob, bob), (bob, None), (ann, bob)):
        with pytest.raises(PermissionDenied):
            casework.assign(by, ticket.pk, to and to.pk)
    casework.assign(ann, ticket.pk, None)
    casework.assign(boss, ticket.pk, bob.pk, reason="Speaks Dutch")
    assert fresh(ticket).assignee == bob
    assert fresh(ticket).history.latest().history_change_reason == "Assigned to bob: Speaks Dutch"


def test_a_ticket_is_given_to_those_who_may_answer_it():
    ticket, boss, clerk = ask(), senior(), person("Finance")
    with pytest.raises(casework.CannotAnswer):
        casework.assign(boss, ticket.pk, clerk.pk)
    gone = agent()
    gone.is_active = False
    gone.save()
    for person_id in (gone.pk, 10**9):
        with pytest.raises(casework.PersonUnknown):
            casework.assign(boss, ticket.pk, person_id)


def test_orders_of_the_customer_are_linked_once(ann):
    ticket = ask()
    order, theirs = delivered(ticket.customer), delivered()
    casework.link_orders(ann, ticket.pk, [order.pk])
    before = version(ticket)
    casework.link_orders(ann, ticket.pk, [order.pk])
    assert version(ticket) == before
    assert list(ticket.orders.all()) == [order]
    with pytest.raises(casework.OrderUnknown, match=f"no order {theirs.pk} of this customer"):
        casework.link_orders(ann, ticket.pk, [theirs.pk])


def test_an_unanswered_ticket_is_resolved_only_with_a_reason(clock, ann):
    ticket = ask()
    with pytest.raises(casework.StillUnanswered):
        casework.resolve(ann, ticket.pk, seen=version(ticket))

    casework.resolve_without_reply(ann, ticket.pk, seen=version(ticket), reason="Spam")

    ticket = fresh(ticket)
    assert (ticket.state, ticket.resolved_at, ticket.due_at) == ("resolved", MONDAY, None)
    assert ticket.waits.get().outcome == "waived"
    assert ticket.history.latest().history_change_reason == "Resolved without a reply: Spam"


def test_a_replied_ticket_is_resolved_and_its_clock_runs_until_the_reply_arrives(clock, ann):
    ticket = ask()
    message = reply(ann, ticket, then="open")
    casework.resolve(ann, ticket.pk, seen=version(ticket))
    assert (fresh(ticket).state, fresh(ticket).waiting_since) == ("resolved", MONDAY)
    deliver(message)
    assert fresh(ticket).waiting_since is None


def test_resolving_on_an_outdated_view_is_refused(ann, bob):
    ticket = ask()
    seen = version(ticket)
    write(ticket)
    with pytest.raises(Outdated):
        casework.resolve_without_reply(ann, ticket.pk, seen=seen, reason="Spam")


def test_the_beat_closes_what_was_resolved_long_enough(clock, settings, ann):
    done, undelivered, young = ask(), ask(), ask()
    deliver(reply(ann, done, then="resolved"))
    reply(ann, undelivered, then="resolved")
    clock.shift(timedelta(seconds=1))
    deliver(reply(ann, young, then="resolved"))
    clock.shift(settings.TICKET_GRACE - timedelta(seconds=1))

    assert (casework.close_resolved(), casework.close_resolved()) == (1, 0)

    assert [fresh(ticket).state for ticket in (done, undelivered, young)] == [
        "closed",
        "resolved",
        "resolved",
    ]
    assert fresh(done).history.latest().history_actor == "automatic: grace period"


def test_closing_works_in_batches_of_a_fixed_number_of_statements(
    clock, settings, ann, django_assert_num_queries
):
    tickets = [ask() for _ in range(5)]
    for ticket in tickets:
        deliver(reply(ann, ticket, then="resolved"))
    clock.shift(settings.TICKET_GRACE)
    with django_assert_num_queries(4):  # savepoint, select, write with history, release
        assert casework.close_resolved(limit=100) == 5
    assert set(Ticket.objects.values_list("state", flat=True)) == {"closed"}


def test_states_are_changed_by_transitions_alone():
    ticket = ask()
    with pytest.raises(AttributeError):
        ticket.state = "closed"
    out = Outbound()
    with pytest.raises(AttributeError):
        out.state = "sent"
