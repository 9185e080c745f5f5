"""Payouts that are asked for on tickets: the money, the link, and the reply, in one."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied

from refunds.tests import world
from smsactivator.common.errors import Invalid
from smsactivator.common.seen import Outdated
from support import casework, payouts
from support.casework import ClaimedByOther, StillUnanswered, TicketClosed
from support.inbound import KeyConflict, TextRefused
from support.locking import TicketUnknown
from support.models import Message, Outbound, Ticket, TicketPayout
from support.payouts import AskedElsewhere
from support.tests.world import (
    MONDAY,
    agent,
    ask,
    deliver,
    fresh,
    leaving,
    payout,
    reply,
    senior,
    version,
    write,
)
from wallet import payouts as wallet_payouts
from wallet import standing
from wallet.addresses import AddressRefused
from wallet.deciding import OwnRequest, ReasonMissing, RequestConflict
from wallet.ledger import WalletClosed
from wallet.models import Payout, PayoutMethod, PayoutOutcome, Transfer, Wallet
from wallet.payouts import (
    CLAUSE,
    MethodUnknown,
    PayoutAmountRefused,
    PayoutElsewhere,
    PayoutUnknown,
    PayoutWalletRefused,
)
from wallet.tests.together import at_once
from wallet.tests.world import person

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann():
    return agent("ann")


@pytest.fixture
def bob():
    return agent("bob")


@pytest.fixture
def ticket():
    return leaving("100.1234")


def balance(ticket) -> Decimal:
    return Wallet.objects.get(pk=ticket.customer_id).balance


def said(ticket) -> list[tuple[str, str]]:
    """What we wrote on the thread, by kind."""
    return list(ticket.messages.exclude(kind="customer").order_by("pk").values_list("kind", "body"))


def everything() -> list[object]:
    """Every row that asking for a payout writes, for comparing before and after."""
    models = (Ticket, Message, Outbound, TicketPayout, Payout, PayoutOutcome, Transfer, Wallet)
    return [list(model.objects.order_by("pk").values()) for model in models] + [
        Ticket.history.count(),
        Payout.history.count(),
    ]


# --- asking ---


def test_a_payout_is_asked_for_on_the_ticket_and_the_money_leaves_the_wallet(ann, ticket):
    asked = payout(ann, ticket, "50")

    assert (asked.state, asked.amount, asked.requested_by) == ("requested", Decimal(50), ann)
    assert (asked.policy_version, asked.minimum) == ("2026-05-07", Decimal(20))
    assert (asked.customer_id, asked.reason) == (ticket.customer_id, "Leaves us")
    assert balance(ticket) == Decimal("50.1234")
    case = TicketPayout.objects.get()
    assert (case.ticket, case.payout) == (ticket, asked)
    ticket = fresh(ticket)
    assert (ticket.state, ticket.assignee, ticket.claimed_by) == ("open", ann, ann)
    assert ticket.history.latest().history_change_reason == (
        f"Asked for payout {asked.reference} of 50.00 USD: Leaves us"
    )
    assert said(ticket) == []


def test_the_whole_balance_leaves_what_is_below_a_cent(ann, ticket):
    asked = payout(ann, ticket, None)

    assert (asked.amount, balance(ticket)) == (Decimal("100.12"), Decimal("0.0034"))


def test_what_is_typed_with_it_is_sent_as_a_reply_and_may_wait_for_the_customer(ann, ticket):
    payout(ann, ticket, reply_body="We arrange it.", then="waiting")

    assert said(ticket) == [("reply", "We arrange it.")]
    assert Outbound.objects.filter(message__ticket=ticket).count() == 1
    ticket = fresh(ticket)
    assert (ticket.state, ticket.claimed_by) == ("waiting", None)


def test_the_same_form_sent_again_is_one_payout_and_one_reply(ann, ticket):
    form = {"key": uuid4(), "seen": version(ticket), "reply_body": "We arrange it."}
    first = payout(ann, ticket, **form)
    before = everything()

    assert payout(ann, ticket, **form) == first
    assert everything() == before


@pytest.mark.parametrize(
    ("again", "error"),
    [
        ({"reply_body": "Other words"}, KeyConflict),
        ({"reply_body": ""}, KeyConflict),
        ({"reply_body": "We arrange it.", "then": "resolved"}, KeyConflict),
        ({"reply_body": "We arrange it.", "amount": "40"}, RequestConflict),
        ({"reply_body": "We arrange it.", "reason": "Another"}, RequestConflict),
    ],
)
def test_a_form_that_was_sent_before_and_says_something_else_is_a_conflict(
    ann, ticket, again, error
):
    form = {"key": uuid4(), "seen": version(ticket)}
    payout(ann, ticket, **form, reply_body="We arrange it.")
    before = everything()

    with pytest.raises(error):
        payout(ann, ticket, **{**form, **again})
    assert everything() == before


def test_a_form_of_another_ticket_is_refused_by_name(ann, ticket):
    form = {"key": uuid4(), "seen": version(ticket)}
    asked = payout(ann, ticket, **form)
    same, others = ask(ticket.customer), leaving()

    for elsewhere, words in ((same, f"on ticket {ticket.pk}:"), (others, "asked for elsewhere:")):
        before = everything()
        with pytest.raises(AskedElsewhere, match=words) as refused:
            payout(ann, elsewhere, key=form["key"])
        assert str(asked) in refused.value.message
        assert everything() == before


# --- each refusal by its name; nothing is done ---


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"reason": " "}, ReasonMissing, "Say why"),
        ({"amount": "19.99"}, PayoutAmountRefused, "A payout is at least 20.00 USD"),
        ({"amount": "100.13"}, PayoutAmountRefused, "at most 100.12 USD can be paid out"),
        ({"amount": "50.001"}, PayoutAmountRefused, "in whole cents"),
        ({"amount": "-50"}, PayoutAmountRefused, "at least 20.00 USD"),
        ({"amount": "NaN"}, PayoutAmountRefused, "NaN"),
        ({"method": "USDT-NOWHERE"}, MethodUnknown, "USDT-NOWHERE"),
        ({"address": "TJRabPrwbZy45sbavfcjinPJC18kjpRTv9"}, AddressRefused, "checksum"),
        ({"method": "USDT-ETHEREUM"}, AddressRefused, "an address on Tron"),
        ({"seen": 0}, Outdated, "has changed since you looked"),
        ({"reply_body": "x" * 20_001}, TextRefused, "20000 are the most"),
        ({"then": "resolved"}, StillUnanswered, "waits for an answer"),
        ({"then": "gone"}, Invalid, "does not become gone"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_and_nothing_is_done(ann, ticket, fields, error, words):
    before = everything()

    with pytest.raises(error, match=words):
        payout(ann, ticket, **fields)
    assert everything() == before


def test_a_balance_below_the_minimum_is_refused_with_the_clause(ann):
    with pytest.raises(PayoutAmountRefused) as refused:
        payout(ann, leaving("19.9999"), None)

    assert refused.value.message.startswith(
        "A payout is at least 20.00 USD, and this would be 19.99 USD."
    )
    assert CLAUSE in refused.value.message


def test_a_method_that_is_switched_off_is_not_asked_for(ann, ticket):
    PayoutMethod.objects.filter(code="USDT-TRON").update(enabled=False)

    with pytest.raises(MethodUnknown):
        payout(ann, ticket)


def test_nothing_is_asked_for_of_a_frozen_or_closed_wallet(ann):
    frozen, closed = leaving("50"), leaving("0")
    finance = person("Finance")
    standing.freeze(finance, frozen.customer_id, reason="Looked at")
    before = balance(frozen)

    with pytest.raises(PayoutWalletRefused) as refused:
        payout(ann, frozen)
    assert CLAUSE in refused.value.message
    assert balance(frozen) == before
    Wallet.objects.filter(pk=closed.customer_id).update(state="closed")
    with pytest.raises(WalletClosed):
        payout(ann, closed)


@pytest.mark.parametrize("role", ["Finance", "Auditor"])
def test_who_does_not_speak_with_customers_asks_for_none(role, ticket):
    with pytest.raises(PermissionDenied):
        payout(person(role), ticket)


def test_answering_alone_is_not_enough(ann, ticket):
    [group] = ann.groups.all()
    group.permissions.remove(group.permissions.get(codename="request_payout"))

    with pytest.raises(PermissionDenied):
        payout(agent("new"), ticket)


def test_a_ticket_of_somebody_else_or_of_nobody_is_left_alone(ann, bob, ticket):
    casework.claim(bob, ticket.pk)
    with pytest.raises(ClaimedByOther):
        payout(ann, ticket)
    asked = payout(bob, ticket)
    with pytest.raises(TicketUnknown):
        payouts.withdraw(bob, ticket.pk + 1000, asked.pk, seen=1, key="none")


def test_a_closed_ticket_takes_no_payout(ann):
    with time_machine.travel(MONDAY, tick=False) as clock:
        ticket = leaving()
        deliver(reply(ann, ticket, then="resolved"))
        clock.shift(8 * 24 * 3600)
        assert casework.close_resolved() == 1
        with pytest.raises(TicketClosed):
            payout(ann, ticket)


# --- taking it back ---


def take_back(by, ticket, asked, **fields):
    typed = {"seen": version(ticket), "key": str(uuid4()), **fields}
    return payouts.withdraw(by, ticket.pk, asked.pk, **typed)


def test_who_asked_takes_it_back_and_the_money_returns(ann, ticket):
    asked = payout(ann, ticket)
    form = {"seen": version(ticket), "key": str(uuid4())}

    back = take_back(ann, ticket, asked, **form)

    assert (back.state, balance(ticket)) == ("withdrawn", Decimal("100.1234"))
    assert said(ticket) == [("note", f"Withdrew payout {asked.reference} of 50.00 USD")]
    before = everything()
    assert take_back(ann, ticket, asked, **form) == asked
    assert everything() == before


def test_only_who_asked_takes_it_back_and_only_before_it_is_approved(ann, bob, ticket):
    asked = payout(ann, ticket)
    casework.release(ann, ticket.pk)
    before = everything()

    with pytest.raises(OwnRequest):
        take_back(bob, ticket, asked)
    assert everything() == before
    wallet_payouts.approve(senior(), asked.pk)
    before = everything()
    with pytest.raises(PayoutElsewhere, match="“Approved” by now"):
        take_back(ann, ticket, asked)
    with pytest.raises(PermissionDenied):
        take_back(person("Finance"), ticket, asked)
    with pytest.raises(Outdated):
        take_back(ann, ticket, asked, seen=0)
    assert everything() == before


def test_a_payout_of_another_ticket_is_not_taken_back_here(ann, ticket):
    asked = payout(ann, ticket)
    same, others = ask(ticket.customer), leaving()

    with pytest.raises(AskedElsewhere, match=f"on ticket {ticket.pk}:"):
        take_back(ann, same, asked)
    with pytest.raises(AskedElsewhere, match="asked for elsewhere:"):
        take_back(ann, others, asked)
    asked.pk += 1000
    with pytest.raises(PayoutUnknown):
        take_back(ann, ticket, asked)
    assert Payout.objects.get().state == "requested"


# --- at the same moment ---


@pytest.mark.django_db(transaction=True)
def test_the_same_form_twice_at_once_is_one_payout(ann, ticket):
    form = {"key": uuid4(), "seen": version(ticket), "reply_body": "We arrange it."}

    made = at_once(*(lambda: payout(ann, ticket, "60", **form) for _ in range(4)))

    assert len({one.pk for one in made}) == 1
    assert (Payout.objects.count(), balance(ticket)) == (1, Decimal("40.1234"))
    assert said(ticket) == [("reply", "We arrange it.")]
    assert PayoutOutcome.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_agents_at_once_one_asks_and_the_other_is_told(ann, bob, ticket):
    seen = version(ticket)

    made = at_once(*(lambda by=by: payout(by, ticket, None, seen=seen) for by in (ann, bob)))

    assert sorted(type(one).__name__ for one in made) == ["Outdated", "Payout"]
    assert (Payout.objects.count(), balance(ticket)) == (1, Decimal("0.0034"))


@pytest.mark.django_db(transaction=True)
def test_two_tickets_of_a_customer_at_once_pay_the_balance_out_once(ann, bob, ticket):
    other = ask(ticket.customer)

    made = at_once(lambda: payout(ann, ticket, None), lambda: payout(bob, other, None))

    assert sorted(type(one).__name__ for one in made) == ["Payout", "PayoutAmountRefused"]
    assert (Payout.objects.count(), balance(ticket)) == (1, Decimal("0.0034"))


@pytest.mark.django_db(transaction=True)
def test_taken_back_and_approved_at_once_is_one_of_both(ann, ticket):
    asked, boss = payout(ann, ticket), senior()

    made = at_once(
        lambda: take_back(ann, ticket, asked), lambda: wallet_payouts.approve(boss, asked.pk)
    )

    asked.refresh_from_db()
    assert sorted(type(one).__name__ for one in made) == ["Payout", "PayoutElsewhere"]
    assert (asked.state, balance(ticket)) in {
        ("withdrawn", Decimal("100.1234")),
        ("approved", Decimal("50.1234")),
    }


@pytest.mark.django_db(transaction=True)
def test_the_customer_writing_at_the_same_moment_makes_the_view_outdated_or_comes_after(
    ann, ticket
):
    seen = version(ticket)

    asked, _ = at_once(
        lambda: payout(ann, ticket, seen=seen), lambda: write(ticket, "Not this address!")
    )

    assert isinstance(asked, (Payout, Outdated))
    assert Payout.objects.count() == int(isinstance(asked, Payout))
    world.assert_books_agree()
