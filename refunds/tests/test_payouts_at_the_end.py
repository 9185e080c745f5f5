"""Payouts when an account ends: by its termination, or when its wallet is closed."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from uuid import uuid4

import pytest

from orders import closing, termination
from orders.models import Order
from refunds import automatic
from refunds.tests import world as orders_world
from wallet import batches, ledger, payouts, settlement
from wallet.deciding import OwnRequest
from wallet.models import Account, Payout, Termination, Transfer, Wallet
from wallet.tests import paying, world
from wallet.tests.paying import Crew, outcomes, taken_to
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db

State = Payout.State


@pytest.fixture
def people() -> Crew:
    return paying.crew()


@pytest.fixture
def buyer():
    return world.customer("1000")


def terminated(people: Crew, customer) -> Termination:
    asked = termination.request(people.senior, customer.pk, reason="Resold", key=uuid4())
    return termination.confirm(people.finance, asked.pk)


def reinstated(people: Crew, ended: Termination) -> None:
    back = termination.request_reinstatement(
        people.senior, ended.pk, give_back=True, reason="Mix-up", key=uuid4()
    )
    termination.confirm_reinstatement(people.finance, back.pk)


@pytest.mark.parametrize("state", [State.REQUESTED, State.FIRST_APPROVED, State.APPROVED])
def test_what_nobody_has_sent_is_rejected_and_forfeited_with_the_wallet(people, buyer, state):
    payout = taken_to(state, people, buyer, "600")
    order = orders_world.place(buyer, orders_world.offer("0.5"))

    ended = terminated(people, buyer)

    payout = Payout.objects.get(pk=payout.pk)
    why = f"{ended}: {ledger.TERMINATED}"
    assert (payout.state, payout.decided_by, payout.decision_reason) == (
        "rejected",
        people.finance,
        why,
    )
    assert outcomes(payout)[-1] == ("rejected", why)
    assert (ended.wallet_amount, ended.orders_amount) == (Decimal("999.5"), Decimal("0.5"))
    assert Order.objects.get(pk=order.pk).state == "forfeited"
    assert (paying.pending(), paying.account(Account.FORFEITURES)) == (0, 1000)

    reinstated(people, ended)

    assert (Wallet.objects.get(pk=buyer.pk).state, world.figures(buyer)[0]) == ("active", 1000)
    assert paying.account(Account.FORFEITURES) == 0


@pytest.mark.parametrize("state", [State.EXPORTED, State.SUBMITTED, State.FAILED, State.PAID])
def test_what_is_on_its_way_is_left_to_whoever_settles_it(people, buyer, state):
    payout = taken_to(state, people, buyer, "600")

    ended = terminated(people, buyer)

    assert Payout.objects.get(pk=payout.pk).state == state
    assert ended.wallet_amount == 400
    if state == State.EXPORTED:
        batches.submit(people.finance, payout.lines.get(live=True).batch_id)
    if state in {State.EXPORTED, State.SUBMITTED}:
        settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    if state == State.PAID:
        assert (paying.pending(), paying.paid()) == (0, 600)
        return
    settlement.give_back(people.other, payout.pk, reason="The account has ended")
    assert Payout.objects.get(pk=payout.pk).state == "forfeited"
    assert (paying.pending(), paying.account(Account.FORFEITURES)) == (0, 1000)

    # A reinstatement gives back what the termination took; this was forfeited after it.
    reinstated(people, ended)
    assert world.figures(buyer)[0] == 400
    assert paying.account(Account.FORFEITURES) == 600


def test_who_sent_a_payout_again_does_not_confirm_the_end_of_its_account(people, buyer):
    payout = taken_to(State.FAILED, people, buyer, "600")
    settlement.send_again(people.finance, payout.pk, reason="Again")
    asked = termination.request(people.senior, buyer.pk, reason="Resold", key=uuid4())

    with pytest.raises(OwnRequest) as refused:
        termination.confirm(people.finance, asked.pk)
    assert refused.value.message == (
        f"You sent {payout} again yourself, so somebody else rejects it."
    )
    assert Payout.objects.get(pk=payout.pk).state == "requested"

    assert termination.confirm(people.other, asked.pk).wallet_amount == 1000
    assert (paying.pending(), paying.account(Account.FORFEITURES)) == (0, 1000)


def test_what_is_on_its_way_may_still_be_paid_after_a_termination(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    terminated(people, buyer)

    settlement.mark_paid(people.finance, payout.pk, transaction_hash=paying.HASH)

    assert (paying.pending(), paying.paid()) == (0, 50)


def test_what_comes_back_after_a_reinstatement_is_the_customer_s_again(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    reinstated(people, terminated(people, buyer))
    settlement.mark_failed(people.finance, payout.pk, problem="Bounced")

    settlement.give_back(people.other, payout.pk, reason="Bounced")

    assert Payout.objects.get(pk=payout.pk).state == "returned"
    assert world.figures(buyer)[0] == 1000


@pytest.mark.parametrize("state", [*State.values[:5], State.FAILED])
def test_a_wallet_does_not_close_while_a_payout_is_open(people, state):
    buyer = world.customer("600")
    taken_to(state, people, buyer, "600")

    with pytest.raises(closing.NotEmpty) as refused:
        closing.close(people.senior, buyer.pk, reason="Leaves")

    assert refused.value.message == (
        "A payout of the customer is open: it must end before the wallet closes."
    )
    assert Wallet.objects.get(pk=buyer.pk).state == "active"


def test_a_customer_leaves_with_whole_cents_and_the_rest_goes_to_rounding(people):
    buyer = world.customer("50.0099")
    payout = paying.asked(people.agent, buyer, None)
    paying.approved(people, payout)
    paying.submitted(payout)
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=paying.HASH)

    closing.close(people.senior, buyer.pk, reason="Leaves")

    assert (Wallet.objects.get(pk=buyer.pk).state, world.figures(buyer)[0]) == ("closed", 0)
    assert (paying.paid(), paying.account(Account.ROUNDING)) == (50, Decimal("0.0099"))
    settlement.mark_came_back(
        people.finance, payout.pk, transaction_hash=paying.HASH, problem="Came back"
    )
    settlement.give_back(people.other, payout.pk, reason="Came back")
    assert (Wallet.objects.get(pk=buyer.pk).state, world.figures(buyer)[0]) == ("active", 50)


@pytest.mark.django_db(transaction=True)
def test_a_termination_against_an_approval():
    for _ in range(12):
        people, buyer = paying.crew(), world.customer("100")
        payout = paying.asked(people.agent, buyer)
        asked = termination.request(people.senior, buyer.pk, reason="Resold", key=uuid4())

        confirmed, approved = at_once(
            partial(termination.confirm, people.finance, asked.pk),
            partial(payouts.approve, people.other, payout.pk),
        )

        # The wallet is frozen since the request, so nothing is approved before or after.
        assert confirmed.wallet_amount == 100
        assert approved.code in {"wallet_state", "payout_state"}
        assert Payout.objects.get(pk=payout.pk).state == "rejected"
    assert (paying.pending(), paying.account(Account.FORFEITURES)) == (0, 1200)
    world.assert_books_agree()


@pytest.mark.django_db(transaction=True)
def test_the_wish_for_a_termination_against_an_approval_and_a_wish():
    outcomes_seen = set()
    for _ in range(12):
        people, buyer = paying.crew(), world.customer("100")
        payout = paying.asked(people.agent, buyer)

        asked, approved, wished = at_once(
            partial(termination.request, people.senior, buyer.pk, reason="Resold", key=uuid4()),
            partial(payouts.approve, people.other, payout.pk),
            partial(paying.asked, people.agent, buyer, "20"),
        )

        assert isinstance(asked, Termination)
        for one in (approved, wished):
            outcomes_seen.add(isinstance(one, Payout))
            assert isinstance(one, Payout) or one.code == "wallet_state"
        ended = termination.confirm(people.finance, asked.pk)
        # Approved or not, wished or not: all of it was waiting, and is forfeited.
        assert ended.wallet_amount == 100
        assert set(Payout.objects.filter(customer=buyer).values_list("state", flat=True)) == {
            "rejected"
        }
    assert outcomes_seen
    assert paying.pending() == 0
    world.assert_books_agree()


@pytest.mark.django_db(transaction=True)
def test_a_termination_against_the_refund_of_an_order_while_a_payout_waits():
    # Both take the order before the wallet; the payout's money comes last.
    for _ in range(12):
        people, buyer = paying.crew(), world.customer("100")
        paying.asked(people.agent, buyer)
        placed = [orders_world.place(buyer, orders_world.offer("1")) for _ in range(3)]
        asked = termination.request(people.senior, buyer.pk, reason="Resold", key=uuid4())

        at_once(
            partial(termination.confirm, people.finance, asked.pk),
            *(
                partial(automatic.cancel, order.pk, actor=orders_world.TESTER)
                for order in reversed(placed)
            ),
        )

        ended = Termination.objects.get(pk=asked.pk)
        assert ended.wallet_amount + ended.orders_amount == 100
        assert (Wallet.objects.get(pk=buyer.pk).state, world.figures(buyer)[0]) == ("forfeited", 0)
    assert (paying.pending(), paying.account(Account.ORDER_ESCROW)) == (0, 0)
    assert not Transfer.objects.filter(kind="payout_paid").exists()
    orders_world.assert_books_agree()
