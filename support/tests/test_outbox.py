"""What is queued for customers, what people do about it, and what the database holds of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis
import time_machine
from django.conf import settings as configured
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction

from smsactivator.tests import world
from support import delivery, outbox, tasks
from support.models import Outbound, Ticket
from support.models.outbox import MOST_TRIES
from support.tests import threads
from support.tests.mailserver import Answers
from wallet.models import Customer
from wallet.tests.attack import CHECK, RESTRICT, UNIQUE, assert_refused
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NO_ADDRESS = "The customer's account has no email address."


@pytest.fixture
def noon():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


@pytest.fixture
def agent():
    return threads.agent()


@pytest.fixture
def broker():
    """How many messages the broker holds in a queue since the test began."""
    prefix = configured.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]
    assert prefix.startswith("test-")
    queues = [f"{prefix}{name}" for name in ("mail", "money")]
    with redis.Redis.from_url(configured.REDIS_URL) as server:
        server.delete(*queues)
        yield lambda name: server.llen(f"{prefix}{name}")
        server.delete(*queues)


def fresh(outbound: Outbound) -> Outbound:
    return Outbound.objects.get(pk=outbound.pk)


def sent(server) -> Outbound:
    outbound = threads.delivery()
    delivery.deliver(outbound.pk)
    assert fresh(outbound).state == "sent"
    return fresh(outbound)


def failed(server) -> Outbound:
    server.rcpt, before = "550 No such user", server.rcpt
    outbound = threads.delivery()
    delivery.deliver(outbound.pk)
    server.rcpt = before
    return fresh(outbound)


def unknown(server) -> Outbound:
    server.taken, before = Answers.DROP, server.taken
    outbound = threads.delivery()
    delivery.deliver(outbound.pk)
    server.taken = before
    return fresh(outbound)


# --- queuing ---


@pytest.mark.parametrize("kind", ["reply", "notice"])
@pytest.mark.parametrize("way", ["api", "email"])
def test_a_public_message_is_queued_once_by_the_ticket_s_channel(noon, kind, way):
    message = threads.say(threads.ticket(way), kind)

    first, again = threads.queued(message), threads.queued(message)

    assert first == again
    assert (first.way, first.key, first.state) == (way, f"message:{message.pk}:{way}", "queued")
    assert (first.queued_at, first.due_at, first.attempts) == (NOON, NOON, 0)
    assert threads.steps(first) == [(message.via, "queued", "Queued with the message")]


@pytest.mark.django_db(transaction=True)
def test_a_message_queued_twice_at_once_is_one_delivery():
    message = threads.say(threads.ticket())

    at_once(*[lambda: threads.queued(message)] * 3)

    assert Outbound.objects.count() == 1


@pytest.mark.parametrize("kind", ["note", "customer"])
def test_what_is_not_for_the_customer_never_goes_out(kind):
    message = threads.say(threads.ticket(), kind)

    with pytest.raises(ValueError, match=f"Message {message.pk} is a {kind}, and never goes out"):
        threads.queued(message)

    assert Outbound.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_message_is_queued_in_a_transaction_only():
    message = threads.say(threads.ticket())
    with pytest.raises(RuntimeError):
        outbox.queue(message)


def test_a_mail_without_an_address_has_failed_at_once_and_is_seen(
    agent, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks() as scheduled:
        outbound = threads.delivery(email="")

    assert (outbound.state, outbound.problem, outbound.due_at) == ("failed", NO_ADDRESS, None)
    assert scheduled == []
    assert outbox.undelivered() == {"failed": 1, "unknown": 0}
    with pytest.raises(outbox.DeliveryElsewhere, match=f"{NO_ADDRESS} Its storefront sets it"):
        outbox.retry(agent, outbound.pk, reason="Again")
    Customer.objects.update(email=threads.ADDRESS)
    assert outbox.retry(agent, outbound.pk, reason="There is one now").state == "queued"


def test_a_reply_to_the_storefront_needs_no_address():
    assert threads.delivery("api", email="").state == "queued"


# --- the task, and the beat when there is none ---


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("way", "queue", "other"), [("email", "mail", "money"), ("api",) * 3])
def test_its_task_is_queued_when_the_message_is_committed(broker, way, queue, other):
    if way == "api":
        queue, other = "money", "mail"
    message = threads.say(threads.ticket(way))

    with transaction.atomic():
        outbox.queue(message)
        assert broker(queue) == 0

    assert (broker(queue), broker(other)) == (1, 0)


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_delivered(broker):
    message = threads.say(threads.ticket())

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        outbox.queue(message)
        raise ZeroDivisionError

    assert (Outbound.objects.count(), broker("mail")) == (0, 0)


@pytest.mark.parametrize("way", ["email", "api"])
def test_the_beat_delivers_what_was_never_queued(server, way):
    # In this test nothing commits, so no task is ever queued.
    outbound = threads.delivery(way)

    tasks.tend_outbox()
    tasks.send_due()

    assert fresh(outbound).state == "sent"
    assert len(server.letters) == (way == "email")


def test_the_task_delivers_once_however_often_it_runs(server):
    mail, shown = threads.delivery(), threads.delivery("api")

    for _ in range(2):
        tasks.send(mail.pk)
        tasks.show(shown.pk)

    assert (fresh(mail).attempts, fresh(shown).attempts, len(server.letters)) == (1, 1, 1)


def test_money_never_waits_behind_mail():
    routes = {
        name: tasks.send.app.amqp.router.route({}, f"support.tasks.{name}")["queue"].name
        for name in ("send", "send_due", "show", "tend_outbox")
    }
    assert routes == {"send": "mail", "send_due": "mail", "show": "money", "tend_outbox": "money"}


# --- what people do ---


def test_a_failed_mail_is_sent_again_under_a_new_id(server, agent, noon):
    outbound = failed(server)

    outbox.retry(agent, outbound.pk, reason="The address works again")

    queued = fresh(outbound)
    assert (queued.state, queued.due_at, queued.tries_left) == ("queued", NOON, MOST_TRIES)
    assert (queued.problem, queued.mail_id, queued.attempts) == ("", "", 1)
    assert threads.steps(queued)[-1] == ("agnes", "queued", "The address works again")
    assert delivery.deliver_due("email") == 1
    assert (fresh(outbound).state, fresh(outbound).attempts) == ("sent", 2)
    [letter] = server.letters
    assert letter.message["Message-ID"] == fresh(outbound).mail_id != outbound.mail_id


def test_a_perhaps_sent_mail_is_sent_again_under_its_own_id(server, agent):
    outbound = unknown(server)

    outbox.retry(agent, outbound.pk, reason="Ann says that nothing came")
    delivery.deliver_due("email")

    first, second = (letter.message["Message-ID"] for letter in server.letters)
    assert first == second == outbound.mail_id


def test_a_person_finds_that_a_perhaps_sent_mail_arrived(server, agent, noon):
    outbound = unknown(server)

    outbox.confirm_sent(agent, outbound.pk, reason="Ann answered it")

    assert (fresh(outbound).state, fresh(outbound).sent_at) == ("sent", NOON)
    assert fresh(outbound).problem == ""
    assert threads.steps(outbound)[-1] == ("agnes", "sent", "Ann answered it")
    assert len(server.letters) == 1


@pytest.mark.parametrize("made", [sent, unknown])
def test_a_mail_that_came_back_has_failed(server, agent, made):
    outbound = made(server)

    outbox.mark_bounced(agent, outbound.pk, reason="Mailbox full, says their server")

    bounced = fresh(outbound)
    assert (bounced.state, bounced.sent_at, bounced.problem) == (
        *("failed", None, "The mail came back."),
    )
    assert threads.steps(bounced)[-1] == (*("agnes", "failed", "Mailbox full, says their server"),)
    # It is no anchor any more.
    threads.queued(threads.say(outbound.message.ticket))
    delivery.deliver_due("email")
    assert server.letters[-1].message["In-Reply-To"] is None


def test_what_the_storefront_showed_does_not_come_back(agent):
    outbound = threads.delivery("api")
    delivery.deliver(outbound.pk)

    with pytest.raises(outbox.DeliveryElsewhere, match="only mail comes back"):
        outbox.mark_bounced(agent, outbound.pk, reason="Odd")


VERBS = {"retry": outbox.retry, "sent": outbox.confirm_sent, "bounced": outbox.mark_bounced}


@pytest.mark.parametrize(
    ("made", "possible"),
    [
        (sent, {"bounced"}),
        (failed, {"retry"}),
        (unknown, {"retry", "sent", "bounced"}),
        (lambda _: threads.delivery(), set()),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_only_what_the_state_allows_can_be_done(server, agent, made, possible, verb):
    outbound = made(server)
    if verb in possible:
        VERBS[verb](agent, outbound.pk, reason="So it is")
        # A second click finds that it is done.
    with pytest.raises(outbox.DeliveryElsewhere, match=r"by now, and this needs it to be “"):
        VERBS[verb](agent, outbound.pk, reason="So it is")


@pytest.mark.parametrize("verb", VERBS)
def test_only_who_may_mends_deliveries(server, verb):
    outbound = unknown(server)

    with pytest.raises(PermissionDenied):
        VERBS[verb](world.person("Finance"), outbound.pk, reason="Curious")
    with pytest.raises(outbox.DeliveryUnknown, match="There is no delivery 0"):
        VERBS[verb](threads.agent(), 0, reason="Curious")

    assert fresh(outbound).state == "unknown"


@pytest.mark.django_db(transaction=True)
def test_two_people_who_mend_the_same_delivery_are_one(server, agent):
    outbound = unknown(server)

    results = at_once(
        lambda: outbox.retry(agent, outbound.pk, reason="Again"),
        lambda: outbox.confirm_sent(agent, outbound.pk, reason="It came"),
    )

    assert sum(isinstance(result, outbox.DeliveryElsewhere) for result in results) == 1
    assert fresh(outbound).state in {"queued", "sent"}


def test_deliveries_of_closed_tickets_wait_for_nobody(server):
    failed(server)
    closed = unknown(server)
    assert outbox.undelivered() == {"failed": 1, "unknown": 1}

    of = Ticket.objects.filter(pk=closed.message.ticket_id)
    of.update(state="resolved", resolved_at=NOON)
    of.update(state="closed")

    assert outbox.undelivered() == {"failed": 1, "unknown": 0}


def test_the_oldest_that_is_due_is_told(noon):
    assert outbox.oldest_due() is None
    threads.delivery()
    Outbound.objects.update(due_at=NOON + timedelta(seconds=1))
    assert outbox.oldest_due() is None
    threads.delivery()

    assert outbox.oldest_due() == NOON


# --- what the database holds, against the owner and the application ---


def insert(message_id: int, **columns: object) -> str:
    row = {
        "message_id": message_id,
        "way": "email",
        "key": "k",
        "state": "queued",
        "queued_at": "2026-06-01",
        "attempts": 0,
        "tries_left": 8,
        "due_at": "2026-06-01",
        "mail_id": "",
        "sent_to": "",
        "problem": "",
    } | columns
    values = ", ".join(f"'{value}'" for value in row.values())
    return f"INSERT INTO support_outbound ({', '.join(row)}) VALUES ({values})"


@pytest.mark.parametrize("kind", ["note", "customer"])
def test_the_database_lets_no_note_out(kind):
    message = threads.say(threads.ticket(), kind)
    assert_refused(CHECK, "is not for the customer", insert(message.pk))


def test_the_database_takes_no_delivery_of_an_unknown_way():
    message = threads.say(threads.ticket())
    assert_refused(CHECK, "outbound_way_known", insert(message.pk, way="pigeon"))


def test_the_database_turns_no_delivery_into_a_note_s():
    outbound = threads.delivery()
    note = threads.say(outbound.message.ticket, "note")
    assert_refused(
        *(RESTRICT, "what it delivers"),
        f"UPDATE support_outbound SET message_id = {note.pk} WHERE id = {outbound.pk}",
    )


def test_the_database_holds_one_delivery_a_way_and_one_mail_an_id(server):
    first, second = sent(server), threads.delivery()
    third = threads.say(first.message.ticket)
    assert_refused(
        *(UNIQUE, "outbound_once_a_way"), insert(second.message_id, key="another", way="email")
    )
    assert_refused(UNIQUE, "support_outbound_key", insert(third.pk, key=first.key))
    assert_refused(
        *(UNIQUE, "outbound_mail_id_once"),
        f"UPDATE support_outbound SET mail_id = '{first.mail_id}' WHERE id = {second.pk}",
    )


SENDING = "state = 'sending', attempts = attempts + 1"


@pytest.mark.parametrize(
    ("made", "change", "refusal"),
    [
        (sent, "state = 'queued', sent_at = NULL, due_at = now()", "queued does not follow sent"),
        (sent, "state = 'unknown', sent_at = NULL", "unknown does not follow sent"),
        (failed, "state = 'sent', sent_at = now()", "sent does not follow failed"),
        (failed, "state = 'sending', due_at = now()", "sending does not follow failed"),
        (unknown, "state = 'sending', due_at = now()", "sending does not follow unknown"),
        (unknown, "attempts = 0", "how often it was tried is fixed"),
        (sent, "attempts = attempts + 1", "how often it was tried is fixed"),
        (sent, "way = 'api'", "what it delivers"),
        (sent, "key = 'x'", "what it delivers"),
        (sent, "queued_at = now() + interval '1 s'", "what it delivers"),
    ],
)
def test_the_database_holds_the_order_of_states(server, made, change, refusal):
    outbound = made(server)
    assert_refused(
        RESTRICT, refusal, f"UPDATE support_outbound SET {change} WHERE id = {outbound.pk}"
    )


def test_the_database_notes_each_attempt_and_where_it_goes():
    outbound = threads.delivery()
    row = f"WHERE id = {outbound.pk}"
    uncounted = f"UPDATE support_outbound SET state = 'sending' {row}"
    assert_refused(RESTRICT, "how often it was tried", uncounted)
    assert_refused(
        *(CHECK, "outbound_mail_has_an_id_and_an_address"),
        f"UPDATE support_outbound SET {SENDING} {row}",
    )
    straight = f"state = 'sent', sent_at = now(), due_at = NULL, attempts = 1 {row}"
    assert_refused(
        RESTRICT,
        "sent does not follow queued",
        f"UPDATE support_outbound SET mail_id = 'x', sent_to = 'y', {straight}",
    )


@pytest.mark.parametrize("table", ["support_outbound", "support_historicaloutbound"])
def test_the_database_keeps_every_delivery_and_its_history(table):
    threads.delivery()
    assert_refused(RESTRICT, "append-only", f"DELETE FROM {table}")
    assert_refused(RESTRICT, "append-only", f"TRUNCATE {table}")
    if "historical" in table:
        assert_refused(RESTRICT, "append-only", f"UPDATE {table} SET problem = 'none'")


def test_pages_of_what_has_not_arrived_read_an_index_of_their_own():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for state in ("queued", "failed", "unknown"):
            cursor.execute(
                "EXPLAIN SELECT * FROM support_outbound WHERE state = %s ORDER BY id DESC LIMIT 50",
                [state],
            )
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "outbound_undelivered_newest" in plan, plan
