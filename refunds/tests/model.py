"""An independent model of the shop's money in plain Python: no line of the product is used here.

Every operation returns the name of what it comes to: "ok", or the name of the refusal.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

ZERO = Decimal(0)
ALLOCATION_TIMEOUT = timedelta(seconds=60)
SLA = timedelta(minutes=20)
OPEN = {"placed", "awaiting_sms"}
REFUNDED = {"cancelled", "expired", "allocation_failed"}
ENDED_WALLETS = {"forfeited": "WalletForfeited", "closed": "WalletClosed"}


@dataclass
class Purse:
    """A wallet: its state, and the balance after each of its lines."""

    state: str = "active"
    balances: list[Decimal] = field(default_factory=list)
    # What keeps it frozen: "person", "claim", "termination".
    frozen_by: set[str] = field(default_factory=set)
    forfeited: Decimal = ZERO

    @property
    def balance(self) -> Decimal:
        return self.balances[-1] if self.balances else ZERO

    def move(self, amount: Decimal) -> None:
        self.balances.append(self.balance + amount)


@dataclass
class Bought:
    """An order."""

    purse: int
    price: Decimal
    placed_at: datetime
    state: str = "placed"
    deadline: datetime | None = None
    refunded: Decimal = ZERO


@dataclass
class Asked:
    """A refund that somebody asked for; ``refunded`` of its order counts goodwill too."""

    order: int
    amount: Decimal
    clause: str
    by: str
    state: str
    asked_at: datetime
    decided_by: str = ""
    disputed_at: datetime | None = None
    resolved_by: str = ""
    resolved_at: datetime | None = None

    @property
    def goodwill(self) -> bool:
        return self.clause.startswith("none.")


WAITING = {"requested", "escalated"}
STANDING = {"denied", "disputed", "upheld", "dismissed"}
FINAL = {"upheld", "overturned", "dismissed"}
SENIORS = {"senior", "other"}


class Model:
    """The shop: purses by number, orders by number, and the shop's own accounts."""

    def __init__(self, purses: list[int]) -> None:
        self.purses = {number: Purse() for number in purses}
        self.orders: dict[int, Bought] = {}
        self.shop: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.references: dict[str, tuple[int, Decimal]] = {}
        # Requests that wait: (kind, purse, amount, reversed line).
        self.requests: dict[int, tuple[str, int, Decimal, tuple[str, int] | None]] = {}
        self.reversing: set[tuple[str, int]] = set()
        self.asked: dict[int, Asked] = {}

    def _between(self, account: str, purse: int, amount: Decimal) -> None:
        """Move from one of the shop's accounts to a purse; a negative amount moves back."""
        self.shop[account] -= amount
        self.purses[purse].move(amount)

    def deposit(self, purse: int, amount: Decimal, reference: str) -> str:
        if reference in self.references:
            return "ok" if self.references[reference] == (purse, amount) else "IdempotencyConflict"
        if refusal := ENDED_WALLETS.get(self.purses[purse].state):
            return refusal
        self.references[reference] = (purse, amount)
        self._between("crypto", purse, amount)
        return "ok"

    def may_place(self, purse: int, price: Decimal) -> str:
        state = self.purses[purse].state
        if state != "active":
            return "WalletFrozen" if state == "frozen" else ENDED_WALLETS[state]
        return "ok" if self.purses[purse].balance >= price else "InsufficientFunds"

    def place(self, number: int, purse: int, price: Decimal, now: datetime) -> None:
        self._between("escrow", purse, -price)
        self.orders[number] = Bought(purse, price, now)

    def allocate(self, number: int, now: datetime) -> None:
        self.orders[number].state = "awaiting_sms"
        self.orders[number].deadline = now + SLA

    def sms(self, number: int) -> None:
        order = self.orders[number]
        if order.state == "awaiting_sms":
            order.state = "sms_received"
            self.shop["escrow"] -= order.price
            self.shop["sales"] += order.price

    def _refund(self, number: int, state: str) -> None:
        order = self.orders[number]
        order.state = state
        self._between("escrow", order.purse, order.price)

    def cancel(self, number: int) -> str:
        state = self.orders[number].state
        if state in OPEN:
            self._refund(number, "cancelled")
        elif state == "forfeited":
            return "OrderForfeited"
        elif state in REFUNDED - {"cancelled"}:
            return "AlreadyEnded"
        elif state == "sms_received":
            return "SmsArrived"
        return "ok"

    def sweep(self, now: datetime) -> None:
        for number, order in self.orders.items():
            if order.state == "awaiting_sms" and order.deadline and order.deadline < now:
                self._refund(number, "expired")
            elif order.state == "placed" and order.placed_at < now - ALLOCATION_TIMEOUT:
                self._refund(number, "allocation_failed")

    def _of(self, order: int) -> list[Asked]:
        return [one for one in self.asked.values() if one.order == order]

    def _refundable(self, order: int, amount: Decimal) -> str:
        bought = self.orders[order]
        if bought.state != "sms_received":
            return "NotDelivered"
        return "AboveThePrice" if bought.refunded + amount > bought.price else "ok"

    def may_ask(self, order: int, clause: str, amount: Decimal) -> str:
        earlier = self._of(order)
        if any(one.state in WAITING | {"disputed"} for one in earlier):
            return "AlreadyRequested"
        if any(one.state in FINAL for one in earlier):
            return "FinallyDecided"
        if any(one.state in STANDING and one.clause == clause for one in earlier):
            return "DeniedBefore"
        return self._refundable(order, amount)

    def ask(
        self, number: int, order: int, clause: str, amount: Decimal, by: str, now: datetime
    ) -> None:
        denied = any(one.state in STANDING for one in self._of(order))
        asked = Asked(order, amount, clause, by, "requested", now)
        if asked.goodwill or denied:
            asked.state = "escalated"
        self.asked[number] = asked

    def _ruled(self, asked: Asked) -> bool:
        """Whether another request of its order was denied for good since it was asked for, and
        before it was disputed, if it was.
        """
        return any(
            one.state in {"upheld", "dismissed"}
            and one.resolved_at is not None
            and asked.asked_at < one.resolved_at
            and (asked.disputed_at is None or one.resolved_at < asked.disputed_at)
            for one in self._of(asked.order)
        )

    def _may_decide(self, number: int, by: str) -> str:
        state = self.asked[number].state
        if state not in WAITING:
            return "AlreadyDecided"
        return "WaitsForSenior" if state == "escalated" and by not in SENIORS else "ok"

    def _credit(self, number: int) -> str:
        asked = self.asked[number]
        bought = self.orders[asked.order]
        refusal = self._refundable(asked.order, asked.amount)
        if refusal != "ok":
            return refusal
        if ended := ENDED_WALLETS.get(self.purses[bought.purse].state):
            return ended
        bought.refunded += asked.amount
        self._between("goodwill" if asked.goodwill else "sales", bought.purse, asked.amount)
        return "ok"

    def approve(self, number: int, by: str) -> str:
        asked = self.asked[number]
        may = self._may_decide(number, by)
        if may != "ok":
            return may
        if asked.by == by:
            return "OwnRequest"
        if self._ruled(asked):
            return "FinallyDecided"
        done = self._credit(number)
        if done == "ok":
            asked.state, asked.decided_by = "approved", by
        return done

    def deny(self, number: int, by: str) -> str:
        asked = self.asked[number]
        may = self._may_decide(number, by)
        if may == "WaitsForSenior" and asked.goodwill and asked.by == by:
            # What the policy does not refund is denied by whoever asked.
            may = "ok"
        if may == "ok":
            asked.state, asked.decided_by = "denied", by
        return may

    def escalate(self, number: int) -> str:
        if self.asked[number].state != "requested":
            return "AlreadyDecided"
        self.asked[number].state = "escalated"
        return "ok"

    def take_back(self, number: int, by: str) -> str:
        asked = self.asked[number]
        if asked.state not in WAITING:
            return "AlreadyDecided"
        if asked.by != by:
            return "OwnRequest"
        asked.state = "withdrawn"
        return "ok"

    def dispute(self, number: int, now: datetime) -> str:
        asked = self.asked[number]
        if asked.state != "denied":
            return "NotDisputable"
        asked.state, asked.disputed_at = "disputed", now
        return "ok"

    def resolve(self, number: int, how: str, by: str, now: datetime) -> str:
        asked = self.asked[number]
        if asked.state != "disputed":
            return "AlreadyDecided"
        rulings = [one for one in self._of(asked.order) if one.state in FINAL]
        if any(by in {one.by, one.decided_by, one.resolved_by} for one in [asked, *rulings]):
            return "OwnRequest"
        if how == "overturned" and self._ruled(asked):
            return "FinallyDecided"
        done = self._credit(number) if how == "overturned" else "ok"
        if done == "ok":
            asked.state, asked.resolved_by, asked.resolved_at = how, by, now
        return done

    def may_correct(self, purse: int) -> str:
        return ENDED_WALLETS.get(self.purses[purse].state, "ok")

    def may_reverse(self, purse: int, line: tuple[str, int]) -> str:
        if (ended := self.may_correct(purse)) != "ok":
            return ended
        return "NotReversible" if line in self.reversing else "ok"

    def request(
        self,
        number: int,
        kind: str,
        purse: int,
        amount: Decimal,
        line: tuple[str, int] | None = None,
    ) -> None:
        self.requests[number] = (kind, purse, amount, line)
        if line:
            self.reversing.add(line)

    def confirm(self, number: int) -> str:
        kind, purse, amount, line = self.requests[number]
        if refusal := ENDED_WALLETS.get(self.purses[purse].state):
            return refusal
        if self.purses[purse].balance + amount < 0:
            return "WalletShort"
        self._between(line[0] if line else kind, purse, amount)
        del self.requests[number]
        return "ok"

    def reject(self, number: int) -> None:
        *_, line = self.requests.pop(number)
        if line:
            self.reversing.discard(line)

    def freeze(self, purse: int) -> str:
        if self.purses[purse].state != "active":
            return "StandingRefused"
        self.purses[purse].state = "frozen"
        self.purses[purse].frozen_by = {"person"}
        return "ok"

    def unfreeze(self, purse: int) -> str:
        one = self.purses[purse]
        if one.state != "frozen":
            return "StandingRefused"
        if one.frozen_by - {"person"}:
            return "HeldByDecision"
        one.state, one.frozen_by = "active", set()
        return "ok"

    def hold(self, purse: int, why: str) -> None:
        one = self.purses[purse]
        if one.state == "active":
            one.state = "frozen"
        one.frozen_by.add(why)

    def let_go(self, purse: int, why: str) -> None:
        one = self.purses[purse]
        one.frozen_by.discard(why)
        if one.state == "frozen" and not one.frozen_by:
            one.state = "active"

    def terminate(self, purse: int) -> None:
        one = self.purses[purse]
        one.frozen_by.discard("termination")
        one.forfeited = ZERO
        for order in self.orders.values():
            if order.purse == purse and order.state in OPEN:
                order.state = "forfeited"
                self.shop["escrow"] -= order.price
                self.shop["forfeitures"] += order.price
                one.forfeited += order.price
        if one.balance:
            one.forfeited += one.balance
            self._between("forfeitures", purse, -one.balance)
        one.state = "forfeited"

    def reinstate(self, purse: int, *, give_back: bool) -> None:
        one = self.purses[purse]
        self._back(one)
        if give_back and one.forfeited:
            self._between("forfeitures", purse, one.forfeited)

    def close(self, purse: int) -> str:
        one = self.purses[purse]
        if one.state != "active":
            return "StandingRefused"
        if one.balance >= Decimal("0.01") or any(
            order.purse == purse and order.state in OPEN for order in self.orders.values()
        ):
            return "NotEmpty"
        if one.balance:
            self._between("rounding", purse, -one.balance)
        one.state = "closed"
        return "ok"

    def reopen(self, purse: int) -> str:
        if self.purses[purse].state != "closed":
            return "StandingRefused"
        self._back(self.purses[purse])
        return "ok"

    def _back(self, one: Purse) -> None:
        """A customer who is back stays frozen while a claim is open."""
        one.frozen_by &= {"claim"}
        one.state = "frozen" if one.frozen_by else "active"
