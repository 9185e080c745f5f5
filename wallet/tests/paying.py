"""Payouts for tests, taken through the verbs to any state that there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import base58
from django.db.models import Q, Sum

from wallet import batches, payouts, settlement
from wallet.models import Account, Customer, Payout, PayoutOutcome, Transfer
from wallet.payouts import Terms
from wallet.tests import world

State = Payout.State
TERMS = Terms("2026-05-07", Decimal(20))
TRON = "TJRabPrwbZy45sbavfcjinPJC18kjpRTv8"
HASH = "ab" * 32


def tron(number: int) -> str:
    """An address on Tron, another one for each number from 1 on."""
    # The lowest accounts are the network's own.
    account = (number << 32).to_bytes(20, "big")
    return base58.b58encode_check(b"\x41" + account).decode()


@dataclass(frozen=True)
class Crew:
    """Our people: who asks, and who approves and settles."""

    agent: Any
    senior: Any
    finance: Any
    other: Any


def crew() -> Crew:
    roles = ("Support agent", "Senior agent", "Finance", "Finance")
    return Crew(*(world.person(role) for role in roles))


def asked(by: Any, buyer: Customer, amount: str | None = "50", **terms: Any) -> Payout:
    wish: dict[str, Any] = {
        "method": "USDT-TRON",
        "address": TRON,
        "amount": None if amount is None else Decimal(amount),
        "terms": TERMS,
        "reason": "Leaves us",
        "key": uuid4(),
    }
    return payouts.request(by, buyer.pk, **wish | terms)


def approved(people: Crew, payout: Payout) -> Payout:
    payout = payouts.approve(people.finance, payout.pk)
    if payout.state == State.FIRST_APPROVED:
        payout = payouts.approve(people.other, payout.pk)
    return payout


def exported(payout: Payout) -> Payout:
    """By a batch of its own."""
    by = world.person("Finance")
    batch = batches.gather(by, profile="canonical", payout_ids=[payout.pk], key=uuid4())
    batches.export(by, batch.pk)
    return Payout.objects.get(pk=payout.pk)


def submitted(payout: Payout) -> Payout:
    payout = exported(payout)
    batches.submit(world.person("Finance"), payout.lines.get(live=True).batch_id)
    return Payout.objects.get(pk=payout.pk)


def came_back(by: Any, payout: Payout, problem: str = "Came back") -> Payout:
    """What its transaction paid is back, as somebody says who looked at that."""
    paid = Payout.objects.get(pk=payout.pk)
    return settlement.mark_came_back(
        by, paid.pk, transaction_hash=paid.transaction_hash, problem=problem
    )


def voided(payout: Payout) -> Payout:
    batch = payout.lines.get(live=True).batch_id
    batches.void(world.person("Finance"), batch, reason="Not sent")
    return Payout.objects.get(pk=payout.pk)


def taken_to(state: str, people: Crew, buyer: Customer, amount: str = "50", **terms: Any) -> Payout:
    """A payout of the buyer in this state; above 500 USD for the one that waits for a second."""
    payout = asked(people.agent, buyer, amount, **terms)
    if state == State.REQUESTED:
        return payout
    if state == State.FIRST_APPROVED:
        return payouts.approve(people.finance, payout.pk)
    if state == State.WITHDRAWN:
        return payouts.withdraw(people.agent, payout.pk)
    if state == State.REJECTED:
        return payouts.reject(people.finance, payout.pk, reason="No")
    payout = approved(people, payout)
    if state == State.APPROVED:
        return payout
    if state == State.EXPORTED:
        return exported(payout)
    payout = submitted(payout)
    ends: dict[str, Callable[[], Payout]] = {
        State.SUBMITTED: lambda: payout,
        State.PAID: partial(
            settlement.mark_paid, people.finance, payout.pk, transaction_hash=f"{payout.pk:064x}"
        ),
        State.FAILED: partial(settlement.mark_failed, people.finance, payout.pk, problem="Bounced"),
        State.RETURNED: lambda: settlement.give_back(
            people.other,
            settlement.mark_failed(people.finance, payout.pk, problem="Bounced").pk,
            reason="Never arrives",
        ),
    }
    return ends[state]()


def account(number: Account) -> Decimal:
    """The balance of one of the shop's accounts, USD."""
    sums = Transfer.objects.aggregate(
        credit=Sum("amount", filter=Q(credit_account=number), default=Decimal(0)),
        debit=Sum("amount", filter=Q(debit_account=number), default=Decimal(0)),
    )
    return Decimal(sums["credit"] - sums["debit"])


def pending() -> Decimal:
    return account(Account.PAYOUTS_PENDING)


def paid() -> Decimal:
    return account(Account.PAYOUTS_PAID)


def outcomes(payout: Payout) -> list[tuple[str, str]]:
    """What the customer is to be told, the oldest first: what, and its detail."""
    return list(
        PayoutOutcome.objects.filter(payout=payout).order_by("pk").values_list("what", "detail")
    )


def moves(payout: Payout) -> list[tuple[str, str]]:
    """The transfers of a payout, the oldest first: kind and key."""
    return list(
        Transfer.objects.filter(payout_move__payout=payout)
        .order_by("pk")
        .values_list("kind", "key")
    )
