"""Posting to the ledger: the one way in which money moves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db import connection
from django.utils import timezone

from smsactivator.common.errors import NotFound, Refused
from smsactivator.common.money import usd
from wallet.models import FIRST_WALLET, Account


class InsufficientFunds(Refused):
    """The wallet holds less than the transfer needs. Nothing was posted."""

    code = "insufficient_funds"
    status = 402

    def __init__(self, wallet_id: int, balance: Decimal, needed: Decimal) -> None:
        super().__init__(
            f"The wallet holds {balance} USD and {needed} USD are needed: deposit first."
        )
        self.wallet_id = wallet_id
        self.balance = balance
        self.needed = needed


class IdempotencyConflict(Refused):
    """The key was used before, for something else. Nothing was posted."""

    code = "idempotency_conflict"
    status = 409


class WalletMissing(NotFound):
    """There is no wallet with that number."""

    code = "wallet_missing"


@dataclass(frozen=True, slots=True)
class Posting:
    """``amount`` USD (> 0) from account ``debit`` to account ``credit``, once per ``key``.

    The key derives from a fact (``refund:auto:<order>``); the other fields are its fingerprint.
    """

    kind: str
    debit: int
    credit: int
    amount: Decimal
    key: str

    @property
    def wallet_id(self) -> int | None:
        """The wallet this touches, if any. No posting touches two."""
        if self.debit >= FIRST_WALLET:
            return self.debit
        return self.credit if self.credit >= FIRST_WALLET else None

    def __str__(self) -> str:
        debit, credit = account_name(self.debit), account_name(self.credit)
        return f"{self.kind} of {self.amount} USD from {debit} to {credit}"


@dataclass(slots=True)
class LockedWallet:
    """A wallet's figures, true as long as the transaction that locked it is open."""

    balance: Decimal
    version: int


def account_name(number: int) -> str:
    """An account in words."""
    return f"wallet {number}" if number >= FIRST_WALLET else Account(number).label


def lock_wallets(wallet_ids: Collection[int]) -> dict[int, LockedWallet]:
    """Lock wallets by primary key (FOR NO KEY UPDATE), after any order rows, and read them.

    Raises WalletMissing.
    """
    wanted = sorted(set(wallet_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT customer_id, balance, version FROM wallet_wallet
            WHERE customer_id = ANY(%s) ORDER BY customer_id FOR NO KEY UPDATE
            """,
            [wanted],
        )
        locked = {row[0]: LockedWallet(row[1], row[2]) for row in cursor.fetchall()}
    if len(locked) != len(wanted):
        missing = next(wallet for wallet in wanted if wallet not in locked)
        raise WalletMissing(f"There is no wallet {missing}.")
    return locked


def post(postings: Sequence[Posting]) -> list[int]:
    """Post a batch, all or nothing, and return the transfers' ids in the order of the postings.

    Locks the wallets by primary key, in the caller's transaction. A posting whose key exists with
    the same fingerprint is a replay: the first transfer's id comes back and nothing is written.
    Three statements whatever the size of the batch. ``posted_at`` is taken under the locks, so time
    follows the wallets' versions.

    Raises InsufficientFunds, IdempotencyConflict, WalletMissing; ValueError for an amount that is
    not positive or has more than four places, and for a key named twice in the batch.
    """
    if not postings:
        return []
    keys = [posting.key for posting in postings]
    if len(set(keys)) != len(keys):
        raise ValueError("a batch names an idempotency key twice")
    if not connection.in_atomic_block:
        raise RuntimeError("post() belongs in a transaction: its locks must outlive it")
    wallets = lock_wallets({w for p in postings if (w := p.wallet_id) is not None})
    ids = _replayed(postings)
    new = [posting for posting in postings if posting.key not in ids]
    if new:
        ids |= _insert(new, wallets)
    return [ids[key] for key in keys]


def _replayed(postings: Sequence[Posting]) -> dict[str, int]:
    """The transfers that exist already, by key. Raises IdempotencyConflict."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT key, id, kind, debit_account, credit_account, amount
            FROM wallet_transfer WHERE key = ANY(%s)
            """,
            [[posting.key for posting in postings]],
        )
        found = {row[0]: row[1:] for row in cursor.fetchall()}
    if not found:
        return {}
    for posting in postings:
        if posting.key in found:
            _, kind, debit, credit, amount = found[posting.key]
            first = Posting(kind, debit, credit, amount, posting.key)
            if first != posting:
                raise IdempotencyConflict(
                    f"The key {posting.key} stands for {first}; it cannot also be {posting}."
                )
    return {key: row[0] for key, row in found.items()}


def _insert(postings: Sequence[Posting], wallets: dict[int, LockedWallet]) -> dict[str, int]:
    """Write new transfers on locked wallets and return their ids by key."""
    wallet_ids: list[int | None] = []
    versions: list[int | None] = []
    balances: list[Decimal | None] = []
    for amount in {posting.amount for posting in postings}:
        if usd(amount) <= 0:
            raise ValueError(f"an amount must be positive, not {amount}")
    for posting in postings:
        wallet_id = posting.wallet_id
        wallet_ids.append(wallet_id)
        if wallet_id is None:
            versions.append(None)
            balances.append(None)
            continue
        wallet = wallets[wallet_id]
        if posting.credit == wallet_id:
            wallet.balance += posting.amount
        elif wallet.balance < posting.amount:
            raise InsufficientFunds(wallet_id, wallet.balance, posting.amount)
        else:
            wallet.balance -= posting.amount
        wallet.version += 1
        versions.append(wallet.version)
        balances.append(wallet.balance)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO wallet_transfer (
                kind, debit_account, credit_account, amount, key,
                wallet_id, wallet_version, balance_after, posted_at
            )
            SELECT *, %s FROM unnest(
                %s::text[], %s::bigint[], %s::bigint[], %s::numeric[], %s::text[],
                %s::bigint[], %s::bigint[], %s::numeric[]
            )
            RETURNING key, id
            """,
            [
                timezone.now(),
                [posting.kind for posting in postings],
                [posting.debit for posting in postings],
                [posting.credit for posting in postings],
                [posting.amount for posting in postings],
                [posting.key for posting in postings],
                wallet_ids,
                versions,
                balances,
            ],
        )
        return dict(cursor.fetchall())
