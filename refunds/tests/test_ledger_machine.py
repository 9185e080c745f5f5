"""The real ledger beside an independent model, under random work: the two never differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db.models import Sum
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orders import closing, placing, termination
from orders.delivery import Arrival, record_sms
from orders.models import Order
from orders.upstreams.base import Message
from refunds import automatic, decisions, disputes
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from refunds.tests.model import WAITING, Model
from smsactivator.common.errors import Refused
from wallet import claims, corrections, deposits, standing
from wallet.models import (
    Account,
    Claim,
    Correction,
    Deposit,
    RoleLimit,
    Termination,
    Transfer,
    Wallet,
)
from wallet.tests.together import Chosen, at_once
from wallet.tests.world import person

PURSES = 3
SHOP = {
    "crypto": Account.CRYPTO_DEPOSITS,
    "escrow": Account.ORDER_ESCROW,
    "sales": Account.SALES,
    "forfeitures": Account.FORFEITURES,
    "goodwill": Account.GOODWILL,
    "rounding": Account.ROUNDING,
    "adjustment": Account.ADJUSTMENTS,
}
CLAUSES = [Clause.SERVICE_REJECTED, Clause.WRONG_SERVICE, Clause.ORDERED_WRONG]
RESOLVED = {
    "upheld": disputes.uphold,
    "overturned": disputes.overturn,
    "dismissed": disputes.dismiss,
}
PRICES = [Decimal("0.25"), Decimal("1"), Decimal("2.9999")]
purses = st.integers(0, PURSES - 1)
amounts = st.integers(1, 50_000).map(lambda units: Decimal(units) / 10_000)


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except Refused as refusal:
        return type(refusal).__name__
    return "ok"


def shop_accounts() -> dict[str, Decimal]:
    """What each of the shop's accounts holds: credits less debits."""
    held = {}
    for name, account in SHOP.items():
        credit = Transfer.objects.filter(credit_account=account).aggregate(sum=Sum("amount"))
        debit = Transfer.objects.filter(debit_account=account).aggregate(sum=Sum("amount"))
        held[name] = (credit["sum"] or Decimal(0)) - (debit["sum"] or Decimal(0))
    return held


class LedgerMachine(RuleBasedStateMachine):
    """Random work of several people and sessions on a few wallets."""

    # Each run goes on in time where the one before it ended, as the database does.
    clock = datetime(2026, 11, 2, 8, tzinfo=UTC)

    @initialize()
    def open_the_shop(self) -> None:
        self.travel = time_machine.travel(LedgerMachine.clock, tick=False)
        self.traveller = self.travel.start()
        self.customers = [world.customer("0") for _ in range(PURSES)]
        self.numbers = [customer.pk for customer in self.customers]
        self.offers = [world.offer(str(price)) for price in PRICES]
        self.agent, self.mate, self.senior, self.other, self.finance = (
            person(role) for role in (*["Support agent"] * 2, *["Senior agent"] * 2, "Finance")
        )
        self.run = uuid4().hex[:8]
        self.model = Model(self.numbers)
        self.before = shop_accounts()
        self.claims: dict[int, Claim] = {}
        self.terminations: dict[int, Termination] = {}
        # Something to refund from the first step on.
        for number, customer in enumerate(self.customers):
            self.deposit(number, Decimal(5), 100 + number)
            for which in (1, 2):
                offer = self.offers[which]
                order = world.allocated(world.place(customer, offer))
                self.model.place(order.pk, customer.pk, offer.price, timezone.now())
                self.model.allocate(order.pk, timezone.now())
                self.delivered(order.pk)

    def delivered(self, order: int) -> None:
        """An SMS arrives, in the model and in the shop."""
        self.model.sms(order)
        record_sms({order: [Arrival(Message("1234", "Code 1234"))]})

    def teardown(self) -> None:
        if hasattr(self, "travel"):
            # What is open ends now, and does not come up in the next run.
            self.traveller.shift(timedelta(days=1))
            world.looked_at()
            automatic.sweep()
            LedgerMachine.clock = timezone.now()
            world.assert_books_agree()
            self.travel.stop()

    @invariant()
    def the_two_agree(self) -> None:
        rows = {
            row[0]: row[1:]
            for row in Wallet.objects.filter(pk__in=self.numbers).values_list(
                "pk", "state", "balance", "version"
            )
        }
        assert rows == {
            number: (purse.state, purse.balance, len(purse.balances))
            for number, purse in self.model.purses.items()
        }

    @invariant()
    def the_shop_and_the_orders_agree(self) -> None:
        now = shop_accounts()
        moved = {name: now[name] - self.before[name] for name in SHOP}
        assert moved == {name: self.model.shop[name] for name in SHOP}
        states = Order.objects.filter(customer__in=self.numbers).values_list("pk", "state")
        assert dict(states) == {pk: order.state for pk, order in self.model.orders.items()}
        asked = RefundRequest.objects.filter(order__customer__in=self.numbers)
        assert dict(asked.values_list("pk", "state")) == {
            number: one.state for number, one in self.model.asked.items()
        }

    # --- customers ---

    @rule(purse=purses, amount=amounts, reference=st.integers(0, 12))
    def deposit(self, purse: int, amount: Decimal, reference: int) -> None:
        name = f"{self.run}-{reference}"
        expected = self.model.deposit(self.numbers[purse], amount, name)
        customer = self.customers[purse]
        assert (
            outcome(lambda: deposits.deposit(customer, amount=amount, reference=name)) == expected
        )

    @rule(purse=purses, amount=amounts, reference=st.integers(0, 12))
    def deposit_from_three_sessions(self, purse: int, amount: Decimal, reference: int) -> None:
        name = f"{self.run}-{reference}"
        expected = self.model.deposit(self.numbers[purse], amount, name)
        customer = self.customers[purse]
        done = at_once(*[lambda: deposits.deposit(customer, amount=amount, reference=name)] * 3)
        names = {type(one).__name__ if isinstance(one, Refused) else "ok" for one in done}
        assert names == {expected}

    @rule(purse=purses, which=st.integers(0, len(PRICES) - 1))
    def place(self, purse: int, which: int) -> None:
        customer, offer, key = self.customers[purse], self.offers[which], uuid4().hex
        expected = self.model.may_place(customer.pk, offer.price)

        def send() -> Order:
            return placing.place(
                customer, offer_id=offer.pk, idempotency_key=key, actor=world.TESTER
            )[0]

        if expected == "ok":
            order = send()
            assert send() == order
            self.model.place(order.pk, customer.pk, offer.price, timezone.now())
        else:
            assert outcome(send) == expected

    @rule(purse=purses, which=st.integers(0, len(PRICES) - 1), sessions=st.integers(2, 4))
    def place_from_several_sessions(self, purse: int, which: int, sessions: int) -> None:
        customer, offer = self.customers[purse], self.offers[which]
        state = self.model.purses[customer.pk].state
        affordable = int(self.model.purses[customer.pk].balance // offer.price)
        keys = [uuid4().hex for _ in range(sessions)]
        done = at_once(
            *(
                lambda key=key: placing.place(
                    customer, offer_id=offer.pk, idempotency_key=key, actor=world.TESTER
                )[0]
                for key in keys
            )
        )
        placed = [order for order in done if isinstance(order, Order)]
        assert len(placed) == (min(sessions, affordable) if state == "active" else 0)
        for order in placed:
            self.model.place(order.pk, customer.pk, offer.price, timezone.now())

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(sorted(self.model.orders)))
        expected = self.model.cancel(order)
        assert outcome(lambda: automatic.cancel(order, actor=world.TESTER)) == expected

    # --- upstreams and time ---

    @precondition(lambda self: any(o.state == "placed" for o in self.model.orders.values()))
    @rule(data=st.data())
    def allocate(self, data: st.DataObject) -> None:
        # By number: in which of several sessions an order was placed is nothing to draw by.
        waiting = sorted(pk for pk, o in self.model.orders.items() if o.state == "placed")
        order = Order.objects.get(pk=data.draw(st.sampled_from(waiting)))
        world.allocated(order)
        self.model.allocate(order.pk, timezone.now())

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def sms(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(sorted(self.model.orders)))
        if Order.objects.get(pk=order).upstream_ref:
            self.delivered(order)

    @rule(seconds=st.sampled_from([1, 61, 1201, 86_400, -1, -3600]))
    def the_clock_jumps_and_the_beat_sweeps(self, seconds: int) -> None:
        self.traveller.shift(timedelta(seconds=seconds))
        world.looked_at()
        self.model.sweep(timezone.now())
        automatic.sweep()

    # --- decisions ---

    @property
    def people(self) -> dict[str, Any]:
        """Who asks for refunds and decides them, by their names in the model."""
        return {"agent": self.agent, "mate": self.mate, "senior": self.senior, "other": self.other}

    def later(self) -> datetime:
        """The moment of a step on a refund: no two of them are at the same one."""
        self.traveller.shift(timedelta(microseconds=1))
        return timezone.now()

    def pick(self, data: st.DataObject, *states: str) -> int:
        """A refund request: more often one in these states than any."""
        every = sorted(self.model.asked)
        fitting = [number for number in every if self.model.asked[number].state in states]
        return data.draw(st.sampled_from(fitting * 4 + every))

    @precondition(lambda self: self.model.orders)
    @rule(
        data=st.data(),
        amount=st.one_of(amounts, st.sampled_from([*PRICES, Decimal("0.1")])),
        clause=st.sampled_from(CLAUSES),
        by=st.sampled_from(["agent", "senior"]),
    )
    def ask_for_a_refund(
        self, data: st.DataObject, amount: Decimal, clause: Clause, by: str
    ) -> None:
        every = sorted(self.model.orders)
        delivered = [pk for pk in every if self.model.orders[pk].state == "sms_received"]
        order = data.draw(st.sampled_from(delivered * 4 + every))
        expected, key, now = self.model.may_ask(order, clause, amount), uuid4(), self.later()

        def send() -> RefundRequest:
            return decisions.request(
                self.people[by], order, amount=amount, clause=clause, reason="Region", key=key
            )

        if expected == "ok":
            asked = send()
            assert send() == asked
            self.model.ask(asked.pk, order, clause, amount, by, now)
        else:
            assert outcome(send) == expected

    @precondition(lambda self: self.model.asked)
    @rule(data=st.data(), by=st.sampled_from(["agent", "mate", "senior", "other"]))
    def approve_a_refund(self, data: st.DataObject, by: str) -> None:
        number = self.pick(data, "requested", "escalated")
        expected, person = self.model.approve(number, by), self.people[by]
        assert outcome(lambda: decisions.approve(person, number, reason="Seen")) == expected

    @precondition(lambda self: self.model.asked)
    @rule(data=st.data())
    def approve_a_refund_twice_at_once(self, data: st.DataObject) -> None:
        number = self.pick(data, "requested", "escalated")
        by = [name for name in ("senior", "other") if name != self.model.asked[number].by]
        expected = self.model.approve(number, by[0])
        people = [self.people[name] for name in by * 2][:2]
        done = at_once(
            *(
                lambda person=person: decisions.approve(person, number, reason="Seen")
                for person in people
            )
        )
        names = sorted(type(one).__name__ for one in done)
        assert names == (
            ["AlreadyDecided", "RefundRequest"] if expected == "ok" else [expected] * 2
        )
        self.model.asked[number].decided_by = self.decider(number)

    @precondition(lambda self: self.model.asked)
    @rule(
        data=st.data(),
        by=st.sampled_from(["agent", "mate", "senior", "other"]),
        answered=st.booleans(),
    )
    def deny_a_refund(self, data: st.DataObject, by: str, answered: bool) -> None:
        number = self.pick(data, "requested", "escalated")
        expected, person = self.model.deny(number, by), self.people[by]
        assert outcome(lambda: decisions.deny(person, number, reason="No evidence")) == expected
        if answered:
            self.disputed(number)

    @precondition(lambda self: self.model.asked)
    @rule(data=st.data())
    def escalate_a_refund(self, data: st.DataObject) -> None:
        number = self.pick(data, "requested")
        expected = self.model.escalate(number)
        assert outcome(lambda: decisions.escalate(self.mate, number, reason="Odd")) == expected

    @property
    def of_the_agent(self) -> list[int]:
        """The requests that the agent can take back."""
        asked = sorted(self.model.asked.items())
        return [n for n, one in asked if one.by == "agent" and one.state in WAITING]

    @precondition(lambda self: self.of_the_agent)
    @rule(data=st.data())
    def take_a_refund_back(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.of_the_agent * 4 + sorted(self.model.asked)))
        expected = self.model.take_back(number, "agent")
        assert outcome(lambda: decisions.withdraw(self.agent, number)) == expected

    @precondition(lambda self: self.model.asked)
    @rule(data=st.data())
    def dispute_a_denial(self, data: st.DataObject) -> None:
        self.disputed(self.pick(data, "denied"))

    def disputed(self, number: int) -> None:
        """The customer replies to a denial, in the model and in the shop."""
        expected = self.model.dispute(number, self.later())
        assert outcome(lambda: disputes.dispute(number, actor=world.TESTER)) == expected

    @precondition(lambda self: self.model.asked)
    @rule(
        data=st.data(),
        how=st.sampled_from(sorted(RESOLVED)),
        by=st.sampled_from(["senior", "other"]),
    )
    def resolve_a_dispute(self, data: st.DataObject, how: str, by: str) -> None:
        number = self.pick(data, "disputed")
        expected, person = self.model.resolve(number, how, by, self.later()), self.people[by]
        assert outcome(lambda: RESOLVED[how](person, number, reason="So it is")) == expected

    def decider(self, number: int) -> str:
        """Who decided a request, by the name in the model; empty when nobody did."""
        decided_by = RefundRequest.objects.get(pk=number).decided_by
        return next((name for name, one in self.people.items() if one == decided_by), "")

    @rule(purse=purses, amount=amounts)
    def request_goodwill(self, purse: int, amount: Decimal) -> None:
        number = self.numbers[purse]
        self.corrected(
            *("goodwill", number, amount),
            lambda: corrections.request_goodwill(
                self.agent, number, amount=amount, reason="Waited", key=uuid4()
            ),
        )

    def corrected(
        self, kind: str, number: int, change: Decimal, ask: Callable[[], Correction]
    ) -> None:
        """Somebody asks for a correction, in the model and in the shop."""
        expected = self.model.may_correct(number)
        if expected == "ok":
            self.model.request(ask().pk, kind, number, change)
        else:
            assert outcome(ask) == expected

    @rule(purse=purses, amount=amounts, credited=st.booleans())
    def request_an_adjustment(self, purse: int, amount: Decimal, credited: bool) -> None:
        number, change = self.numbers[purse], amount if credited else -amount
        self.corrected(
            *("adjustment", number, change),
            lambda: corrections.request_adjustment(
                self.finance, number, amount=change, reason="Miscounted", key=uuid4()
            ),
        )

    @rule(data=st.data())
    def request_a_reversal(self, data: st.DataObject) -> None:
        kinds = {"deposit": "crypto", "goodwill": "goodwill", "adjustment": "adjustment"}
        found = Transfer.objects.filter(wallet__in=self.numbers, kind__in=kinds)
        lines = list(found.order_by("wallet", "wallet_version"))
        if not lines:
            return
        line = data.draw(st.sampled_from(lines))
        name = (kinds[line.kind], line.pk)
        assert line.wallet_id is not None
        expected, made = self.model.may_reverse(line.wallet_id, name), []

        def send() -> None:
            made.append(
                corrections.request_reversal(
                    self.finance, line.pk, reason="By mistake", key=uuid4()
                )
            )

        assert outcome(send) == expected
        if made:
            self.model.request(made[0].pk, "reversal", line.wallet_id, -line.change, name)

    @precondition(lambda self: self.model.requests)
    @rule(data=st.data())
    def confirm_twice_at_once(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.requests)))
        expected = self.model.confirm(number)
        done = at_once(
            *(lambda by=by: corrections.confirm(by, number) for by in (self.senior, self.other))
        )
        names = sorted(type(one).__name__ for one in done)
        assert names == (["AlreadyDecided", "Correction"] if expected == "ok" else [expected] * 2)

    @precondition(lambda self: self.model.requests)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.requests)))
        corrections.reject(self.senior, number, reason="No")
        self.model.reject(number)

    # --- standing ---

    @rule(purse=purses)
    def freeze(self, purse: int) -> None:
        number = self.numbers[purse]
        expected = self.model.freeze(number)
        assert outcome(lambda: standing.freeze(self.senior, number, reason="Odd")) == expected

    @rule(purse=purses)
    def unfreeze(self, purse: int) -> None:
        number = self.numbers[purse]
        expected = self.model.unfreeze(number)
        assert outcome(lambda: standing.unfreeze(self.senior, number, reason="Fine")) == expected

    @rule(purse=purses)
    def claim(self, purse: int) -> None:
        number = self.numbers[purse]
        deposit = Deposit.objects.filter(transfer__wallet=number).first()
        if deposit is None or number in self.claims:
            return
        self.claims[number] = claims.record(
            self.agent, deposit.pk, reference=uuid4().hex, evidence="Filed"
        )
        self.model.hold(number, "claim")

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def dismiss(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.claims)))
        claims.dismiss(self.senior, self.claims.pop(number).pk, reason="Wrong")
        self.model.let_go(number, "claim")

    @rule(purse=purses)
    def request_a_termination(self, purse: int) -> None:
        number = self.numbers[purse]
        if number in self.terminations or self.model.purses[number].state == "closed":
            assert (
                outcome(lambda: termination.request(self.senior, number, reason="No", key=uuid4()))
                != "ok"
            )
            return
        self.terminations[number] = termination.request(
            self.senior, number, reason="Resold", key=uuid4()
        )
        self.model.hold(number, "termination")

    @precondition(lambda self: self.terminations)
    @rule(data=st.data(), agreed=st.booleans(), give_back=st.booleans())
    def decide_a_termination(self, data: st.DataObject, agreed: bool, give_back: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.terminations)))
        asked = self.terminations.pop(number)
        if self.model.purses[number].state == "forfeited":
            back = termination.request_reinstatement(
                self.senior, asked.pk, give_back=give_back, reason="Mix-up", key=uuid4()
            )
            termination.confirm_reinstatement(self.other, back.pk)
            self.model.reinstate(number, give_back=give_back)
        elif agreed:
            done = at_once(
                *(
                    lambda by=by: termination.confirm(by, asked.pk)
                    for by in (self.other, self.finance)
                )
            )
            assert sorted(type(one).__name__ for one in done) == [
                "AlreadyDecided",
                "Termination",
            ]
            self.model.terminate(number)
            self.terminations[number] = asked
        else:
            termination.reject(self.other, asked.pk, reason="Not enough")
            self.model.let_go(number, "termination")

    @rule(purse=purses)
    def close(self, purse: int) -> None:
        number = self.numbers[purse]
        expected = self.model.close(number)
        assert outcome(lambda: closing.close(self.senior, number, reason="Leaves")) == expected

    @rule(purse=purses)
    def reopen(self, purse: int) -> None:
        number = self.numbers[purse]
        expected = self.model.reopen(number)
        assert outcome(lambda: closing.reopen(self.senior, number, reason="Back")) == expected


@pytest.fixture
def without_limits() -> None:
    RoleLimit.objects.update(each=Decimal(10**9), daily=Decimal(10**9))
    # Only people who may decide a kind without a limit of their own get one.
    for role, decision in (("Finance", "goodwill"), ("Senior agent", "reversal")):
        assert RoleLimit.objects.filter(role__name=role, decision=decision).exists()


@pytest.fixture
def scripted() -> Iterator[LedgerMachine]:
    """The machine, each step of a script instead of a random one."""
    machine = LedgerMachine()
    machine.open_the_shop()
    yield machine
    machine.teardown()


def agree(machine: LedgerMachine) -> None:
    machine.the_two_agree()
    machine.the_shop_and_the_orders_agree()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_limits")
def test_each_way_of_a_decided_refund_agrees_with_the_model(scripted: LedgerMachine) -> None:
    machine, half = scripted, Decimal("0.5")
    orders = sorted(machine.model.orders)

    def asked(order: int, clause: Clause = Clause.SERVICE_REJECTED, by: str = "agent") -> Chosen:
        machine.ask_for_a_refund(Chosen(order), half, clause, by)
        return Chosen(max(machine.model.asked))

    ways: dict[str, int] = {}
    # Escalated, and approved by a senior after an agent may not.
    one = asked(orders[0])
    ways["approved"] = one.value
    machine.escalate_a_refund(one)
    machine.approve_a_refund(one, "mate")
    machine.approve_a_refund(one, "senior")
    agree(machine)
    # Taken back; then asked for against the policy, and denied by whoever asked.
    one = asked(orders[1])
    ways["withdrawn"] = one.value
    machine.take_a_refund_back(one)
    one = asked(orders[1], Clause.ORDERED_WRONG)
    ways["denied"] = one.value
    machine.deny_a_refund(one, "agent", False)
    agree(machine)
    # Denied and disputed, and resolved in each way, after whoever took part may not.
    for order, how in zip(orders[2:5], sorted(RESOLVED), strict=True):
        one = asked(order)
        ways[how] = one.value
        machine.deny_a_refund(one, "senior", True)
        machine.resolve_a_dispute(one, how, "senior")
        machine.resolve_a_dispute(one, how, "other")
        agree(machine)
    one = asked(orders[5])
    ways["approved at once"] = one.value
    machine.approve_a_refund_twice_at_once(one)
    agree(machine)

    states = {
        way: list(
            RefundRequest.history.filter(id=pk)
            .order_by("history_id")
            .values_list("state", flat=True)
        )
        for way, pk in ways.items()
    }
    assert states == {
        "approved": ["requested", "escalated", "approved"],
        "withdrawn": ["requested", "withdrawn"],
        "denied": ["requested", "escalated", "denied"],
        "dismissed": ["requested", "denied", "disputed", "dismissed"],
        "overturned": ["requested", "denied", "disputed", "overturned"],
        "upheld": ["requested", "denied", "disputed", "upheld"],
        "approved at once": ["requested", "approved"],
    }
    assert Refund.objects.filter(part__gt=0).count() == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_limits")
def test_two_disputes_of_one_order_agree_with_the_model(scripted: LedgerMachine) -> None:
    machine = scripted
    became = []
    for order, both_before in zip(sorted(machine.model.orders)[:2], (False, True), strict=True):
        pair = []
        for clause, by in ((CLAUSES[0], "mate"), (CLAUSES[1], "senior")):
            machine.ask_for_a_refund(Chosen(order), Decimal("0.5"), clause, "agent")
            pair.append(Chosen(max(machine.model.asked)))
            machine.deny_a_refund(pair[-1], by, False)
        one, two = pair
        machine.dispute_a_denial(one)
        if both_before:
            machine.dispute_a_denial(two)
        machine.resolve_a_dispute(one, "upheld", "senior")
        if not both_before:
            machine.dispute_a_denial(two)
        for by in ("senior", "other"):
            machine.resolve_a_dispute(two, "overturned", by)
            agree(machine)
        became.append(machine.model.asked[two.value].state)
    assert became == ["disputed", "overturned"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_limits")
def test_each_decision_about_a_wallet_agrees_with_the_model(scripted: LedgerMachine) -> None:
    machine = scripted
    one, two, three = machine.numbers

    def newest() -> Chosen:
        return Chosen(max(machine.model.requests))

    machine.request_goodwill(0, Decimal(2))
    machine.confirm_twice_at_once(newest())
    machine.request_an_adjustment(0, Decimal(1), False)
    machine.reject(newest())
    machine.request_an_adjustment(0, Decimal(1), True)
    machine.confirm_twice_at_once(newest())
    deposit = Transfer.objects.get(wallet=one, kind="deposit")
    machine.request_a_reversal(Chosen(deposit))
    machine.request_a_reversal(Chosen(deposit))
    machine.confirm_twice_at_once(newest())
    agree(machine)
    assert Correction.objects.filter(state="confirmed", customer=one).count() == 2
    # A wallet of 1.0001 + 2 + 1 cannot give back a deposit of 5.
    assert Correction.objects.filter(state="requested", kind="reversal", customer=one).count() == 1

    machine.freeze(1)
    machine.claim(1)
    machine.unfreeze(1)
    machine.dismiss(Chosen(two))
    agree(machine)
    machine.place(1, 2)
    machine.place(1, 0)
    machine.request_a_termination(1)
    machine.request_a_termination(1)
    machine.decide_a_termination(Chosen(two), False, False)
    machine.request_a_termination(1)
    machine.decide_a_termination(Chosen(two), True, False)
    agree(machine)
    assert Wallet.objects.get(pk=two).state == "forfeited"
    machine.decide_a_termination(Chosen(two), True, True)
    agree(machine)
    assert Wallet.objects.get(pk=two).state == "active"

    machine.close(2)
    machine.request_an_adjustment(2, Wallet.objects.get(pk=three).balance, False)
    machine.confirm_twice_at_once(newest())
    machine.close(2)
    agree(machine)
    assert Wallet.objects.get(pk=three).state == "closed"
    machine.reopen(2)
    agree(machine)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_limits")
def test_the_ledger_and_the_model_never_differ() -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
