"""Decided refunds: one person asks, another approves or denies, the wallet is credited at once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from orders import closing, termination
from orders.delivery import finish_delivered
from orders.locking import OrderUnknown
from orders.models import Order, UpstreamSide
from refunds import automatic, decisions, disputes
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from smsactivator.common.errors import Refused
from wallet import corrections, ledger, standing
from wallet.deciding import AlreadyDecided, OwnRequest, ReasonMissing, RequestConflict
from wallet.limits import OverLimit
from wallet.models import Correction, RoleLimit, Transfer, Wallet
from wallet.tests.attack import triggers_aside
from wallet.tests.together import at_once
from wallet.tests.world import person

State = RefundRequest.State
GOODWILL = Clause.ORDERED_WRONG


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


def limit(role: str, each: str, daily: str, decision: str = "decided_refund") -> None:
    RoleLimit.objects.filter(role__name=role, decision=decision).update(
        each=Decimal(each), daily=Decimal(daily)
    )


def steps(asked: RefundRequest) -> list[tuple[str, str, str]]:
    """The history of a request, the oldest first: state, who, why."""
    return list(
        asked.history.order_by("history_id").values_list(
            "state", "history_actor", "history_change_reason"
        )
    )


def state_of(asked: RefundRequest) -> str:
    return RefundRequest.objects.get(pk=asked.pk).state


# --- asking and approving ---


@pytest.mark.django_db
def test_one_asks_and_another_approves_and_the_wallet_is_credited_at_once(agent, colleague):
    order = world.delivered("1")

    asked = world.requested(agent, order, "0.4")
    assert (asked.state, asked.requested_by) == ("requested", agent)
    assert world.balance(order.customer) == Decimal("9")
    done = decisions.approve(colleague, asked.pk, reason="Screenshot fits")

    assert world.balance(order.customer) == Decimal("9.4")
    assert (done.state, done.decided_by, done.against_verdict) == ("approved", colleague, False)
    refund = Refund.objects.get()
    assert (refund.request, refund.part, refund.amount) == (asked, 1, Decimal("0.4"))
    assert (refund.decided_by, refund.reason) == (colleague, "Screenshot fits")
    assert (refund.transfer.kind, refund.transfer.debit_account) == ("decided_refund", 3)
    assert refund.transfer.key == f"refund:decided:{asked.pk}"
    assert refund.facts == asked.facts
    assert steps(asked) == [
        ("requested", "ann", "Requested: Region block"),
        ("approved", "abe", "Approved: Screenshot fits"),
    ]


@pytest.mark.django_db
def test_the_verdict_and_the_facts_are_kept_with_the_request(agent):
    order = world.delivered("1")

    asked = world.requested(agent, order)

    assert (asked.policy_version, asked.verdict, asked.verdict_clause) == (
        "2026-05-07",
        "ticket",
        "ticket.service_rejected",
    )
    assert asked.verdict_why == ("An SMS arrived in time; claimed by ann: the service rejected it")
    assert (asked.facts["price"], asked.facts["sms"]) == ("1.0000", 1)
    assert asked.facts["reported"] == "ticket.service_rejected"
    assert asked.facts["reported_by"] == "ann"
    assert asked.facts["first_sms_at"] == order.first_sms_at.isoformat()


@pytest.mark.django_db
def test_an_approval_without_a_word_takes_over_the_reason_of_the_request(agent, colleague):
    asked = world.requested(agent, world.delivered(), reason="Region block at the service")

    decisions.approve(colleague, asked.pk)

    assert Refund.objects.get().reason == "Region block at the service"


@pytest.mark.django_db
def test_a_delivered_order_is_refunded_in_parts_up_to_its_price(agent, colleague):
    order = world.delivered("1")

    first = world.refunded(agent, colleague, order, "0.4")
    second = world.refunded(colleague, agent, order, "0.5999")

    assert (first.part, second.part) == (1, 2)
    assert world.balance(order.customer) == Decimal("9.9999")
    with pytest.raises(decisions.AboveThePrice, match=r"0\.0001 USD of the price .* not 0\.0002"):
        world.requested(agent, order, "0.0002")
    world.refunded(agent, colleague, order, "0.0001")
    assert decisions.left_to_refund(order) == 0


@pytest.mark.django_db
def test_what_was_not_delivered_is_not_refunded_by_a_person(agent):
    order = world.allocated()
    with pytest.raises(decisions.NotDelivered, match="still in escrow"):
        world.requested(agent, order, "0.1")
    automatic.cancel(order.pk, actor=world.TESTER)
    with pytest.raises(decisions.NotDelivered, match="went back already"):
        world.requested(agent, order, "0.1")


@pytest.mark.django_db
def test_an_order_that_nobody_placed_is_not_refunded(agent):
    with pytest.raises(OrderUnknown):
        decisions.request(
            agent,
            999_999_999,
            amount=Decimal(1),
            clause=Clause.WRONG_SERVICE,
            reason="Another code",
            key=uuid4(),
        )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"amount": "0"}, decisions.AmountRefused),
        ({"amount": "-1"}, decisions.AmountRefused),
        ({"amount": "0.00001"}, decisions.AmountRefused),
        ({"amount": "NaN"}, decisions.AmountRefused),
        ({"amount": "1e999"}, decisions.AmountRefused),
        ({"amount": "1.0001"}, decisions.AboveThePrice),
        ({"clause": Clause.NO_SMS_IN_TIME}, decisions.ClauseRefused),
        ({"clause": "mercy"}, decisions.ClauseRefused),
        ({"clause": ""}, decisions.ClauseRefused),
        ({"reason": "  "}, ReasonMissing),
    ],
)
def test_bad_input_is_refused(agent, fields, refusal):
    with pytest.raises(refusal):
        world.requested(agent, world.delivered(), **{"amount": "0.1", **fields})
    assert not RefundRequest.objects.exists()


@pytest.mark.django_db
def test_a_request_that_is_not_there_is_decided_by_nobody(agent, senior):
    for call in (
        lambda: decisions.approve(agent, 999_999),
        lambda: decisions.deny(agent, 999_999, reason="No"),
        lambda: decisions.escalate(agent, 999_999, reason="Odd"),
        lambda: decisions.withdraw(agent, 999_999),
        lambda: disputes.dispute(999_999, actor=world.TESTER),
        lambda: disputes.uphold(senior, 999_999, reason="No"),
    ):
        with pytest.raises(decisions.RequestUnknown, match="no refund request 999999"):
            call()


@pytest.mark.django_db
def test_finance_and_strangers_neither_ask_nor_decide(agent):
    order = world.delivered()
    asked = world.requested(agent, order)
    finance, superuser = person("Finance"), person("Finance")
    superuser.is_superuser = True
    superuser.save()

    for call in (
        lambda: world.requested(finance, order),
        lambda: decisions.approve(finance, asked.pk),
        lambda: decisions.deny(finance, asked.pk, reason="No"),
        lambda: decisions.escalate(finance, asked.pk, reason="Odd"),
        lambda: decisions.withdraw(finance, asked.pk),
    ):
        with pytest.raises(PermissionDenied):
            call()
    # A superuser has every permission, and no limit to move money with.
    with pytest.raises(OverLimit):
        decisions.approve(superuser, asked.pk)
    assert state_of(asked) == "requested"


# --- who may decide what ---


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["Support agent", "Senior agent"])
def test_nobody_approves_what_they_requested(role):
    who = person(role)
    asked = world.requested(who, world.delivered())

    with pytest.raises(OwnRequest, match="somebody else approves"):
        decisions.approve(who, asked.pk, reason="Mine")
    assert state_of(asked) == "requested"


@pytest.mark.django_db
def test_everybody_may_deny_and_withdraw_what_they_requested(agent, colleague):
    order = world.delivered()
    asked = world.requested(agent, order)
    denied = decisions.deny(agent, asked.pk, reason="The screenshot is of another number")
    assert (denied.state, denied.decided_by) == ("denied", agent)

    again = world.requested(agent, order, clause=Clause.WRONG_SERVICE)
    with pytest.raises(OwnRequest):
        decisions.withdraw(colleague, again.pk)
    assert decisions.withdraw(agent, again.pk).state == "withdrawn"
    assert steps(again)[-1] == ("withdrawn", "ann", "Withdrawn")
    assert world.balance(order.customer) == Decimal("9")


@pytest.mark.django_db
def test_a_denial_says_why(agent, colleague):
    asked = world.requested(agent, world.delivered())

    with pytest.raises(ReasonMissing):
        decisions.deny(colleague, asked.pk, reason=" ")
    denied = decisions.deny(colleague, asked.pk, reason="No evidence")

    assert (denied.state, denied.decision_reason, denied.against_verdict) == (
        "denied",
        "No evidence",
        False,
    )


@pytest.mark.django_db
def test_what_is_decided_is_not_decided_again(agent, colleague):
    with time_machine.travel("2026-11-02 10:00:00+00:00", tick=False):
        asked = world.requested(agent, world.delivered())
        decisions.approve(colleague, asked.pk)

    said = rf"Refund request {asked.pk} was approved and credited by abe at 2026-11-02 10:00:00 UTC"
    for call in (
        lambda: decisions.approve(colleague, asked.pk),
        lambda: decisions.deny(agent, asked.pk, reason="No"),
        lambda: decisions.escalate(agent, asked.pk, reason="Odd"),
        lambda: decisions.withdraw(agent, asked.pk),
    ):
        with pytest.raises(AlreadyDecided, match=said):
            call()
    assert Refund.objects.count() == 1


@pytest.mark.django_db
def test_one_request_of_an_order_is_open_at_a_time(agent, colleague):
    order = world.delivered()
    asked = world.requested(agent, order, "0.1")

    with pytest.raises(
        decisions.AlreadyRequested, match=f"request {asked.pk} of order {order.pk} .* waiting for"
    ):
        world.requested(colleague, order, "0.1", clause=Clause.WRONG_SERVICE)
    decisions.withdraw(agent, asked.pk)
    world.requested(colleague, order, "0.1")


@pytest.mark.django_db
def test_what_was_denied_is_not_asked_again_but_disputed(agent, colleague, senior):
    order = world.delivered()
    asked = world.requested(agent, order)
    decisions.deny(colleague, asked.pk, reason="No evidence")

    with pytest.raises(decisions.DeniedBefore, match=r"denied by abe .* can dispute it by a reply"):
        world.requested(agent, order)
    disputes.dispute(asked.pk, actor=world.TESTER)
    with pytest.raises(decisions.AlreadyRequested, match="disputed"):
        world.requested(agent, order)
    disputes.uphold(senior, asked.pk, reason="Still none")
    with pytest.raises(decisions.DeniedBefore, match=r"upheld by sonia .* That is final"):
        world.requested(agent, order)


@pytest.mark.django_db
def test_after_a_denial_another_clause_is_for_a_senior(agent, colleague, senior):
    order = world.delivered()
    asked = world.requested(agent, order)
    decisions.deny(colleague, asked.pk, reason="No evidence")

    second = world.requested(agent, order, clause=Clause.WRONG_SERVICE)

    assert second.state == "escalated"
    assert steps(second)[-1][2] == "Escalated: a refund of this order was denied before"
    with pytest.raises(decisions.WaitsForSenior):
        decisions.approve(colleague, second.pk)
    decisions.approve(senior, second.pk)


@pytest.mark.django_db
def test_a_rental_can_have_trouble_anew_and_a_senior_looks_at_it(agent, colleague):
    order = world.rental("2")
    asked = world.requested(agent, order, "0.5", clause=Clause.RENTAL_ISSUE)
    decisions.deny(colleague, asked.pk, reason="It works")

    assert world.requested(agent, order, "0.5", clause=Clause.RENTAL_ISSUE).state == "escalated"


# --- limits ---


@pytest.mark.django_db
def test_what_no_agent_may_approve_waits_for_a_senior_from_the_start(agent, colleague, senior):
    order = world.delivered("20", of=world.customer("100"))

    at_the_limit = world.requested(agent, order, "10")
    assert at_the_limit.state == "requested"
    decisions.withdraw(agent, at_the_limit.pk)
    above = world.requested(agent, order, "10.0001")

    assert above.state == "escalated"
    assert steps(above) == [
        ("requested", "ann", "Requested: Region block"),
        ("escalated", "ann", "Escalated: above what an agent may approve"),
    ]
    with pytest.raises(decisions.WaitsForSenior, match="waits for a senior agent"):
        decisions.approve(colleague, above.pk)
    with pytest.raises(decisions.WaitsForSenior):
        decisions.deny(colleague, above.pk, reason="No")
    decisions.approve(senior, above.pk)
    assert world.balance(order.customer) == Decimal("90.0001")


@pytest.mark.django_db
def test_a_senior_s_own_request_above_the_agents_limit_waits_for_another_senior(
    senior, other, agent
):
    asked = world.requested(senior, world.delivered("20", of=world.customer("20")), "15")

    assert asked.state == "escalated"
    with pytest.raises(decisions.WaitsForSenior):
        decisions.approve(agent, asked.pk)
    with pytest.raises(OwnRequest):
        decisions.approve(senior, asked.pk)
    decisions.approve(other, asked.pk)


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["Support agent", "Senior agent"])
def test_the_limits_hold_for_each_and_for_a_day(role, agent):
    limit("Support agent", "0.5", "0.7")
    limit("Senior agent", "0.5", "0.7")
    by = person(role)
    orders = [world.delivered("2") for _ in range(3)]

    above = world.requested(agent, orders[0], "0.5001")
    with pytest.raises(OverLimit if role == "Senior agent" else decisions.WaitsForSenior):
        decisions.approve(by, above.pk)
    world.refunded(agent, by, orders[1], "0.5")
    too_much = world.requested(agent, orders[2], "0.2001")
    with pytest.raises(OverLimit, match=r"0\.7000 USD a day, and 0\.5000 USD are used up today"):
        decisions.approve(by, too_much.pk)
    decisions.withdraw(agent, too_much.pk)
    world.refunded(agent, by, orders[2], "0.2")


@pytest.mark.django_db
def test_the_first_limits_are_ten_and_fifty_dollars():
    found = RoleLimit.objects.filter(decision="decided_refund").values_list(
        "role__name", "each", "daily"
    )
    assert sorted(found) == [("Senior agent", 50, 500), ("Support agent", 10, 100)]


@pytest.mark.django_db
def test_a_new_day_has_a_new_limit(agent, colleague):
    limit("Support agent", "0.5", "0.5")
    with time_machine.travel("2026-11-02 23:59:59+00:00", tick=False) as clock:
        world.refunded(agent, colleague, world.delivered(), "0.5")
        waiting = world.requested(agent, world.delivered(), "0.5")
        with pytest.raises(OverLimit):
            decisions.approve(colleague, waiting.pk)
        clock.shift(timedelta(seconds=1))
        decisions.approve(colleague, waiting.pk)


@pytest.mark.django_db
def test_an_agent_denies_no_more_than_the_agent_may_approve(agent, colleague, senior):
    juniors = Group.objects.create(name="Junior")
    juniors.permissions.set(
        Permission.objects.filter(codename__in=["decide_refund", "request_refund"])
    )
    RoleLimit.objects.create(
        role=juniors, decision="decided_refund", each=Decimal("0.1"), daily=Decimal("0.1")
    )
    junior = person("Junior")
    asked = world.requested(agent, world.delivered(), "0.2")

    with pytest.raises(OverLimit, match="ask somebody with a higher limit"):
        decisions.deny(junior, asked.pk, reason="No")
    # Nothing moves, so denials use nothing of the day's limit up; and a senior denies everything.
    limit("Support agent", "0.2", "0.2")
    world.refunded(agent, colleague, world.delivered(), "0.2")
    decisions.deny(colleague, asked.pk, reason="No evidence")
    large = world.requested(agent, world.delivered("60", of=world.customer("60")), "60")
    with pytest.raises(OverLimit):
        decisions.approve(senior, large.pk)
    assert decisions.deny(senior, large.pk, reason="No evidence").state == "denied"


@pytest.mark.django_db
def test_a_request_is_passed_to_a_senior_with_a_reason(agent, colleague, senior):
    asked = world.requested(agent, world.delivered())

    with pytest.raises(ReasonMissing):
        decisions.escalate(colleague, asked.pk, reason="")
    decisions.escalate(colleague, asked.pk, reason="Third time this month")

    assert steps(asked)[-1] == ("escalated", "abe", "Escalated: Third time this month")
    with pytest.raises(AlreadyDecided, match="not decided yet: waiting for a senior agent"):
        decisions.escalate(colleague, asked.pk, reason="Again")
    with pytest.raises(decisions.WaitsForSenior):
        decisions.approve(colleague, asked.pk)
    assert decisions.approve(senior, asked.pk).state == "approved"


# --- against the verdict ---


@pytest.mark.django_db
def test_against_the_verdict_asks_for_a_reason_and_is_marked(agent, colleague):
    # No rental: the facts of the order do not bear it out.
    asked = world.requested(agent, world.delivered(), clause=Clause.RENTAL_ISSUE)
    assert (asked.verdict, asked.verdict_clause) == ("none", "")

    with pytest.raises(decisions.VerdictReasonMissing, match="do not bear it out"):
        decisions.approve(colleague, asked.pk, reason=" ")
    done = decisions.approve(colleague, asked.pk, reason="The upstream admits it")

    assert (done.against_verdict, done.decision_reason) == (True, "The upstream admits it")
    assert Refund.objects.get().reason == "The upstream admits it"


@pytest.mark.django_db
def test_denying_what_the_policy_refunds_by_itself_is_marked(agent, colleague):
    order = world.rental()
    asked = world.requested(agent, order, clause=Clause.RENTAL_ISSUE)
    # As if the upstream's report had come between the order's state and its facts.
    with triggers_aside() as cursor:
        cursor.execute(
            "UPDATE refunds_refundrequest SET verdict = 'automatic' WHERE id = %s", [asked.pk]
        )

    done = decisions.deny(colleague, asked.pk, reason="It is fine")

    assert done.against_verdict is True


# --- goodwill ---


@pytest.mark.django_db
def test_what_is_not_refundable_is_goodwill_by_a_senior_with_a_reason(agent, colleague, senior):
    order = world.delivered()

    asked = world.requested(agent, order, "0.4", clause=GOODWILL)
    assert (asked.state, asked.verdict) == ("escalated", "not_refundable")
    with pytest.raises(decisions.WaitsForSenior):
        decisions.approve(colleague, asked.pk, reason="Nice customer")
    with pytest.raises(decisions.VerdictReasonMissing):
        decisions.approve(senior, asked.pk)
    done = decisions.approve(senior, asked.pk, reason="First order of a large customer")

    assert world.balance(order.customer) == Decimal("9.4")
    given = done.goodwill
    assert (done.state, done.against_verdict, given.kind, given.state) == (
        "approved",
        True,
        "goodwill",
        "confirmed",
    )
    assert (given.requested_by, given.decided_by, given.amount) == (agent, senior, Decimal("0.4"))
    assert given.reason == (
        f"Refund request {asked.pk} of order {order.pk}: First order of a large customer"
    )
    assert (given.transfer.kind, given.transfer.debit_account) == ("goodwill", 7)
    # Counted apart: it is no refund, and no decided one moved.
    assert not Refund.objects.exists()
    assert not Transfer.objects.filter(kind="decided_refund").exists()


@pytest.mark.django_db
def test_goodwill_needs_its_own_permission_and_keeps_its_own_limit(agent, senior):
    asked = world.requested(agent, world.delivered("2"), "2", clause=GOODWILL)
    plain = person("Support agent")
    plain.user_permissions.add(Permission.objects.get(codename="decide_escalated_refund"))
    with pytest.raises(decisions.GoodwillOnly, match="does not refund under this clause"):
        decisions.approve(plain, asked.pk)

    limit("Senior agent", "1.9999", "5", "goodwill")
    with pytest.raises(OverLimit, match=r"limit for one goodwill is 1\.9999 USD"):
        decisions.approve(senior, asked.pk, reason="Kind")
    limit("Senior agent", "2", "2", "goodwill")
    limit("Senior agent", "0", "0")
    decisions.approve(senior, asked.pk, reason="Kind")
    ordinary = corrections.request_goodwill(
        agent, asked.order.customer_id, amount=Decimal(1), reason="Waited", key=uuid4()
    )
    with pytest.raises(OverLimit, match=r"2\.0000 USD are used up today"):
        corrections.confirm(senior, ordinary.pk)


@pytest.mark.django_db
def test_goodwill_counts_with_the_refunds_of_its_order(agent, colleague, senior):
    order = world.delivered("1")
    asked = world.requested(agent, order, "0.7", clause=GOODWILL)
    decisions.approve(senior, asked.pk, reason="Kind")

    assert decisions.left_to_refund(order) == Decimal("0.3")
    with pytest.raises(decisions.AboveThePrice, match=r"0\.3000 USD"):
        world.requested(agent, order, "0.3001")
    world.refunded(agent, colleague, order, "0.3")
    assert decisions.left_to_refund(order) == 0


@pytest.mark.django_db
def test_a_terminated_customer_s_clause_is_no_goodwill_either(agent, senior, other):
    order = world.delivered()
    terminated(order.customer, senior, other)
    asked = world.requested(agent, order, clause=Clause.TERMINATED)

    with pytest.raises(ledger.WalletForfeited, match="wallet balance is forfeited per /aup"):
        decisions.approve(senior, asked.pk, reason="Kind")
    assert not Correction.objects.exists()


# --- the wallet's state ---


def terminated(customer: Any, senior: Any, other: Any) -> None:
    asked = termination.request(senior, customer.pk, reason="Resold numbers", key=uuid4())
    termination.confirm(other, asked.pk)


@pytest.mark.django_db
def test_a_refund_arrives_in_a_frozen_wallet(agent, colleague, senior):
    order = world.delivered("1")
    standing.freeze(senior, order.customer_id, reason="Odd")

    world.refunded(agent, colleague, order, "0.4")

    assert world.balance(order.customer) == Decimal("9.4")
    assert order.customer.wallet.state == "frozen"


@pytest.mark.django_db
def test_a_terminated_customer_gets_nothing_and_the_refusal_names_the_clause(
    agent, colleague, senior, other
):
    order = world.delivered()
    before = world.requested(agent, order)
    terminated(order.customer, senior, other)

    with pytest.raises(ledger.WalletForfeited, match="wallet balance is forfeited per /aup"):
        decisions.approve(colleague, before.pk)
    assert state_of(before) == "requested"
    decisions.deny(colleague, before.pk, reason="The account was terminated")
    after = world.requested(agent, order, clause=Clause.WRONG_SERVICE)
    assert (after.verdict, after.verdict_clause) == ("not_refundable", "none.terminated")


@pytest.mark.django_db
def test_a_closed_wallet_takes_no_refund_until_it_is_reopened(agent, colleague, senior):
    order = world.delivered("1", of=world.customer("1"))
    closing.close(senior, order.customer_id, reason="Leaves")
    asked = world.requested(agent, order)

    with pytest.raises(ledger.WalletClosed, match="A senior agent can reopen it"):
        decisions.approve(colleague, asked.pk)
    closing.reopen(senior, order.customer_id, reason="Back")
    decisions.approve(colleague, asked.pk)
    assert world.balance(order.customer) == Decimal("0.4")


# --- rentals ---


@pytest.mark.django_db
def test_an_active_rental_that_was_found_dead_is_ended_and_refunded(agent, colleague):
    order = world.rental("2")

    world.refunded(agent, colleague, order, "1.5", clause=Clause.RENTAL_ISSUE)

    order = Order.objects.get(pk=order.pk)
    assert (order.state, order.upstream_side) == ("ended", UpstreamSide.FINISHED)
    assert order.ended_at < order.rental_ends_at
    assert order.settlement.key == f"delivery:{order.pk}"
    assert world.balance(order.customer) == Decimal("9.5")
    last = order.history.latest("history_id")
    asked = RefundRequest.objects.get()
    assert (last.history_actor, last.history_change_reason) == (
        "abe",
        f"Found dead: Refund request {asked.pk}",
    )
    assert finish_delivered() == 0


@pytest.mark.django_db
def test_a_denied_rental_goes_on(agent, colleague):
    order = world.rental()
    asked = world.requested(agent, order, clause=Clause.RENTAL_ISSUE)

    decisions.deny(colleague, asked.pk, reason="SMS arrive")

    assert Order.objects.get(pk=order.pk).state == "active"


@pytest.mark.django_db
def test_a_rental_that_the_upstream_reported_broken_is_left_to_the_sweep(agent, colleague):
    order = world.rental("2")
    asked = world.requested(agent, order, "1", clause=Clause.RENTAL_ISSUE)
    Order.objects.filter(pk=order.pk).update(broken_at=timezone.now(), broken_signal="REVOKE")

    with pytest.raises(decisions.NotDelivered, match="full price goes back by itself"):
        decisions.approve(colleague, asked.pk, reason="Dead")
    decisions.withdraw(agent, asked.pk)
    with pytest.raises(decisions.NotDelivered, match="full price goes back by itself"):
        world.requested(agent, order, clause=Clause.RENTAL_ISSUE)
    automatic.refund_broken()
    assert world.balance(order.customer) == Decimal("10")
    with pytest.raises(decisions.NotDelivered, match="went back already"):
        world.requested(agent, order, clause=Clause.RENTAL_ISSUE)


def world_order(order: Order) -> Order:
    return Order.objects.get(pk=order.pk)


@pytest.mark.django_db
def test_goodwill_waits_for_the_end_of_a_rental(agent, senior):
    order = world.rental("2")

    with pytest.raises(decisions.NotDelivered, match="Decide when it has ended"):
        world.requested(agent, order, clause=GOODWILL)
    Order.objects.filter(pk=order.pk).update(rental_ends_at=timezone.now())
    finish_delivered()
    asked = world.requested(agent, order, clause=GOODWILL)
    decisions.approve(senior, asked.pk, reason="Kind")
    assert world.balance(order.customer) == Decimal("8.4")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("price", "lost_since", "suggested"),
    [
        ("2", timedelta(0), "2"),
        ("2", timedelta(hours=1), "1.5"),
        ("2", timedelta(hours=4), "0"),
        ("2", timedelta(hours=9), "0"),
        ("2", timedelta(hours=-1), "2"),
        # A third of the time left: to four places, half up.
        ("1", timedelta(hours=2, minutes=40), "0.3333"),
        ("1", timedelta(hours=1, minutes=20), "0.6667"),
        ("0.0001", timedelta(hours=2), "0.0001"),
        ("0.0001", timedelta(hours=2, seconds=1), "0"),
        ("2.9999", timedelta(hours=3, microseconds=1), "0.7500"),
    ],
)
def test_for_a_rental_the_price_pro_rata_of_the_lost_time_is_suggested(
    price, lost_since, suggested
):
    order = world.rental(price)
    Order.objects.filter(pk=order.pk).update(rental_ends_at=order.allocated_at + timedelta(hours=4))
    order = world_order(order)

    amount = decisions.suggested_amount(order, order.allocated_at + lost_since)

    assert amount == Decimal(suggested)


@pytest.mark.django_db
def test_never_more_is_suggested_than_is_left_and_the_price_for_an_activation(agent, colleague):
    order = world.delivered("1")
    assert decisions.suggested_amount(order, timezone.now()) == Decimal("1")
    world.refunded(agent, colleague, order, "0.4")
    assert decisions.suggested_amount(order, timezone.now()) == Decimal("0.6")

    rented = world.rental("2")
    world.refunded(agent, colleague, rented, "1.5", clause=Clause.RENTAL_ISSUE)
    rented = world_order(rented)
    assert decisions.suggested_amount(rented, rented.allocated_at) == Decimal("0.5")
    assert decisions.suggested_amount(world.allocated(), timezone.now()) == 0


# --- twice, and at once ---


@pytest.mark.django_db
def test_a_form_sent_twice_is_one_request(agent, colleague):
    order, key = world.delivered(), uuid4()

    first = world.requested(agent, order, "0.4", key=key)
    assert world.requested(agent, order, "0.4", key=key) == first
    with pytest.raises(RequestConflict, match="with other content"):
        world.requested(agent, order, "0.5", key=key)
    with pytest.raises(RequestConflict):
        world.requested(colleague, order, "0.4", key=key)
    # Also when it was decided meanwhile.
    decisions.approve(colleague, first.pk)
    assert world.requested(agent, order, "0.4", key=key).state == "approved"
    assert RefundRequest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_double_click_is_one_request():
    order, agent, key = world.delivered(), person("Support agent"), uuid4()

    done = at_once(*(lambda: world.requested(agent, order, key=key) for _ in range(4)))

    assert len({one.pk for one in done}) == 1
    assert RefundRequest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_people_who_ask_at_once_make_one_request():
    order, people = world.delivered(), [person("Support agent") for _ in range(4)]

    done = at_once(*(lambda by=by: world.requested(by, order) for by in people))

    assert sorted(type(one).__name__ for one in done) == [
        *["AlreadyRequested"] * 3,
        "RefundRequest",
    ]


@pytest.mark.django_db(transaction=True)
def test_two_people_who_approve_at_once_make_one_decision_and_the_other_hears_whose():
    order = world.delivered("1")
    asked = world.requested(person("Support agent"), order)
    people = [person("Senior agent", name=name) for name in ("sonia", "sam")]

    done = at_once(*(lambda by=by: decisions.approve(by, asked.pk) for by in people))

    [winner] = [one for one in done if isinstance(one, RefundRequest)]
    [late] = [one for one in done if isinstance(one, Refused)]
    assert isinstance(late, AlreadyDecided)
    assert late.message == (
        f"Refund request {asked.pk} was approved and credited by {winner.decided_by} at "
        f"{winner.decided_at:%Y-%m-%d %H:%M:%S} UTC."
    )
    assert world.balance(order.customer) == Decimal("9.4")
    assert Refund.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("clause", [Clause.SERVICE_REJECTED, GOODWILL])
def test_approve_against_deny_is_one_decision(clause):
    order = world.delivered("1")
    asked = world.requested(person("Support agent"), order, clause=clause)
    people = [person("Senior agent") for _ in range(4)]

    done = at_once(
        *(
            (lambda by=by: decisions.approve(by, asked.pk, reason="Yes"))
            if number % 2
            else (lambda by=by: decisions.deny(by, asked.pk, reason="No"))
            for number, by in enumerate(people)
        ),
        lambda: decisions.withdraw(asked.requested_by, asked.pk),
    )

    assert [type(one) for one in done].count(AlreadyDecided) == 4
    credited = Decimal("0.4") if state_of(asked) == "approved" else 0
    assert world.balance(order.customer) == 9 + credited


@pytest.mark.django_db(transaction=True)
def test_two_approvals_at_once_by_one_person_keep_within_the_day():
    limit("Support agent", "0.5", "0.7")
    agent, by = person("Support agent"), person("Support agent")
    asked = [world.requested(agent, world.delivered(), "0.4") for _ in range(4)]

    done = at_once(*(lambda one=one: decisions.approve(by, one.pk) for one in asked))

    assert sorted(type(one).__name__ for one in done) == [*["OverLimit"] * 3, "RefundRequest"]


@pytest.mark.django_db(transaction=True)
def test_goodwill_approvals_at_once_by_one_senior_keep_within_the_day():
    limit("Senior agent", "0.5", "0.7", "goodwill")
    agent, by = person("Support agent"), person("Senior agent")
    asked = [world.requested(agent, world.delivered(), "0.4", clause=GOODWILL) for _ in range(4)]

    done = at_once(*(lambda one=one: decisions.approve(by, one.pk, reason="Kind") for one in asked))

    assert sorted(type(one).__name__ for one in done) == [*["OverLimit"] * 3, "RefundRequest"]
    assert Correction.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_approval_and_a_termination_at_once_are_one_after_the_other():
    agent, senior, other, finance = (
        person(role) for role in ("Support agent", "Senior agent", "Senior agent", "Finance")
    )
    for _ in range(6):
        ada = world.customer("10")
        order, rented = world.delivered("1", of=ada), world.rental("2", of=ada)
        asked = world.requested(agent, order)
        dead = world.requested(agent, rented, "1.5", clause=Clause.RENTAL_ISSUE)
        ended = termination.request(senior, ada.pk, reason="Resold", key=uuid4())

        first, second, gone = at_once(
            lambda asked=asked: decisions.approve(senior, asked.pk),
            lambda dead=dead: decisions.approve(other, dead.pk),
            lambda ended=ended: termination.confirm(finance, ended.pk),
        )

        assert gone.state == "confirmed"
        for one in (first, second):
            assert isinstance(
                one, RefundRequest | ledger.WalletForfeited | decisions.NotDelivered
            ), one
        wallet = Wallet.objects.get(pk=ada.pk)
        assert (wallet.state, wallet.balance) == ("forfeited", 0)
        world.assert_books_agree()


@pytest.mark.django_db(transaction=True)
def test_two_requests_of_one_order_granted_at_once_never_exceed_its_price():
    agent, by = person("Support agent"), person("Support agent")
    sam, sonia = person("Senior agent"), person("Senior agent")
    for clause in (Clause.WRONG_SERVICE, GOODWILL):
        order = world.delivered("1")
        denied = world.requested(agent, order, "0.7")
        decisions.deny(by, denied.pk, reason="No evidence")
        second = world.requested(agent, order, "0.7", clause=clause)
        # The customer's reply disputes the first while the second waits.
        disputes.dispute(denied.pk, actor=world.TESTER)

        done = at_once(
            lambda denied=denied: disputes.overturn(sam, denied.pk, reason="Evidence"),
            lambda second=second: decisions.approve(sonia, second.pk, reason="Evidence"),
        )

        assert sorted(type(one).__name__ for one in done) == ["AboveThePrice", "RefundRequest"]
        assert world.balance(order.customer) == Decimal("9.7")


@pytest.mark.django_db(transaction=True)
def test_a_rental_that_is_cancelled_while_it_is_refunded_gives_its_price_back_once():
    agent, senior = person("Support agent"), person("Senior agent")
    for _ in range(6):
        order = world.rental("2")
        asked = world.requested(agent, order, "1.5", clause=Clause.RENTAL_ISSUE)

        done = at_once(
            lambda asked=asked: decisions.approve(senior, asked.pk),
            lambda order=order: automatic.cancel(order.pk, actor=world.TESTER),
        )

        cancelled = world_order(order).state == "cancelled"
        assert [type(one).__name__ for one in done] == (
            ["NotDelivered", "Order"] if cancelled else ["RefundRequest", "SmsArrived"]
        )
        assert world.balance(order.customer) == (10 if cancelled else Decimal("9.5"))


# --- dying in the middle ---


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
    models = (RefundRequest, RefundRequest.history.model, Refund, Transfer, Wallet, Order)
    more = (Order.history.model, Correction)
    return [list(model.objects.order_by("pk").values()) for model in (*models, *more)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["approve", "goodwill", "dead rental", "overturn", "request"])
def test_dying_after_any_statement_leaves_nothing(what):
    agent, colleague, senior = (
        person(role) for role in ("Support agent", "Support agent", "Senior agent")
    )
    order = world.rental() if what == "dead rental" else world.delivered("1")
    clause = {"goodwill": GOODWILL, "dead rental": Clause.RENTAL_ISSUE}.get(
        what, Clause.SERVICE_REJECTED
    )
    if what == "request":
        key = uuid4()
        calls = [lambda: world.requested(agent, order, key=key)]
    else:
        asked = world.requested(agent, order, clause=clause)
        calls = [lambda: decisions.approve(senior, asked.pk, reason="Yes")]
    if what == "overturn":
        decisions.deny(colleague, asked.pk, reason="No")
        disputes.dispute(asked.pk, actor=world.TESTER)
        calls = [lambda: disputes.overturn(senior, asked.pk, reason="Yes")]
    [call] = calls
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

    assert statements >= 8
    assert everything() != before


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_lost_before_the_commit_leaves_nothing():
    order = world.delivered("1")
    asked = world.requested(person("Support agent"), order)
    senior = person("Senior agent")
    before = everything()

    def lost() -> Any:
        try:
            with transaction.atomic():
                decisions.approve(senior, asked.pk)
                connection.connection.close()
        except (InterfaceError, OperationalError):
            return "lost"

    assert at_once(lost) == ["lost"]
    assert everything() == before
    assert decisions.approve(senior, asked.pk).state == "approved"
