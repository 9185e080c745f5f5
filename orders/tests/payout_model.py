"""An independent model of payouts in plain Python: no line of the product is used here.

Every operation returns the name of what it comes to: "ok", or the name of the refusal. Money is
kept beside the states, moved by each operation, so that the two can be compared.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

CENT = Decimal("0.01")
LEAST = Decimal(20)
ALONE = Decimal(500)  # USD up to which one person approves
WAITING = {"requested", "first_approved", "approved"}
OPEN = WAITING | {"exported", "submitted", "failed"}


@dataclass
class Purse:
    """A wallet; ``taken`` is what the termination in force took from it, ``refused`` whether
    nothing is paid out to its address.
    """

    balance: Decimal = Decimal(0)
    state: str = "active"
    taken: Decimal = Decimal(0)
    refused: bool = False


@dataclass
class Wish:
    """A payout."""

    purse: int
    amount: Decimal
    by: str
    state: str = "requested"
    attempt: int = 1
    first: str = ""
    second: str = ""
    again_by: str = ""
    lot: int | None = None
    hash: str = ""
    # Above what two approve it: fixed at the wish.
    alone: Decimal = ALONE
    failed_by: str = ""
    # Who voided an exported batch of it, and at which attempt.
    voided: set[tuple[str, int]] = field(default_factory=set)
    # Who uploaded files by which it failed, at this attempt.
    witnesses: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=lambda: ["requested"])
    paid_by: set[str] = field(default_factory=set)  # every transaction that it was ever paid by
    # What rows of result files that were applied said, and of which attempt.
    said: set[tuple[str, str, int]] = field(default_factory=set)


@dataclass
class Lot:
    """A batch, and the payouts that it was made of."""

    wishes: list[int]
    attempts: dict[int, int]
    state: str = "gathered"
    exported_by: str = ""
    takers: set[str] = field(default_factory=set)


class Model:
    """Purses, payouts and batches by their numbers, and the shop's accounts."""

    def __init__(self, purses: list[int]) -> None:
        self.purses = {number: Purse() for number in purses}
        self.wishes: dict[int, Wish] = {}
        self.lots: dict[int, Lot] = {}
        self.shop: defaultdict[str, Decimal] = defaultdict(Decimal)

    def _from_purse(self, purse: int, account: str, amount: Decimal) -> None:
        self.purses[purse].balance -= amount
        self.shop[account] += amount

    def _between(self, giver: str, taker: str, amount: Decimal) -> None:
        self.shop[giver] -= amount
        self.shop[taker] += amount

    def _stopped(self, purse: int) -> str:
        state = self.purses[purse].state
        return {"frozen": "PayoutWalletRefused", "forfeited": "WalletForfeited"}.get(state, "ok")

    def _may_be_sent(self, purse: int) -> str:
        stopped = self._stopped(purse)
        return "AddressRefused" if stopped == "ok" and self.purses[purse].refused else stopped

    def deposit(self, purse: int, amount: Decimal) -> str:
        refusals = {"forfeited": "WalletForfeited", "closed": "WalletClosed"}
        if refusal := refusals.get(self.purses[purse].state):
            return refusal
        self._from_purse(purse, "crypto", -amount)
        return "ok"

    # --- one payout ---

    def may_request(self, purse: int, amount: Decimal | None) -> tuple[str, Decimal]:
        one = self.purses[purse]
        whole = one.balance // CENT * CENT
        wanted = whole if amount is None else amount
        if one.refused:
            return "AddressRefused", wanted
        if amount is not None and amount % CENT:
            return "PayoutAmountRefused", wanted
        if self._stopped(purse) != "ok":
            return self._stopped(purse), wanted
        if one.state == "closed":
            return "WalletClosed", wanted
        return "ok" if LEAST <= wanted <= whole else "PayoutAmountRefused", wanted

    def request(self, number: int, purse: int, amount: Decimal, by: str) -> None:
        self._from_purse(purse, "pending", amount)
        # All of it is asked for within a day.
        used = sum(
            (
                wish.amount
                for wish in self.wishes.values()
                if wish.purse == purse and wish.state not in {"rejected", "withdrawn", "returned"}
            ),
            Decimal(0),
        )
        self.wishes[number] = Wish(purse, amount, by, alone=max(ALONE - used, Decimal(0)))

    def approve(self, number: int, by: str) -> str:
        wish = self.wishes[number]
        if wish.state not in {"requested", "first_approved"}:
            return "PayoutElsewhere"
        if by in {wish.by, wish.again_by, wish.first}:
            return "OwnRequest"
        if self._may_be_sent(wish.purse) != "ok":
            return self._may_be_sent(wish.purse)
        if wish.state == "first_approved":
            wish.second, wish.state = by, "approved"
        else:
            wish.first = by
            wish.state = "first_approved" if wish.amount > wish.alone else "approved"
        return "ok"

    def _end(self, wish: Wish, state: str) -> None:
        """Give the money back, and open a closed wallet for it; of a terminated one take it."""
        purse = self.purses[wish.purse]
        if purse.state == "forfeited":
            wish.state = "forfeited"
            self._between("pending", "forfeitures", wish.amount)
        else:
            if purse.state == "closed":
                purse.state = "active"
            wish.state = state
            self._from_purse(wish.purse, "pending", -wish.amount)
        wish.told.append(wish.state)

    def reject(self, number: int, by: str) -> str:
        wish = self.wishes[number]
        if wish.state not in WAITING:
            return "PayoutElsewhere"
        if wish.again_by == by:
            return "OwnRequest"
        if wish.lot is not None:
            return "PayoutElsewhere"
        self._end(wish, "rejected")
        return "ok"

    def withdraw(self, number: int, by: str) -> str:
        wish = self.wishes[number]
        if wish.by != by:
            return "OwnRequest"
        if wish.state not in {"requested", "first_approved"} or wish.attempt > 1:
            return "PayoutElsewhere"
        self._end(wish, "withdrawn")
        return "ok"

    def pay(self, number: int, hash_: str) -> str:
        wish = self.wishes[number]
        if wish.state == "paid":
            return "ok" if wish.hash == hash_ else "ResultConflict"
        if wish.state not in {"exported", "submitted", "failed"}:
            return "PayoutElsewhere"
        wish.state, wish.hash, wish.failed_by = "paid", hash_, ""
        wish.paid_by.add(hash_)
        wish.told.append("paid")
        self._between("pending", "paid", wish.amount)
        return "ok"

    def fail(self, number: int, by: str) -> str:
        wish = self.wishes[number]
        if wish.state == "failed":
            return "ok"
        if wish.state == "paid":
            return "PaidAlready"
        if wish.state not in {"exported", "submitted"}:
            return "PayoutElsewhere"
        self._failed(wish, by)
        return "ok"

    def come_back(self, number: int, hash_: str, by: str) -> str:
        wish = self.wishes[number]
        if wish.state != "paid":
            return "PayoutElsewhere"
        if wish.hash != hash_:
            return "ResultConflict"
        self._between("paid", "pending", wish.amount)
        self._failed(wish, by)
        return "ok"

    def _failed(self, wish: Wish, by: str) -> None:
        wish.state, wish.failed_by = "failed", by
        wish.told.append("failed")

    def report(self, number: int, word: str, hash_: str, by: str, uploader: str) -> bool:
        """A row of a result file that was not applied yet; whether it is now."""
        wish = self.wishes[number]
        if any((word, hash_, attempt) in wish.said for attempt in range(1, wish.attempt)):
            return False
        if word == "paid":
            if wish.state == "paid" and wish.hash != hash_:
                return False
            if wish.state != "paid" and (hash_ in wish.paid_by or self.pay(number, hash_) != "ok"):
                return False
        elif wish.state != "failed":
            if wish.state != "submitted" or wish.attempt > 1:
                return False
            self.fail(number, by)
            wish.witnesses.add(uploader)
        wish.said.add((word, hash_, wish.attempt))
        return True

    def _undecided(self, wish: Wish) -> bool:
        """Whether its batch's files may yet be sent."""
        return wish.lot is not None and self.lots[wish.lot].state == "exported"

    def send_again(self, number: int, by: str) -> str:
        wish = self.wishes[number]
        if wish.state != "failed":
            return "PayoutElsewhere"
        if self._undecided(wish):
            return "BatchNotHandedOver"
        if self._may_be_sent(wish.purse) != "ok":
            return self._may_be_sent(wish.purse)
        wish.state, wish.attempt, wish.again_by = "requested", wish.attempt + 1, by
        wish.first = wish.second = wish.hash = wish.failed_by = ""
        wish.lot = None
        wish.witnesses.clear()
        return "ok"

    def give_back(self, number: int, by: str) -> str:
        wish = self.wishes[number]
        if wish.state != "failed":
            return "PayoutElsewhere"
        if by in {wish.failed_by, *wish.witnesses}:
            return "OwnRequest"
        if self._undecided(wish):
            return "BatchNotHandedOver"
        wish.lot = None
        self._end(wish, "returned")
        return "ok"

    # --- batches ---

    def gathered(self, numbers: list[int]) -> list[int]:
        """Which of these a batch would take: one of a purse, whose payouts have one address."""
        taken: dict[int, int] = {}
        for number in sorted(numbers):
            wish = self.wishes[number]
            if (wish.state, wish.lot, self._may_be_sent(wish.purse)) == ("approved", None, "ok"):
                taken.setdefault(wish.purse, number)
        return sorted(taken.values())

    def _given_up_by(self, lot: Lot, by: str) -> bool:
        """Whether this person voided an exported batch of any of these, at this attempt."""
        return any(
            (by, attempt) in self.wishes[one].voided for one, attempt in lot.attempts.items()
        )

    def gather(self, lot: int, numbers: list[int]) -> None:
        self.lots[lot] = Lot(numbers, {number: self.wishes[number].attempt for number in numbers})
        for number in numbers:
            self.wishes[number].lot = lot

    def export(self, number: int, by: str) -> str:
        lot = self.lots[number]
        if lot.state != "gathered":
            return "BatchElsewhere"
        if self._given_up_by(lot, by):
            return "OwnVoid"
        members = [self.wishes[one] for one in lot.wishes]
        if any(self._may_be_sent(wish.purse) != "ok" for wish in members):
            return "BatchHeld"
        lot.state, lot.exported_by = "exported", by
        for wish in members:
            wish.state = "exported"
        return "ok"

    def download(self, number: int, by: str) -> str:
        lot = self.lots[number]
        members = [self.wishes[one] for one in lot.wishes]
        if lot.state == "voided":
            return "BatchElsewhere"
        if self._given_up_by(lot, by):
            return "OwnVoid"
        if any(wish.lot != number or wish.state == "failed" for wish in members):
            return "BatchElsewhere"
        lot.takers.add(by)
        return "ok"

    def submit(self, number: int) -> str:
        lot = self.lots[number]
        if lot.state != "exported":
            return "BatchElsewhere"
        lot.state = "submitted"
        for wish in (self.wishes[one] for one in lot.wishes):
            if wish.lot == number and wish.state == "exported":
                wish.state = "submitted"
        return "ok"

    def void(self, number: int, by: str) -> str:
        lot = self.lots[number]
        if lot.state not in {"gathered", "exported"}:
            return "BatchElsewhere"
        if by == lot.exported_by or by in lot.takers:
            return "OwnExport"
        members = [self.wishes[one] for one in lot.wishes]
        untouched = "exported" if lot.state == "exported" else "approved"
        if any(
            wish.state != untouched and (wish.state != "failed" or wish.hash) for wish in members
        ):
            return "BatchHeld"
        if lot.state == "exported":
            for one, attempt in lot.attempts.items():
                self.wishes[one].voided.add((by, attempt))
        lot.state = "voided"
        for wish in members:
            wish.lot = None
            if wish.state != "failed":
                wish.state = "approved"
        return "ok"

    # --- wallets ---

    def freeze(self, purse: int) -> str:
        if self.purses[purse].state != "active":
            return "StandingRefused"
        self.purses[purse].state = "frozen"
        return "ok"

    def unfreeze(self, purse: int) -> str:
        if self.purses[purse].state != "frozen":
            return "StandingRefused"
        self.purses[purse].state = "active"
        return "ok"

    def close(self, purse: int) -> str:
        one = self.purses[purse]
        if one.state != "active":
            return "StandingRefused"
        if one.balance >= CENT or any(
            wish.purse == purse and wish.state in OPEN for wish in self.wishes.values()
        ):
            return "NotEmpty"
        self._from_purse(purse, "rounding", one.balance)
        one.state = "closed"
        return "ok"

    def may_terminate(self, purse: int) -> str:
        refusals = {"closed": "StandingRefused", "forfeited": "TerminationPending"}
        return refusals.get(self.purses[purse].state, "ok")

    def may_confirm(self, purse: int, by: str) -> str:
        sent_again = any(
            wish.purse == purse
            and wish.state in WAITING
            and wish.lot is None
            and wish.again_by == by
            for wish in self.wishes.values()
        )
        return "OwnRequest" if sent_again else "ok"

    def terminate(self, purse: int) -> None:
        one = self.purses[purse]
        for wish in self.wishes.values():
            if wish.purse == purse and wish.state in WAITING and wish.lot is None:
                self._end(wish, "rejected")
        one.taken, one.state = one.balance, "forfeited"
        self._from_purse(purse, "forfeitures", one.balance)

    def reinstate(self, purse: int, *, give_back: bool) -> None:
        one = self.purses[purse]
        one.state = "active"
        if give_back:
            self._from_purse(purse, "forfeitures", -one.taken)
