"""Many connections post to a few wallets in both directions: exact totals, and no deadlock."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pytest

from smsactivator.common.errors import Refused
from wallet import deposits
from wallet.ledger import InsufficientFunds, Posting
from wallet.models import Customer, Deposit, Transfer, Wallet
from wallet.tests import world
from wallet.tests.together import at_once

CONNECTIONS, WALLETS, BATCHES = 16, 50, 30


def batches(seed: int, customers: list[Customer]) -> list[list[Posting]]:
    """What one connection posts: its wallets in any order, some keys shared with the others."""
    chosen = random.Random(seed)
    made = []
    for number in range(BATCHES):
        batch: dict[str, Posting] = {}
        for position in range(chosen.randint(1, 10)):
            customer = chosen.choice(customers)
            if chosen.random() < 0.1:
                # The same deposit from every connection that comes upon it.
                key = f"shared:{customer.pk}"
                batch[key] = world.paid_in(customer, "3", key)
            elif chosen.random() < 0.5:
                key = f"in:{seed}:{number}:{position}"
                batch[key] = world.paid_in(customer, f"0.{chosen.randint(1, 9999):04}", key)
            else:
                key = f"out:{seed}:{number}:{position}"
                batch[key] = world.spent(customer, f"{chosen.randint(1, 30_000) / 10_000:.4f}", key)
        made.append(list(batch.values()))
    # Whatever the others do meanwhile: one batch that no wallet can pay, and one that none refuses.
    customer = chosen.choice(customers)
    made.insert(BATCHES // 2, [world.spent(customer, "1000000", f"never:{seed}")])
    made.insert(BATCHES // 2, [world.paid_in(customer, "1", f"always:{seed}")])
    return made


@pytest.mark.django_db(transaction=True)
def test_sixteen_connections_post_to_fifty_wallets_in_both_directions() -> None:
    customers = [world.customer() for _ in range(WALLETS)]

    def work(seed: int) -> Callable[[], tuple[dict[str, Posting], int]]:
        def run() -> tuple[dict[str, Posting], int]:
            posted, refused = {}, 0
            for batch in batches(seed, customers):
                try:
                    world.post(*batch)
                except InsufficientFunds:
                    refused += 1
                else:
                    posted |= {posting.key: posting for posting in batch}
            return posted, refused

        return run

    told = at_once(*(work(seed) for seed in range(CONNECTIONS)))

    assert not any(isinstance(one, Refused) for one in told)
    posted = {key: posting for keys, _ in told for key, posting in keys.items()}
    refused = sum(number for _, number in told)
    balances: Counter[int] = Counter()
    lines: Counter[int] = Counter()
    for posting in posted.values():
        wallet = posting.wallet_id or 0
        balances[wallet] += posting.amount if posting.credit == wallet else -posting.amount
        lines[wallet] += 1
    assert {row.pk: (row.balance, row.version) for row in Wallet.objects.all()} == {
        customer.pk: (balances[customer.pk] or Decimal(0), lines[customer.pk])
        for customer in customers
    }
    assert Transfer.objects.count() == len(posted)
    assert {f"always:{seed}" for seed in range(CONNECTIONS)} <= posted.keys()
    assert refused >= CONNECTIONS
    world.assert_books_agree()


@pytest.mark.django_db(transaction=True)
def test_the_same_payments_from_sixteen_connections_are_credited_once() -> None:
    customers = [world.customer() for _ in range(10)]

    def send() -> list[bool]:
        return [
            deposits.deposit(customer, amount=Decimal(2), reference=f"tx-{customer.pk}")[1]
            for customer in customers
        ]

    told = at_once(*[send] * CONNECTIONS)

    assert [sum(made) for made in zip(*told, strict=True)] == [1] * len(customers)
    assert Deposit.objects.count() == len(customers)
    assert {wallet.balance for wallet in Wallet.objects.all()} == {Decimal(2)}
