"""Posting to the ledger: the one way in which money moves.

The rules are a function of the database, ``ledger_post`` in wallet/sql/one_round_trip.sql, beside
the rows that they are about. This is its door: it knows what an amount is and names each refusal.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from smsactivator.common.errors import NotFound, Refused
from smsactivator.common.money import usd
from wallet.models import FIRST_WALLET, Account, Termination, Wallet

# Policy 2026-05-07, "When refunds are not granted".
TERMINATED = (
    "AUP violations resulting in account termination — wallet balance is forfeited per /aup."
)
# The same, "Disputes".
CHARGEBACK = (
    "any chargeback claim filed against a crypto provider is the user's responsibility, not ours, "
    "and may result in account termination per /tos §9."
)


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


class WalletFrozen(Refused):
    """The wallet is frozen and the transfer would spend from it. Nothing was posted."""

    code = "wallet_frozen"
    status = 403

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} is frozen: nothing is spent from it until support unfreezes it."
        )


class WalletForfeited(Refused):
    """The customer was terminated: nothing moves on the wallet. Nothing was posted."""

    code = "wallet_forfeited"
    status = 403

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} is forfeited and takes no money. {terminated_by(wallet_id)} Only "
            "a reinstatement opens it again."
        )


class WalletClosed(Refused):
    """The customer has left: nothing moves on the wallet. Nothing was posted."""

    code = "wallet_closed"
    status = 403

    def __init__(self, wallet_id: int) -> None:
        super().__init__(f"Wallet {wallet_id} is closed. A senior agent can reopen it.")


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
    reverses: int | None = None

    @property
    def wallet_id(self) -> int | None:
        """The wallet this touches, if any. No posting touches two."""
        if self.debit >= FIRST_WALLET:
            return self.debit
        return self.credit if self.credit >= FIRST_WALLET else None

    def __str__(self) -> str:
        debit, credit = account_name(self.debit), account_name(self.credit)
        of = f" of transfer {self.reverses}" if self.reverses else ""
        return f"{self.kind}{of} of {self.amount} USD from {debit} to {credit}"


def terminated_by(wallet_id: int) -> str:
    """The policy's sentence under which the customer was terminated, last: a claim has its own."""
    ended = Termination.objects.filter(customer=wallet_id, state=Termination.State.CONFIRMED)
    last = ended.order_by("-pk").first()
    if last is not None and last.claim_id is not None:
        return f'Refund policy, disputes: "{CHARGEBACK}"'
    return f'Refund policy, not granted: "{TERMINATED}"'


def account_name(number: int) -> str:
    """An account in words."""
    return f"wallet {number}" if number >= FIRST_WALLET else Account(number).label


def lock_wallets(wallet_ids: Collection[int]) -> None:
    """Lock wallets by primary key (FOR NO KEY UPDATE), after any order rows, as ``post`` does.

    Raises WalletMissing.
    """
    wanted = sorted(set(wallet_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT customer_id FROM wallet_wallet
            WHERE customer_id = ANY(%s) ORDER BY customer_id FOR NO KEY UPDATE
            """,
            [wanted],
        )
        locked = {row[0] for row in cursor.fetchall()}
    for wallet_id in wanted:
        if wallet_id not in locked:
            raise _missing(wallet_id)


def post(postings: Sequence[Posting]) -> list[int]:
    """Post a batch, all or nothing, and return the transfers' ids in the order of the postings.

    Locks the wallets by primary key, in the caller's transaction. A posting whose key exists with
    the same fingerprint is a replay: the first transfer's id comes back and nothing is written.
    One statement whatever the size of the batch. ``posted_at`` is taken under the locks and is
    never before the wallets' last transfers (a clock may be set back), so time follows the wallets'
    versions.

    Raises InsufficientFunds, IdempotencyConflict, WalletMissing; WalletFrozen for spending from a
    frozen wallet, WalletForfeited and WalletClosed for anything on such a one; ValueError for an
    amount that is not positive or has more than four places, and for a key named twice.
    """
    if not postings:
        return []
    if len({posting.key for posting in postings}) != len(postings):
        raise ValueError("a batch names an idempotency key twice")
    for amount in {posting.amount for posting in postings}:
        if usd(amount) <= 0:
            raise ValueError(f"an amount must be positive, not {amount}")
    if not connection.in_atomic_block:
        raise RuntimeError("post() belongs in a transaction: its locks must outlive it")
    given = [(p.kind, p.debit, p.credit, str(p.amount), p.key, p.reverses) for p in postings]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ids, refusal FROM ledger_post(%s, %s)", [json.dumps(given), _clock()]
        )
        ids, refusal = cursor.fetchone()
    if refusal is not None:
        raise _refused(postings, json.loads(refusal))
    return list(ids)


def _clock() -> datetime | None:
    """When to post, or None for the database's own clock, which it reads under the locks.

    Tests put theirs here, which stands still and jumps.
    """
    return None


def _refused(postings: Sequence[Posting], refusal: dict[str, Any]) -> Exception:
    """What ``ledger_post`` refused, by its name."""
    if "missing" in refusal:
        return _missing(refusal["missing"])
    posting = postings[refusal["posting"]]
    if "first" in refusal:
        kind, debit, credit, amount, reverses = refusal["first"]
        first = Posting(kind, debit, credit, Decimal(amount), posting.key, reverses)
        return IdempotencyConflict(
            f"The key {posting.key} stands for {first}; it cannot also be {posting}."
        )
    wallet_id, state = refusal["wallet"], refusal.get("state")
    if state is None:
        return InsufficientFunds(wallet_id, Decimal(refusal["balance"]), posting.amount)
    by_state = {
        Wallet.State.FROZEN: WalletFrozen,
        Wallet.State.FORFEITED: WalletForfeited,
        Wallet.State.CLOSED: WalletClosed,
    }
    return by_state[state](wallet_id)


def _missing(wallet_id: int) -> WalletMissing:
    return WalletMissing(f"There is no wallet {wallet_id}.")
