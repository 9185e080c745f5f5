"""After a final decision: a further request, by a senior who took no part, with new evidence."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from refunds import decisions, disputes
from refunds.decisions import Evidence
from refunds.explaining import explain
from refunds.models import RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from refunds.tests.test_request_rules import decide, insert, resolve
from wallet.deciding import OwnRequest, RequestConflict
from wallet.tests.attack import CHECK, RESTRICT, assert_refused, run
from wallet.tests.world import person

pytestmark = pytest.mark.django_db
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


@pytest.fixture
def third():
    return person("Senior agent", name="sue")


def ruled(asker: Any, denier: Any, by: Any, resolved: Any = disputes.uphold) -> RefundRequest:
    """A request that was denied, disputed and decided for good."""
    asked = world.requested(asker, world.delivered("1"), "0.4")
    decisions.deny(denier, asked.pk, reason="No evidence")
    disputes.dispute(asked.pk, actor=world.TESTER)
    return resolved(by, asked.pk, reason="Still none")


def new_evidence() -> Evidence:
    return Evidence("Message 7 on Ticket 3", timezone.now())


def further(by: Any, ruling: RefundRequest, **fields: Any) -> RefundRequest:
    return decisions.request(
        by,
        ruling.order_id,
        **{
            "amount": Decimal("0.3"),
            "clause": Clause.WRONG_SERVICE,
            "reason": "A new screenshot",
            "key": uuid4(),
            "evidence": new_evidence(),
            **fields,
        },
    )


@pytest.mark.parametrize("resolved", RESOLVED)
def test_after_a_final_decision_no_clause_of_the_order_is_asked_as_if_nothing_had_been(
    agent, colleague, senior, other, resolved
):
    ruling = ruled(agent, colleague, senior, resolved)
    for who in (agent, senior, other):
        for clause in (Clause.WRONG_SERVICE, Clause.BANNED_LATER, Clause.SERVICE_REJECTED):
            with pytest.raises(
                decisions.FinallyDecided,
                match=r"That is final\. .*senior agent who took no part .* new evidence",
            ):
                world.requested(who, ruling.order, "0.3", clause=clause)
    assert RefundRequest.objects.count() == 1


def test_a_senior_who_took_no_part_opens_a_further_request_and_another_one_grants_it(
    agent, colleague, senior, other, third
):
    ruling = ruled(agent, colleague, senior)

    asked = further(other, ruling)

    assert (asked.state, asked.further_to, asked.evidence) == (
        "escalated",
        ruling,
        "Message 7 on Ticket 3",
    )
    assert asked.evidence_at > ruling.resolved_at
    assert [row.history_change_reason for row in asked.history.order_by("history_id")] == [
        "Requested further to a final decision: A new screenshot",
        "Escalated: an earlier decision on this order was final",
    ]
    with pytest.raises(OwnRequest, match="requested this yourself"):
        decisions.approve(other, asked.pk)
    with pytest.raises(OwnRequest, match="took part in the earlier decision on this order"):
        decisions.approve(senior, asked.pk)
    with pytest.raises(OwnRequest, match="took part in the earlier decision on this order"):
        decisions.deny(senior, asked.pk, reason="No")
    decisions.approve(third, asked.pk)
    assert world.balance(ruling.order.customer) == Decimal("9.3")


def test_who_took_part_opens_no_further_request(colleague, senior, other, third):
    ruling = ruled(other, third, senior)
    for who in (other, third, senior):
        with pytest.raises(OwnRequest, match="took part in the earlier decision on this order"):
            further(who, ruling)
    with pytest.raises(PermissionDenied):
        further(colleague, ruling)
    assert RefundRequest.objects.count() == 1


def test_a_further_request_names_evidence_that_came_after_the_decision(
    agent, colleague, senior, other
):
    ruling = ruled(agent, colleague, senior)
    assert ruling.resolved_at is not None
    for at in (ruling.resolved_at, ruling.resolved_at - timedelta(hours=1)):
        with pytest.raises(decisions.EvidenceRefused, match="came before the decision"):
            further(other, ruling, evidence=Evidence("Message 1", at))
    with pytest.raises(decisions.EvidenceRefused, match="Name the new evidence"):
        further(other, ruling, evidence=Evidence(" ", timezone.now()))
    fresh = world.delivered("1")
    with pytest.raises(decisions.EvidenceRefused, match=r"No decision on order .* is final"):
        decisions.request(
            other,
            fresh.pk,
            amount=Decimal("0.3"),
            clause=Clause.WRONG_SERVICE,
            reason="So",
            key=uuid4(),
            evidence=new_evidence(),
        )


def test_the_form_of_a_further_request_sent_twice_is_one_request(agent, colleague, senior, other):
    ruling, key, evidence = ruled(agent, colleague, senior), uuid4(), new_evidence()
    first = further(other, ruling, key=key, evidence=evidence)
    assert further(other, ruling, key=key, evidence=evidence) == first
    with pytest.raises(RequestConflict):
        further(other, ruling, key=key, evidence=Evidence("Message 8", evidence.at))


def test_a_dispute_of_a_further_request_is_not_resolved_by_who_took_part_before(
    agent, colleague, senior, other, third
):
    asked = further(other, ruled(agent, colleague, senior))
    decisions.deny(third, asked.pk, reason="It shows nothing")
    disputes.dispute(asked.pk, actor=world.TESTER)
    with pytest.raises(OwnRequest, match="took part in the earlier decision on this order"):
        disputes.overturn(senior, asked.pk, reason="Well")
    fourth = person("Senior agent")
    assert disputes.overturn(fourth, asked.pk, reason="Well").state == "overturned"


@pytest.mark.parametrize("resolved", [disputes.uphold, disputes.dismiss])
def test_what_waited_when_another_request_was_decided_for_good_is_not_granted(
    agent, colleague, senior, other, resolved
):
    order = world.delivered("1")
    first = world.requested(agent, order, "0.4")
    decisions.deny(colleague, first.pk, reason="No evidence")
    second = world.requested(agent, order, "0.3", clause=Clause.WRONG_SERVICE)
    disputes.dispute(first.pk, actor=world.TESTER)
    resolved(senior, first.pk, reason="Still none")

    with pytest.raises(decisions.FinallyDecided, match=f"Refund request {first.pk} was denied"):
        decisions.approve(other, second.pk)
    assert world.balance(order.customer) == 9
    decisions.deny(other, second.pk, reason="Decided for good")


def two_denied(agent: Any, colleague: Any, *, both_disputed: bool) -> list[RefundRequest]:
    """Two denials of one order under two clauses; the first, or both, are disputed."""
    order = world.delivered("1")
    first = world.requested(agent, order, "0.4")
    decisions.deny(colleague, first.pk, reason="No evidence")
    second = world.requested(agent, order, "0.3", clause=Clause.WRONG_SERVICE)
    disputes.dispute(first.pk, actor=world.TESTER)
    if both_disputed:
        decisions.deny(person("Senior agent"), second.pk, reason="No evidence")
        disputes.dispute(second.pk, actor=world.TESTER)
    return [first, second]


@pytest.mark.parametrize("resolved", [disputes.uphold, disputes.dismiss])
def test_what_is_disputed_after_another_request_was_decided_for_good_is_not_overturned(
    agent, colleague, senior, other, third, resolved
):
    first, second = two_denied(agent, colleague, both_disputed=False)
    resolved(senior, first.pk, reason="Still none")
    decisions.deny(third, second.pk, reason="Decided for good")
    disputes.dispute(second.pk, actor=world.TESTER)

    with pytest.raises(decisions.FinallyDecided, match=f"Refund request {first.pk} was denied"):
        disputes.overturn(other, second.pk, reason="Well")
    assert world.balance(first.order.customer) == 9
    assert disputes.uphold(other, second.pk, reason="Decided for good").state == "upheld"


def test_what_both_were_disputed_before_the_decision_stays_open_to_who_took_no_part(
    agent, colleague, senior, other
):
    first, second = two_denied(agent, colleague, both_disputed=True)
    disputes.uphold(senior, first.pk, reason="Still none")
    for resolved in RESOLVED:
        with pytest.raises(OwnRequest, match="took part in the earlier decision on this order"):
            resolved(senior, second.pk, reason="Well")
    assert world.balance(first.order.customer) == 9
    disputes.overturn(other, second.pk, reason="It shows the wrong service")
    assert world.balance(first.order.customer) == Decimal("9.3")


def test_what_can_be_done_next_names_the_final_decision_and_nothing_against_it(
    agent, colleague, senior
):
    ruling = ruled(agent, colleague, senior)
    assert explain(ruling.order_id).next == (
        f"{ruling} is final.",
        "Only with new evidence can a senior agent who took no part open a further request, of up "
        "to 1.0000 USD.",
    )


# --- the database, in raw SQL ---


def test_the_database_takes_no_request_after_a_final_decision_that_does_not_name_it(
    agent, colleague, senior, other, third
):
    ruling, elsewhere = ruled(agent, colleague, senior), ruled(agent, colleague, senior)
    order = ruling.order
    right = {
        "further_to_id": ruling.pk,
        "evidence": "'Message 7'",
        "evidence_at": "clock_timestamp()",
    }
    final = "what was decided for good is opened again as a further request to it"
    assert_refused(RESTRICT, final, insert(order, other))
    assert_refused(
        RESTRICT, final, insert(order, other, **{**right, "further_to_id": elsewhere.pk})
    )
    assert_refused(RESTRICT, final, insert(world.delivered("1"), other, **right))
    named = "request_further_names_its_evidence"
    for wrong in ({"evidence": "''"}, {"evidence_at": "NULL"}, {"further_to_id": "NULL"}):
        assert_refused(CHECK, named, insert(order, other, **{**right, **wrong}))
    old = f"(SELECT resolved_at FROM refunds_refundrequest WHERE id = {ruling.pk})"
    assert_refused(
        RESTRICT,
        "its evidence came before the decision",
        insert(order, other, **{**right, "evidence_at": old}),
    )
    part = "took part in an earlier decision on its order"
    for who in (agent, colleague, senior):
        assert_refused(RESTRICT, part, insert(order, who, **right))
    run(insert(order, other, **right))


def test_the_database_lets_nobody_decide_a_further_request_who_took_part_before(
    agent, colleague, senior, other, third
):
    asked = further(other, ruled(agent, colleague, senior))
    part = "took part in an earlier decision on its order"
    for state in ("approved", "denied"):
        assert_refused(RESTRICT, part, decide(asked, state, senior))
    decisions.deny(third, asked.pk, reason="It shows nothing")
    disputes.dispute(asked.pk, actor=world.TESTER)
    for state in ("upheld", "overturned", "dismissed"):
        assert_refused(RESTRICT, part, resolve(asked, state, senior))


def test_the_database_fixes_the_evidence_and_grants_nothing_that_was_decided_for_good(
    agent, colleague, senior, other
):
    order = world.delivered("1")
    first = world.requested(agent, order, "0.4")
    decisions.deny(colleague, first.pk, reason="No evidence")
    second = world.requested(agent, order, "0.3", clause=Clause.WRONG_SERVICE)
    disputes.dispute(first.pk, actor=world.TESTER)
    disputes.uphold(senior, first.pk, reason="Still none")
    assert_refused(
        RESTRICT, "was decided for good since it was asked for", decide(second, "approved", other)
    )
    decisions.deny(other, second.pk, reason="No")
    asked = further(person("Senior agent"), first)
    for assignment in ("evidence = 'Other'", "evidence_at = now()", "further_to_id = NULL"):
        assert_refused(
            RESTRICT,
            "its terms",
            decide(asked, "denied", person("Senior agent"), f", {assignment}"),
        )


def test_the_database_overturns_nothing_that_was_disputed_after_its_order_was_decided_for_good(
    agent, colleague, senior, other, third
):
    first, second = two_denied(agent, colleague, both_disputed=False)
    disputes.uphold(senior, first.pk, reason="Still none")
    decisions.deny(third, second.pk, reason="Decided for good")
    disputes.dispute(second.pk, actor=world.TESTER)
    assert_refused(
        RESTRICT,
        "was decided for good since it was asked for",
        resolve(second, "overturned", other),
    )


def test_the_database_lets_nobody_resolve_a_second_dispute_of_an_order_who_took_part_in_the_first(
    agent, colleague, senior, other
):
    first, second = two_denied(agent, colleague, both_disputed=True)
    disputes.uphold(senior, first.pk, reason="Still none")
    part = "took part in an earlier decision on its order"
    for who in (colleague, senior):
        for state in ("upheld", "overturned", "dismissed"):
            assert_refused(RESTRICT, part, resolve(second, state, who))
    run(resolve(second, "upheld", other))
