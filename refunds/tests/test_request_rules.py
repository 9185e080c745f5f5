"""The rules of refunds that people decide, attacked in raw SQL.

Each attack is made as the owner of the tables and as the application's role.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from orders.models import Order
from refunds import decisions, disputes
from refunds.models import RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from wallet import corrections
from wallet.models import Correction, Transfer, Wallet
from wallet.tests.attack import (
    CHECK,
    FOREIGN_KEY,
    NOT_NULL,
    RESTRICT,
    UNIQUE,
    assert_refused,
    run,
)
from wallet.tests.world import person

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books, pytest.mark.servers]

TABLE = "refunds_refundrequest"


@pytest.fixture
def agent():
    return person("Support agent")


@pytest.fixture
def colleague():
    return person("Support agent")


@pytest.fixture
def senior():
    return person("Senior agent")


@pytest.fixture
def other():
    return person("Senior agent")


@pytest.fixture
def asked(agent):
    return world.requested(agent, world.delivered("1"), "0.4")


@pytest.fixture
def denied(agent, colleague):
    made = world.requested(agent, world.delivered("1"), "0.4")
    return decisions.deny(colleague, made.pk, reason="No evidence")


@pytest.fixture
def disputed(denied):
    return disputes.dispute(denied.pk, actor=world.TESTER)


def insert(order: Order, by: Any, **columns: object) -> str:
    """INSERT of a request, right but for what the attack is about."""
    values = {
        "order_id": order.pk,
        "clause": "'ticket.service_rejected'",
        "amount": "0.4",
        "reason": "'Region'",
        "state": "'requested'",
        "policy_version": "'2026-05-07'",
        "facts": "'{}'",
        "verdict": "'ticket'",
        "verdict_clause": "'ticket.service_rejected'",
        "verdict_why": "'So'",
        "requested_by_id": by.pk,
        "requested_at": "now()",
        "request_key": "gen_random_uuid()",
        "decision_reason": "''",
        "against_verdict": "false",
        "resolution_reason": "''",
        **columns,
    }
    return (
        f"INSERT INTO {TABLE} ({', '.join(values)}) VALUES ({', '.join(map(str, values.values()))})"
    )


def change(of: RefundRequest, assignments: str) -> str:
    return f"UPDATE {TABLE} SET {assignments} WHERE id = {of.pk}"


def decide(of: RefundRequest, state: str, by: Any, more: str = "") -> str:
    return change(
        of,
        f"state = '{state}', decided_by_id = {by.pk}, decided_at = now(),"
        f" decision_reason = 'So' {more}",
    )


def resolve(of: RefundRequest, state: str, by: Any, more: str = "") -> str:
    return change(
        of,
        f"state = '{state}', resolved_by_id = {by.pk}, resolved_at = now(),"
        f" resolution_reason = 'So' {more}",
    )


def line(customer: Any, kind: str, debit: int, amount: str) -> str:
    """INSERT of the wallet's next line."""
    wallet = Wallet.objects.get(pk=customer.pk)
    return (
        "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, currency, key,"
        " posted_at, wallet_id, wallet_version, balance_after) VALUES"
        f" ('{kind}', {debit}, {wallet.pk}, {amount}, 'USD', 'attack-{uuid4()}',"
        f" clock_timestamp(), {wallet.pk}, {wallet.version + 1}, {wallet.balance} + {amount})"
    )


def refund(order: Order, by: Any, request: object, **columns: object) -> str:
    """INSERT of the refund that the last transfer paid."""
    values = {
        "order_id": order.pk,
        "clause": "'ticket.service_rejected'",
        "policy_version": "'2026-05-07'",
        "facts": "'{}'",
        "amount": "0.4",
        "created_at": "now()",
        "part": "1",
        "decided_by_id": by.pk,
        "reason": "'Region'",
        "request_id": request,
        **columns,
    }
    return (
        f"INSERT INTO refunds_refund (transfer_id, {', '.join(values)})"
        f" SELECT max(id), {', '.join(map(str, values.values()))} FROM wallet_transfer"
    )


def paid(order: Order, amount: str = "0.4") -> str:
    return line(order.customer, "decided_refund", 3, amount)


# --- what can be asked ---


@pytest.mark.parametrize(
    ("columns", "sqlstate", "rule"),
    [
        ({"amount": "0"}, CHECK, "request_amount_positive"),
        ({"amount": "-1"}, CHECK, "request_amount_positive"),
        ({"amount": "'NaN'"}, CHECK, "_amount_check"),
        ({"amount": "NULL"}, NOT_NULL, "amount"),
        ({"reason": "''"}, CHECK, "request_has_a_reason"),
        ({"clause": "'auto.no_sms_in_time'"}, CHECK, "request_clause_is_one_that_people_decide"),
        ({"clause": "'mercy'"}, CHECK, "request_clause_is_one_that_people_decide"),
        ({"clause": "''"}, CHECK, "request_clause_is_one_that_people_decide"),
        ({"state": "'approved'"}, RESTRICT, "it begins by being requested"),
        ({"state": "'escalated'"}, RESTRICT, "it begins by being requested"),
        ({"state": "'denied'"}, RESTRICT, "it begins by being requested"),
        ({"decided_at": "now()"}, CHECK, "request_decided_by_another_when_approved"),
        ({"decision_reason": "'So'"}, CHECK, "request_decided_by_another_when_approved"),
        ({"disputed_at": "now()"}, CHECK, "request_dispute_resolved_by_a_third_person"),
        ({"resolved_at": "now()"}, CHECK, "request_dispute_resolved_by_a_third_person"),
        ({"resolution_reason": "'So'"}, CHECK, "request_dispute_resolved_by_a_third_person"),
        ({"against_verdict": "true"}, CHECK, "request_against_the_verdict_with_a_reason"),
        ({"requested_by_id": "NULL"}, NOT_NULL, "requested_by_id"),
        ({"requested_by_id": "999999"}, FOREIGN_KEY, "requested_by_id"),
        ({"order_id": "999999999"}, FOREIGN_KEY, "order_id"),
    ],
)
def test_a_request_is_whole_and_undecided(agent, columns, sqlstate, rule):
    assert_refused(sqlstate, rule, insert(world.delivered(), agent, **columns))


def test_what_the_attacks_begin_with_is_right(agent):
    run(insert(world.delivered(), agent))
    assert RefundRequest.objects.get().state == "requested"


def test_one_request_of_an_order_is_open_and_a_form_is_one_request(agent, asked):
    assert_refused(UNIQUE, "request_one_open_an_order", insert(asked.order, agent))
    run(change(asked, "state = 'escalated'"))
    assert_refused(UNIQUE, "request_one_open_an_order", insert(asked.order, agent))
    assert_refused(
        UNIQUE,
        "request_key",
        insert(world.delivered(), agent, request_key=f"'{asked.request_key}'"),
    )


# --- the order of the steps ---

STATES = RefundRequest.State.values
LEADS = {
    "requested": {"escalated", "withdrawn", "approved", "denied"},
    "escalated": {"withdrawn", "approved", "denied"},
    "denied": {"disputed"},
    "disputed": {"upheld", "overturned", "dismissed"},
}


def brought_to(state: str, agent: Any, colleague: Any, senior: Any) -> RefundRequest:
    made = world.requested(agent, world.delivered("1"), "0.4")
    if state == "escalated":
        decisions.escalate(agent, made.pk, reason="Odd")
    elif state == "withdrawn":
        decisions.withdraw(agent, made.pk)
    elif state == "approved":
        decisions.approve(colleague, made.pk)
    elif state != "requested":
        decisions.deny(colleague, made.pk, reason="No evidence")
        if state != "denied":
            disputes.dispute(made.pk, actor=world.TESTER)
    last = {
        "upheld": disputes.uphold,
        "overturned": disputes.overturn,
        "dismissed": disputes.dismiss,
    }
    if state in last:
        last[state](senior, made.pk, reason="So it is")
    return RefundRequest.objects.get(pk=made.pk)


@pytest.mark.parametrize("state", STATES)
def test_each_step_leads_from_the_one_before_it(state, agent, colleague, senior):
    made = brought_to(state, agent, colleague, senior)

    assert made.state == state
    for target in [*STATES, "elsewhere"]:
        if target not in LEADS.get(state, set()):
            assert_refused(
                RESTRICT,
                f"from {state} it does not go to {target}",
                change(made, f"state = '{target}'"),
            )


@pytest.mark.parametrize(
    "assignment",
    [
        "amount = 0.9",
        "clause = 'ticket.wrong_service'",
        "reason = 'Another'",
        "policy_version = '2027-01-01'",
        "facts = '{}'",
        "verdict = 'none'",
        "verdict_clause = ''",
        "verdict_why = 'Other'",
        "order_id = order_id + 1",
        "requested_by_id = decided_by_id",
        "requested_at = now()",
        "request_key = gen_random_uuid()",
        "id = id + 1000",
    ],
)
def test_the_terms_are_fixed_at_every_step(asked, denied, colleague, senior, assignment):
    for attack in (
        change(asked, f"state = 'escalated', {assignment}"),
        decide(asked, "denied", colleague, f", {assignment}"),
        change(denied, f"state = 'disputed', disputed_at = now(), {assignment}"),
        change(asked, assignment),
    ):
        refused = "its terms and what was decided are fixed" if "state =" in attack else "from "
        assert_refused(RESTRICT, refused, attack)


@pytest.mark.parametrize(
    "assignment",
    [
        "decided_at = now()",
        "decision_reason = 'Other'",
        "decided_by_id = requested_by_id",
        "against_verdict = true",
        "goodwill_id = 1",
        "resolution_reason = 'So'",
    ],
)
def test_what_was_decided_stays_when_it_is_disputed(denied, assignment):
    assert_refused(
        RESTRICT,
        "its terms and what was decided are fixed",
        change(denied, f"state = 'disputed', disputed_at = now(), {assignment}"),
    )


@pytest.mark.parametrize(
    "assignment", ["decided_at = now()", "decision_reason = 'x'", "disputed_at = now()"]
)
def test_what_was_decided_stays_when_it_is_resolved(disputed, senior, assignment):
    assert_refused(
        RESTRICT,
        "its terms and what was decided are fixed",
        resolve(disputed, "upheld", senior, f", {assignment}"),
    )


def test_requests_and_their_history_are_kept(asked):
    assert_refused(RESTRICT, "append-only", f"DELETE FROM {TABLE} WHERE id = {asked.pk}")
    assert_refused(RESTRICT, "append-only", f"TRUNCATE {TABLE} CASCADE")
    history = "refunds_historicalrefundrequest"
    assert_refused(RESTRICT, "append-only", f"DELETE FROM {history}")
    assert_refused(RESTRICT, "append-only", f"TRUNCATE {history}")
    assert_refused(RESTRICT, "append-only", f"UPDATE {history} SET history_actor = 'somebody'")


# --- who ---

APART = "request_decided_by_another_when_approved"
THIRD = "request_dispute_resolved_by_a_third_person"


def test_nobody_approves_what_they_requested(asked, agent):
    assert_refused(
        CHECK,
        APART,
        paid(asked.order),
        decide(asked, "approved", agent),
        refund(asked.order, agent, asked.pk),
    )


@pytest.mark.parametrize("state", ["approved", "denied", "withdrawn"])
@pytest.mark.parametrize("missing", ["decided_by_id", "decided_at"])
def test_a_decision_names_who_and_when(asked, agent, colleague, state, missing):
    by = agent if state == "withdrawn" else colleague
    columns = {"decided_by_id": by.pk, "decided_at": "now()", missing: "NULL"}
    assert_refused(
        CHECK,
        APART,
        change(
            asked,
            f"state = '{state}', decision_reason = 'So', "
            + ", ".join(f"{name} = {value}" for name, value in columns.items()),
        ),
    )


def test_a_denial_has_a_reason_and_only_the_requester_withdraws(asked, colleague):
    assert_refused(CHECK, APART, decide(asked, "denied", colleague).replace("'So'", "''"))
    assert_refused(CHECK, APART, decide(asked, "withdrawn", colleague))


def test_against_the_verdict_has_a_reason(asked, colleague):
    attack = decide(asked, "approved", colleague, ", against_verdict = true")
    assert_refused(CHECK, "request_against_the_verdict_with_a_reason", attack.replace("'So'", "''"))


@pytest.mark.parametrize("state", ["upheld", "overturned", "dismissed"])
def test_a_senior_who_took_part_resolves_nothing(disputed, agent, colleague, state):
    for by in (agent, colleague):
        assert_refused(CHECK, THIRD, resolve(disputed, state, by))


@pytest.mark.parametrize("state", ["upheld", "overturned", "dismissed"])
@pytest.mark.parametrize(
    "missing", ["resolved_by_id = NULL", "resolved_at = NULL", "resolution_reason = ''"]
)
def test_a_resolution_names_who_when_and_why(disputed, senior, state, missing):
    name = missing.split(" ", maxsplit=1)[0]
    columns = {
        "resolved_by_id": f"resolved_by_id = {senior.pk}",
        "resolved_at": "resolved_at = now()",
        "resolution_reason": "resolution_reason = 'So'",
        name: missing,
    }
    assert_refused(
        CHECK, THIRD, change(disputed, f"state = '{state}', {', '.join(columns.values())}")
    )


def test_a_dispute_has_its_moment(denied):
    assert_refused(CHECK, THIRD, change(denied, "state = 'disputed'"))


# --- money and decision go together ---

UNPAID = "is granted and its money has not moved"


def test_what_is_granted_is_paid(asked, disputed, colleague, senior):
    assert_refused(CHECK, UNPAID, decide(asked, "approved", colleague))
    assert_refused(CHECK, UNPAID, resolve(disputed, "overturned", senior))
    # Money alone is not enough either.
    assert_refused(
        CHECK,
        "a decided refund needs its decision",
        paid(asked.order),
        decide(asked, "approved", colleague),
    )


def test_what_is_paid_was_granted(asked, denied, agent, colleague):
    order = asked.order
    assert_refused(CHECK, "a decided refund needs its decision", paid(order))
    assert_refused(
        CHECK,
        "refund_automatic_or_decided_by_a_person",
        paid(order),
        refund(order, colleague, "NULL"),
    )
    for request in (asked, denied):
        assert_refused(
            CHECK,
            "does not agree with its request",
            paid(request.order),
            refund(request.order, colleague, request.pk),
        )


def test_a_right_grant_passes(asked, colleague):
    run(
        decide(asked, "approved", colleague),
        paid(asked.order),
        refund(asked.order, colleague, asked.pk),
    )
    assert world.balance(asked.order.customer) == Decimal("9.4")


@pytest.mark.parametrize(
    "columns",
    [
        {"clause": "'ticket.wrong_service'"},
        {"policy_version": "'2027-01-01'"},
        {"amount": "0.5"},
        {"decided_by_id": "requester"},
        {"order_id": "another"},
    ],
)
def test_a_refund_is_what_was_granted(asked, agent, colleague, columns):
    order = another = asked.order
    if columns.get("order_id"):
        another = world.delivered("1", of=order.customer)
        columns = {"order_id": another.pk}
    if columns.get("decided_by_id"):
        columns = {"decided_by_id": agent.pk}
    assert_refused(
        CHECK,
        "does not agree with its request",
        decide(asked, "approved", colleague),
        paid(another, str(columns.get("amount", "0.4"))),
        refund(another, colleague, asked.pk, **columns),
    )


def test_a_request_is_paid_once(agent, colleague):
    order = world.delivered("1")
    done = world.refunded(agent, colleague, order, "0.4")
    assert_refused(
        UNIQUE,
        "refunds_refund_request_id",
        paid(order),
        refund(order, colleague, done.request_id, part=2),
    )


def test_a_refund_goes_to_the_order_s_own_customer(asked, colleague):
    assert_refused(
        CHECK,
        "does not agree with its transfer",
        decide(asked, "approved", colleague),
        line(world.customer("1"), "decided_refund", 3, "0.4"),
        refund(asked.order, colleague, asked.pk),
    )


def test_an_order_that_was_not_delivered_is_not_refunded_by_a_person(agent, colleague):
    order = world.allocated()
    run(insert(order, agent))
    made = RefundRequest.objects.get()
    assert_refused(
        CHECK,
        "was not delivered, or would be refunded more",
        decide(made, "approved", colleague),
        paid(order),
        refund(order, colleague, made.pk),
    )


@pytest.mark.parametrize(("amount", "allowed"), [("0.4001", False), ("0.4", True)])
def test_the_parts_of_a_refund_stay_within_the_price(agent, colleague, amount, allowed):
    order = world.delivered("1")
    world.refunded(agent, colleague, order, "0.6")
    run(insert(order, agent, amount=amount))
    made = RefundRequest.objects.latest("pk")
    grant = [
        decide(made, "approved", colleague),
        paid(order, amount),
        refund(order, colleague, made.pk, amount=amount, part=2),
    ]
    if allowed:
        run(*grant)
        assert decisions.left_to_refund(order) == 0
    else:
        assert_refused(CHECK, "would be refunded more than its price", *grant)


# --- goodwill ---

KIND = "request_goodwill_when_not_refundable"


@pytest.fixture
def kind(agent):
    return world.requested(agent, world.delivered("1"), "0.4", clause=Clause.ORDERED_WRONG)


def given(by: Any, confirmer: Any, customer: Any, amount: str) -> Correction:
    with connection.cursor() as cursor:
        # As at the beginning of a transaction, whatever was attacked before.
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    made = corrections.request_goodwill(
        by, customer.pk, amount=Decimal(amount), reason="Waited", key=uuid4()
    )
    return corrections.confirm(confirmer, made.pk)


def test_what_is_not_refundable_is_granted_as_goodwill_alone(kind, agent, senior):
    order = kind.order
    assert_refused(CHECK, KIND, decide(kind, "approved", senior))
    assert_refused(
        CHECK,
        "refund_clause_known",
        paid(order),
        refund(order, senior, kind.pk, clause="'none.ordered_wrong'"),
    )
    # Under another clause it is not what was granted.
    correction = given(agent, senior, order.customer, "0.4")
    assert_refused(
        CHECK,
        "does not agree with its request",
        decide(kind, "approved", senior, f", goodwill_id = {correction.pk}"),
        paid(order),
        refund(order, senior, kind.pk),
    )


def test_a_refundable_clause_is_not_granted_as_goodwill_nor_a_denial(asked, kind, agent, senior):
    correction = given(agent, senior, asked.order.customer, "0.4")
    for attack in (
        decide(asked, "approved", senior, f", goodwill_id = {correction.pk}"),
        decide(kind, "denied", senior, f", goodwill_id = {correction.pk}"),
    ):
        assert_refused(CHECK, KIND, attack)


def test_the_goodwill_is_what_was_granted(kind, agent, colleague, senior, other):
    customer = kind.order.customer
    waiting = corrections.request_goodwill(
        agent, customer.pk, amount=Decimal("0.4"), reason="Waited", key=uuid4()
    )
    wrong = [
        waiting,
        given(agent, senior, customer, "0.5"),
        given(agent, senior, world.customer("1"), "0.4"),
        given(colleague, senior, customer, "0.4"),
        given(agent, other, customer, "0.4"),
    ]
    for correction in wrong:
        assert_refused(
            CHECK,
            UNPAID,
            decide(kind, "approved", senior, f", goodwill_id = {correction.pk}"),
        )
    right = given(agent, senior, customer, "0.4")
    run(decide(kind, "approved", senior, f", goodwill_id = {right.pk}"))


def test_one_goodwill_is_of_one_request(kind, agent, senior):
    done = decisions.approve(senior, kind.pk, reason="Kind")
    second = world.requested(
        agent, world.delivered("1", of=kind.order.customer), clause=Clause.ORDERED_WRONG
    )
    assert_refused(
        UNIQUE,
        "goodwill_id",
        decide(second, "approved", senior, f", goodwill_id = {done.goodwill_id}"),
    )


TOO_MUCH = "was not delivered, or would get back more than its price"


def test_goodwill_and_refunds_together_stay_within_the_price(agent, colleague, senior):
    order = world.delivered("1")
    world.refunded(agent, colleague, order, "0.7")
    run(insert(order, agent, clause="'none.ordered_wrong'"))
    made = RefundRequest.objects.latest("pk")
    correction = given(agent, senior, order.customer, "0.4")
    assert_refused(
        CHECK,
        TOO_MUCH,
        decide(made, "approved", senior, f", goodwill_id = {correction.pk}"),
    )
    # And the other way round.
    second = world.delivered("1")
    kind = world.requested(agent, second, "0.7", clause=Clause.ORDERED_WRONG)
    decisions.approve(senior, kind.pk, reason="Kind")
    run(insert(second, agent))
    later = RefundRequest.objects.latest("pk")
    assert_refused(
        CHECK,
        TOO_MUCH,
        decide(later, "approved", colleague),
        paid(second),
        refund(second, colleague, later.pk),
    )


def test_goodwill_is_for_what_was_delivered(agent, senior):
    order = world.rental("1")
    run(insert(order, agent, clause="'none.ordered_wrong'"))
    made = RefundRequest.objects.get()
    correction = given(agent, senior, order.customer, "0.4")
    assert_refused(
        CHECK,
        TOO_MUCH,
        decide(made, "approved", senior, f", goodwill_id = {correction.pk}"),
    )


# --- two sessions at once ---


@pytest.mark.django_db(transaction=True)
def test_a_raw_grant_waits_for_one_of_the_same_order_and_is_refused():
    agent, senior = person("Support agent"), person("Senior agent")
    order = world.delivered("1")
    kind = world.requested(agent, order, "0.7", clause=Clause.ORDERED_WRONG)
    correction = given(agent, senior, order.customer, "0.7")
    decisions.withdraw(agent, kind.pk)
    run(insert(order, agent, clause="'none.ordered_wrong'", amount="0.7"))
    made = RefundRequest.objects.latest("pk")
    names = {"dbname", "user", "password", "host", "port"}
    params = connection.get_connection_params().items()
    attack = decide(made, "approved", senior, f", goodwill_id = {correction.pk}")
    with psycopg.connect(**{name: value for name, value in params if name in names}) as another:
        another.execute("SELECT FROM orders_order WHERE id = %s FOR NO KEY UPDATE", [order.pk])
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        assert_refused("55P03", "lock timeout", attack)
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")
    run(attack)
    assert Transfer.objects.filter(kind="goodwill").count() == 1
