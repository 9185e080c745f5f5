"""A button is there exactly where what it does would be taken: every state, person and action.

Each action is sent for real, by each person, in a savepoint that is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from django.utils.datastructures import MultiValueDict

from orders import closing, termination
from smsactivator.common.actions import Action, actions_on
from smsactivator.common.errors import Refused
from smsactivator.common.links import admin_url
from smsactivator.tests import payouts, world
from smsactivator.tests.test_actions import Shop, books
from support.tests import threads
from wallet import batches, claims, corrections, exports, refusing, results, settlement, standing
from wallet import payouts as verbs
from wallet.models import (
    BatchLine,
    ClaimFile,
    Deposit,
    FileDownload,
    PayoutBatch,
    RefusedAddress,
    ResultLine,
    RoleLimit,
    Transfer,
)
from wallet.tests import paying
from wallet.tests.forms import carried

pytestmark = pytest.mark.django_db

AGENT, FINANCE = "Support agent", "Finance"


class World(Shop):
    """A shop, everybody who has a hand in it, and an administrator and finance who have none."""

    def __init__(self) -> None:
        super().__init__()
        self.finance = world.person(FINANCE, name="fay")
        self.agent = world.person(AGENT, name="abe")

    def everybody(self) -> list[Any]:
        return [self.senior, self.other, self.finance, self.agent, *self.strangers()]

    def strangers(self) -> list[Any]:
        return [world.person(FINANCE), world.person()]

    # --- customers ---

    def claimed(self) -> Any:
        self.claim()
        return self.ada

    def ending(self) -> Any:
        self.requested()
        return self.ada

    def ended(self) -> Any:
        self.terminated()
        return self.ada

    def waiting_order(self) -> Any:
        buyer = world.customer("buyer", funds="1")
        world.place(buyer, of=world.offer(price="1"))
        return buyer

    def no_limits(self) -> Any:
        RoleLimit.objects.update(each=0, daily=0)
        return self.ada

    # --- corrections ---

    def asked(self, amount: str, buyer: Any = None) -> Any:
        return corrections.request_adjustment(
            self.senior,
            (buyer or self.ada).pk,
            amount=Decimal(amount),
            reason="Error",
            key=uuid4(),
        )

    def asked_of(self, state: str) -> Any:
        """A correction whose wallet ended, or was frozen, after it was asked for."""
        if state == "closed":
            buyer = world.customer("buyer", funds="0")
            asked = self.asked("1", buyer)
            closing.close(self.other, buyer.pk, reason="Leaves")
            return asked
        asked = self.asked("-1")
        if state == "frozen":
            standing.freeze(self.other, self.ada.pk, reason="Odd")
        else:
            self.terminated()
        return asked

    def reversing(self) -> Any:
        return corrections.request_reversal(
            self.finance, self.deposit.transfer_id, reason="Bounced", key=uuid4()
        )

    # --- claims and terminations ---

    def claim_is(self, state: str) -> Any:
        if state == "late":
            self.terminated()
            return self.claim()
        claim = self.claim()
        if state == "dismissed":
            claims.dismiss(self.senior, claim.pk, reason="Wrong")
        elif state == "beside":
            self.requested()
        elif state != "open":
            asked = termination.request(
                self.senior, self.ada.pk, claim_id=claim.pk, reason="Resold", key=uuid4()
            )
            if state == "terminated":
                termination.confirm(self.other, asked.pk)
        return claim

    def claim_of_closed(self) -> Any:
        empty = world.customer("gone", funds="0.001")
        closing.close(self.senior, empty.pk, reason="Left")
        deposit = Deposit.objects.get(transfer__wallet=empty.pk)
        return claims.record(self.agent, deposit.pk, reference="cb-2", evidence="Filed")

    def claimed_deposit(self, state: str) -> Any:
        return self.claim_is(state).deposit

    def reversed_deposit(self) -> Any:
        self.reversing()
        return self.deposit

    def ended_deposit(self) -> Any:
        self.terminated()
        return self.deposit

    def rejecting_own(self) -> Any:
        payout = self.failed()
        settlement.send_again(self.finance, payout.pk, reason="Again")
        return termination.request(self.senior, payout.customer_id, reason="Resold", key=uuid4())

    def reinstating(self) -> Any:
        return self.reinstatement().termination

    # --- payouts ---

    def payout_is(self, state: str) -> Any:
        return paying.taken_to(state, paying.crew(), self.rich())

    def rich(self) -> Any:
        return world.customer("rich", funds="10000")

    def again(self) -> Any:
        return settlement.send_again(self.finance, self.failed().pk, reason="Again")

    def failed_in_exported(self) -> Any:
        payout = BatchLine.objects.get(batch=self.exported()).payout
        return settlement.mark_failed(self.finance, payout.pk, problem="Refused")

    def of_wallet(self, payout: Any, state: str) -> Any:
        if state == "frozen":
            standing.freeze(self.senior, payout.customer_id, reason="Odd")
        else:
            asked = termination.request(
                self.senior, payout.customer_id, reason="Resold", key=uuid4()
            )
            termination.confirm(self.other, asked.pk)
        return payout

    def refused(self, payout: Any) -> Any:
        """A payout whose address finance lists afterwards."""
        row = RefusedAddress(network="TRON", address=payout.address, why="ours")
        refusing.save(row, [], person=self.finance, reason="Where customers pay in")
        return payout

    def gathered(self) -> Any:
        return BatchLine.objects.get(batch=self.batch()).payout

    def gathered_and_ended(self) -> Any:
        payout = self.of_wallet(self.gathered(), "forfeited")
        batches.void(self.finance, payout.lines.get().batch_id, reason="Ended")
        return payout

    # --- batches ---

    def batch_of_frozen(self) -> Any:
        batch = self.batch()
        self.of_wallet(BatchLine.objects.get(batch=batch).payout, "frozen")
        return batch

    def exported_of_frozen(self) -> Any:
        batch = self.exported()
        self.of_wallet(BatchLine.objects.get(batch=batch).payout, "frozen")
        return batch

    def exported_to_refused(self) -> Any:
        batch = self.exported()
        self.refused(BatchLine.objects.get(batch=batch).payout)
        return batch

    def batch_with(self, result: str) -> Any:
        batch = self.exported()
        payout = BatchLine.objects.get(batch=batch).payout
        if result == "paid":
            settlement.mark_paid(self.finance, payout.pk, transaction_hash=payouts.HASH)
        else:
            settlement.mark_failed(self.finance, payout.pk, problem="Refused")
        return batch

    def submitted(self) -> Any:
        return batches.submit(self.finance, self.exported().pk)

    def voided(self) -> Any:
        return batches.void(self.finance, self.exported().pk, reason="Not sent")

    def gathered_anew(self) -> Any:
        payout = BatchLine.objects.get(batch=self.voided()).payout
        return batches.gather(
            self.finance, profile="canonical", payout_ids=[payout.pk], key=uuid4()
        )

    def applied(self) -> Any:
        return results.apply(self.finance, self.results().pk)

    def cancelled(self) -> Any:
        export = self.export()
        return exports.cancel(export.requested_by, export.pk)

    def sending(self) -> Any:
        """A mail whose attempt has not ended."""
        outbound = threads.delivery()
        kept = {"mail_id": "<1@shop.test>", "sent_to": threads.ADDRESS, "attempts": 1}
        type(outbound).objects.filter(pk=outbound.pk).update(state="sending", **kept)
        return outbound

    def nowhere(self) -> Any:
        """A failed mail to a customer who has no address any more."""
        outbound = self.delivery("failed")
        customer = outbound.message.ticket.customer
        type(customer).objects.filter(pk=customer.pk).update(email="")
        return outbound


Make = Callable[[World], Any]
STATES: dict[str, dict[str, Make]] = {
    "wallet.Customer": {
        "active": World.customer,
        "without limits": World.no_limits,
        "empty": World.leaving,
        "with an open order": World.waiting_order,
        "frozen": World.frozen,
        "with a claim": World.claimed,
        "termination requested": World.ending,
        "forfeited": World.ended,
        "closed": World.closed,
    },
    "wallet.Transfer": {
        "deposit": World.transfer,
        "being reversed": lambda w: w.reversing().reverses,
        "of a forfeited wallet": lambda w: w.ended_deposit().transfer,
        "purchase": lambda w: Transfer.objects.filter(kind="purchase").earliest("pk"),
        "over the limit": lambda w: w.no_limits() and w.transfer(),
    },
    "wallet.Deposit": {
        "plain": lambda w: w.deposit,
        "claimed": lambda w: w.claimed_deposit("open"),
        "dismissed": lambda w: w.claimed_deposit("dismissed"),
        "upheld": lambda w: w.claimed_deposit("upheld"),
        "terminated": lambda w: w.claimed_deposit("terminated"),
        "forfeited": World.ended_deposit,
        "being reversed": World.reversed_deposit,
    },
    "wallet.Correction": {
        "goodwill": World.correction,
        "more than the wallet holds": lambda w: w.asked("-50"),
        "over the limit": lambda w: (asked := w.correction()) and w.no_limits() and asked,
        "of a frozen wallet": lambda w: w.asked_of("frozen"),
        "of a forfeited wallet": lambda w: w.asked_of("forfeited"),
        "of a closed wallet": lambda w: w.asked_of("closed"),
        "reversal": World.reversing,
        "confirmed": lambda w: corrections.confirm(w.other, w.correction().pk),
        "rejected": lambda w: corrections.reject(w.other, w.correction().pk, reason="No"),
        "withdrawn": lambda w: corrections.withdraw(w.senior, w.correction().pk),
    },
    "wallet.Claim": {
        **{
            state: (lambda w, state=state: w.claim_is(state))
            for state in ("open", "dismissed", "beside", "upheld", "terminated", "late")
        },
        "of a closed wallet": World.claim_of_closed,
    },
    "wallet.Termination": {
        "requested": World.requested,
        "of who sent a payout again": World.rejecting_own,
        "confirmed": World.terminated,
        "being undone": World.reinstating,
        "rejected": lambda w: termination.reject(w.other, w.requested().pk, reason="No"),
        "undone": lambda w: (
            termination.confirm_reinstatement(w.other, w.reinstatement().pk).termination
        ),
    },
    "wallet.Reinstatement": {
        "requested": World.reinstatement,
        "confirmed": lambda w: termination.confirm_reinstatement(w.other, w.reinstatement().pk),
        "rejected": lambda w: termination.reject_reinstatement(
            w.other, w.reinstatement().pk, reason="No"
        ),
    },
    "wallet.Payout": {
        "requested": World.payout,
        "by the agent": lambda w: payouts.asked(w.agent),
        "without limits": lambda w: w.no_limits() and w.payout(),
        "first approved": lambda w: verbs.approve(w.finance, payouts.asked(w.agent, "600").pk),
        "of a frozen wallet": lambda w: w.of_wallet(w.payout(), "frozen"),
        "waiting for its address": lambda w: payouts.asked(
            w.senior, buyer=payouts.asked(w.senior).customer
        ),
        "approved": lambda w: verbs.approve(w.other, w.payout().pk),
        "gathered": World.gathered,
        "gathered, and forfeited": World.gathered_and_ended,
        "exported": lambda w: BatchLine.objects.get(batch=w.exported()).payout,
        "sent": World.sent,
        "paid": lambda w: settlement.mark_paid(
            w.finance, w.sent().pk, transaction_hash=payouts.HASH
        ),
        "failed": World.failed,
        "failed, exported": World.failed_in_exported,
        "failed, to a refused address": lambda w: w.refused(w.failed()),
        "failed, frozen": lambda w: w.of_wallet(w.failed(), "frozen"),
        "failed, forfeited": lambda w: w.of_wallet(w.failed(), "forfeited"),
        "sent again": World.again,
        "rejected": lambda w: verbs.reject(w.other, w.payout().pk, reason="No"),
        "withdrawn": lambda w: verbs.withdraw(w.senior, w.payout().pk),
    },
    "wallet.PayoutBatch": {
        "gathered": World.batch,
        "gathered, frozen": World.batch_of_frozen,
        "gathered anew": World.gathered_anew,
        "exported": World.exported,
        "exported, paid": lambda w: w.batch_with("paid"),
        "exported, failed": lambda w: w.batch_with("failed"),
        "exported, to a refused address": World.exported_to_refused,
        "exported, frozen": World.exported_of_frozen,
        "submitted": World.submitted,
        "voided": World.voided,
    },
    "wallet.ResultFile": {"new": World.results, "applied": World.applied},
    "wallet.Export": {"queued": World.export, "cancelled": World.cancelled},
    "support.Outbound": {
        "sending": lambda w: w.sending(),
        "failed": lambda w: w.delivery("failed"),
        "failed, without an address": World.nowhere,
        "unknown": lambda w: w.delivery("unknown"),
    },
}
CASES = [
    pytest.param(label, make, id=f"{label} {state}")
    for label, states in STATES.items()
    for state, make in states.items()
]
TYPED: dict[str, dict[str, Any]] = {
    "goodwill": {"amount": "0.01"},
    "adjust": {"amount": "0.01"},
    "claim": {"reference": "cb-9", "evidence": "Filed"},
    "paid": {"transaction_hash": payouts.OTHER_HASH},
    "failed": {"problem": "Refused"},
    "came-back": {"problem": "Refused"},
    "enter": {"subject": "By phone", "channel": "email", "body": "It did not work"},
}


def snapshot() -> list[Any]:
    more = (PayoutBatch, BatchLine, ResultLine, FileDownload, ClaimFile)
    return [*books(), *(list(model.objects.order_by("pk").values()) for model in more)]


def fresh(row: Any) -> Any:
    """The row as the next request reads it, with permissions that nobody has looked up yet."""
    return type(row)._default_manager.get(pk=row.pk)


def is_done(action: Action, person: Any, row: Any, before: list[Any]) -> bool:
    """Whether something is done when the action's form is sent; it is undone afterwards."""
    typed = carried(row, action.name) | {"reason": "Looked at it", **TYPED.get(action.name, {})}
    if typed.get("transaction_hash") == "":
        typed["transaction_hash"] = payouts.OTHER_HASH  # nothing was paid, so nothing comes back
    form = action.form(typed, MultiValueDict({"evidence": [SimpleUploadedFile("a.txt", b"Filed")]}))
    if not form.is_valid():
        raise AssertionError(form.errors)
    with transaction.atomic():
        try:
            action.run(person, fresh(row), form.cleaned_data)
        except (Refused, PermissionDenied):
            done = False
        else:
            done = snapshot() != before
        transaction.set_rollback(True)
    return done


@pytest.mark.parametrize(("label", "make"), CASES)
def test_a_button_is_there_exactly_where_it_is_taken(label: str, make: Make) -> None:
    shop = World()
    row = make(shop)
    before, wrong = snapshot(), []
    for person in shop.everybody():
        # What a role never does is looked at in test_actions.py.
        for action in (one for one in actions_on(label) if one.allowed(person)):
            there = action.is_open_to(person, fresh(row))
            if is_done(action, person, row, before) != there:
                wrong.append(f"{person}: {action.name} is {'there' if there else 'not there'}")
    assert wrong == []


@pytest.mark.parametrize("make", STATES["wallet.PayoutBatch"].values())
def test_a_file_can_be_taken_exactly_where_its_button_is(make: Make) -> None:
    shop = World()
    batch = make(shop)
    wrong = []
    for person in shop.everybody():
        client = Client()
        client.force_login(person)
        shown = client.get(admin_url("wallet_payoutbatch_change", batch.pk))
        offered = shown.context["files"] if shown.status_code == 200 else []
        there = {file["url"] for file in offered}
        for file in batch.files.all():
            url = admin_url("wallet_payoutbatch_file", file.pk)
            with transaction.atomic():
                taken = client.post(url).status_code == 200
                transaction.set_rollback(True)
            if taken != (url in there):
                wrong.append(f"{person}: {there}")
    assert wrong == []
