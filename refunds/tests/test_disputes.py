"""Disputes: a denial is disputed once, and a senior who took no part decides for good."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied

from orders import termination
from refunds import decisions, disputes
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from wallet import ledger, standing
from wallet.deciding import AlreadyDecided, OwnRequest, ReasonMissing
from wallet.limits import OverLimit
from wallet.models import RoleLimit
from wallet.tests.together import at_once
from wallet.tests.world import person

SHOP = Actor("API key sf_12… of Shop")
RESOLVED = [disputes.uphold, disputes.overturn, disputes.dismiss]


@pytest.fixture
def agent():
    return person("Support agent", name="ann")


@pytest.fixture
def colleague():
    return person("Support agent", name="abe")


@pytest.fixture
def senior():
    return person("Senior agent", name="sonia")


@pytest.fixture
def other():
    return person("Senior agent", name="sam")


def denied(by, decider, amount="0.4", order=None, **terms) -> RefundRequest:
    asked = world.requested(by, order or world.delivered("1"), amount, **terms)
    return decisions.deny(decider, asked.pk, reason="No evidence")


def disputed(by, decider, amount="0.4", order=None, **terms) -> RefundRequest:
    return disputes.dispute(denied(by, decider, amount, order, **terms).pk, actor=SHOP)


def balance(asked: RefundRequest) -> Decimal:
    return world.balance(asked.order.customer)


@pytest.mark.django_db
def test_a_denial_is_disputed_by_the_customer_s_reply(agent, colleague):
    with time_machine.travel("2026-11-02 10:00:00+00:00", tick=False):
        asked = disputed(agent, colleague)

    assert (asked.state, f"{asked.disputed_at:%H:%M}") == ("disputed", "10:00")
    last = asked.history.latest("history_id")
    assert (last.history_actor, last.history_change_reason, last.history_user) == (
        "API key sf_12… of Shop",
        "Disputed by reply",
        None,
    )
    assert balance(asked) == 9


@pytest.mark.django_db
def test_only_a_denial_is_disputed_and_once(agent, colleague, senior):
    order = world.delivered("1")
    asked = world.requested(agent, order)
    with pytest.raises(disputes.NotDisputable, match="waiting for approval"):
        disputes.dispute(asked.pk, actor=SHOP)
    decisions.deny(colleague, asked.pk, reason="No evidence")
    disputes.dispute(asked.pk, actor=SHOP)
    with pytest.raises(disputes.NotDisputable, match="and once"):
        disputes.dispute(asked.pk, actor=SHOP)
    disputes.uphold(senior, asked.pk, reason="Still none")
    with pytest.raises(disputes.NotDisputable, match="denial upheld"):
        disputes.dispute(asked.pk, actor=SHOP)
    credited = world.refunded(agent, colleague, world.delivered("1"))
    with pytest.raises(disputes.NotDisputable, match="approved and credited"):
        disputes.dispute(credited.request_id, actor=SHOP)


@pytest.mark.django_db
def test_a_dispute_comes_in_while_another_request_of_the_order_waits(agent, colleague):
    order = world.delivered("1")
    asked = denied(agent, colleague, order=order)
    world.requested(agent, order, clause=Clause.WRONG_SERVICE)

    assert disputes.dispute(asked.pk, actor=SHOP).state == "disputed"


@pytest.mark.django_db
def test_overturning_credits_the_wallet_in_the_same_step(agent, colleague, senior):
    asked = disputed(agent, colleague)

    done = disputes.overturn(senior, asked.pk, reason="The new screenshot shows it")

    assert (done.state, done.resolved_by, done.decided_by) == ("overturned", senior, colleague)
    assert done.against_verdict is False
    assert balance(asked) == Decimal("9.4")
    refund = Refund.objects.get()
    assert (refund.request, refund.decided_by, refund.reason) == (
        asked,
        senior,
        "The new screenshot shows it",
    )
    last = asked.history.latest("history_id")
    assert (last.state, last.history_change_reason) == (
        "overturned",
        "Overturned: The new screenshot shows it",
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("resolve", "state", "words"),
    [
        (disputes.uphold, "upheld", "Upheld: Nothing new"),
        (disputes.dismiss, "dismissed", "No dispute: Nothing new"),
    ],
)
def test_a_denial_that_stands_moves_nothing(agent, colleague, senior, resolve, state, words):
    asked = disputed(agent, colleague)

    done = resolve(senior, asked.pk, reason="Nothing new")

    assert (done.state, done.resolved_by, done.resolution_reason) == (state, senior, "Nothing new")
    assert asked.history.latest("history_id").history_change_reason == words
    assert balance(asked) == 9
    assert not Refund.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("resolve", RESOLVED)
def test_who_took_part_does_not_resolve_the_dispute(agent, senior, other, resolve):
    by_senior = disputed(agent, senior)
    asked_by_senior = disputed(senior, senior)

    for asked in (by_senior, asked_by_senior):
        with pytest.raises(OwnRequest, match="another senior agent decides"):
            resolve(senior, asked.pk, reason="I said so")
    resolve(other, by_senior.pk, reason="I looked at it")
    resolve(other, asked_by_senior.pk, reason="I looked at it")


@pytest.mark.django_db
@pytest.mark.parametrize("resolve", RESOLVED)
def test_only_a_senior_resolves_a_dispute_and_says_why(agent, colleague, senior, resolve):
    asked = disputed(agent, colleague)

    for who in (person("Support agent"), person("Finance")):
        with pytest.raises(PermissionDenied):
            resolve(who, asked.pk, reason="No")
    with pytest.raises(ReasonMissing):
        resolve(senior, asked.pk, reason=" ")
    assert RefundRequest.objects.get(pk=asked.pk).state == "disputed"


@pytest.mark.django_db
@pytest.mark.parametrize("resolve", RESOLVED)
def test_what_is_not_disputed_is_not_resolved(agent, colleague, senior, resolve):
    asked = denied(agent, colleague)

    with pytest.raises(AlreadyDecided, match="was denied by abe at"):
        resolve(senior, asked.pk, reason="No")


@pytest.mark.django_db
@pytest.mark.parametrize("first", RESOLVED)
@pytest.mark.parametrize("second", [*RESOLVED, decisions.approve, decisions.deny])
def test_a_resolution_is_final(agent, colleague, senior, other, first, second):
    asked = disputed(agent, colleague)
    first(senior, asked.pk, reason="So it is")

    with pytest.raises(AlreadyDecided, match=r"by sonia at .* UTC\. That is final\."):
        second(other, asked.pk, reason="Otherwise")
    assert balance(asked) == (Decimal("9.4") if first is disputes.overturn else 9)


@pytest.mark.django_db
def test_while_it_is_disputed_nobody_decides_it_as_if_it_were_new(agent, colleague, senior):
    asked = disputed(agent, colleague)

    for call in (
        lambda: decisions.approve(senior, asked.pk, reason="Yes"),
        lambda: decisions.deny(senior, asked.pk, reason="No"),
        lambda: decisions.escalate(senior, asked.pk, reason="Odd"),
        lambda: decisions.withdraw(agent, asked.pk),
    ):
        with pytest.raises(AlreadyDecided, match=r"denied by abe and disputed at .* UTC: a senior"):
            call()


@pytest.mark.django_db
def test_overturning_keeps_within_the_senior_s_limits(agent, colleague, senior, other):
    RoleLimit.objects.filter(role__name="Senior agent", decision="decided_refund").update(
        each=Decimal("0.5"), daily=Decimal("0.7")
    )
    above = disputed(agent, colleague, "0.5001")
    with pytest.raises(OverLimit):
        disputes.overturn(senior, above.pk, reason="Evidence")
    disputes.overturn(senior, disputed(agent, colleague, "0.5").pk, reason="Evidence")
    with pytest.raises(OverLimit):
        disputes.overturn(senior, disputed(agent, colleague, "0.3").pk, reason="Evidence")
    disputes.uphold(senior, above.pk, reason="Not so")


@pytest.mark.django_db
def test_overturning_what_is_not_refundable_is_goodwill(agent, senior, other):
    asked = disputed(agent, senior, clause=Clause.BANNED_LATER)

    done = disputes.overturn(other, asked.pk, reason="A hard case")

    assert (done.state, done.against_verdict) == ("overturned", True)
    assert (done.goodwill.requested_by, done.goodwill.decided_by) == (agent, other)
    assert (balance(asked), Refund.objects.count()) == (Decimal("9.4"), 0)


@pytest.mark.django_db
def test_overturning_ends_a_rental_that_was_dead_all_the_time(agent, colleague, senior):
    rental = world.rental("2")
    asked = disputed(agent, colleague, "1.5", rental, clause=Clause.RENTAL_ISSUE)

    disputes.overturn(senior, asked.pk, reason="Dead since Monday")

    rental.refresh_from_db(fields=["ended_at"])
    assert rental.ended_at is not None
    assert balance(asked) == Decimal("9.5")


@pytest.mark.django_db
def test_a_dispute_of_a_terminated_customer_is_not_granted_and_of_a_frozen_one_is(
    agent, colleague, senior, other
):
    frozen, gone = disputed(agent, colleague), disputed(agent, colleague)
    standing.freeze(senior, frozen.order.customer_id, reason="Odd")
    ended = termination.request(senior, gone.order.customer_id, reason="Resold", key=uuid4())
    termination.confirm(other, ended.pk)

    disputes.overturn(senior, frozen.pk, reason="Evidence")
    with pytest.raises(ledger.WalletForfeited, match="wallet balance is forfeited per /aup"):
        disputes.overturn(senior, gone.pk, reason="Evidence")

    assert balance(frozen) == Decimal("9.4")
    assert RefundRequest.objects.get(pk=gone.pk).state == "disputed"


@pytest.mark.django_db(transaction=True)
def test_two_replies_at_once_are_one_dispute():
    asked = denied(person("Support agent"), person("Support agent"))

    done = at_once(*[lambda: disputes.dispute(asked.pk, actor=SHOP)] * 4)

    assert sorted(type(one).__name__ for one in done) == [
        *["NotDisputable"] * 3,
        "RefundRequest",
    ]
    assert asked.history.filter(state="disputed").count() == 1


@pytest.mark.django_db(transaction=True)
def test_seniors_who_resolve_at_once_make_one_decision_and_the_others_hear_whose():
    people = [person("Senior agent") for _ in range(6)]
    asked = disputed(person("Support agent"), person("Support agent"))

    done = at_once(
        *(
            lambda by=by, resolve=RESOLVED[number % 3]: resolve(by, asked.pk, reason="So it is")
            for number, by in enumerate(people)
        )
    )

    [winner] = [one for one in done if isinstance(one, RefundRequest)]
    late = [one for one in done if isinstance(one, Refused)]
    assert len(late) == 5
    for one in late:
        assert isinstance(one, AlreadyDecided)
        said = f"by {winner.resolved_by} at {winner.resolved_at:%Y-%m-%d %H:%M:%S} UTC."
        assert said in one.message
    assert balance(asked) == (Decimal("9.4") if winner.state == "overturned" else 9)
