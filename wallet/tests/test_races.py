"""Real transactions on real connections at the same time: nothing is lost, doubled or stuck."""

from __future__ import annotations

import random
from decimal import Decimal
from functools import partial

import pytest

from wallet import customers, deposits
from wallet.ledger import IdempotencyConflict, InsufficientFunds, Posting
from wallet.models import Customer, Deposit, Transfer, Wallet
from wallet.tests import world
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 20


def test_eight_connections_post_to_a_few_wallets_without_a_deadlock_and_to_the_last_digit():
    # given four wallets and, for each connection, batches that name them in any order and direction
    owners = [world.customer("1") for _ in range(4)]
    chance = random.Random(8)

    def batch() -> list[Posting]:
        sides = [chance.choice([world.paid_in, world.spent]) for _ in range(6)]
        return [side(chance.choice(owners), f"0.{chance.randint(1, 2000):04}") for side in sides]

    # What one connection only pays in is never refused, whatever the others do meanwhile.
    paid_in = [[world.paid_in(owners[0], "0.0001")] for _ in range(8)]
    work = [[certain, *(batch() for _ in range(25))] for certain in paid_in]

    def post_all(batches: list[list[Posting]]) -> list[list[Posting]]:
        done = []
        for postings in batches:
            try:
                world.post(*postings)
            except InsufficientFunds:
                continue
            done.append(postings)
        return done

    # when
    done = at_once(*(partial(post_all, batches) for batches in work))

    # then each batch that was not refused counts, whole, and no other
    posted = [posting for batches in done for postings in batches for posting in postings]
    assert {one.key for (one,) in paid_in} <= {one.key for one in posted}
    for owner in owners:
        moved = [
            p.amount if p.credit == owner.pk else -p.amount
            for p in posted
            if p.wallet_id == owner.pk
        ]
        assert world.figures(owner) == (1 + sum(moved), 1 + len(moved))
        times = list(
            Transfer.objects.filter(wallet=owner.pk)
            .order_by("wallet_version")
            .values_list("posted_at", flat=True)
        )
        assert times == sorted(times)
    assert set(
        Transfer.objects.exclude(key__startswith="deposit:").values_list("key", flat=True)
    ) == {posting.key for posting in posted}
    world.assert_books_agree()


def test_the_same_batch_at_once_is_posted_once():
    ada, bob = world.customer("100"), world.customer("100")
    for number in range(ROUNDS):
        batch = [world.spent(ada, "1", f"a:{number}"), world.spent(bob, "2", f"b:{number}")]

        first, second, third = at_once(
            lambda batch=batch: world.post(*batch),
            lambda batch=batch: world.post(*batch),
            lambda batch=batch: world.post(*reversed(batch))[::-1],
        )

        assert first == second == third
    assert world.figures(ada) == (Decimal(100 - ROUNDS), 1 + ROUNDS)
    assert world.figures(bob) == (Decimal(100 - 2 * ROUNDS), 1 + ROUNDS)


def test_the_last_money_is_spent_once():
    for _ in range(ROUNDS):
        ada = world.customer("1")

        outcomes = at_once(*[partial(world.post, world.spent(ada, "0.6")) for _ in range(3)])

        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "InsufficientFunds",
            "InsufficientFunds",
            "list",
        ]
        assert world.figures(ada) == (Decimal("0.4000"), 2)


def test_the_same_deposit_at_once_is_credited_once_and_answered_to_all():
    ada = world.customer()
    for number in range(ROUNDS):
        call = partial(deposits.deposit, ada, amount=Decimal(3), reference=f"tx-{number}")

        outcomes = at_once(call, call, call)

        assert sorted(created for _, created in outcomes) == [False, False, True]
        assert len({deposit.pk for deposit, _ in outcomes}) == 1
    assert world.figures(ada) == (Decimal(3 * ROUNDS), ROUNDS)
    assert Deposit.objects.count() == Transfer.objects.count() == ROUNDS


def test_one_reference_for_two_customers_at_once_is_one_deposit_and_one_conflict():
    ada, bob = world.customer(), world.customer()
    for number in range(ROUNDS):
        outcomes = at_once(
            *[
                partial(deposits.deposit, owner, amount=Decimal(1), reference=f"tx-{number}")
                for owner in (ada, bob)
            ]
        )

        [conflict] = [o for o in outcomes if isinstance(o, IdempotencyConflict)]
        [(deposit, created)] = [o for o in outcomes if o is not conflict]
        assert created
        assert str(conflict).startswith(f"The key deposit:{ada.storefront_id}:tx-{number} stands")
        assert Transfer.objects.get(pk=deposit.transfer_id).amount == 1
    assert world.figures(ada)[0] + world.figures(bob)[0] == ROUNDS
    assert Deposit.objects.count() == Transfer.objects.count() == ROUNDS
    world.assert_books_agree()


def test_the_same_customer_created_at_once_is_one_with_one_wallet():
    shop = world.storefront()
    for number in range(ROUNDS):
        call = partial(customers.create_or_update, shop.pk, f"c-{number}", actor=world.TESTER)

        outcomes = at_once(call, call, call)

        assert sorted(created for _, created in outcomes) == [False, False, True]
        assert len({customer.pk for customer, _ in outcomes}) == 1
    assert Customer.objects.count() == Wallet.objects.count() == ROUNDS
    assert Customer.history.count() == ROUNDS
