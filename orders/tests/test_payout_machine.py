"""Payouts beside an independent model, under random work of several people: they never differ."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import Q, Sum
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

from orders import closing, termination
from orders.tests.payout_model import Model
from smsactivator.common.errors import Refused
from wallet import batches, deposits, payouts, refusing, results, settlement, standing
from wallet.batches import NothingToGather
from wallet.models import (
    Account,
    Payout,
    PayoutBatch,
    PayoutFile,
    PayoutOutcome,
    RefusedAddress,
    RoleLimit,
    Termination,
    Transfer,
    Wallet,
)
from wallet.tests import paying, world
from wallet.tests.test_results import HEADER
from wallet.tests.test_resultsheets import as_csv
from wallet.tests.together import Chosen, at_once

PURSES = 2
ZERO = Decimal(0)
SHOP = {
    "pending": Account.PAYOUTS_PENDING,
    "paid": Account.PAYOUTS_PAID,
    "forfeitures": Account.FORFEITURES,
    "rounding": Account.ROUNDING,
    "crypto": Account.CRYPTO_DEPOSITS,
}
DONE = {"paid", "returned", "rejected", "withdrawn", "forfeited"}
purses = st.integers(0, PURSES - 1)
askers = st.sampled_from(["agent", "senior"])
approvers = st.sampled_from(["senior", "finance", "other", "third"])
finance = st.sampled_from(["finance", "other", "third"])
amounts = st.sampled_from(
    [None, *map(Decimal, ("20", "35.5", "100.01", "500", "500.01", "19.99", "20.001", "99999"))]
)


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except Refused as refusal:
        return type(refusal).__name__
    return "ok"


def shop_accounts() -> dict[str, Decimal]:
    sides = {
        f"{name}_{side}": Sum("amount", filter=Q(**{f"{side}_account": number}), default=ZERO)
        for name, number in SHOP.items()
        for side in ("credit", "debit")
    }
    sums = Transfer.objects.aggregate(**sides)
    return {name: sums[f"{name}_credit"] - sums[f"{name}_debit"] for name in SHOP}


def has(*states: str) -> Callable[[Any], bool]:
    """Whether a payout is in one of these states: else the rule has little to do."""
    return lambda self: any(wish.state in states for wish in self.model.wishes.values())


def has_lot(*states: str) -> Callable[[Any], bool]:
    """Whether a batch is in one of these states."""
    return lambda self: any(lot.state in states for lot in self.model.lots.values())


class PayoutMachine(RuleBasedStateMachine):
    """Random work on the payouts of a few customers, with replays and at the same moment."""

    @initialize()
    def open_the_till(self) -> None:
        self.seen: set[str] = set()  # in which states payouts were found
        self.customers = [world.customer() for _ in range(PURSES)]
        self.numbers = [customer.pk for customer in self.customers]
        roles = {
            "agent": "Support agent",
            "senior": "Senior agent",
            **dict.fromkeys(("finance", "other", "third"), "Finance"),
        }
        self.people = {name: world.person(role) for name, role in roles.items()}
        self.names = {person.pk: name for name, person in self.people.items()}
        self.model = Model(self.numbers)
        self.before = shop_accounts()
        self.ended: dict[int, Termination] = {}
        self.listed: dict[int, RefusedAddress] = {}  # purses' addresses that were ever refused
        self.applied: set[bytes] = set()  # result files of one row
        self.uploaders: dict[bytes, str] = {}
        for purse in range(PURSES):
            self.model.deposit(self.numbers[purse], Decimal("1400.0099"))
            deposits.deposit(
                self.customers[purse], amount=Decimal("1400.0099"), reference=uuid4().hex
            )
            # Something to work on from the first step on.
            for _ in range(2):
                number = self.requested(purse, Decimal("35.5"), "agent")
                payouts.approve(self.people["finance"], number)
                assert self.model.approve(number, "finance") == "ok"
            self.requested(purse, Decimal("500.01"), "senior")
            mate = self.people["other"]
            batch = batches.gather(mate, profile="canonical", payout_ids=[number], key=uuid4())
            batches.submit(mate, batches.export(mate, batch.pk).pk)
            self.model.gather(batch.pk, [number])
            assert self.model.export(batch.pk, "other") == self.model.submit(batch.pk) == "ok"
        failed = max(n for n, wish in self.model.wishes.items() if wish.state == "submitted")
        settlement.mark_failed(self.people["other"], failed, problem="Bounced")
        assert self.model.fail(failed, "other") == "ok"

    def requested(self, purse: int, amount: Decimal, by: str) -> int:
        """The number of a payout that was asked for, in the model and in the shop."""
        number = self.numbers[purse]
        payout = paying.asked(
            self.people[by], self.customers[purse], str(amount), address=paying.tron(number)
        )
        self.model.request(payout.pk, number, amount, by)
        return payout.pk

    def teardown(self) -> None:
        if hasattr(self, "model"):
            world.assert_books_agree()

    @invariant()
    def the_two_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        wallets = {
            number: (state, balance)
            for number, state, balance in Wallet.objects.filter(pk__in=self.numbers).values_list(
                "pk", "state", "balance"
            )
        }
        assert wallets == {
            number: (purse.state, purse.balance) for number, purse in self.model.purses.items()
        }
        after = shop_accounts()
        assert {name: after[name] - self.before[name] for name in SHOP} == {
            name: self.model.shop[name] for name in SHOP
        }
        wishes = self.model.wishes.values()
        open_now = sum((w.amount for w in wishes if w.state not in DONE), ZERO)
        assert after["pending"] - self.before["pending"] == open_now
        assert after["paid"] - self.before["paid"] == sum(
            (wish.amount for wish in wishes if wish.state == "paid"), ZERO
        )
        self.payouts_agree()
        assert dict(
            PayoutBatch.objects.filter(pk__in=self.model.lots).values_list("pk", "state")
        ) == {number: lot.state for number, lot in self.model.lots.items()}

    def payouts_agree(self) -> None:
        """State, people, batch, hash, attempt, and what the customer is told, of each payout."""
        told: dict[int, list[str]] = {number: [] for number in self.model.wishes}
        outcomes = PayoutOutcome.objects.filter(payout__in=told).order_by("pk")
        for number, what in outcomes.values_list("payout", "what"):
            told[number].append(what)
        found = Payout.objects.filter(pk__in=told).prefetch_related("lines")
        real = {
            one.pk: (
                one.state,
                one.attempt,
                self.names.get(one.approved_by_id or 0, ""),
                self.names.get(one.second_by_id or 0, ""),
                self.names.get(one.sent_again_by_id or 0, ""),
                self.names.get(one.failed_by_id or 0, ""),
                one.second_from,
                one.transaction_hash,
                next((line.batch_id for line in one.lines.all() if line.live), None),
                told[one.pk],
            )
            for one in found
        }
        assert real == {
            number: (
                *(w.state, w.attempt, w.first, w.second, w.again_by, w.failed_by),
                *(w.alone, w.hash, w.lot, w.told),
            )
            for number, w in self.model.wishes.items()
        }
        self.seen.update(wish.state for wish in self.model.wishes.values())

    def wish(self, data: st.DataObject, *states: str) -> int:
        """A payout: more often one in these states than any."""
        every = sorted(self.model.wishes)
        fitting = [number for number in every if self.model.wishes[number].state in states]
        return data.draw(st.sampled_from(fitting * 5 + every))

    def lot(self, data: st.DataObject, *states: str) -> int:
        """A batch, as ``wish``."""
        every = sorted(self.model.lots)
        fitting = [number for number in every if self.model.lots[number].state in states]
        return data.draw(st.sampled_from(fitting * 5 + every))

    # --- asking and approving ---

    @rule(purse=purses, amount=st.sampled_from([Decimal("20"), Decimal("600.0051")]))
    def deposit(self, purse: int, amount: Decimal) -> None:
        expected = self.model.deposit(self.numbers[purse], amount)
        customer = self.customers[purse]
        assert expected == outcome(
            lambda: deposits.deposit(customer, amount=amount, reference=uuid4().hex)
        )

    @rule(purse=purses, amount=amounts, by=askers)
    def request(self, purse: int, amount: Decimal | None, by: str) -> None:
        number, key = self.numbers[purse], uuid4()
        expected, wanted = self.model.may_request(number, amount)

        def send() -> Payout:
            return paying.asked(
                self.people[by],
                self.customers[purse],
                None if amount is None else str(amount),
                address=paying.tron(number),
                key=key,
            )

        if expected == "ok":
            payout = send()
            assert send() == payout
            assert payout.amount == wanted
            self.model.request(payout.pk, number, wanted, by)
        else:
            assert outcome(send) == expected

    @precondition(has("requested", "first_approved"))
    @rule(data=st.data(), by=approvers)
    def approve(self, data: st.DataObject, by: str) -> None:
        number = self.wish(data, "requested", "first_approved")
        expected = self.model.approve(number, by)
        assert outcome(lambda: payouts.approve(self.people[by], number)) == expected

    @precondition(has("requested"))
    @rule(data=st.data())
    def two_approve_at_once(self, data: st.DataObject) -> None:
        number = self.wish(data, "requested")
        wish = self.model.wishes[number]
        free = [
            name
            for name in ("senior", "finance", "other", "third")
            if name not in {wish.by, wish.again_by, wish.first}
        ]
        pair = free[:2]
        done = at_once(
            *(lambda by=by: payouts.approve(self.people[by], number).state and "ok" for by in pair)
        )
        by_id = Payout.objects.values_list("approved_by", flat=True).get(pk=number)
        if self.names.get(by_id or 0) == pair[1]:
            pair.reverse()
        if wish.state == "first_approved":
            # Whichever came is the second; the other finds it approved.
            second = Payout.objects.values_list("second_by", flat=True).get(pk=number)
            pair.sort(key=lambda name: self.people[name].pk != second)
        expected = [self.model.approve(number, by) for by in pair]
        assert sorted(one if one == "ok" else type(one).__name__ for one in done) == sorted(
            expected
        )

    @precondition(has("requested", "first_approved", "approved"))
    @rule(data=st.data(), by=approvers)
    def reject(self, data: st.DataObject, by: str) -> None:
        number = self.wish(data, "requested", "first_approved", "approved")
        expected = self.model.reject(number, by)
        call = outcome(lambda: payouts.reject(self.people[by], number, reason="No"))
        assert call == expected

    @precondition(has("requested", "first_approved"))
    @rule(data=st.data(), by=askers)
    def withdraw(self, data: st.DataObject, by: str) -> None:
        number = self.wish(data, "requested", "first_approved")
        expected = self.model.withdraw(number, by)
        assert outcome(lambda: payouts.withdraw(self.people[by], number)) == expected

    # --- batches ---

    @precondition(has("approved"))
    @rule(data=st.data(), by=finance, everything=st.booleans(), at_the_same_time=st.booleans())
    def gather(
        self, data: st.DataObject, by: str, everything: bool, at_the_same_time: bool
    ) -> None:
        every = sorted(self.model.wishes)
        numbers = every if everything else [self.wish(data, "approved")]
        going = self.model.gathered(numbers)

        def send(by: str, key: Any) -> PayoutBatch:
            return batches.gather(self.people[by], profile="canonical", payout_ids=numbers, key=key)

        if not going:
            assert outcome(lambda: send(by, uuid4())) == "NothingToGather"
            return
        refused = []
        if at_the_same_time:
            mate = next(name for name in ("finance", "other") if name != by)
            done = at_once(lambda: send(by, uuid4()), lambda: send(mate, uuid4()))
            made = sorted((one for one in done if isinstance(one, PayoutBatch)), key=lambda b: b.pk)
            refused = [type(one) for one in done if not isinstance(one, PayoutBatch)]
        else:
            key = uuid4()
            made = [send(by, key)]
            assert send(by, key) == made[0]
        # The second takes what the first left, as another payout to one address.
        for batch in made:
            going = self.model.gathered(numbers)
            assert list(batch.lines.order_by("position").values_list("payout", flat=True)) == going
            self.model.gather(batch.pk, going)
        assert refused == ([NothingToGather] if at_the_same_time and len(made) == 1 else [])
        assert not (refused and self.model.gathered(numbers))

    @precondition(has_lot("gathered"))
    @rule(data=st.data(), by=finance)
    def export(self, data: st.DataObject, by: str) -> None:
        number = self.lot(data, "gathered")
        expected = self.model.export(number, by)
        assert outcome(lambda: batches.export(self.people[by], number)) == expected

    @precondition(has_lot("exported", "submitted"))
    @rule(data=st.data(), by=finance)
    def download(self, data: st.DataObject, by: str) -> None:
        number = self.lot(data, "exported", "submitted")
        for file in PayoutFile.objects.filter(batch=number, format="csv"):
            expected = self.model.download(number, by)
            assert outcome(lambda pk=file.pk: batches.download(self.people[by], pk)) == expected

    @precondition(has_lot("exported"))
    @rule(data=st.data(), by=finance)
    def submit(self, data: st.DataObject, by: str) -> None:
        number = self.lot(data, "exported")
        expected = self.model.submit(number)
        assert outcome(lambda: batches.submit(self.people[by], number)) == expected

    @precondition(has_lot("gathered", "exported"))
    @rule(data=st.data(), by=finance)
    def void(self, data: st.DataObject, by: str) -> None:
        number = self.lot(data, "gathered", "exported")
        expected = self.model.void(number, by)
        call = outcome(lambda: batches.void(self.people[by], number, reason="Not sent"))
        assert call == expected

    # --- what became of them ---

    @precondition(has("exported", "submitted", "failed"))
    @rule(data=st.data(), by=finance, attempt=st.booleans())
    def pay(self, data: st.DataObject, by: str, attempt: bool) -> None:
        number = self.wish(data, "exported", "submitted", "failed")
        hash_ = f"{number:062x}{attempt:02x}"
        expected = self.model.pay(number, hash_)
        person = self.people[by]
        for _ in range(2):
            # Said twice, it is once.
            call = outcome(lambda: settlement.mark_paid(person, number, transaction_hash=hash_))
            assert call == expected

    @precondition(has("exported", "submitted", "paid"))
    @rule(data=st.data(), by=finance)
    def fail(self, data: st.DataObject, by: str) -> None:
        number = self.wish(data, "exported", "submitted", "paid")
        expected = self.model.fail(number, by)
        person = self.people[by]
        for _ in range(2):
            call = outcome(lambda: settlement.mark_failed(person, number, problem="Bounced"))
            assert call == expected

    @precondition(has("paid"))
    @rule(data=st.data(), by=finance, attempt=st.booleans())
    def come_back(self, data: st.DataObject, by: str, attempt: bool) -> None:
        number = self.wish(data, "paid")
        hash_ = f"{number:062x}{attempt:02x}"
        for _ in range(2):
            # Said twice, the second finds that it is not paid any more.
            expected = self.model.come_back(number, hash_, by)
            call = outcome(
                lambda: settlement.mark_came_back(
                    self.people[by], number, transaction_hash=hash_, problem="Sent back"
                )
            )
            assert call == expected

    @precondition(has("exported", "submitted", "failed", "paid"))
    @rule(
        data=st.data(),
        by=finance,
        word=st.sampled_from(["paid", "failed"]),
        uploader=finance,
        attempt=st.booleans(),
        anew=st.booleans(),
    )
    def apply_a_result_file(
        self, data: st.DataObject, by: str, word: str, uploader: str, attempt: bool, anew: bool
    ) -> None:
        """One that was applied before, or a new one that says what an old one may have said."""
        number = self.wish(data, "exported", "submitted", "failed", "paid")
        hash_ = f"{number:062x}{attempt:02x}" if word == "paid" else ""
        payout = Payout.objects.get(pk=number)
        row = (payout.reference, word, hash_, f"{payout.amount:.2f}", "USDT", payout.address)
        mark = uuid4().hex if anew else ""
        content = as_csv((*HEADER, "made"), (*row, mark))
        person = self.people[by]
        file = results.upload(self.people[uploader], name="r.csv", content=content, key=uuid4())
        # The same bytes are the file of whoever uploaded them first.
        uploader = self.uploaders.setdefault(content, uploader)
        if content not in self.applied and self.model.report(number, word, hash_, by, uploader):
            self.applied.add(content)
        for _ in range(2):
            results.apply(person, file.pk)
        assert file.lines.count() == (content in self.applied)

    @precondition(has("failed"))
    @rule(data=st.data(), by=finance)
    def send_again(self, data: st.DataObject, by: str) -> None:
        number = self.wish(data, "failed")
        expected = self.model.send_again(number, by)
        call = outcome(lambda: settlement.send_again(self.people[by], number, reason="Again"))
        assert call == expected

    @precondition(has("failed"))
    @rule(data=st.data(), by=finance)
    def give_back(self, data: st.DataObject, by: str) -> None:
        number = self.wish(data, "failed")
        expected = self.model.give_back(number, by)
        call = outcome(lambda: settlement.give_back(self.people[by], number, reason="Never"))
        assert call == expected

    @precondition(has("failed"))
    @rule(data=st.data())
    def give_back_twice_at_once(self, data: st.DataObject) -> None:
        number = self.wish(data, "failed")
        # By two who may, so that either can be the first; by one, if no other may.
        wish = self.model.wishes[number]
        barred = {wish.failed_by, *wish.witnesses}
        pair = [by for by in ("finance", "other", "third") if by not in barred][:2]
        expected = sorted(self.model.give_back(number, by) for by in pair)
        done = at_once(
            *(
                lambda by=by: (
                    settlement.give_back(self.people[by], number, reason="Never").pk and "ok"
                )
                for by in pair
            )
        )
        assert sorted(one if one == "ok" else type(one).__name__ for one in done) == expected

    # --- wallets ---

    @rule(purse=purses, what=st.sampled_from(["freeze", "unfreeze", "unfreeze", "close"]))
    def stand(self, purse: int, what: str) -> None:
        number, senior = self.numbers[purse], self.people["senior"]
        verbs = {"freeze": standing.freeze, "unfreeze": standing.unfreeze, "close": closing.close}
        expected = getattr(self.model, what)(number)
        assert outcome(lambda: verbs[what](senior, number, reason="Odd")) == expected

    @rule(purse=purses)
    def refuse_an_address_or_take_it_off_the_list(self, purse: int) -> None:
        number, person = self.numbers[purse], self.people["finance"]
        one = self.model.purses[number]
        one.refused = not one.refused
        if number not in self.listed:
            self.listed[number] = RefusedAddress(
                network="TRON", address=paying.tron(number), why="ours"
            )
            fields = []
        else:
            self.listed[number].active = one.refused
            fields = ["active"]
        refusing.save(self.listed[number], fields, person=person, reason="Looked at")

    @rule(purse=purses, back=st.booleans())
    def end_an_account_or_let_it_in_again(self, purse: int, back: bool) -> None:
        number = self.numbers[purse]
        if self.model.purses[number].state == "forfeited":
            self.reinstate(number, back)
            return
        expected = self.model.may_terminate(number)

        def ask() -> Termination:
            return termination.request(self.people["senior"], number, reason="Resold", key=uuid4())

        if expected == "ok":
            asked = ask()
            if self.model.may_confirm(number, "finance") == "ok":
                self.ended[number] = termination.confirm(self.people["finance"], asked.pk)
                self.model.terminate(number)
                return
            assert (
                outcome(lambda: termination.confirm(self.people["finance"], asked.pk))
                == "OwnRequest"
            )
            termination.reject(self.people["finance"], asked.pk, reason="By another")
        else:
            assert outcome(ask) == expected

    def reinstate(self, number: int, back: bool) -> None:
        asked = termination.request_reinstatement(
            self.people["senior"],
            self.ended.pop(number).pk,
            give_back=back,
            reason="Mix-up",
            key=uuid4(),
        )
        termination.confirm_reinstatement(self.people["finance"], asked.pk)
        self.model.reinstate(number, give_back=back)


@pytest.fixture
def without_limits() -> None:
    RoleLimit.objects.update(each=Decimal(10**9), daily=Decimal(10**9))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_limits")
def test_a_payout_in_each_state_agrees_with_the_model() -> None:
    machine = PayoutMachine()
    machine.open_the_till()
    machine.the_two_agree()
    _, two = machine.numbers

    def requested(purse: int, amount: str = "35.5") -> Chosen:
        return Chosen(machine.requested(purse, Decimal(amount), "agent"))

    def lot() -> Chosen:
        return Chosen(max(machine.model.lots))

    # Rejected and withdrawn; above the limit of one person, by a second.
    machine.reject(requested(0), "finance")
    machine.withdraw(requested(0), "agent")
    big = requested(0, "500.01")
    machine.approve(big, "senior")
    machine.the_two_agree()
    machine.approve(big, "finance")
    machine.the_two_agree()
    # Gathered, voided after its export, gathered again and handed over.
    for submitted in (False, True):
        machine.gather(big, "finance", False, False)
        machine.export(lot(), "finance")
        machine.download(lot(), "finance")
        machine.the_two_agree()
        if submitted:
            machine.submit(lot(), "finance")
        else:
            machine.void(lot(), "third")
        machine.the_two_agree()
    # Failed, sent again to be approved anew, and paid.
    machine.fail(big, "finance")
    machine.the_two_agree()
    machine.send_again(big, "finance")
    machine.the_two_agree()
    machine.approve(big, "other")
    machine.approve(big, "third")
    machine.gather(big, "other", False, False)
    machine.export(lot(), "other")
    machine.submit(lot(), "other")
    machine.pay(big, "other", False)
    machine.the_two_agree()
    # Paid and come back, by the transaction that is looked at, and paid by another one.
    machine.fail(big, "other")
    machine.come_back(big, "other", True)
    machine.the_two_agree()
    machine.come_back(big, "other", False)
    machine.the_two_agree()
    assert machine.model.wishes[big.value].state == "failed"
    machine.pay(big, "other", True)
    machine.the_two_agree()
    # To an address that is refused by now nothing is asked for, approved, gathered or exported.
    asked, approved = requested(0), requested(0)
    for by in ("senior", "finance"):
        machine.approve(approved, by)
    machine.refuse_an_address_or_take_it_off_the_list(0)
    machine.request(0, Decimal(20), "agent")
    machine.approve(asked, "senior")
    machine.gather(approved, "other", False, False)
    machine.the_two_agree()
    machine.refuse_an_address_or_take_it_off_the_list(0)
    machine.gather(approved, "other", False, False)
    machine.refuse_an_address_or_take_it_off_the_list(0)
    machine.export(lot(), "other")
    machine.the_two_agree()
    assert machine.model.lots[lot().value].state == "gathered"
    machine.refuse_an_address_or_take_it_off_the_list(0)
    # Failed and given back: to the wallet, or to us where the account was ended meanwhile.
    bounced = requested(0)
    machine.approve(bounced, "senior")
    machine.approve(bounced, "third")  # parts of a day count together
    machine.gather(bounced, "other", False, False)
    machine.export(lot(), "other")
    machine.submit(lot(), "other")
    machine.fail(bounced, "other")
    machine.give_back(bounced, "finance")
    machine.the_two_agree()
    failed = Chosen(next(n for n, w in machine.model.wishes.items() if w.state == "failed"))
    machine.end_an_account_or_let_it_in_again(1, False)
    machine.the_two_agree()
    machine.give_back(failed, "finance")
    machine.the_two_agree()
    machine.teardown()

    assert machine.model.purses[two].state == "forfeited"
    assert machine.seen == set(Payout.State.values)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("without_limits")
def test_payouts_and_the_model_never_differ() -> None:
    run_state_machine_as_test(
        PayoutMachine,
        settings=settings(
            max_examples=16,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
