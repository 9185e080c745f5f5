"""What becomes of a delivery, by what a real mail server on loopback does."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
import time_machine
from django.conf import settings as configured
from django.db import connection
from django.utils import timezone

from support import delivery, isolation, mails, outbox, tasks
from support.models import Attachment, Blob, Outbound, Ticket
from support.models.outbox import MOST_TRIES
from support.tests import threads
from support.tests.mailserver import (
    Answers,
    MailServer,
    accepts_everyone,
    refuses_everyone,
)
from wallet.models import Customer
from wallet.tests.attack import as_owner
from wallet.tests.together import PATIENCE, at_once

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
LEASE = configured.OUTBOX_LEASE
SECOND = timedelta(seconds=1)


@pytest.fixture
def noon():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def tried(outbound: Outbound) -> Outbound:
    assert delivery.deliver(outbound.pk) is True
    outbound = Outbound.objects.get(pk=outbound.pk)
    assert (outbound.due_at is None) == (outbound.state != "queued")
    return outbound


def logged_by_us(caplog: pytest.LogCaptureFixture) -> str:
    """The log without the mail server's own, and without Django's statements at DEBUG."""
    others = ("django.db", "mail.log")
    ours = [record for record in caplog.records if not record.name.startswith(others)]
    return "\n".join(caplog.handler.format(record) for record in ours)


# --- what goes out ---


def test_a_reply_goes_out_as_plain_text_to_the_account_s_address(server, noon):
    outbound = threads.delivery(subject="No code came")
    body = "Hello Ann,\n\n.It is on its way — sorry.\n" + "x" * 2000
    reply = threads.say(outbound.message.ticket, body=body)

    sent = tried(threads.queued(reply))

    [letter] = server.letters
    message = letter.message
    assert (letter.sender, letter.recipients) == ("help@shop.test", ("ann@customer.test",))
    assert message["From"] == message["Reply-To"] == "help@shop.test"
    assert message["To"] == "ann@customer.test"
    assert message["Subject"] == f"Re: No code came [#{reply.ticket_id}]"
    assert message["Message-ID"] == sent.mail_id
    assert sent.mail_id.endswith(".support@shop.test>")
    assert (message["In-Reply-To"], message["References"], message["Auto-Submitted"]) == (
        (None, None, None)
    )
    assert message.get_content_type() == "text/plain"
    assert message.get_content().replace("\r\n", "\n").rstrip("\n") == body
    assert (sent.state, sent.sent_at, sent.attempts, sent.problem, sent.sent_to) == (
        *("sent", NOON, 1, "", "ann@customer.test"),
    )
    assert threads.steps(sent) == [
        ("agnes", "queued", "Queued with the message"),
        ("automatic: outbox", "sending", "Attempt 1 begins"),
        ("automatic: outbox", "sent", "Accepted for the customer"),
    ]


def test_a_notice_says_that_no_person_wrote_it(server):
    notice = threads.say(threads.ticket(), "notice")

    assert tried(threads.queued(notice)).state == "sent"

    assert server.letters[0].message["Auto-Submitted"] == "auto-generated"


def test_a_mail_replies_to_the_last_one_that_was_sent(server):
    of = threads.ticket()
    first = tried(threads.queued(threads.say(of)))
    server.rcpt = "550 No such user"
    refused = tried(threads.queued(threads.say(of)))
    server.rcpt = "250 OK"
    second, third = (tried(threads.queued(threads.say(of))) for _ in range(2))
    elsewhere = tried(threads.delivery())

    assert refused.state == "failed"
    assert [
        (letter.message["In-Reply-To"], letter.message["References"]) for letter in server.letters
    ] == [
        (None, None),
        (first.mail_id, first.mail_id),
        (second.mail_id, f"{first.mail_id} {second.mail_id}"),
        (None, None),
    ]
    assert len({first.mail_id, refused.mail_id, second.mail_id, third.mail_id}) == 4
    assert elsewhere.mail_id == server.letters[-1].message["Message-ID"]


def test_a_long_thread_names_its_first_mail_and_the_newest(server):
    of = threads.ticket()
    ids = [tried(threads.queued(threads.say(of))).mail_id for _ in range(13)]

    assert server.letters[-1].message["References"].split() == [ids[0], *ids[3:12]]


def test_nothing_that_a_customer_typed_becomes_a_header(server):
    subject = "Help\r\nBcc: thief@evil.test\n\nHello\x0b\u2028 me"
    outbound = threads.delivery(subject=subject)

    assert tried(outbound).state == "sent"

    [letter] = server.letters
    assert letter.recipients == ("ann@customer.test",)
    assert letter.message["Bcc"] is None
    assert letter.message["Subject"] == (
        f"Re: Help Bcc: thief@evil.test Hello me [#{outbound.message.ticket_id}]"
    )


@pytest.mark.parametrize(
    ("name", "kind", "arrives_as", "content"),
    [
        ("shot.png", "image/png", "image/png", b"\x89PNG\r\n\x1a\n\x00"),
        ("ünï\r\nBcc: x.txt", "text/plain", "application/octet-stream", b"a\nb\r\nc\xff"),
        ("mail.eml", "message/rfc822", "application/octet-stream", b"Subject: x\n\nHi"),
    ],
)
def test_files_of_the_reply_arrive_byte_by_byte(server, name, kind, arrives_as, content):
    reply = threads.say(threads.ticket())
    digest = hashlib.sha256(content).hexdigest()
    blob = Blob.objects.create(sha256=digest, content=content, size=len(content))
    Attachment.objects.create(message=reply, blob=blob, name=name, content_type=kind)

    assert tried(threads.queued(reply)).state == "sent"

    [file] = server.letters[0].message.iter_attachments()
    assert file.get_filename() == mails.one_line(name)
    assert file.get_content_type() == arrives_as
    assert file.get_payload(decode=True) == content


def test_mail_goes_to_the_address_that_the_account_has_now(server):
    outbound = threads.delivery()
    Customer.objects.update(email="new@customer.test")

    assert tried(outbound).sent_to == "new@customer.test"
    assert server.letters[0].recipients == ("new@customer.test",)


@pytest.mark.parametrize("address", ["", "not an address", "a@b.test\r\nRCPT TO:<c@d.test>"])
def test_an_address_that_is_gone_or_none_fails_before_anything_is_sent(server, address):
    outbound = threads.delivery()
    Customer.objects.update(email=address)

    assert delivery.deliver(outbound.pk) is False

    outbound.refresh_from_db()
    assert (outbound.state, outbound.attempts, outbound.sent_to) == ("failed", 0, "")
    assert outbound.problem == mails.problem_with(address) != ""
    assert server.letters == []


def test_the_storefront_s_replies_are_delivered_without_mail(server, noon):
    outbound = threads.delivery("api")

    sent = tried(outbound)

    assert (sent.state, sent.sent_at, sent.attempts, sent.mail_id) == ("sent", NOON, 1, "")
    assert server.letters == []
    assert delivery.deliver(outbound.pk) is False
    assert threads.steps(sent)[1:] == [("automatic: outbox", "sent", "Shown to the storefront")]


# --- surely not sent: tried again ---


def not_sent(outbound: Outbound, problem: str) -> Outbound:
    """Try it; it waits for the next attempt, about half a minute later."""
    before = timezone.now()
    outbound = tried(outbound)
    assert (outbound.state, outbound.problem) == ("queued", problem)
    wait = (outbound.due_at - before).total_seconds()
    assert 24 <= wait <= 36 + PATIENCE
    return outbound


CUT = "The connection to the mail server broke before the mail began."


@pytest.mark.parametrize(
    ("step", "answer", "problem"),
    [
        ("mail", "451 Try later", "The mail server answered 451 Try later"),
        ("mail", "421 Too busy", "The mail server answered 421 Too busy"),
        ("mail", "530 Log in first", "The mail server answered 530 Log in first"),
        ("mail", Answers.DROP, CUT),
        ("mail", Answers.HANG, CUT),
        ("rcpt", "450 Greylisted", "The mail server answered 450 Greylisted"),
        ("rcpt", "421 Too busy", "The mail server answered 421 Too busy"),
        ("rcpt", Answers.DROP, CUT),
        ("rcpt", Answers.HANG, CUT),
        ("data", "451 Try later", "The mail server answered 451 Try later"),
        ("data", Answers.DROP, CUT),
        ("data", Answers.HANG, CUT),
        ("taken", "452 Disk full", "The mail server answered 452 Disk full"),
        ("taken", "421 Closing", "The mail server answered 421 Closing"),
    ],
)
def test_what_was_surely_not_sent_is_tried_again(server, settings, step, answer, problem):
    setattr(server, step, answer)
    if answer == Answers.HANG:
        settings.EMAIL_TIMEOUT = 1
    outbound = not_sent(threads.delivery(), problem)
    assert server.letters == []

    assert delivery.deliver(outbound.pk) is False, "it is not due yet"
    setattr(server, step, "250 OK")
    with time_machine.travel(outbound.due_at, tick=False):
        sent = tried(outbound)

    assert (sent.state, sent.attempts, sent.problem) == ("sent", 2, "")
    assert sent.mail_id == outbound.mail_id
    assert len(server.letters) == 1


def test_a_server_that_is_not_there_is_tried_again(closed_port):
    not_sent(threads.delivery(), "The mail server cannot be reached.")


def test_a_server_that_never_speaks_is_tried_again(silent_port, settings):
    settings.EMAIL_TIMEOUT = 1
    not_sent(threads.delivery(), "The mail server cannot be reached.")


def test_a_refused_login_is_tried_again_and_says_nothing_of_the_password(mails_go_to, settings):
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "shop", "correct horse"
    with MailServer(authenticator=refuses_everyone, auth_require_tls=False) as server:
        mails_go_to(server.port)
        not_sent(threads.delivery(), "The mail server refuses our login.")


def test_a_server_without_tls_is_tried_again(server, settings):
    settings.EMAIL_USE_TLS = True
    not_sent(threads.delivery(), "The mail server cannot be reached.")


def test_attempts_come_ever_later_and_end(server):
    server.rcpt = "450 Greylisted"
    outbound = threads.delivery()
    now, waits = NOON, []
    with time_machine.travel(now, tick=False) as clock:
        Outbound.objects.update(due_at=NOON)
        while (outbound := tried(outbound)).due_at is not None:
            waits.append((outbound.due_at - now) / delivery.FIRST_WAIT)
            now = outbound.due_at
            clock.move_to(now)

    assert (outbound.state, outbound.attempts, outbound.tries_left) == ("failed", MOST_TRIES, 0)
    assert outbound.problem == "The mail server answered 450 Greylisted"
    assert len(waits) == MOST_TRIES - 1
    for number, wait in enumerate(waits):
        assert 0.8 * 2**number <= wait <= 1.2 * 2**number
    assert len({wait / 2**number for number, wait in enumerate(waits)}) > 1, "there is jitter"


def test_no_wait_is_longer_than_an_hour():
    assert all(delivery._wait(8) <= 1.2 * timedelta(hours=1) for _ in range(50))


# --- refused for good ---


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("mail", "553 Sender not allowed"),
        ("rcpt", "550 No such user"),
        ("data", "554 No"),
        ("taken", "552 Too large"),
    ],
)
def test_what_is_refused_for_good_is_not_tried_again(server, step, answer):
    setattr(server, step, answer)

    failed = tried(threads.delivery())

    assert (failed.state, failed.attempts, failed.sent_at) == ("failed", 1, None)
    assert failed.problem == f"The mail server answered {answer}"
    assert delivery.deliver(failed.pk) is False
    assert server.letters == []


def test_a_long_answer_in_any_bytes_is_kept_in_one_short_line(server):
    server.rcpt = "550-No\r\n550 " + "such user " * 60

    failed = tried(threads.delivery())

    assert failed.problem.startswith("The mail server answered 550 No such user such")
    assert len(failed.problem) == 200


# --- unknown ---


@pytest.mark.parametrize(
    ("step", "answer", "arrived"),
    [
        ("taken", Answers.DROP, 1),
        ("taken", Answers.HANG, 1),
        ("taken", "what?", 1),
        ("taken", "250 " + "x" * 9000, 1),
        ("data", "354 then drop", 0),
    ],
)
def test_what_was_perhaps_sent_is_flagged_and_never_sent_again(
    server, settings, step, answer, arrived
):
    setattr(server, step, answer)
    if answer == Answers.HANG:
        settings.EMAIL_TIMEOUT = 1

    unknown = tried(threads.delivery())

    assert (unknown.state, unknown.sent_at, unknown.attempts) == ("unknown", None, 1)
    assert unknown.problem == "The attempt was interrupted: it may have been sent."
    assert len(server.letters) == arrived
    with time_machine.travel(timezone.now() + timedelta(days=7), tick=False):
        assert delivery.flag_lost() == delivery.deliver_due("email") == 0
        assert delivery.deliver(unknown.pk) is False
    assert len(server.letters) == arrived


@pytest.mark.parametrize("answer", [Answers.DROP, Answers.HANG, "500 " + "x" * 9000])
def test_a_mail_that_was_accepted_is_sent_however_the_goodbye_ends(server, settings, answer):
    server.quit = answer
    if answer == Answers.HANG:
        settings.EMAIL_TIMEOUT = 1

    assert tried(threads.delivery()).state == "sent"
    assert len(server.letters) == 1


def test_an_error_of_another_backend_counts_as_perhaps_sent(settings, caplog):
    settings.EMAIL_BACKEND = "support.tests.backends.Cut"

    unknown = tried(threads.delivery())

    assert unknown.state == "unknown"
    assert f"delivery {unknown.pk}: perhaps sent (ConnectionResetError)" in caplog.text
    assert threads.ADDRESS not in caplog.text


def test_an_error_in_code_is_raised_when_all_were_tried_and_its_mails_are_flagged(
    settings, noon, caplog
):
    first, second = threads.delivery(), threads.delivery()
    settings.EMAIL_BACKEND = "support.tests.backends.Broken"

    with pytest.raises(isolation.Unfinished) as raised:
        delivery.deliver_due("email")

    assert str(raised.value) == f"delivery {first.pk}, {second.pk}: see the log"
    assert f"delivery {first.pk}: RuntimeError at" in caplog.text
    assert threads.ADDRESS not in caplog.text
    assert {Outbound.objects.get(pk=one.pk).state for one in (first, second)} == {"sending"}
    assert delivery.deliver_due("email") == 0, "neither is sent again"
    noon.shift(settings.OUTBOX_LEASE)
    assert delivery.flag_lost() == 2
    assert {Outbound.objects.get(pk=one.pk).state for one in (first, second)} == {"unknown"}


def test_a_backend_that_takes_nothing_counts_as_perhaps_sent(settings):
    settings.EMAIL_BACKEND = "support.tests.backends.Silent"

    assert tried(threads.delivery()).state == "unknown"


def test_a_backend_that_cannot_be_set_up_is_tried_again(settings):
    settings.EMAIL_BACKEND = "support.tests.backends.Missing"

    not_sent(threads.delivery(), "The mail backend cannot be set up.")


# --- two at once, and death in the middle ---


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_a_mail_once(server):
    outbound = threads.delivery()

    results = at_once(*[lambda: delivery.deliver(outbound.pk)] * 4)

    assert sorted(results) == [False, False, False, True]
    outbound.refresh_from_db()
    assert (outbound.state, outbound.attempts, len(server.letters)) == ("sent", 1, 1)


@pytest.mark.django_db(transaction=True)
def test_two_beats_send_each_mail_once(server):
    sent = {threads.delivery().pk for _ in range(6)}

    assert sum(at_once(*[lambda: delivery.deliver_due("email")] * 3)) == 6

    assert set(Outbound.objects.filter(state="sent").values_list("pk", flat=True)) == sent
    assert len({letter.message["Message-ID"] for letter in server.letters}) == 6
    assert len(server.letters) == 6


@pytest.mark.django_db(transaction=True)
def test_while_a_mail_is_sent_nothing_is_locked(server):
    server.taken = Answers.GATE
    outbound = threads.delivery()
    seen = []

    def meanwhile() -> None:
        assert server.gate_reached.wait(PATIENCE)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
            ticket_id = outbound.message.ticket_id
            Ticket.objects.filter(pk=ticket_id).update(version=2)
            noted = Outbound.objects.get(pk=outbound.pk)
            seen.append((noted.state, noted.attempts, noted.mail_id != ""))
            assert delivery.deliver(outbound.pk) is False
            with pytest.raises(outbox.DeliveryElsewhere, match="“Being sent” by now"):
                outbox.retry(threads.agent(), outbound.pk, reason="Impatient")
        finally:
            server.open_the_gate()

    at_once(lambda: delivery.deliver(outbound.pk), meanwhile)

    assert seen == [("sending", 1, True)]
    outbound.refresh_from_db()
    assert (outbound.state, len(server.letters)) == ("sent", 1)


def this_database() -> str:
    """The URL of the database of this test, for another process."""
    database = connection.settings_dict
    names = {"user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    words = {name: str(database[key]) for name, key in names.items() if database[key]}
    return f"postgresql:///{database['NAME']}?{urlencode(words)}"


DIE = """
import django; django.setup()
from django.conf import settings
settings.EMAIL_BACKEND, settings.EMAIL_TIMEOUT = "support.smtp.EmailBackend", 60
from support import delivery
delivery.deliver({pk})
"""


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed_in_the_middle_leaves_it_to_people(server):
    server.taken = Answers.GATE
    outbound = threads.delivery()
    worker = subprocess.Popen(
        [sys.executable, "-c", DIE.format(pk=outbound.pk)],
        cwd=configured.BASE_DIR,
        env=os.environ
        | {
            "DATABASE_URL": this_database(),
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": str(server.port),
            "SUPPORT_EMAIL": "help@shop.test",
        },
    )
    assert server.gate_reached.wait(PATIENCE)
    worker.send_signal(signal.SIGKILL)
    worker.wait(PATIENCE)

    assert delivery.flag_lost() == delivery.deliver_due("email") == 0, "its lease runs"
    outbound.refresh_from_db()
    assert outbound.state == "sending"
    with time_machine.travel(outbound.due_at - SECOND, tick=False):
        assert delivery.flag_lost() == 0
    with time_machine.travel(outbound.due_at, tick=False):
        assert delivery.flag_lost() == 1
        assert delivery.deliver_due("email") == 0

    outbound.refresh_from_db()
    assert (outbound.state, outbound.due_at, outbound.attempts) == ("unknown", None, 1)
    assert threads.steps(outbound)[-1] == (
        *("automatic: outbox", "unknown", "The attempt was interrupted: it may have been sent."),
    )
    assert len(server.letters) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("answer", "state"), [(Answers.GATE, "sent"), ("550 No", "failed"), ("450 No", "queued")]
)
def test_an_attempt_that_outlives_its_lease_is_still_recorded(server, settings, answer, state):
    settings.OUTBOX_LEASE = timedelta(0)
    outbound = threads.delivery()
    server.mail = Answers.GATE
    if answer != Answers.GATE:
        server.rcpt = answer

    def meanwhile() -> None:
        assert server.gate_reached.wait(PATIENCE)
        try:
            assert delivery.flag_lost() == 1
        finally:
            server.open_the_gate()

    at_once(lambda: delivery.deliver(outbound.pk), meanwhile)

    outbound.refresh_from_db()
    assert outbound.state == state
    assert [state for _, state, _ in threads.steps(outbound)] == [
        *("queued", "sending", "unknown", state),
    ]


@pytest.mark.django_db(transaction=True)
def test_an_attempt_that_a_person_has_overtaken_changes_nothing(server, settings, caplog):
    settings.OUTBOX_LEASE = timedelta(0)
    outbound = threads.delivery()
    server.mail, server.rcpt = Answers.GATE, "550 No"

    def meanwhile() -> None:
        assert server.gate_reached.wait(PATIENCE)
        try:
            delivery.flag_lost()
            outbox.confirm_sent(threads.agent(), outbound.pk, reason="Ann answered it")
        finally:
            server.open_the_gate()

    at_once(lambda: delivery.deliver(outbound.pk), meanwhile)

    outbound.refresh_from_db()
    assert outbound.state == "sent"
    assert f"delivery {outbound.pk}: attempt 1 was overtaken" in caplog.text


# --- the beat ---


def test_the_beat_sends_the_longest_waiting_first_and_not_before_its_time(server, noon):
    first, second, later = (threads.delivery() for _ in range(3))
    Outbound.objects.filter(pk=first.pk).update(due_at=NOON - 2 * SECOND)
    Outbound.objects.filter(pk=second.pk).update(due_at=NOON - SECOND)
    Outbound.objects.filter(pk=later.pk).update(due_at=NOON + SECOND)
    shown = threads.delivery("api")

    assert delivery.deliver_due("email", limit=1) == 1
    assert Outbound.objects.get(pk=first.pk).state == "sent"
    assert delivery.deliver_due("email") == 1
    assert Outbound.objects.get(pk=later.pk).state == "queued"
    noon.shift(SECOND)
    assert delivery.deliver_due("email") == 1
    assert delivery.deliver_due("api") == 1
    shown.refresh_from_db()
    assert shown.state == "sent"


def test_one_delivery_that_breaks_stops_no_other_and_its_row_is_not_logged(server, noon, caplog):
    broken, well = threads.delivery(), threads.delivery()
    Outbound.objects.filter(pk=broken.pk).update(due_at=NOON - SECOND)
    with as_owner(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        # The database's refusal repeats the row, and that has the customer's address.
        cursor.execute(
            "ALTER TABLE support_outbound ADD CONSTRAINT odd CHECK (state <> 'sent' OR id <> %s)",
            [broken.pk],
        )

    with pytest.raises(isolation.Unfinished, match=f"delivery {broken.pk}: see the log"):
        delivery.deliver_due("email")

    assert Outbound.objects.get(pk=well.pk).state == "sent"
    # The mail is out and could not be recorded: its lease will end, and people will look.
    assert Outbound.objects.get(pk=broken.pk).state == "sending"
    assert f"delivery {broken.pk}: IntegrityError at" in logged_by_us(caplog)
    assert threads.ADDRESS not in logged_by_us(caplog)


# --- what is not said ---


@pytest.mark.parametrize("step", ["rcpt", "taken"])
@pytest.mark.parametrize("answer", ["550 {}", "450 {}", Answers.DROP, "250 OK"])
@pytest.mark.parametrize("login", [accepts_everyone, refuses_everyone])
def test_no_address_password_or_text_is_logged(mails_go_to, settings, caplog, step, answer, login):
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "shop", "correct horse"
    body = "Your refund is 5 USD"
    caplog.set_level(logging.DEBUG)
    with MailServer(authenticator=login, auth_require_tls=False) as server:
        mails_go_to(server.port)
        setattr(server, step, answer.format(f"<{threads.ADDRESS}> {body}"))
        outbound = threads.queued(threads.say(threads.ticket(), body=body))

        tasks.send(outbound.pk)

    outbound.refresh_from_db()
    assert outbound.attempts == 1
    logged = logged_by_us(caplog)
    assert (f"delivery {outbound.pk}: " in logged) == (outbound.state != "sent")
    for secret in (threads.ADDRESS, body, "correct horse", "No code came", "shop"):
        assert secret not in logged
