"""Payouts at the same moment, on real connections: one outcome, exact money, no deadlock."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from wallet import payouts, settlement, standing
from wallet.models import Payout, PayoutOutcome, Transfer, Wallet
from wallet.tests import paying, world
from wallet.tests.paying import HASH, asked, taken_to
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 12
State = Payout.State


def names(*results: Any) -> list[str]:
    """The states and refusals that came out, sorted."""
    return sorted(one.state if isinstance(one, Payout) else type(one).__name__ for one in results)


def state_of(payout: Payout) -> str:
    return str(Payout.objects.get(pk=payout.pk).state)


def steps_of(payout: Payout) -> list[str]:
    return list(payout.history.order_by("history_id").values_list("state", flat=True))


def test_two_people_approve_at_once_and_one_does():
    people = paying.crew()
    for _ in range(ROUNDS):
        payout = asked(people.agent, world.customer("100"))

        results = at_once(
            partial(payouts.approve, people.finance, payout.pk),
            partial(payouts.approve, people.other, payout.pk),
            partial(payouts.approve, people.finance, payout.pk),
        )

        assert names(*results) == ["PayoutElsewhere", "PayoutElsewhere", "approved"]
        assert steps_of(payout) == ["requested", "approved"]
    assert paying.pending() == 50 * ROUNDS
    world.assert_books_agree()


def test_two_approvals_at_once_are_the_first_and_the_second_of_two_people():
    people = paying.crew()
    for _ in range(ROUNDS):
        payout = asked(people.agent, world.customer("1000"), "501")

        results = at_once(
            partial(payouts.approve, people.finance, payout.pk),
            partial(payouts.approve, people.other, payout.pk),
        )

        assert names(*results) == ["approved", "first_approved"]
        payout = Payout.objects.get(pk=payout.pk)
        assert {payout.approved_by, payout.second_by} == {people.finance, people.other}
        assert steps_of(payout) == ["requested", "first_approved", "approved"]
    world.assert_books_agree()


def test_the_same_person_twice_at_once_is_one_of_two():
    people = paying.crew()
    for _ in range(ROUNDS):
        payout = asked(people.agent, world.customer("1000"), "501")
        call = partial(payouts.approve, people.finance, payout.pk)

        assert names(*at_once(call, call)) == ["OwnRequest", "first_approved"]
        assert state_of(payout) == "first_approved"


def test_the_last_of_a_day_s_limit_is_approved_once():
    for _ in range(ROUNDS):
        people = paying.crew()
        for _ in range(4):
            taken = asked(people.agent, world.customer("200"), "200")
            payouts.approve(people.senior, taken.pk)
        last = [asked(people.agent, world.customer("200"), "101") for _ in range(2)]

        results = at_once(*(partial(payouts.approve, people.senior, one.pk) for one in last))

        assert names(*results) == ["OverLimit", "approved"]


def test_approving_against_rejecting():
    people, seen = paying.crew(), Counter[str]()
    for number in range(ROUNDS):
        buyer = world.customer("100")
        payout = asked(people.agent, buyer)
        calls = [
            partial(payouts.approve, people.finance, payout.pk),
            partial(payouts.reject, people.other, payout.pk, reason="No"),
        ]

        results = at_once(*(calls if number % 2 else calls[::-1]))

        # What is approved can still be rejected; what is rejected stays so.
        assert names(*results) in (["approved", "rejected"], ["PayoutElsewhere", "rejected"])
        assert (state_of(payout), world.figures(buyer)) == ("rejected", (Decimal(100), 3))
        assert Transfer.objects.filter(payout_move__payout=payout).count() == 2
        seen.update(steps_of(payout))
    assert seen["rejected"] == ROUNDS
    assert paying.pending() == 0
    world.assert_books_agree()


def test_approving_against_withdrawing():
    people = paying.crew()
    for number in range(ROUNDS):
        buyer = world.customer("100")
        payout = asked(people.agent, buyer)
        calls = [
            partial(payouts.approve, people.finance, payout.pk),
            partial(payouts.withdraw, people.agent, payout.pk),
        ]

        results = at_once(*(calls if number % 2 else calls[::-1]))

        assert names(*results) == ["PayoutElsewhere", state_of(payout)]
        approved = state_of(payout) == "approved"
        assert world.figures(buyer)[0] == (50 if approved else 100)
        assert [what for what, _ in paying.outcomes(payout)] == (
            ["requested"] if approved else ["requested", "withdrawn"]
        )
    assert paying.pending() == 50 * Payout.objects.filter(state="approved").count()
    world.assert_books_agree()


def test_the_whole_balance_is_asked_for_once():
    first, second = paying.crew(), paying.crew()
    for _ in range(ROUNDS):
        buyer = world.customer("100.0099")

        results = at_once(
            partial(asked, first.agent, buyer, None), partial(asked, second.agent, buyer, None)
        )

        assert names(*results) == ["PayoutAmountRefused", "requested"]
        assert world.figures(buyer) == (Decimal("0.0099"), 2)
    assert paying.pending() == 100 * ROUNDS
    world.assert_books_agree()


def test_one_form_that_is_sent_three_times_at_once_is_one_payout():
    people = paying.crew()
    for _ in range(ROUNDS):
        buyer = world.customer("100")
        call = partial(asked, people.agent, buyer, "20", key=uuid4())

        results = at_once(call, call, call)

        assert len({one.pk for one in results}) == 1
        assert world.figures(buyer)[0] == 80
    assert Payout.objects.count() == PayoutOutcome.objects.count() == ROUNDS


def test_a_wish_against_a_purchase_of_the_same_money():
    people = paying.crew()
    for _ in range(ROUNDS):
        buyer = world.customer("100")

        results = at_once(
            partial(asked, people.agent, buyer, "60"),
            partial(world.post, world.spent(buyer, "60")),
        )

        assert sorted(type(one).__name__ for one in results) in (
            ["InsufficientFunds", "Payout"],
            ["PayoutAmountRefused", "list"],
        )
        assert world.figures(buyer) == (Decimal(40), 2)
    world.assert_books_agree()


def test_a_wish_against_a_freeze():
    people = paying.crew()
    for _ in range(ROUNDS):
        buyer = world.customer("100")

        wished, _ = at_once(
            partial(asked, people.agent, buyer),
            partial(standing.freeze, people.senior, buyer.pk, reason="Odd"),
        )

        assert Wallet.objects.get(pk=buyer.pk).state == "frozen"
        taken = isinstance(wished, Payout)
        assert taken or type(wished) is payouts.PayoutWalletRefused
        assert world.figures(buyer)[0] == (50 if taken else 100)
    world.assert_books_agree()


def test_the_same_result_at_once_is_paid_once():
    people = paying.crew()
    for number in range(ROUNDS):
        payout = taken_to(State.SUBMITTED, people, world.customer("100"))
        hash_ = f"{number:064x}"

        results = at_once(
            *(
                partial(settlement.mark_paid, by, payout.pk, transaction_hash=hash_)
                for by in (people.finance, people.other, people.finance)
            )
        )

        assert names(*results) == ["paid"] * 3
        assert paying.moves(payout)[1:] == [("payout_paid", f"payout:{payout.pk}:paid:1")]
        assert paying.outcomes(payout) == [("requested", ""), ("paid", hash_)]
    assert (paying.pending(), paying.paid()) == (0, 50 * ROUNDS)
    world.assert_books_agree()


def test_two_transactions_at_once_pay_it_by_one():
    people = paying.crew()
    for number in range(ROUNDS):
        payout = taken_to(State.SUBMITTED, people, world.customer("100"))
        hashes = [f"{number:063x}{last}" for last in "ab"]

        results = at_once(
            *(
                partial(settlement.mark_paid, by, payout.pk, transaction_hash=hash_)
                for by, hash_ in zip((people.finance, people.other), hashes, strict=True)
            )
        )

        assert names(*results) == ["ResultConflict", "paid"]
        [done] = [one for one in results if isinstance(one, Payout)]
        assert Payout.objects.get(pk=payout.pk).transaction_hash == done.transaction_hash
    assert paying.paid() == 50 * ROUNDS
    world.assert_books_agree()


def test_one_transaction_at_once_pays_one_of_two_payouts_to_an_address():
    people = paying.crew()
    for number in range(ROUNDS):
        to = paying.tron(number + 1)
        both = [
            taken_to(State.SUBMITTED, people, world.customer("100"), address=to) for _ in range(2)
        ]

        results = at_once(
            *(
                partial(settlement.mark_paid, by, one.pk, transaction_hash=HASH, shared=True)
                for by, one in zip((people.finance, people.other), both, strict=True)
            )
        )

        assert names(*results) == ["TransactionUsed", "paid"]
        assert sorted(map(state_of, both)) == ["paid", "submitted"]
    assert (paying.pending(), paying.paid()) == (50 * ROUNDS, 50 * ROUNDS)
    world.assert_books_agree()


def test_paid_against_failed_is_paid_as_no_failure_overturns_it():
    people = paying.crew()
    for number in range(ROUNDS):
        payout = taken_to(State.SUBMITTED, people, world.customer("100"))
        calls = [
            partial(
                settlement.mark_paid, people.finance, payout.pk, transaction_hash=f"{number:064x}"
            ),
            partial(settlement.mark_failed, people.other, payout.pk, problem="Bounced"),
        ]

        results = at_once(*(calls if number % 2 else calls[::-1]))

        # What has failed is found paid; what is paid fails by no word about another thing.
        done, steps = names(*results), steps_of(payout)
        assert (done, steps[-2:]) in (
            (["failed", "paid"], ["failed", "paid"]),
            (["PaidAlready", "paid"], ["submitted", "paid"]),
        )
        assert state_of(payout) == "paid"
        assert [kind for kind, _ in paying.moves(payout)] == ["payout", "payout_paid"]
    assert (paying.pending(), paying.paid()) == (0, 50 * ROUNDS)
    world.assert_books_agree()


def test_giving_back_against_sending_again_and_being_found_paid():
    people, seen = paying.crew(), Counter[str]()
    for number in range(ROUNDS):
        buyer = world.customer("100")
        payout = taken_to(State.FAILED, people, buyer)
        calls = [
            partial(settlement.give_back, people.other, payout.pk, reason="Never"),
            partial(settlement.send_again, people.finance, payout.pk, reason="Again"),
            partial(
                settlement.mark_paid, people.finance, payout.pk, transaction_hash=f"{number:064x}"
            ),
        ]

        results = at_once(*calls[number % 3 :], *calls[: number % 3])

        state = state_of(payout)
        assert names(*results) == ["PayoutElsewhere", "PayoutElsewhere", state]
        assert world.figures(buyer)[0] == (100 if state == "returned" else 50)
        seen[state] += 1
    assert seen.total() == ROUNDS
    assert (paying.pending(), paying.paid()) == (50 * seen["requested"], 50 * seen["paid"])
    world.assert_books_agree()


def test_payouts_of_one_customer_that_end_at_once_all_return_their_money():
    people, buyer = paying.crew(), world.customer("1000")
    for _ in range(ROUNDS):
        some = [asked(people.agent, buyer, "20") for _ in range(4)]

        at_once(
            *(partial(payouts.reject, people.finance, one.pk, reason="No") for one in some[:2]),
            *(partial(payouts.withdraw, people.agent, one.pk) for one in some[2:]),
        )

        assert {state_of(one) for one in some} == {"rejected", "withdrawn"}
        assert world.figures(buyer)[0] == 1000
    world.assert_books_agree()
