"""What the database refuses of tickets, tried in raw SQL by the owner and the application."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from smsactivator.common.files import Upload
from support import replies
from support.attachments import read
from support.models import (
    Attachment,
    AttachmentReading,
    Blob,
    Message,
    Outbound,
    Ticket,
    TicketOrder,
    TicketPayout,
    TicketRefund,
    Wait,
)
from support.tests.world import (
    TRON,
    agent,
    ask,
    bounce,
    deliver,
    delivered,
    denied,
    leaving,
    payout,
    reply,
    write,
)
from wallet import payouts
from wallet.tests.attack import CHECK, FOREIGN_KEY, NOT_NULL, RESTRICT, UNIQUE, assert_refused

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

APPEND_ONLY = [
    "support_message",
    "support_attachment",
    "support_attachmentreading",
    "support_blob",
    "support_historicalticket",
    "support_ticketorder",
    "support_ticketpayout",
]
KEPT = ["support_ticket", "support_ticketrefund", "support_wait", "support_outbound"]


@pytest.fixture
def scene() -> dict[str, Any]:
    """Rows of every table: an answered ticket, a disputed one, another customer's, a closed one."""
    ann = agent("ann")
    answered = ask(files=[Upload("a.txt", b"a")])
    first = answered.messages.get()
    attachment = Attachment.objects.get()
    read(ann, attachment.pk)
    sent = reply(ann, answered, then="resolved")
    deliver(sent)
    note = replies.note(ann, answered.pk, body="Secret", key="n")
    disputed, request = denied(ann)
    disputing = write(disputed)
    theirs = ask()
    order = delivered(theirs.customer)
    leaves = leaving()
    return {
        "leaves": leaves.pk,
        "payout": payout(ann, leaves).pk,
        "ann": ann.pk,
        "ticket": answered.pk,
        "first": first.pk,
        "reply": sent.pk,
        "note": note.pk,
        "wait": answered.waits.get().pk,
        "attachment": attachment.pk,
        "disputed": disputed.pk,
        "request": request.pk,
        "case": TicketRefund.objects.get().pk,
        "disputing": disputing.pk,
        "open_wait": disputed.waits.get(clock="dispute").pk,
        "theirs": theirs.pk,
        "their_message": theirs.messages.get().pk,
        "their_order": order.pk,
        "customer": answered.customer_id,
        "their_customer": theirs.customer_id,
    }


def refused(scene: dict[str, Any], sqlstate: str, rule: str, *statements: str) -> None:
    assert_refused(sqlstate, rule, *(statement.format(**scene) for statement in statements))


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_what_was_said_and_shown_is_never_changed(scene, table):
    column = {"support_historicalticket": "history_id", "support_blob": "sha256"}.get(table, "id")
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
    ):
        refused(scene, RESTRICT, "append-only", statement)


@pytest.mark.parametrize("table", KEPT)
def test_nothing_of_a_ticket_is_deleted(scene, table):
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
        refused(scene, RESTRICT, "append-only", statement)


# --- tickets ---


@pytest.mark.parametrize(
    "change",
    [
        "customer_id = {their_customer}",
        "subject = 'Another'",
        "channel = 'email'",
        "opened_at = now()",
        "key = 'another'",
        "follows_id = {disputed}",
        "version = version - 1",
    ],
)
def test_whose_a_ticket_is_and_how_it_began_is_fixed(scene, change):
    refused(
        scene,
        RESTRICT,
        "how it began is fixed",
        f"UPDATE support_ticket SET {change} WHERE id = {{ticket}}",
    )


STEPS = {
    "new": {"open", "waiting", "resolved"},
    "open": {"waiting", "resolved"},
    "waiting": {"open", "resolved"},
    "resolved": {"open", "closed"},
    "closed": set(),
}


def at(state: str) -> Ticket:
    """A ticket in a state, by the steps that lead there."""
    ticket = ask()
    for step in {
        "new": [],
        "open": ["open"],
        "waiting": ["waiting"],
        "resolved": ["resolved"],
        "closed": ["resolved", "closed"],
    }[state]:
        settle(ticket, step)
    return ticket


def settle(ticket: Ticket, state: str) -> None:
    done = timezone.now() if state in {"resolved", "closed"} else None
    Ticket.objects.filter(pk=ticket.pk).update(state=state, resolved_at=done)


@pytest.mark.parametrize("before", STEPS)
@pytest.mark.parametrize("after", STEPS)
def test_a_ticket_takes_its_steps_alone(before, after):
    ticket = at(before)
    if after == before or after in STEPS[before]:
        settle(ticket, after)
        return
    done = "now()" if after in {"resolved", "closed"} else "NULL"
    assert_refused(
        RESTRICT,
        f"from {before} it does not go to {after}",
        f"UPDATE support_ticket SET state = '{after}', resolved_at = {done} WHERE id = {ticket.pk}",
    )


@pytest.mark.parametrize(
    ("change", "sqlstate", "rule"),
    [
        ("state = 'gone'", RESTRICT, "from resolved it does not go to gone"),
        ("waiting_since = now()", CHECK, "ticket_due_while_it_waits"),
        ("due_at = now()", CHECK, "ticket_due_while_it_waits"),
        ("waiting_since = now(), due_at = now()", CHECK, "ticket_due_while_it_waits"),
        ("dispute_since = now()", CHECK, "ticket_dispute_due_while_it_waits"),
        ("dispute_due_at = now()", CHECK, "ticket_dispute_due_while_it_waits"),
        ("resolved_at = NULL", CHECK, "ticket_resolved_at_when_resolved"),
        ("state = 'open'", CHECK, "ticket_resolved_at_when_resolved"),
        ("claimed_by_id = {ann}", CHECK, "ticket_claim_has_an_end"),
        ("claimed_until = now()", CHECK, "ticket_claim_has_an_end"),
        ("assignee_id = 2147483647", FOREIGN_KEY, "assignee_id"),
    ],
)
def test_a_ticket_agrees_with_itself(scene, change, sqlstate, rule):
    refused(scene, sqlstate, rule, f"UPDATE support_ticket SET {change} WHERE id = {{ticket}}")


NEW = (
    "INSERT INTO support_ticket (customer_id, subject, channel, state, queue, opened_at, key,"
    " version, follows_id) SELECT {who}, {subject}, 'api', 'new', 'agents', now(), {key}, 1,"
    " {follows} FROM support_ticket WHERE id = {ticket}"
)


@pytest.mark.parametrize(
    ("fields", "sqlstate", "rule"),
    [
        ({"subject": "''"}, CHECK, "ticket_has_a_subject"),
        ({"key": "key"}, UNIQUE, "ticket_key_opens_one"),
        # a ticket follows one of its customer, that has ended, and each is followed once
        ({"follows": "{theirs}"}, CHECK, "it follows a ticket of its customer that has ended"),
        (
            {"who": "{their_customer}", "follows": "id"},
            CHECK,
            "it follows a ticket of its customer that has ended",
        ),
        (
            {"who": "{their_customer}", "follows": "{theirs}"},
            CHECK,
            "it follows a ticket of its customer that has ended",
        ),
        ({"who": "0"}, FOREIGN_KEY, "customer_id"),
    ],
)
def test_a_ticket_begins_as_a_customers(scene, fields, sqlstate, rule):
    words = {"who": "customer_id", "subject": "'x'", "key": "''", "follows": "NULL", **fields}
    statement = NEW
    for name, value in words.items():
        statement = statement.replace(f"{{{name}}}", value)
    refused(scene, sqlstate, rule, statement)


def test_a_ticket_is_followed_once(scene):
    ticket = Ticket.objects.get(pk=scene["ticket"])
    fields = {"customer": ticket.customer, "subject": "x", "channel": "api"}
    Ticket.objects.create(**fields, follows=ticket, opened_at=ticket.opened_at)
    statement = NEW.replace("{who}", "customer_id").replace("{subject}", "'x'")
    refused(
        scene,
        UNIQUE,
        "follows_id",
        statement.replace("{key}", "'k'").replace("{follows}", "id"),
    )


# --- messages ---

SAY = (
    "INSERT INTO support_message (ticket_id, kind, body, created_at, author_id, via, key, "
    "fingerprint, answers_id) VALUES ({ticket}, {kind}, 'x', now(), {author}, 'x', {key}, '', "
    "{answers})"
)


@pytest.mark.parametrize(
    ("fields", "sqlstate", "rule"),
    [
        ({"kind": "'reply'"}, CHECK, "message_of_ours_has_an_author"),
        ({"kind": "'note'"}, CHECK, "message_of_ours_has_an_author"),
        ({"kind": "'gone'", "author": "{ann}"}, CHECK, "message_of_ours_has_an_author"),
        ({"answers": "{first}"}, CHECK, "message_of_ours_has_an_author"),
        (
            {"kind": "'note'", "author": "{ann}", "answers": "{first}"},
            CHECK,
            "message_of_ours_has_an_author",
        ),
        ({"kind": "'notice'", "answers": "{first}"}, CHECK, "message_of_ours_has_an_author"),
        (
            {"kind": "'reply'", "author": "{ann}", "answers": "{their_message}"},
            CHECK,
            "it answers no customer",
        ),
        (
            {"kind": "'reply'", "author": "{ann}", "answers": "{note}"},
            CHECK,
            "it answers no customer",
        ),
        ({"key": "'taken'"}, UNIQUE, "message_key_once"),
        ({"kind": "'note'", "author": "{ann}", "key": "'n'"}, UNIQUE, "message_of_ours_key_once"),
        ({"kind": "'notice'", "key": "'n'"}, UNIQUE, "message_of_ours_key_once"),
    ],
)
def test_a_message_is_somebodys_and_once(scene, fields, sqlstate, rule):
    write(Ticket.objects.get(pk=scene["theirs"]), key="taken")
    where = "{theirs}" if fields.get("key") == "'taken'" else "{ticket}"
    words = {"kind": "'customer'", "author": "NULL", "key": "'new'", "answers": "NULL", **fields}
    statement = SAY.replace("{ticket}", where)
    for name, value in words.items():
        statement = statement.replace(f"{{{name}}}", value)
    refused(scene, sqlstate, rule, statement)


# --- files ---


@pytest.mark.parametrize(
    ("sha256", "content", "size", "rule"),
    [
        ("0" * 64, "'x'", 1, "blob_hash_is_its_content"),
        (hashlib.sha256(b"x").hexdigest().upper(), "'x'", 1, "blob_hash_is_its_content"),
        (hashlib.sha256(b"x").hexdigest(), "'y'", 1, "blob_hash_is_its_content"),
        (hashlib.sha256(b"x").hexdigest(), "'x'", 2, "blob_hash_is_its_content"),
        (hashlib.sha256(b"").hexdigest(), "''", 0, "blob_not_empty"),
    ],
)
def test_a_file_is_what_its_hash_says(sha256, content, size, rule):
    assert_refused(
        CHECK,
        rule,
        f"INSERT INTO support_blob VALUES ('{sha256}', {content}::bytea, {size})",
    )


def test_an_attachment_is_of_a_message_and_a_file_and_once(scene):
    insert = "INSERT INTO support_attachment (message_id, blob_id, name, content_type) "
    blob = Blob.objects.get().sha256
    for values, sqlstate, rule in (
        (f"{{first}}, '{blob}', 'a.txt', 'x'", UNIQUE, "attachment_once_a_message"),
        (f"{{first}}, '{'0' * 64}', 'b', 'x'", FOREIGN_KEY, "blob_id"),
        (f"0, '{blob}', 'b', 'x'", FOREIGN_KEY, "message_id"),
    ):
        refused(scene, sqlstate, rule, f"{insert} VALUES ({values})")
    refused(
        scene,
        NOT_NULL,
        "null value",
        "INSERT INTO support_attachmentreading (attachment_id, person_id, read_at) "
        "VALUES ({attachment}, NULL, now())",
    )


# --- orders and refunds ---


def test_a_ticket_is_about_its_own_customers_orders_once(scene):
    theirs = Ticket.objects.get(pk=scene["theirs"])
    TicketOrder.objects.create(ticket=theirs, order_id=scene["their_order"])
    insert = "INSERT INTO support_ticketorder (ticket_id, order_id) VALUES"
    refused(scene, CHECK, "is not of the customer", f"{insert} ({{ticket}}, {{their_order}})")
    refused(scene, UNIQUE, "ticket_order_once", f"{insert} ({{theirs}}, {{their_order}})")


@pytest.mark.parametrize(
    ("statement", "sqlstate", "rule"),
    [
        (
            "UPDATE support_ticketrefund SET ticket_id = {ticket} WHERE id = {case}",
            RESTRICT,
            "is fixed",
        ),
        (
            "UPDATE support_ticketrefund SET disputed_by_id = NULL WHERE id = {case}",
            RESTRICT,
            "is fixed",
        ),
        (
            "INSERT INTO support_ticketrefund (ticket_id, request_id) "
            "VALUES ({disputed}, {request})",
            UNIQUE,
            "request_id",
        ),
        (
            "INSERT INTO support_ticketrefund (ticket_id, request_id) VALUES ({theirs}, {request})",
            CHECK,
            "does not belong on ticket",
        ),
    ],
)
def test_a_refund_is_decided_on_one_ticket_and_disputed_once(scene, statement, sqlstate, rule):
    refused(scene, sqlstate, rule, statement)


@pytest.mark.parametrize(
    ("values", "sqlstate", "rule"),
    [
        ("{theirs}, {payout}", UNIQUE, "payout_id"),
        ("{leaves}, {payout}", UNIQUE, "payout_id"),
        ("{leaves}, 0", CHECK, "is not of the customer"),
        ("0, {payout}", UNIQUE, "payout_id"),
        ("NULL, {payout}", NOT_NULL, "null value"),
        ("{leaves}, NULL", NOT_NULL, "null value"),
    ],
)
def test_a_payout_is_asked_for_on_one_ticket(scene, values, sqlstate, rule):
    insert = "INSERT INTO support_ticketpayout (ticket_id, payout_id) VALUES"
    refused(scene, sqlstate, rule, f"{insert} ({values})")


def test_a_payout_is_asked_for_on_a_ticket_of_its_own_customer(scene):
    leaves = Ticket.objects.get(pk=scene["leaves"])
    loose = payouts.request(
        agent(),
        leaves.customer_id,
        method="USDT-TRON",
        address=TRON,
        amount=Decimal(20),
        terms=payouts.Terms("2026-05-07", Decimal(20)),
        reason="Code alone can",
        key=uuid4(),
    )
    scene["loose"] = loose.pk
    insert = "INSERT INTO support_ticketpayout (ticket_id, payout_id) VALUES"
    refused(scene, CHECK, "is not of the customer", f"{insert} ({{theirs}}, {{loose}})")


@pytest.mark.parametrize("message", ["{their_message}", "{note}", "{reply}", "{first}", "{own}"])
def test_only_the_customer_disputes_on_that_thread_after_the_denial(scene, message):
    ticket, _ = denied(ticket=ask())
    own = ticket.messages.filter(kind="customer").get()  # said before the denial
    case = TicketRefund.objects.latest("pk")
    statement = f"UPDATE support_ticketrefund SET disputed_by_id = {message} WHERE id = {case.pk}"
    refused({**scene, "own": own.pk}, CHECK, "does not belong on ticket", statement)


# --- waits ---


@pytest.mark.parametrize(
    ("change", "sqlstate", "rule"),
    [
        ("ticket_id = {theirs}", RESTRICT, "when it began is fixed"),
        ("clock = 'dispute'", RESTRICT, "when it began is fixed"),
        ("since = since - interval '1 s'", RESTRICT, "when it began is fixed"),
        ("outcome = 'waived'", RESTRICT, "it has ended"),
        ("due_at = due_at + interval '1 d'", RESTRICT, "it has ended"),
        ("outcome = ''", CHECK, "wait_ended_with_an_outcome"),
        ("ended_at = NULL", CHECK, "wait_ended_with_an_outcome"),
        ("ended_at = since - interval '1 s'", CHECK, "wait_ended_with_an_outcome"),
        ("reply_id = {note}", CHECK, "is no reply to it"),
        ("reply_id = {first}", CHECK, "is no reply to it"),
        ("reply_id = {their_message}", CHECK, "is no reply to it"),
        ("half_at = since - interval '1 s'", CHECK, "wait_warns_before_it_is_due"),
        ("three_quarters_at = due_at + interval '1 s'", CHECK, "wait_warns_before_it_is_due"),
    ],
)
def test_a_run_of_a_clock_keeps_its_beginning_and_its_end(scene, change, sqlstate, rule):
    refused(scene, sqlstate, rule, f"UPDATE support_wait SET {change} WHERE id = {{wait}}")


def test_what_was_recorded_of_a_run_is_recorded_once(scene):
    for column in ("half_warned_at", "three_quarters_warned_at", "breach_recorded_at"):
        wait = Wait.objects.get(pk=scene["open_wait"])
        Wait.objects.filter(pk=wait.pk).update(**{column: wait.since})
        for value in ("now() + interval '1 s'", "NULL"):
            refused(
                scene,
                RESTRICT,
                "recorded once",
                f"UPDATE support_wait SET {column} = {value} WHERE id = {{open_wait}}",
            )


def test_one_run_of_a_clock_is_open_and_decided_ones_stay_ended(scene):
    copied = (
        "INSERT INTO support_wait (ticket_id, clock, since, due_at, half_at, three_quarters_at, "
        "outcome) SELECT ticket_id, clock, since, due_at, half_at, three_quarters_at, '' "
        "FROM support_wait WHERE id = {open_wait}"
    )
    refused(scene, UNIQUE, "wait_one_open_a_clock", copied)
    ended = "UPDATE support_wait SET outcome = 'decided', ended_at = since WHERE id = {open_wait}"
    refused(
        scene,
        RESTRICT,
        "it has ended",
        ended,
        "UPDATE support_wait SET outcome = '', ended_at = NULL WHERE id = {open_wait}",
    )
    refused(
        scene,
        CHECK,
        "is no reply to it",
        "UPDATE support_wait SET outcome = 'answered', ended_at = since, "
        "reply_id = {their_message} WHERE id = {open_wait}",
    )


@pytest.mark.parametrize("reply_id", ["{undelivered}", "{came_back}", "NULL"])
def test_a_run_is_answered_only_by_what_reached_the_customer(scene, reply_id):
    theirs = Ticket.objects.get(pk=scene["theirs"])
    ann = agent()
    came_back = reply(ann, theirs)
    deliver(came_back)
    bounce(came_back)
    scene["came_back"] = came_back.pk
    scene["undelivered"] = reply(ann, theirs).pk
    answered = (
        "UPDATE support_wait SET outcome = 'answered', ended_at = since, "
        f"reply_id = {reply_id} WHERE ticket_id = {{theirs}}"
    )
    refused(scene, CHECK, "has not reached the customer", answered)
    inserted = (
        "INSERT INTO support_wait (ticket_id, clock, since, due_at, half_at, three_quarters_at, "
        "outcome, ended_at, reply_id) SELECT ticket_id, clock, since, due_at, half_at, "
        f"three_quarters_at, 'answered', since, {reply_id} FROM support_wait "
        "WHERE ticket_id = {theirs}"
    )
    refused(scene, CHECK, "has not reached the customer", inserted)


# --- the models do not let states be set either ---


def test_states_are_protected_in_the_models(scene):
    for row in (Ticket.objects.get(pk=scene["ticket"]), Outbound.objects.earliest("pk")):
        with pytest.raises(AttributeError):
            row.state = "open"


def test_the_scene_has_rows_of_every_table(scene):
    tables = (Attachment, AttachmentReading, Blob, Message, Outbound, Ticket, TicketPayout, Wait)
    for model in tables:
        assert model.objects.exists(), model
