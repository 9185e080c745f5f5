"""Freezing, chargeback claims, termination and reinstatement, closing: through to the orders."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.core.exceptions import PermissionDenied

from orders import closing, placing, termination
from orders.delivery import Arrival, record_sms
from orders.models import Order, State, UpstreamSide
from orders.upstreams.base import Message
from refunds import automatic
from refunds.tests import world
from wallet import claims, deposits, ledger, standing
from wallet.deciding import AlreadyDecided, OwnRequest, ReasonMissing
from wallet.models import Claim, Deposit, Termination, Transfer, Wallet
from wallet.tests.world import person

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent():
    return person("Support agent")


@pytest.fixture
def senior():
    return person("Senior agent")


@pytest.fixture
def other():
    return person("Senior agent")


@pytest.fixture
def ada():
    return world.customer("10")


def state_of(customer) -> str:
    return Wallet.objects.get(pk=customer.pk).state


def requested(person, customer, **fields):
    return termination.request(person, customer.pk, reason="Sold numbers on", key=uuid4(), **fields)


def terminated(customer, senior, other):
    return termination.confirm(other, requested(senior, customer).pk)


def claimed(person, customer, reference="cb-1"):
    deposit = Deposit.objects.get(transfer__wallet=customer.pk)
    return claims.record(person, deposit.pk, reference=reference, evidence="Filed on Monday")


# --- freezing ---


def test_a_frozen_wallet_spends_nothing_and_refunds_still_arrive(ada, senior):
    order = world.place(ada, world.offer("0.5"))
    standing.freeze(senior, ada.pk, reason="Looks stolen")

    with pytest.raises(ledger.WalletFrozen):
        world.place(ada, world.offer("0.5"))
    automatic.cancel(order.pk, actor=world.TESTER)
    deposits.deposit(ada, amount=Decimal(1), reference="more")

    assert world.balance(ada) == Decimal(11)
    standing.unfreeze(senior, ada.pk, reason="It was theirs")
    assert world.place(ada, world.offer("0.5")).state == State.PLACED
    assert [
        (row.state, row.history_actor, row.history_change_reason)
        for row in Wallet.history.filter(customer=ada.pk).order_by("history_id")
    ] == [
        ("active", "tester", "Created by the storefront"),
        ("frozen", senior.username, "Frozen: Looks stolen"),
        ("active", senior.username, "Unfrozen: It was theirs"),
    ]


def test_freezing_needs_a_reason_the_right_and_an_active_wallet(ada, agent, senior):
    with pytest.raises(PermissionDenied):
        standing.freeze(agent, ada.pk, reason="No")
    with pytest.raises(ReasonMissing):
        standing.freeze(senior, ada.pk, reason=" ")
    with pytest.raises(standing.StandingRefused, match="is active"):
        standing.unfreeze(senior, ada.pk, reason="Why not")
    standing.freeze(senior, ada.pk, reason="Once")
    with pytest.raises(standing.StandingRefused, match="is frozen"):
        standing.freeze(senior, ada.pk, reason="Twice")


# --- chargeback claims ---


def test_a_claim_freezes_the_wallet_until_it_is_dismissed(ada, agent, senior):
    claim = claimed(agent, ada)

    assert (claim.state, claim.froze, state_of(ada)) == (Claim.State.OPEN, True, "frozen")
    with pytest.raises(standing.HeldByDecision, match="Claim cb-1"):
        standing.unfreeze(senior, ada.pk, reason="Hurry")
    claims.dismiss(senior, claim.pk, reason="The provider found it wrong")
    assert state_of(ada) == "active"


def test_the_same_claim_again_is_the_first_and_another_one_waits(ada, agent):
    claim = claimed(agent, ada)

    assert claimed(agent, ada) == claim
    with pytest.raises(claims.ClaimConflict, match="cb-1 was recorded"):
        claimed(agent, ada, "cb-2")


def test_the_last_of_two_claims_lets_the_wallet_go(ada, agent, senior):
    first = claimed(agent, ada)
    second_deposit, _ = deposits.deposit(ada, amount=Decimal(1), reference="second")
    second = claims.record(agent, second_deposit.pk, reference="cb-2", evidence="Also filed")

    claims.dismiss(senior, first.pk, reason="Wrong")
    assert state_of(ada) == "frozen"
    claims.dismiss(senior, second.pk, reason="Wrong as well")
    assert state_of(ada) == "active"


def test_a_dismissed_claim_leaves_a_freeze_by_a_person_alone(ada, agent, senior):
    standing.freeze(senior, ada.pk, reason="Another thing")
    claim = claimed(agent, ada)

    claims.dismiss(senior, claim.pk, reason="Wrong")

    assert (claim.froze, state_of(ada)) == (False, "frozen")


def test_agents_record_claims_and_seniors_decide_them(ada, agent, senior):
    with pytest.raises(claims.ClaimIncomplete):
        deposit = Deposit.objects.get(transfer__wallet=ada.pk)
        claims.record(agent, deposit.pk, reference="cb-1", evidence=" ")
    claim = claimed(agent, ada)
    with pytest.raises(PermissionDenied):
        claims.dismiss(agent, claim.pk, reason="No")
    claims.dismiss(senior, claim.pk, reason="Wrong")
    with pytest.raises(AlreadyDecided):
        claims.dismiss(senior, claim.pk, reason="Wrong again")


def test_a_claim_ends_in_a_termination_that_a_second_person_confirms(ada, agent, senior, other):
    claim = claimed(agent, ada)
    asked = requested(senior, ada, claim_id=claim.pk)

    claim.refresh_from_db()
    assert (claim.state, claim.decided_by) == (Claim.State.UPHELD, senior)
    termination.confirm(other, asked.pk)
    assert (state_of(ada), world.balance(ada)) == ("forfeited", Decimal(0))


def test_a_termination_that_is_rejected_opens_its_claim_again(ada, agent, senior, other):
    claim = claimed(agent, ada)
    termination.reject(other, requested(senior, ada, claim_id=claim.pk).pk, reason="Not enough")

    claim.refresh_from_db()
    assert (claim.state, claim.decided_by, state_of(ada)) == (Claim.State.OPEN, None, "frozen")
    claims.dismiss(senior, claim.pk, reason="Agreed")
    assert state_of(ada) == "active"


def test_a_claim_that_is_open_keeps_a_reinstated_wallet_frozen(ada, agent, senior, other):
    claim = claimed(agent, ada)
    ended = terminated(ada, senior, other)

    back = termination.request_reinstatement(
        senior, ended.pk, give_back=True, reason="Mix-up", key=uuid4()
    )
    termination.confirm_reinstatement(other, back.pk)

    assert (state_of(ada), world.balance(ada)) == ("frozen", Decimal(10))
    with pytest.raises(standing.HeldByDecision):
        standing.unfreeze(senior, ada.pk, reason="Hurry")
    claims.dismiss(senior, claim.pk, reason="Wrong")
    assert state_of(ada) == "active"


@pytest.mark.parametrize("ending", ["terminated", "closed"])
def test_a_claim_against_a_wallet_that_has_ended_freezes_it_when_it_comes_back(
    agent, senior, other, ending
):
    ada = world.customer("1")
    order = world.allocated(world.place(ada, world.offer("1")))
    record_sms({order.pk: [Arrival(Message("1234", "Code 1234"))]})
    if ending == "terminated":
        ended = terminated(ada, senior, other)
    else:
        closing.close(senior, ada.pk, reason="Leaves")

    claim = claimed(agent, ada)
    if ending == "terminated":
        back = termination.request_reinstatement(
            senior, ended.pk, give_back=True, reason="Mix-up", key=uuid4()
        )
        termination.confirm_reinstatement(other, back.pk)
    else:
        closing.reopen(senior, ada.pk, reason="Back")

    assert state_of(ada) == "frozen"
    claims.dismiss(senior, claim.pk, reason="Wrong")
    assert state_of(ada) == "active"


# --- termination ---


def test_a_termination_forfeits_the_wallet_and_the_open_orders(ada, senior, other):
    placed = world.place(ada, world.offer("0.25"))
    awaiting = world.allocated(world.place(ada, world.offer("0.5")))
    delivered = world.allocated(world.place(ada, world.offer("1")))
    record_sms({delivered.pk: [Arrival(Message("1234", "Code 1234"))]})

    done = terminated(ada, senior, other)

    assert (done.wallet_amount, done.orders_amount, done.orders_ended) == (
        Decimal("8.25"),
        Decimal("0.75"),
        2,
    )
    assert (state_of(ada), world.balance(ada)) == ("forfeited", Decimal(0))
    states = dict(Order.objects.values_list("pk", "state"))
    assert states == {
        placed.pk: State.FORFEITED,
        awaiting.pk: State.FORFEITED,
        delivered.pk: State.SMS_RECEIVED,
    }
    awaiting.refresh_from_db()
    assert awaiting.upstream_side == UpstreamSide.RELEASING
    forfeited = Transfer.objects.filter(kind="forfeiture", credit_account=6)
    assert sorted((t.debit_account, t.amount) for t in forfeited) == [
        (2, Decimal("0.25")),
        (2, Decimal("0.5")),
        (ada.pk, Decimal("8.25")),
    ]
    assert {row.history_change_reason for row in Order.history.filter(state=State.FORFEITED)} == {
        f"Forfeited by {done}"
    }


def test_the_request_freezes_at_once(ada, senior):
    requested(senior, ada)

    assert state_of(ada) == "frozen"
    with pytest.raises(ledger.WalletFrozen):
        world.place(ada, world.offer("0.5"))


def test_an_order_that_ends_between_request_and_confirmation_is_refunded_and_then_forfeited(
    ada, senior, other
):
    order = world.place(ada, world.offer("0.5"))
    asked = requested(senior, ada)
    automatic.cancel(order.pk, actor=world.TESTER)

    done = termination.confirm(other, asked.pk)

    assert (done.wallet_amount, done.orders_ended) == (Decimal(10), 0)


def test_nothing_is_refunded_after_a_termination_and_the_clause_is_named(ada, senior, other):
    order = world.allocated(world.place(ada, world.offer("0.5")))
    terminated(ada, senior, other)

    with pytest.raises(automatic.OrderForfeited, match="wallet balance is forfeited per /aup"):
        automatic.cancel(order.pk, actor=world.TESTER)
    with pytest.raises(ledger.WalletForfeited, match="wallet balance is forfeited per /aup"):
        deposits.deposit(ada, amount=Decimal(1), reference="late")
    with pytest.raises(ledger.WalletForfeited):
        placing.place(ada, offer_id=world.offer().pk, idempotency_key="x", actor=world.TESTER)
    Order.objects.update(deadline=order.placed_at - timedelta(seconds=1))
    world.looked_at()
    assert automatic.sweep() == 0


def test_an_sms_that_comes_after_a_termination_is_late(ada, senior, other):
    order = world.allocated(world.place(ada, world.offer("0.5")))
    terminated(ada, senior, other)

    record_sms({order.pk: [Arrival(Message("1234", "Code 1234"))]})

    order.refresh_from_db()
    assert (order.state, order.messages.get().late) == (State.FORFEITED, True)
    assert order.upstream_side == UpstreamSide.LOST


def test_an_empty_wallet_is_forfeited_without_a_transfer(senior, other):
    ada = world.customer("0")

    done = terminated(ada, senior, other)

    assert (done.transfer, done.forfeited, state_of(ada)) == (None, 0, "forfeited")


def test_nobody_confirms_their_own_termination(ada, senior, agent):
    asked = requested(senior, ada)

    with pytest.raises(OwnRequest):
        termination.confirm(senior, asked.pk)
    with pytest.raises(PermissionDenied):
        termination.confirm(agent, asked.pk)
    with pytest.raises(PermissionDenied):
        requested(agent, ada)
    termination.withdraw(senior, asked.pk)
    assert (state_of(ada), world.balance(ada)) == ("active", Decimal(10))


def test_a_customer_is_terminated_once(ada, senior, other):
    asked = requested(senior, ada)
    with pytest.raises(termination.TerminationPending):
        requested(other, ada)
    termination.confirm(other, asked.pk)
    with pytest.raises(AlreadyDecided):
        termination.confirm(other, asked.pk)
    with pytest.raises(termination.TerminationPending):
        requested(senior, ada)


# --- reinstatement ---


@pytest.mark.parametrize(("give_back", "balance"), [(True, "10"), (False, "0")])
def test_a_reinstated_customer_gets_everything_back_or_nothing(
    ada, senior, other, give_back, balance
):
    order = world.place(ada, world.offer("0.5"))
    ended = terminated(ada, senior, other)

    asked = termination.request_reinstatement(
        senior, ended.pk, give_back=give_back, reason="It was a mix-up", key=uuid4()
    )
    assert state_of(ada) == "forfeited"
    termination.confirm_reinstatement(other, asked.pk)

    assert (state_of(ada), world.balance(ada)) == ("active", Decimal(balance))
    order.refresh_from_db()
    assert order.state == State.FORFEITED
    again = terminated(ada, senior, other)
    assert Termination.objects.filter(customer=ada).count() == 2
    assert again.wallet_amount == Decimal(balance)


def test_a_reinstatement_needs_a_termination_and_a_second_person(ada, senior, other):
    asked = requested(senior, ada)
    with pytest.raises(termination.NotTerminated):
        termination.request_reinstatement(
            senior, asked.pk, give_back=True, reason="No", key=uuid4()
        )
    termination.confirm(other, asked.pk)
    back = termination.request_reinstatement(
        senior, asked.pk, give_back=True, reason="Mix-up", key=uuid4()
    )
    with pytest.raises(OwnRequest):
        termination.confirm_reinstatement(senior, back.pk)
    termination.reject_reinstatement(other, back.pk, reason="It was right")
    assert state_of(ada) == "forfeited"
    more = termination.request_reinstatement(
        senior, asked.pk, give_back=False, reason="Grace", key=uuid4()
    )
    termination.withdraw_reinstatement(senior, more.pk)
    assert state_of(ada) == "forfeited"


# --- closing ---


def test_a_wallet_closes_with_less_than_a_cent_which_goes_to_rounding(senior):
    ada = world.customer("0.0099")

    closing.close(senior, ada.pk, reason="Leaves")

    assert (state_of(ada), world.balance(ada)) == ("closed", Decimal(0))
    rounding = Transfer.objects.get(kind="rounding")
    assert (rounding.amount, rounding.credit_account) == (Decimal("0.0099"), 8)
    with pytest.raises(ledger.WalletClosed):
        deposits.deposit(ada, amount=Decimal(1), reference="late")
    closing.reopen(senior, ada.pk, reason="Back")
    deposits.deposit(ada, amount=Decimal("0.005"), reference="back")
    closing.close(senior, ada.pk, reason="Leaves again")
    assert world.balance(ada) == 0


def test_a_wallet_with_a_cent_or_an_open_order_does_not_close(senior):
    ada = world.customer("0.51")
    with pytest.raises(closing.NotEmpty, match=r"holds 0\.5100 USD"):
        closing.close(senior, ada.pk, reason="Leaves")
    world.place(ada, world.offer("0.51"))
    with pytest.raises(closing.NotEmpty, match="open orders"):
        closing.close(senior, ada.pk, reason="Leaves")
