"""The rules of decisions, wallets' states, reversals and seals, attacked in raw SQL.

Each attack is made as the owner of the tables and as the application's role.
"""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from orders import termination
from refunds.tests import world
from wallet import claims, corrections, standing
from wallet.models import Correction, Deposit, Transfer, Wallet
from wallet.tests.attack import CHECK, RESTRICT, UNIQUE, assert_refused, run
from wallet.tests.world import person

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books, pytest.mark.servers]


@pytest.fixture
def senior():
    return person("Senior agent")


@pytest.fixture
def other():
    return person("Senior agent")


@pytest.fixture
def ada():
    return world.customer("10")


def line(
    customer,
    kind: str,
    debit: object,
    credit: object,
    amount: str,
    *,
    reverses: object = "NULL",
    currency: str = "USD",
    at: str = "clock_timestamp()",
) -> str:
    """INSERT of the wallet's next line, right but for what the attack is about."""
    wallet = Wallet.objects.get(pk=customer.pk)
    sign = "-" if debit == customer.pk else "+"
    return (
        "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, currency, key,"
        " posted_at, wallet_id, wallet_version, balance_after, reverses_id) VALUES"
        f" ('{kind}', {debit}, {credit}, {amount}, '{currency}', 'attack-{uuid4()}', {at},"
        f" {wallet.pk}, {wallet.version + 1}, {wallet.balance} {sign} {amount}, {reverses})"
    )


def deposit_of(customer) -> Transfer:
    return Transfer.objects.get(wallet=customer.pk, kind="deposit")


def goodwill(senior, customer) -> Correction:
    return corrections.request_goodwill(
        senior, customer.pk, amount=Decimal(2), reason="Waited", key=uuid4()
    )


# --- states of wallets ---


@pytest.mark.parametrize(
    ("kind", "debit", "credit"),
    [("purchase", "wallet", 2), ("rounding", "wallet", 8)],
)
def test_nothing_is_spent_from_a_frozen_wallet(senior, kind, debit, credit):
    ada = world.customer("0.0099")
    standing.freeze(senior, ada.pk, reason="Odd")
    assert_refused(
        CHECK, f"is frozen: it takes no {kind}", line(ada, kind, ada.pk, credit, "0.0099")
    )


def test_money_arrives_in_a_frozen_wallet(senior, ada):
    standing.freeze(senior, ada.pk, reason="Odd")
    run(line(ada, "deposit", 1, ada.pk, "5"))
    assert world.balance(ada) == 15


@pytest.mark.parametrize("state", ["forfeited", "closed"])
@pytest.mark.parametrize(
    ("kind", "account"), [("deposit", 1), ("auto_refund", 2), ("goodwill", 7), ("adjustment", 9)]
)
def test_nothing_moves_on_a_wallet_that_has_ended(state, kind, account):
    ada = world.customer("0")
    run(f"UPDATE wallet_wallet SET state = '{state}' WHERE customer_id = {ada.pk}")
    assert_refused(
        CHECK,
        f"wallet {ada.pk} is {state}: it takes no {kind}",
        line(ada, kind, account, ada.pk, "1"),
    )


@pytest.mark.parametrize("state", ["forfeited", "closed"])
def test_nothing_moves_through_a_wallet_that_has_ended(state):
    ada = world.customer("0")
    run(f"UPDATE wallet_wallet SET state = '{state}' WHERE customer_id = {ada.pk}")
    there = line(ada, "deposit", 1, ada.pk, "1")
    back = f", ('purchase', {ada.pk}, 2, 1, 'USD', 'back', clock_timestamp(), {ada.pk}, 2, 0, NULL)"
    assert_refused(CHECK, f"is {state}: it takes no ", there + back)


@pytest.mark.parametrize("state", ["forfeited", "closed", "sleeping"])
def test_a_wallet_with_money_does_not_end_and_has_no_other_state(ada, state):
    assert_refused(
        CHECK,
        "wallet_ends_empty",
        f"UPDATE wallet_wallet SET state = '{state}' WHERE customer_id = {ada.pk}",
    )


def test_a_wallet_and_a_transfer_are_in_usd(ada):
    assert_refused(
        CHECK, "transfer_currency_is_usd", line(ada, "deposit", 1, ada.pk, "1", currency="EUR")
    )
    assert_refused(
        CHECK,
        "wallet_currency_is_usd",
        f"UPDATE wallet_wallet SET currency = 'EUR' WHERE customer_id = {ada.pk}",
    )


def test_time_follows_version(ada):
    assert_refused(
        CHECK,
        "is earlier than the one before it",
        line(ada, "deposit", 1, ada.pk, "1", at="now() - interval '1 hour'"),
    )


def test_rounding_is_less_than_a_cent(ada):
    assert_refused(
        CHECK, "transfer_kind_names_its_accounts", line(ada, "rounding", ada.pk, 8, "0.01")
    )


# --- reversals ---


def test_a_reversal_is_exact_and_of_what_can_be_reversed(ada):
    deposit = deposit_of(ada).pk
    for attack in (
        line(ada, "reversal", ada.pk, 1, "9.9999", reverses=deposit),
        line(ada, "reversal", ada.pk, 3, "10", reverses=deposit),
        line(ada, "reversal", 1, ada.pk, "10", reverses=deposit),
    ):
        assert_refused(CHECK, "is not the exact reversal", attack)
    order = world.place(ada, world.offer("0.5"))
    assert_refused(
        CHECK,
        "is not the exact reversal",
        line(ada, "reversal", 2, ada.pk, "0.5", reverses=order.purchase_id),
    )
    assert_refused(
        CHECK, "transfer_kind_names_its_accounts", line(ada, "reversal", ada.pk, 1, "9.5")
    )
    assert_refused(
        CHECK,
        "transfer_only_a_reversal_reverses",
        line(ada, "deposit", 1, ada.pk, "10", reverses=deposit),
    )


def test_a_transfer_is_reversed_once_and_a_reversal_never(senior, ada):
    finance = person("Finance")
    deposit = deposit_of(ada)
    asked = corrections.request_reversal(finance, deposit.pk, reason="Mistake", key=uuid4())
    done = corrections.confirm(senior, asked.pk)
    run(line(ada, "deposit", 1, ada.pk, "10"))
    assert_refused(
        UNIQUE,
        "transfer_reversed_once",
        line(ada, "reversal", ada.pk, 1, "10", reverses=deposit.pk),
    )
    assert_refused(
        CHECK,
        "is not the exact reversal",
        line(ada, "reversal", 1, ada.pk, "10", reverses=done.transfer_id),
    )


# --- decisions ---


@pytest.mark.parametrize(
    ("kind", "account"), [("goodwill", 7), ("adjustment", 9), ("reinstatement", 6)]
)
def test_money_that_two_people_decide_about_does_not_move_without_them(ada, kind, account):
    assert_refused(
        CHECK, f"a {kind} needs the decision of two", line(ada, kind, account, ada.pk, "1")
    )


def test_a_reversal_and_a_forfeiture_need_their_decision(ada):
    assert_refused(
        CHECK,
        "a reversal needs the decision of two",
        line(ada, "reversal", ada.pk, 1, "10", reverses=deposit_of(ada).pk),
    )
    assert_refused(
        CHECK, "a forfeiture needs the decision of two", line(ada, "forfeiture", ada.pk, 6, "10")
    )


@pytest.mark.parametrize("state", ["confirmed", "rejected"])
def test_nobody_decides_their_own_request(senior, ada, state):
    asked = goodwill(senior, ada)
    transfer = deposit_of(ada).pk if state == "confirmed" else "NULL"
    assert_refused(
        CHECK,
        "correction_decided_by_a_second_person",
        f"UPDATE wallet_correction SET state = '{state}', decided_by_id = {senior.pk},"
        f" decided_at = now(), transfer_id = {transfer} WHERE id = {asked.pk}",
    )


def test_only_the_requester_withdraws(senior, other, ada):
    asked = goodwill(senior, ada)
    assert_refused(
        CHECK,
        "correction_decided_by_a_second_person",
        f"UPDATE wallet_correction SET state = 'withdrawn', decided_by_id = {other.pk},"
        f" decided_at = now() WHERE id = {asked.pk}",
    )


def test_a_confirmation_names_the_money_that_it_moved(senior, other, ada):
    asked = goodwill(senior, ada)
    confirm = (
        "UPDATE wallet_correction SET state = 'confirmed', decided_at = now(),"
        f" decided_by_id = {other.pk}, transfer_id = %s WHERE id = {asked.pk}"
    )
    assert_refused(CHECK, "correction_moves_money_when_confirmed", confirm % "NULL")
    assert_refused(CHECK, "does not agree with its transfer", confirm % deposit_of(ada).pk)


@pytest.mark.parametrize(
    "change", ["amount = 200", "reason = 'Another'", "kind = 'adjustment'", "customer_id = NULL"]
)
def test_the_terms_of_a_request_are_fixed(senior, ada, change):
    asked = goodwill(senior, ada)
    assert_refused(
        RESTRICT,
        "its terms are fixed",
        f"UPDATE wallet_correction SET {change} WHERE id = {asked.pk}",
    )


def test_a_decision_is_final_and_kept(senior, other, ada):
    done = corrections.confirm(other, goodwill(senior, ada).pk)
    assert_refused(
        RESTRICT,
        "is decided: a decision is final",
        f"UPDATE wallet_correction SET decision_reason = 'Other' WHERE id = {done.pk}",
    )
    for table in ("correction", "claim", "termination", "reinstatement", "seal"):
        assert_refused(RESTRICT, "append-only", f"DELETE FROM wallet_{table}")
        assert_refused(RESTRICT, "append-only", f"TRUNCATE wallet_{table} CASCADE")


def test_a_termination_forfeits_what_it_says(senior, other, ada):
    done = termination.confirm(
        other, termination.request(senior, ada.pk, reason="Resold", key=uuid4()).pk
    )
    assert_refused(
        RESTRICT,
        "is decided: a decision is final",
        f"UPDATE wallet_termination SET wallet_amount = 9 WHERE id = {done.pk}",
    )
    asked = (
        "INSERT INTO wallet_reinstatement (state, reason, requested_by_id, requested_at,"
        " request_key, decision_reason, termination_id, amount) VALUES ('requested', 'Mix-up',"
        f" {senior.pk}, now(), gen_random_uuid(), '', {done.pk}, %s)"
    )
    assert_refused(CHECK, "does not agree with its termination", asked % "9.99")
    run(asked % "10")
    assert_refused(UNIQUE, "reinstatement_once", asked % "10")


def test_a_customer_is_terminated_once_at_a_time(senior, ada):
    termination.request(senior, ada.pk, reason="Resold", key=uuid4())
    assert_refused(
        UNIQUE,
        "termination_one_at_a_time",
        "INSERT INTO wallet_termination (state, reason, requested_by_id, requested_at,"
        " request_key, decision_reason, customer_id, froze, wallet_amount, orders_amount,"
        " orders_ended, reinstated) VALUES ('requested', 'Again',"
        f" {senior.pk}, now(), gen_random_uuid(), '', {ada.pk}, false, 0, 0, 0, false)",
    )


def test_what_a_claim_says_is_fixed(senior, ada):
    deposit = Deposit.objects.get(transfer__wallet=ada.pk)
    claim = claims.record(senior, deposit.pk, reference="cb-1", evidence="Filed")
    assert_refused(
        RESTRICT,
        "what was recorded is fixed",
        f"UPDATE wallet_claim SET evidence = 'Other' WHERE id = {claim.pk}",
    )
    claims.dismiss(senior, claim.pk, reason="Wrong")
    assert_refused(
        RESTRICT,
        "a dismissal is final",
        f"UPDATE wallet_claim SET decision_reason = 'Right' WHERE id = {claim.pk}",
    )


# --- two sessions at once ---


@pytest.mark.django_db(transaction=True)
def test_a_raw_insert_waits_for_a_change_of_state_and_is_refused():
    ada = world.customer("0")
    names = {"dbname", "user", "password", "host", "port"}
    given = connection.get_connection_params().items()
    with psycopg.connect(**{name: value for name, value in given if name in names}) as another:
        another.execute(
            "UPDATE wallet_wallet SET state = 'forfeited' WHERE customer_id = %s", [ada.pk]
        )
        attack = line(ada, "deposit", 1, ada.pk, "1")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        # It does not pass the change that is under way; once that is committed it is refused.
        assert_refused("55P03", "lock timeout", attack)
        another.commit()
    assert_refused(CHECK, f"wallet {ada.pk} is forfeited: it takes no deposit", attack)
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")
