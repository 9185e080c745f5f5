"""Each step of payouts and batches, with the process ending after any of its statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from wallet import batches, payouts, settlement
from wallet.models import (
    BatchLine,
    FileDownload,
    Payout,
    PayoutBatch,
    PayoutFile,
    PayoutMove,
    PayoutOutcome,
    Transfer,
    Wallet,
)
from wallet.tests import paying, world
from wallet.tests.paying import HASH, Crew, asked, taken_to

pytestmark = pytest.mark.django_db(transaction=True)


class Died(Exception):
    """The process ended here."""


def dying_after(statements: int) -> Any:
    """Raise once this many statements were carried out."""
    left = statements

    def wrapper(execute: Any, *query: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Died
        left -= 1
        return execute(*query)

    return connection.execute_wrapper(wrapper)


def everything() -> list[Any]:
    models = (Payout, Payout.history.model, PayoutMove, PayoutOutcome, Transfer, Wallet)
    more = (PayoutBatch, PayoutBatch.history.model, BatchLine, PayoutFile, FileDownload)
    return [list(model.objects.order_by("pk").values()) for model in (*models, *more)]


def batch_of(payout: Payout) -> int:
    return payout.lines.get(live=True).batch_id


Step = Callable[[Crew, Payout], Any]
STEPS: dict[str, tuple[str, Step]] = {
    "approve": ("requested", lambda who, one: payouts.approve(who.finance, one.pk)),
    "reject": ("requested", lambda who, one: payouts.reject(who.finance, one.pk, reason="No")),
    "withdraw": ("requested", lambda who, one: payouts.withdraw(who.agent, one.pk)),
    "gather": (
        "approved",
        lambda who, one: batches.gather(
            who.finance, profile="canonical", payout_ids=[one.pk], key=uuid4()
        ),
    ),
    "download": (
        "exported",
        lambda who, one: batches.download(
            who.finance, PayoutFile.objects.filter(batch=batch_of(one)).earliest("pk").pk
        ),
    ),
    "submit": ("exported", lambda who, one: batches.submit(who.finance, batch_of(one))),
    "void": ("exported", lambda who, one: batches.void(who.other, batch_of(one), reason="No")),
    "pay": (
        "submitted",
        lambda who, one: settlement.mark_paid(who.finance, one.pk, transaction_hash=HASH),
    ),
    "fail": (
        "submitted",
        lambda who, one: settlement.mark_failed(who.finance, one.pk, problem="Bounced"),
    ),
    "come back": (
        "paid",
        lambda who, one: settlement.mark_came_back(
            who.finance, one.pk, transaction_hash=one.transaction_hash, problem="Bounced"
        ),
    ),
    "send again": (
        "failed",
        lambda who, one: settlement.send_again(who.finance, one.pk, reason="Again"),
    ),
    "give back": ("failed", lambda who, one: settlement.give_back(who.other, one.pk, reason="No")),
}


def dies_everywhere(call: Callable[[], Any]) -> None:
    """Let the call die after none, one, two … of its statements, and then do it."""
    before, statements = everything(), 0
    while True:
        try:
            with dying_after(statements):
                call()
            break
        except Died:
            assert everything() == before
            world.assert_books_agree()
            statements += 1
    # At least: the locks, the row, its history, what the customer is told.
    assert statements >= 4
    assert everything() != before
    world.assert_books_agree()


@pytest.mark.parametrize("name", STEPS)
def test_dying_after_any_statement_of_a_step_leaves_nothing(name: str) -> None:
    state, step = STEPS[name]
    people = paying.crew()
    payout = taken_to(state, people, world.customer("100"))
    dies_everywhere(lambda: step(people, payout))


def test_dying_after_any_statement_of_the_wish_leaves_nothing() -> None:
    people, buyer, key = paying.crew(), world.customer("100"), uuid4()
    dies_everywhere(lambda: asked(people.agent, buyer, key=key))


def test_dying_after_any_statement_of_an_export_leaves_no_file() -> None:
    people = paying.crew()
    payout = taken_to("approved", people, world.customer("100"))
    batch = batches.gather(people.finance, profile="canonical", payout_ids=[payout.pk], key=uuid4())
    dies_everywhere(lambda: batches.export(people.finance, batch.pk))
