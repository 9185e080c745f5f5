"""Posting to the ledger and crediting deposits: exact, all or nothing, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import pytest
import time_machine
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet import deposits, ledger
from wallet.deposits import DepositOutOfRange
from wallet.ledger import IdempotencyConflict, InsufficientFunds, Posting, WalletMissing
from wallet.models import Account, Deposit, Transfer
from wallet.tests import world

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def usd(*amounts: str) -> list[Decimal]:
    return [Decimal(amount) for amount in amounts]


# --- posting ---


def test_a_posting_moves_its_amount_and_leaves_a_line():
    ada = world.customer()

    with time_machine.travel(NOON, tick=False):
        [first] = world.post(world.paid_in(ada, "10.0001", "deposit:1"))
    [second] = world.post(world.spent(ada, "0.0001"))

    assert world.figures(ada) == (Decimal("10.0000"), 2)
    assert world.lines(ada) == [
        (1, *usd("10.0001", "10.0001")),
        (2, *usd("-0.0001", "10.0000")),
    ]
    line = Transfer.objects.get(pk=first)
    assert (line.kind, line.debit_account, line.credit_account) == (
        "deposit",
        Account.CRYPTO_DEPOSITS,
        ada.pk,
    )
    assert (line.amount, line.key, line.posted_at) == (Decimal("10.0001"), "deposit:1", NOON)
    assert second > first
    world.assert_books_agree()


def test_a_posting_between_accounts_of_the_shop_touches_no_wallet():
    ada = world.customer("1")

    [posted] = world.post(world.earned("0.5"))

    line = Transfer.objects.get(pk=posted)
    assert (line.wallet_id, line.wallet_version, line.balance_after) == (None, None, None)
    assert world.figures(ada) == (Decimal("1.0000"), 1)


def test_a_batch_posts_in_the_order_given_in_both_directions():
    ada, bob = world.customer("1"), world.customer()

    ids = world.post(
        world.spent(ada, "1"),
        world.paid_in(bob, "3"),
        world.paid_in(ada, "0.25"),
        world.earned("0.5"),
        world.spent(bob, "2.9999"),
        world.spent(ada, "0.2"),
    )

    assert ids == sorted(set(ids))
    assert world.lines(ada)[1:] == [
        (2, *usd("-1", "0")),
        (3, *usd("0.25", "0.25")),
        (4, *usd("-0.2", "0.05")),
    ]
    assert world.lines(bob) == [(1, *usd("3", "3")), (2, *usd("-2.9999", "0.0001"))]
    assert world.figures(ada) == (Decimal("0.0500"), 4)
    world.assert_books_agree()


def test_an_empty_batch_posts_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert ledger.post([]) == []


def test_a_replay_returns_the_first_transfers_and_moves_nothing():
    ada = world.customer("5")
    batch = [world.spent(ada, "1"), world.spent(ada, "2")]
    first = world.post(*batch)

    again = world.post(*reversed(batch))

    assert again == first[::-1]
    assert world.figures(ada) == (Decimal("2.0000"), 3)


def test_a_replay_needs_no_money():
    ada = world.customer("1")
    posting = world.spent(ada, "1")
    [first] = world.post(posting)
    assert world.figures(ada)[0] == 0

    assert world.post(posting) == [first]


def test_a_batch_of_old_and_new_posts_the_new_alone():
    ada = world.customer("5")
    old = world.spent(ada, "1")
    [first] = world.post(old)

    new, again = world.post(world.spent(ada, "2"), old)

    assert again == first
    assert new > first
    assert world.figures(ada) == (Decimal("2.0000"), 3)


@pytest.mark.parametrize("change", ["amount", "kind", "wallet"])
def test_a_key_that_stands_for_something_else_is_a_conflict_that_names_both(change):
    ada, bob = world.customer("5"), world.customer("5")
    first = world.spent(ada, "1", "purchase:1")
    world.post(first)
    other = {
        "amount": replace(first, amount=Decimal(2)),
        "kind": replace(first, kind="upstream_cost", debit=4, credit=5),
        "wallet": replace(first, debit=bob.pk),
    }[change]

    with pytest.raises(IdempotencyConflict) as conflict:
        world.post(world.spent(ada, "1"), other)

    words = {
        "amount": f"purchase of 2 USD from wallet {ada.pk} to Order escrow",
        "kind": "upstream_cost of 1 USD from Upstream cost to Upstream prepaid",
        "wallet": f"purchase of 1 USD from wallet {bob.pk} to Order escrow",
    }[change]
    assert str(conflict.value) == (
        f"The key purchase:1 stands for purchase of 1.0000 USD from wallet {ada.pk} to Order "
        f"escrow; it cannot also be {words}."
    )
    assert world.figures(ada) == (Decimal("4.0000"), 2)
    assert world.figures(bob) == (Decimal("5.0000"), 1)


def test_insufficient_funds_change_nothing():
    ada = world.customer("1")

    with pytest.raises(InsufficientFunds) as refused:
        world.post(world.spent(ada, "1.0001"))

    assert (refused.value.wallet_id, refused.value.balance, refused.value.needed) == (
        ada.pk,
        *usd("1", "1.0001"),
    )
    assert world.figures(ada) == (Decimal("1.0000"), 1)
    world.post(world.spent(ada, "1"))
    assert world.figures(ada) == (Decimal("0.0000"), 2)


def test_insufficient_funds_in_the_middle_of_a_batch_change_nothing_at_all():
    ada, bob = world.customer("3"), world.customer("3")
    before = Transfer.objects.count()
    batch = [
        world.spent(bob, "1"),
        world.spent(ada, "2"),
        world.spent(ada, "2"),
        world.paid_in(ada, "9"),
    ]

    with pytest.raises(InsufficientFunds, match=r"holds 1\.0000 USD and 2 USD are needed"):
        world.post(*batch)

    assert Transfer.objects.count() == before
    assert world.figures(ada) == world.figures(bob) == (Decimal("3.0000"), 1)
    # Money that comes earlier in the batch counts, and the refused keys are free.
    world.post(batch[3], *batch[:3])
    assert world.figures(ada) == (Decimal("8.0000"), 4)


@pytest.mark.parametrize(
    "amount", ["0", "-1", "0.00001", "1.00000001", "NaN", "Infinity", "-Infinity", "1e15", "1e30"]
)
def test_what_is_no_amount_is_refused(amount):
    ada = world.customer("1")

    with pytest.raises(ValueError, match=r"positive|decimal places|not an amount"):
        world.post(world.spent(ada, "1"), world.paid_in(ada, amount))

    assert world.figures(ada) == (Decimal("1.0000"), 1)


def test_a_key_named_twice_in_a_batch_is_refused():
    ada = world.customer("5")
    with pytest.raises(ValueError, match="names an idempotency key twice"):
        world.post(world.spent(ada, "1", "same"), world.spent(ada, "1", "same"))
    assert world.figures(ada) == (Decimal("5.0000"), 1)


def test_a_wallet_that_does_not_exist_is_refused():
    ada = world.customer("5")
    missing = Posting("deposit", 1, ada.pk + 999_999, Decimal(1), "k")
    with pytest.raises(WalletMissing, match=rf"There is no wallet {ada.pk + 999_999}\."):
        world.post(world.spent(ada, "1"), missing)
    assert world.figures(ada) == (Decimal("5.0000"), 1)


@pytest.mark.django_db(transaction=True)
def test_posting_outside_a_transaction_is_refused():
    ada = world.customer("5")

    with pytest.raises(RuntimeError, match="belongs in a transaction"):
        ledger.post([world.spent(ada, "1")])

    assert world.figures(ada) == (Decimal("5.0000"), 1)


def test_a_batch_of_any_size_takes_one_statement(django_assert_num_queries):
    customers = [world.customer("100") for _ in range(10)]
    for size in (1, 400):
        batch = [world.spent(customers[number % 10], "0.0001") for number in range(size)]
        for _ in ("new", "again"):
            with transaction.atomic(), django_assert_num_queries(1):
                ledger.post(batch)


def test_time_follows_the_versions_of_a_wallet():
    ada = world.customer("5")
    for _ in range(5):
        world.post(world.spent(ada, "1"))

    moments = list(
        Transfer.objects.filter(wallet=ada.pk)
        .order_by("wallet_version")
        .values_list("posted_at", flat=True)
    )

    assert moments == sorted(moments)


# --- deposits ---


def test_a_deposit_credits_its_wallet_once():
    ada = world.customer()

    deposit, created = deposits.deposit(ada, amount=Decimal("7.5"), reference="tx-a")
    again, created_again = deposits.deposit(ada, amount=Decimal("7.5000"), reference="tx-a")

    assert (created, created_again, again.pk) == (True, False, deposit.pk)
    assert deposit.transfer.balance_after == Decimal("7.5000")
    assert world.lines(ada) == [(1, *usd("7.5", "7.5"))]


def test_a_reference_with_another_amount_is_a_conflict():
    ada = world.customer()
    deposits.deposit(ada, amount=Decimal(5), reference="tx-a")

    with pytest.raises(IdempotencyConflict, match=r"deposit of 5\.0000 USD .* deposit of 6 USD"):
        deposits.deposit(ada, amount=Decimal(6), reference="tx-a")

    assert world.figures(ada) == (Decimal("5.0000"), 1)


def test_a_reference_of_another_customer_of_the_storefront_is_a_conflict():
    ada, bob = world.customer(), world.customer()
    deposits.deposit(ada, amount=Decimal(5), reference="tx-a")

    with pytest.raises(IdempotencyConflict, match=rf"wallet {ada.pk}; .* wallet {bob.pk}"):
        deposits.deposit(bob, amount=Decimal(5), reference="tx-a")

    assert world.figures(bob) == (Decimal("0.0000"), 0)


def test_two_storefronts_may_use_the_same_reference():
    here, there = world.customer(), world.customer(shop="Other")

    deposits.deposit(here, amount=Decimal(5), reference="tx-a")
    _, created = deposits.deposit(there, amount=Decimal(6), reference="tx-a")

    assert created
    assert Deposit.objects.filter(reference="tx-a").count() == 2
    assert (world.figures(here)[0], world.figures(there)[0]) == (Decimal(5), Decimal(6))


@pytest.mark.parametrize("amount", ["0", "-1", "1000000.0001", "NaN", "Infinity"])
def test_a_deposit_out_of_range_is_refused(amount):
    ada = world.customer()
    with pytest.raises(DepositOutOfRange, match="more than 0 and at most 1,000,000 USD"):
        deposits.deposit(ada, amount=Decimal(amount), reference="tx-a")
    assert not Deposit.objects.exists()
    assert world.figures(ada) == (Decimal("0.0000"), 0)


def test_the_largest_deposit_is_credited():
    ada = world.customer()
    deposits.deposit(ada, amount=Decimal(1_000_000), reference="tx-a")
    assert world.figures(ada) == (Decimal("1000000.0000"), 1)


# --- any work at all, against a model ---

WALLETS = 3


class Move(NamedTuple):
    """One posting of a batch; ``wallet`` is None between accounts of the shop."""

    wallet: int | None
    inwards: bool
    units: int  # of 0.0001 USD
    key: int


class Model:
    """The ledger as a person would keep it on paper: whole units in a dict, lines in lists."""

    def __init__(self) -> None:
        self.balances = dict.fromkeys(range(WALLETS), 0)
        self.lines: dict[int, list[tuple[int, int, int]]] = {w: [] for w in range(WALLETS)}
        self.known: dict[int, Move] = {}

    def post(self, batch: list[Move]) -> type[Exception] | None:
        """Post the batch, or say what refuses it."""
        if len({move.key for move in batch}) != len(batch):
            return ValueError
        if any(self.known.get(move.key, move) != move for move in batch):
            return IdempotencyConflict
        balances = dict(self.balances)
        written: list[tuple[int, int, int]] = []
        new = [move for move in batch if move.key not in self.known]
        for move in new:
            if move.wallet is None:
                continue
            change = move.units if move.inwards else -move.units
            balances[move.wallet] += change
            if balances[move.wallet] < 0:
                return InsufficientFunds
            written.append((move.wallet, change, balances[move.wallet]))
        self.balances = balances
        for wallet, change, after in written:
            self.lines[wallet].append((len(self.lines[wallet]) + 1, change, after))
        self.known |= {move.key: move for move in new}
        return None


moves = st.builds(
    Move,
    wallet=st.sampled_from([*range(WALLETS), None]),
    inwards=st.sampled_from([True, True, False]),
    units=st.integers(1, 30),
    key=st.integers(1, 60),
    # Between accounts of the shop there is one direction only.
).map(lambda move: move if move.wallet is not None else move._replace(inwards=True))


@settings(max_examples=80, deadline=None)
@given(batches=st.lists(st.lists(moves, min_size=1, max_size=6), min_size=1, max_size=10))
def test_the_ledger_does_what_a_ledger_on_paper_does(batches):
    model, posted = Model(), {}
    with transaction.atomic():
        customers = [world.customer() for _ in range(WALLETS)]
        for batch in batches:
            # now and then the same batch again
            for attempt in (batch, batch[::-1]):
                postings = [_posting(move, customers) for move in attempt]
                refused = model.post(attempt)
                if refused is not None:
                    with pytest.raises(refused):
                        world.post(*postings)
                    continue
                for move, transfer_id in zip(attempt, world.post(*postings), strict=True):
                    assert posted.setdefault(move.key, transfer_id) == transfer_id
        for number, customer in enumerate(customers):
            assert [
                (version, int(change * 10_000), int(after * 10_000))
                for version, change, after in world.lines(customer)
            ] == model.lines[number]
            assert world.figures(customer) == (
                Decimal(model.balances[number]) / 10_000,
                len(model.lines[number]),
            )
        assert set(Transfer.objects.values_list("pk", flat=True)) == set(posted.values())
        world.assert_books_agree()
        connection.set_rollback(True)


def _posting(move: Move, customers: list) -> Posting:
    amount, key = str(Decimal(move.units) / 10_000), f"key:{move.key}"
    if move.wallet is None:
        return world.earned(amount, key)
    side = world.paid_in if move.inwards else world.spent
    return side(customers[move.wallet], amount, key)
