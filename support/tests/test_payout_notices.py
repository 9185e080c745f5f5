"""What customers are told of their payouts: in which words, once each, and never too early."""

from __future__ import annotations

import logging
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import time_machine
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders import termination
from support import casework, delivery, isolation, notices, payout_words, payouts
from support.models import Message, Outbound, Ticket
from support.tasks import tell_payouts
from support.tests.world import (
    HASH,
    MONDAY,
    TRON,
    agent,
    deliver,
    fresh,
    leaving,
    on_its_way,
    payout,
    reply,
    senior,
    version,
)
from wallet import payouts as wallet_payouts
from wallet import settlement
from wallet.models import Payout, PayoutMethod, PayoutOutcome
from wallet.tests.together import at_once
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

OTHER_TRON = "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7"
TERMINATED = (
    "Your account was terminated, and the amount is forfeited. Refund policy: “AUP violations "
    "resulting in account termination — wallet balance is forfeited per /aup.”"
)


@pytest.fixture
def ann():
    return agent("ann")


@pytest.fixture
def finance():
    return person("Finance")


@pytest.fixture
def ticket():
    return leaving()


def told(ticket) -> list[str]:
    """What the sweep says on the thread, in its order."""
    return list(ticket.messages.filter(kind="notice").order_by("pk").values_list("body", flat=True))


def swept(ticket) -> str:
    """The words of the one outcome that was still to be told."""
    before = len(told(ticket))
    assert notices.tell_due() == 1
    [words] = told(ticket)[before:]
    return words


def sent(finance, ann, ticket, **fields) -> Payout:
    """A payout that is on its way, its customer told that it was asked for."""
    asked = payout(ann, ticket, **fields)
    wallet_payouts.approve(finance, asked.pk)
    swept(ticket)
    return on_its_way(asked)


# --- the words ---


def test_requested_says_the_amount_the_coin_and_the_address_in_full(ann, ticket):
    asked = payout(ann, ticket, "50")

    assert swept(ticket) == (
        f"You asked for a payout from your wallet, {asked.reference}:\n\n"
        "Amount: 50.00 USD, as 50.00 USDT on the network TRON\n"
        f"Address: {TRON}\n\n"
        "50.00 USD leave your wallet now. Another person looks at the payout before it is sent, "
        "and we tell you on this thread what becomes of it.\n"
        "Please check the address: what was sent cannot be called back. If anything here is "
        "wrong, or you did not ask for this, reply to this thread at once."
    )


def test_requested_says_the_memo_and_until_when_a_changed_address_waits(ann, ticket):
    PayoutMethod.objects.filter(code="USDT-TRON").update(memo_rule="optional")
    with time_machine.travel(MONDAY, tick=False):
        payout(ann, ticket, "20")
        payout(ann, ticket, "30.5", address=OTHER_TRON, memo="4711")
        assert notices.tell_due() == 2

    _, second = told(ticket)
    assert (
        "Amount: 30.50 USD, as 30.50 USDT on the network TRON\n"
        f"Address: {OTHER_TRON}\nMemo (tag): 4711\n"
    ) in second
    assert (
        "The address is not the one that you gave us before, so nobody can approve the payout "
        "before 2026-06-02 10:00 UTC.\n"
    ) in second


def test_rejected_says_why_and_that_the_money_is_back(ann, finance, ticket):
    asked = payout(ann, ticket)
    swept(ticket)
    wallet_payouts.reject(finance, asked.pk, reason="The address is an exchange's.")

    assert swept(ticket) == (
        f"Payout {asked.reference} of 50.00 USD is not sent.\n"
        "Reason: The address is an exchange's.\n"
        "50.00 USD are back in your wallet."
    )


def test_withdrawn_says_that_the_money_is_back(ann, ticket):
    asked = payout(ann, ticket)
    swept(ticket)
    payouts.withdraw(ann, ticket.pk, asked.pk, seen=version(ticket), key="k")

    assert swept(ticket) == (
        f"Payout {asked.reference} of 50.00 USD was withdrawn before it was approved.\n"
        "50.00 USD are back in your wallet."
    )


def test_paid_says_the_transaction_and_what_was_sent_where(ann, finance, ticket):
    asked = sent(finance, ann, ticket)
    settlement.mark_paid(finance, asked.pk, transaction_hash=HASH)

    assert swept(ticket) == (
        f"Payout {asked.reference} is paid.\n\n"
        "Amount: 50.00 USD, as 50.00 USDT on the network TRON\n"
        f"Address: {TRON}\n"
        f"Transaction hash: {HASH}"
    )


def test_failed_promises_nothing_but_to_be_told_and_returned_says_why(ann, finance, ticket):
    asked = sent(finance, ann, ticket)
    settlement.mark_failed(finance, asked.pk, problem="Provider error 17")

    assert swept(ticket) == (
        f"Payout {asked.reference} of 50.00 USD could not be sent, or it came back. We are looking "
        "into it, and you will hear from us on this thread."
    )
    settlement.give_back(person("Finance"), asked.pk, reason="The network refuses this address.")
    assert swept(ticket) == (
        f"Payout {asked.reference} of 50.00 USD is not sent again.\n"
        "Reason: The network refuses this address.\n"
        "50.00 USD are back in your wallet."
    )


def terminate(ticket):
    asked = termination.request(senior(), ticket.customer_id, reason="Resold numbers", key=uuid4())
    termination.confirm(senior(), asked.pk)


def test_forfeited_says_the_clause_of_termination(ann, finance, ticket):
    asked = sent(finance, ann, ticket)
    terminate(ticket)
    settlement.mark_failed(finance, asked.pk, problem="Came back")
    swept(ticket)
    settlement.give_back(person("Finance"), asked.pk, reason="It came back.")

    assert swept(ticket) == (
        f"Payout {asked.reference} of 50.00 USD is not sent.\nReason: It came back.\n{TERMINATED}"
    )


def test_what_a_termination_rejects_is_never_said_to_be_in_the_wallet(ann, ticket):
    asked = payout(ann, ticket)
    swept(ticket)
    terminate(ticket)

    words = swept(ticket)
    assert words.startswith(f"Payout {asked.reference} of 50.00 USD is not sent.\nReason: ")
    assert words.endswith(TERMINATED)
    assert "back in your wallet" not in words


def test_every_outcome_has_its_words(ann, ticket):
    asked = payout(ann, ticket)
    for what in PayoutOutcome.What:
        outcome = PayoutOutcome(payout=asked, what=what, detail="Detail", at=timezone.now())
        words = payout_words.words(outcome, forfeited=False)
        assert asked.reference in words
        assert words == words.strip()


# --- where and how ---


def test_a_notice_is_nobodys_and_queued_for_the_customer_and_the_page_stays_fresh(ann, ticket):
    payout(ann, ticket)
    seen = version(ticket)
    due = fresh(ticket).due_at

    swept(ticket)

    [notice] = ticket.messages.filter(kind="notice")
    outcome = PayoutOutcome.objects.get()
    assert (notice.author, notice.via) == (None, "automatic: payouts")
    assert notice.key == f"payout-outcome:{outcome.pk}"
    assert outcome.told_at >= notice.created_at
    assert Outbound.objects.get(message=notice).state == "queued"
    assert (version(ticket), fresh(ticket).due_at) == (seen, due)
    step = ticket.history.latest("history_id")
    assert (step.history_actor, step.history_change_reason) == (
        "automatic: payouts",
        f"Told the customer: {outcome}",
    )
    reply(ann, ticket, seen=seen)


def test_a_closed_ticket_carries_what_becomes_of_its_payout(ann, finance):
    with time_machine.travel(MONDAY, tick=False) as clock:
        ticket = leaving()
        asked = sent(finance, ann, ticket, reply_body="We arrange it.", then="resolved")
        deliver(ticket.messages.get(kind="reply"))
        clock.shift(timedelta(days=8))
        assert casework.close_resolved() == 1
        settlement.mark_paid(finance, asked.pk, transaction_hash=HASH)

        assert HASH in swept(ticket)
        assert fresh(ticket).state == "closed"
        notice = ticket.messages.filter(kind="notice").latest("pk")
        delivery.deliver_due("api")
        assert Outbound.objects.get(message=notice).state == "sent"


def test_a_payout_that_no_ticket_has_is_told_to_nobody_and_not_looked_at_again(ann, ticket, caplog):
    wallet_payouts.request(
        ann,
        ticket.customer_id,
        method="USDT-TRON",
        address=TRON,
        amount=Decimal(20),
        terms=payouts.terms(timezone.now()),
        reason="By code",
        key=uuid4(),
    )
    with caplog.at_level(logging.WARNING):
        assert notices.tell_due() == 0
    outcome = PayoutOutcome.objects.get()
    assert outcome.told_at is not None
    assert caplog.messages == [
        f"outcome {outcome.pk} of a payout that no ticket has was told to nobody"
    ]
    assert Message.objects.filter(kind="notice").count() == 0
    assert notices.tell_due() == 0


def test_the_task_tells_what_is_due_once_and_in_the_order_it_came_about(ann, finance, ticket):
    asked = payout(ann, ticket)
    wallet_payouts.approve(finance, asked.pk)
    on_its_way(asked)
    settlement.mark_failed(finance, asked.pk, problem="No")
    settlement.mark_paid(finance, asked.pk, transaction_hash=HASH)

    assert [tell_payouts(), tell_payouts()] == [3, 0]
    requested, failed, paid = told(ticket)
    assert requested.startswith("You asked for a payout")
    assert "could not be sent" in failed
    assert HASH in paid


def test_an_idle_sweep_is_one_query_of_the_index_of_what_is_untold(ann, ticket):
    payout(ann, ticket)
    notices.tell_due()

    with CaptureQueriesContext(connection) as found:
        assert notices.tell_due() == 0
    assert len(found) == 1
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + found.captured_queries[0]["sql"])
        plan = " ".join(line for (line,) in cursor.fetchall())
    assert "payout_outcome_untold" in plan


def test_no_address_or_hash_is_logged(ann, finance, ticket, caplog):
    with caplog.at_level(logging.DEBUG):
        asked = sent(finance, ann, ticket)
        settlement.mark_paid(finance, asked.pk, transaction_hash=HASH)
        notices.tell_due()

    logged = " ".join(
        record.getMessage() for record in caplog.records if record.name != "django.db.backends"
    )
    assert TRON not in logged
    assert HASH not in logged


# --- once, whatever happens ---


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_tell_each_outcome_once(ann, ticket):
    others = [leaving() for _ in range(3)]
    for one in (ticket, *others):
        payout(ann, one)

    assert sum(at_once(*(notices.tell_due for _ in range(3)))) == 4
    assert [len(told(one)) for one in (ticket, *others)] == [1] * 4
    assert Outbound.objects.count() == 4
    assert not PayoutOutcome.objects.filter(told_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_what_breaks_in_the_middle_has_told_nothing_and_is_told_once_by_the_next(
    ann, finance, ticket, caplog
):
    asked, other = payout(ann, ticket), leaving()
    wallet_payouts.reject(finance, asked.pk, reason="No")
    payout(ann, other)
    break_on = "CREATE TRIGGER breaks BEFORE UPDATE ON wallet_payoutoutcome FOR EACH ROW"
    first = PayoutOutcome.objects.filter(payout=asked).earliest("pk")
    owner(
        "CREATE FUNCTION breaks() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'broken {TRON}'; END $$"
    )
    owner(f"{break_on} WHEN (OLD.id = {first.pk}) EXECUTE FUNCTION breaks()")
    try:
        # The notice was written, and its end could not be: all of it is undone. What follows it
        # waits for it, and another customer does not.
        with pytest.raises(isolation.Unfinished, match=f"outcome {first.pk}: see the log"):
            notices.tell_due()
        assert (told(ticket), len(told(other))) == ([], 1)
        assert Outbound.objects.filter(message__ticket=ticket).count() == 0
        assert TRON not in caplog.text
        assert f"payout outcome {first.pk}: ProgrammingError at" in caplog.text
    finally:
        owner("DROP TRIGGER breaks ON wallet_payoutoutcome")
        owner("DROP FUNCTION breaks()")

    assert [notices.tell_due(), notices.tell_due()] == [2, 0]
    requested, rejected = told(ticket)
    assert requested.startswith("You asked for a payout")
    assert "is not sent.\nReason: No" in rejected


@pytest.mark.django_db(transaction=True)
def test_many_that_cannot_be_told_stop_nobody_else(ann, ticket):
    asked, other = payout(ann, ticket), leaving()
    first = PayoutOutcome.objects.get(payout=asked)
    PayoutOutcome.objects.bulk_create(
        PayoutOutcome(payout=asked, what="requested", at=first.at) for _ in range(250)
    )
    payout(ann, other)
    owner(
        "CREATE FUNCTION breaks() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'broken'; END $$"
    )
    owner(
        "CREATE TRIGGER breaks BEFORE UPDATE ON wallet_payoutoutcome FOR EACH ROW"
        f" WHEN (OLD.payout_id = {asked.pk}) EXECUTE FUNCTION breaks()"
    )
    try:
        with pytest.raises(isolation.Unfinished):
            notices.tell_due()
        assert (len(told(ticket)), len(told(other))) == (0, 1)
    finally:
        owner("DROP TRIGGER breaks ON wallet_payoutoutcome")
        owner("DROP FUNCTION breaks()")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_told_before_what_it_tells_of_is_committed(ann, finance, ticket):
    asked = payout(ann, ticket)
    notices.tell_due()

    with transaction.atomic():
        wallet_payouts.reject(finance, asked.pk, reason="No")
        assert at_once(notices.tell_due) == [0]
        transaction.set_rollback(True)

    assert at_once(notices.tell_due) == [0]
    assert Payout.objects.get().state == "requested"
    assert len(told(ticket)) == 1
    assert Ticket.objects.count() == 1


def owner(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE NONE")
        cursor.execute(statement)
        cursor.execute("SET ROLE smsactivator_test")
