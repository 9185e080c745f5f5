"""Goodwill, adjustments and reversals: two people, within their limits, once."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import partial
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied

from wallet import corrections, deposits, limits, standing
from wallet.deciding import AlreadyDecided, OwnRequest, ReasonMissing, RequestConflict
from wallet.models import Correction, Transfer
from wallet.tests import world
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db
State = Correction.State


@pytest.fixture
def agent():
    return world.person("Support agent")


@pytest.fixture
def senior():
    return world.person("Senior agent")


@pytest.fixture
def finance():
    return world.person("Finance")


@pytest.fixture
def ada():
    return world.customer("10")


def goodwill(person, customer, amount="5", *, key=None, reason="Waited two hours"):
    return corrections.request_goodwill(
        person, customer.pk, amount=Decimal(amount), reason=reason, key=key or uuid4()
    )


def adjustment(person, customer, amount, *, key=None):
    return corrections.request_adjustment(
        person, customer.pk, amount=Decimal(amount), reason="Miscounted", key=key or uuid4()
    )


def reversal(person, transfer, *, key=None):
    return corrections.request_reversal(
        person, transfer.pk, reason="Paid in by mistake", key=key or uuid4()
    )


def test_goodwill_moves_when_a_second_person_confirms_it(ada, agent, senior):
    requested = goodwill(agent, ada)
    assert world.figures(ada) == (Decimal(10), 1)

    confirmed = corrections.confirm(senior, requested.pk)

    assert world.figures(ada) == (Decimal(15), 2)
    assert (confirmed.state, confirmed.decided_by) == (State.CONFIRMED, senior)
    transfer = confirmed.transfer
    assert (transfer.kind, transfer.debit_account, transfer.credit_account, transfer.amount) == (
        "goodwill",
        7,
        ada.pk,
        Decimal(5),
    )
    assert [
        (row.history_actor, row.history_change_reason, row.state)
        for row in Correction.history.filter(id=requested.pk).order_by("history_id")
    ] == [
        (agent.username, "Requested: Waited two hours", "requested"),
        (senior.username, "Confirmed", "confirmed"),
    ]


@pytest.mark.parametrize(
    ("amount", "balance", "accounts"),
    [("2.5", "12.5", (9, "wallet")), ("-2.5", "7.5", ("wallet", 9))],
)
def test_an_adjustment_goes_both_ways(ada, senior, finance, amount, balance, accounts):
    done = corrections.confirm(finance, adjustment(senior, ada, amount).pk)

    assert world.figures(ada) == (Decimal(balance), 2)
    found = (done.transfer.debit_account, done.transfer.credit_account)
    assert found == tuple(ada.pk if side == "wallet" else side for side in accounts)
    assert done.transfer.amount == Decimal("2.5")


def test_a_debit_that_the_wallet_does_not_hold_is_refused_and_stays_requested(ada, senior, finance):
    requested = adjustment(senior, ada, "-10.0001")

    with pytest.raises(corrections.WalletShort) as refused:
        corrections.confirm(finance, requested.pk)

    assert refused.value.message == (
        "The wallet holds 10.0000 USD and this takes 10.0001 USD from it: confirm it when the "
        "wallet holds as much, or reject it."
    )
    requested.refresh_from_db()
    assert (requested.state, world.figures(ada)) == (State.REQUESTED, (Decimal(10), 1))


def test_a_deposit_is_reversed_exactly_and_once(ada, finance, senior):
    deposit = Transfer.objects.get(wallet=ada.pk)
    requested = reversal(finance, deposit)
    with pytest.raises(corrections.NotReversible, match=f"see correction {requested.pk}"):
        reversal(finance, deposit)

    done = corrections.confirm(senior, requested.pk)

    assert world.figures(ada) == (Decimal(0), 2)
    assert (done.amount, done.transfer.kind, done.transfer.reverses) == (
        Decimal(-10),
        "reversal",
        deposit,
    )
    assert (done.transfer.debit_account, done.transfer.credit_account) == (ada.pk, 1)
    with pytest.raises(corrections.NotReversible):
        reversal(finance, deposit)
    with pytest.raises(corrections.NotReversible):
        reversal(finance, done.transfer)


def test_a_rejected_reversal_may_be_asked_for_again(ada, finance, senior):
    deposit = Transfer.objects.get(wallet=ada.pk)
    corrections.reject(senior, reversal(finance, deposit).pk, reason="It is theirs")

    again = corrections.confirm(senior, reversal(finance, deposit).pk)

    assert again.state == State.CONFIRMED


def test_what_belongs_to_an_order_is_not_reversed(ada, finance):
    [purchase] = world.post(world.spent(ada, "1"))

    with pytest.raises(corrections.NotReversible, match="refund or an adjustment"):
        reversal(finance, Transfer.objects.get(pk=purchase))


def test_nobody_decides_their_own_request(ada, senior):
    requested = goodwill(senior, ada)

    with pytest.raises(OwnRequest):
        corrections.confirm(senior, requested.pk)
    with pytest.raises(OwnRequest):
        corrections.reject(senior, requested.pk, reason="Changed my mind")
    assert corrections.withdraw(senior, requested.pk).state == State.WITHDRAWN
    assert world.figures(ada) == (Decimal(10), 1)


def test_only_the_requester_withdraws(ada, agent, senior):
    with pytest.raises(OwnRequest):
        corrections.withdraw(senior, goodwill(agent, ada).pk)


@pytest.mark.parametrize("decision", ["confirm", "reject", "withdraw"])
def test_what_is_decided_stays_decided(ada, agent, senior, finance, decision):
    requested = goodwill(agent, ada)
    corrections.confirm(senior, requested.pk)

    with pytest.raises(AlreadyDecided, match=f"confirmed by {senior.username} at"):
        if decision == "confirm":
            corrections.confirm(finance, requested.pk)
        elif decision == "reject":
            corrections.reject(finance, requested.pk, reason="No")
        else:
            corrections.withdraw(agent, requested.pk)
    assert world.figures(ada) == (Decimal(15), 2)


def test_a_form_sent_twice_is_one_request(ada, agent):
    key = uuid4()

    assert goodwill(agent, ada, key=key) == goodwill(agent, ada, key=key)
    with pytest.raises(RequestConflict):
        goodwill(agent, ada, "4", key=key)
    assert Correction.objects.count() == 1


def test_a_request_above_the_limit_of_the_role_is_refused(ada, agent):
    with pytest.raises(limits.OverLimit, match=r"one goodwill is 5.0000 USD, and this is 5.0001"):
        goodwill(agent, ada, "5.0001")


def test_the_limit_of_a_day_counts_what_was_requested_and_not_what_was_refused(ada, agent, senior):
    for _ in range(5):
        last = goodwill(agent, ada)
    with pytest.raises(limits.OverLimit, match=r"25\.0000 USD a day, and 25.0000 USD are used up"):
        goodwill(agent, ada, "0.0001")
    corrections.reject(senior, last.pk, reason="Enough")

    assert goodwill(agent, ada).state == State.REQUESTED


def test_a_limit_begins_anew_at_midnight_utc(ada, agent):
    with time_machine.travel("2026-11-24 23:59:59+00:00", tick=False):
        for _ in range(5):
            goodwill(agent, ada)
    with time_machine.travel("2026-11-25 00:00:00+00:00", tick=False):
        assert goodwill(agent, ada).state == State.REQUESTED


def test_the_second_person_has_limits_as_well(ada, senior, finance):
    other = world.person("Finance")
    requested = adjustment(finance, ada, "100.0001")

    with pytest.raises(limits.OverLimit, match=r"100\.0000"):
        corrections.confirm(senior, requested.pk)
    assert corrections.confirm(other, requested.pk).state == State.CONFIRMED


def test_a_superuser_without_a_role_moves_no_money(ada, agent, django_user_model):
    root = django_user_model.objects.create_superuser("root")

    with pytest.raises(limits.OverLimit):
        corrections.confirm(root, goodwill(agent, ada).pk)


def test_permissions_are_checked_in_the_verbs(ada, agent, senior, finance):
    deposit = Transfer.objects.get(wallet=ada.pk)
    requested = goodwill(agent, ada)
    for refused in (
        lambda: goodwill(finance, ada),
        lambda: adjustment(agent, ada, "1"),
        lambda: reversal(agent, deposit),
        lambda: reversal(senior, deposit),
        lambda: corrections.confirm(agent, requested.pk),
        lambda: corrections.reject(agent, requested.pk, reason="No"),
    ):
        with pytest.raises(PermissionDenied):
            refused()


@pytest.mark.parametrize("amount", ["0", "-1", "0.00001", "NaN", "Infinity"])
def test_an_amount_that_goodwill_cannot_have_is_refused(ada, agent, amount):
    with pytest.raises(corrections.AmountRefused):
        goodwill(agent, ada, amount)


def test_a_request_says_why(ada, agent):
    with pytest.raises(ReasonMissing):
        goodwill(agent, ada, reason="  \n")


def test_a_frozen_wallet_is_still_put_right(ada, agent, senior):
    standing.freeze(senior, ada.pk, reason="Looking into it")

    corrections.confirm(senior, goodwill(agent, ada).pk)

    assert world.figures(ada) == (Decimal(15), 2)


def test_a_reversed_deposit_stays_credited_to_nobody_when_it_is_sent_again(ada, finance, senior):
    deposit = Transfer.objects.get(wallet=ada.pk)
    corrections.confirm(senior, reversal(finance, deposit).pk)

    _, created = deposits.deposit(ada, amount=Decimal(10), reference=f"tx-{ada.external_id}")

    assert (created, world.figures(ada)) == (False, (Decimal(0), 2))


# --- two sessions at once ---


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_do_not_pass_the_limit_of_a_day_together(ada, agent):
    told = at_once(*[partial(goodwill, agent, ada)] * 8)

    assert Counter(type(one) for one in told) == {Correction: 5, limits.OverLimit: 3}


@pytest.mark.django_db(transaction=True)
def test_confirmations_at_once_do_not_pass_the_limit_of_a_day_together(ada, senior):
    asked = [goodwill(world.person("Senior agent"), ada, "50") for _ in range(8)]

    told = at_once(*(partial(corrections.confirm, senior, one.pk) for one in asked))

    assert Counter(type(one) for one in told) == {Correction: 5, limits.OverLimit: 3}
    assert world.figures(ada)[0] == 260
