"""The rules of orders and refunds, attacked in raw SQL: each is refused by the database itself."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from django.db import connection

from orders.delivery import Arrival, record_sms
from orders.models import Offer, Order, State
from orders.upstreams.base import Message
from refunds import automatic
from refunds.models import Refund
from refunds.tests import world
from wallet.models import Transfer, Wallet
from wallet.tests.attack import CHECK, NOT_NULL, RESTRICT, UNIQUE, assert_refused, run

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books, pytest.mark.servers]

SETTLED = "order_settled_exactly_when_not_open"


def copy(table: str, pk: int, **changes: object) -> str:
    """INSERT of a copy of a row with some columns changed."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT nextval(pg_get_serial_sequence('{table}', 'id'))")
        changes = {"id": cursor.fetchone()[0], **changes}
    return (
        f"INSERT INTO {table} SELECT (jsonb_populate_record(first, '{json.dumps(changes)}')).* "
        f"FROM {table} AS first WHERE id = {pk}"
    )


def moving(kind: str, wallet_id: int, amount: str, key: str) -> str:
    """INSERT of a transfer between a wallet and escrow."""
    wallet = Wallet.objects.get(pk=wallet_id)
    out = kind == "purchase"
    debit, credit, sign = (wallet.pk, 2, "-") if out else (2, wallet.pk, "+")
    return (
        "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key, posted_at,"
        f" wallet_id, wallet_version, balance_after) VALUES ('{kind}', {debit}, {credit}, {amount},"
        f" '{key}', clock_timestamp(), {wallet.pk}, {wallet.version + 1},"
        f" {wallet.balance} {sign} {amount})"
    )


def move(kind: str, wallet_id: int, amount: str, key: str = "attack") -> int:
    """A transfer that no order knows. Returns its id."""
    run(moving(kind, wallet_id, amount, key))
    return Transfer.objects.get(key=key).pk


def paid_back(order: Order) -> int:
    """The order's price on its way back, of which the order does not know yet."""
    return move("auto_refund", order.customer_id, str(order.price), f"refund:auto:{order.pk}")


def cancel_by_hand(order: Order, settlement: int) -> str:
    return (
        f"UPDATE orders_order SET state = 'cancelled', ended_at = now(), "
        f"settlement_id = {settlement} WHERE id = {order.pk}"
    )


def refund_by_hand(order: Order, transfer: int, amount: str) -> str:
    return (
        "INSERT INTO refunds_refund (order_id, transfer_id, clause, policy_version, facts, amount,"
        f" created_at) VALUES ({order.pk}, {transfer}, 'auto.cancelled_before_sms', '2026-05-07',"
        f" '{{}}', {amount}, now())"
    )


def cancelled(order: Order | None = None) -> Order:
    order = order or world.allocated()
    automatic.cancel(order.pk, actor=world.TESTER)
    return Order.objects.get(pk=order.pk)


# --- orders ---


@pytest.mark.parametrize("state", ["expired", "cancelled", "number_broken", "allocation_failed"])
def test_an_order_never_ends_without_a_settlement(state):
    world.allocated()
    assert_refused(CHECK, SETTLED, f"UPDATE orders_order SET state = '{state}', ended_at = now()")


@pytest.mark.parametrize("state", ["sms_received", "completed", "ended"])
def test_an_order_is_never_delivered_without_a_settlement(state):
    world.allocated()
    assert_refused(
        CHECK,
        SETTLED,
        f"UPDATE orders_order SET state = '{state}', first_sms_at = now(), "
        f"ended_at = {'NULL' if state == 'sms_received' else 'now()'}",
    )


def test_an_open_order_never_has_a_settlement():
    order = world.allocated()
    transfer = paid_back(order)
    for state in ("placed", "awaiting_sms"):
        assert_refused(
            CHECK,
            SETTLED,
            f"UPDATE orders_order SET state = '{state}', settlement_id = {transfer}",
        )


@pytest.mark.parametrize("state", ["placed", "awaiting_sms", "sms_received"])
def test_an_ended_order_never_opens_again(state):
    cancelled()
    assert_refused(CHECK, SETTLED, f"UPDATE orders_order SET state = '{state}'")
    assert_refused(CHECK, SETTLED, "UPDATE orders_order SET settlement_id = NULL")


def test_two_orders_never_share_a_settlement():
    first, second = cancelled(), world.allocated()
    assert_refused(UNIQUE, "settlement_id", cancel_by_hand(second, first.settlement_id))


def test_an_order_is_never_settled_by_its_own_purchase():
    order = world.allocated()
    assert_refused(
        CHECK, "order_settled_by_another_transfer", cancel_by_hand(order, order.purchase_id)
    )


def test_two_orders_never_share_a_purchase():
    order = world.place()
    assert_refused(UNIQUE, "purchase_id", copy("orders_order", order.pk, idempotency_key="another"))


def test_an_idempotency_key_places_one_order():
    customer, offer = world.customer(), world.offer()
    first, second = world.place(customer, offer), world.place(customer, offer)
    assert_refused(
        UNIQUE,
        "order_idempotency_key_once",
        f"UPDATE orders_order SET idempotency_key = '{first.idempotency_key}' "
        f"WHERE id = {second.pk}",
    )


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("purchase", {"price": "0.2500"}),
        ("purchase", {"customer_id": "another"}),
        ("auto_refund", {}),
    ],
    ids=str,
)
def test_an_order_is_never_born_with_money_that_is_not_its_own(kind, changes):
    order = world.place()
    if "customer_id" in changes:
        changes = {"customer_id": world.customer().pk}
    moved = paid_back(order) if kind == "auto_refund" else move(kind, order.customer_id, "0.5")
    new = {"idempotency_key": "another", "purchase_id": moved}

    attack = copy("orders_order", order.pk, **new, **changes)

    assert_refused(CHECK, "does not agree with its purchase", attack)
    if kind == "purchase":
        run(copy("orders_order", order.pk, **new))


@pytest.mark.parametrize(
    "change",
    [
        "price = 0.0001",
        "price = 0.5",
        "customer_id = 1000",
        "purchase_id = 1",
        "id = 7",
    ],
)
def test_what_an_order_cost_and_whose_it_is_never_changes(change):
    order = world.place()
    assert_refused(RESTRICT, "price and purchase are fixed", f"UPDATE orders_order SET {change}")
    assert_refused(
        RESTRICT,
        "price and purchase are fixed",
        copy("orders_order", order.pk, id=order.pk) + f" ON CONFLICT (id) DO UPDATE SET {change}",
    )


@pytest.mark.parametrize("attack", ["DELETE FROM orders_order", "TRUNCATE orders_order CASCADE"])
def test_an_order_is_never_deleted(attack):
    world.place()
    assert_refused(RESTRICT, "is refused", attack)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("state = 'lost'", SETTLED),
        ("state = ''", SETTLED),
        ("upstream_side = 'stolen'", "order_upstream_side_known"),
        ("deadline = NULL", "order_awaiting_has_a_deadline"),
        ("state = 'active'", "order_active_rental_has_an_end"),
        ("upstream_cost = 'NaN'", "orders_order_upstream_cost_check"),
    ],
)
def test_an_order_is_never_in_a_state_that_does_not_exist(change, rule):
    world.allocated()
    assert_refused(CHECK, rule, f"UPDATE orders_order SET {change}")


def test_two_orders_never_hold_the_same_number_of_an_upstream():
    world.allocated(ref="number-1")
    other = world.allocated(ref="number-2")
    assert_refused(
        UNIQUE,
        "order_upstream_ref_once",
        f"UPDATE orders_order SET upstream_ref = 'number-1' WHERE id = {other.pk}",
    )
    assert_refused(
        UNIQUE, "order_upstream_ref_once", "UPDATE orders_order SET upstream_ref = 'number-3'"
    )


def test_upstreams_may_use_the_same_number_of_their_own():
    world.allocated(ref="number-1")
    elsewhere = world.offer(upstream=world.upstream("other"))
    assert world.allocated(world.place(what=elsewhere), ref="number-1").state == State.AWAITING_SMS


@pytest.mark.parametrize(
    ("change", "sqlstate", "rule"),
    [
        ("price = 0", CHECK, "offer_price_positive"),
        ("price = -1", CHECK, "offer_price_positive"),
        ("price = 'NaN'", CHECK, "orders_offer_price_check"),
        ("price = NULL", NOT_NULL, "null value in column"),
        ("rental_hours = 4", CHECK, "offer_rental_hours_fit_its_kind"),
        ("kind = 'rental'", CHECK, "offer_rental_hours_fit_its_kind"),
        ("kind = 'rental', rental_hours = 1", CHECK, "offer_rental_hours_fit_its_kind"),
        ("kind = 'gift'", CHECK, "offer_rental_hours_fit_its_kind"),
    ],
)
def test_an_offer_that_cannot_be_sold_is_refused(change, sqlstate, rule):
    world.offer(kind=Offer.Kind.ACTIVATION)
    assert_refused(sqlstate, rule, f"UPDATE orders_offer SET {change}")


# --- refunds ---


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE refunds_refund SET amount = amount",
        "DELETE FROM refunds_refund",
        "TRUNCATE refunds_refund",
        "WITH gone AS (DELETE FROM refunds_refund RETURNING id) SELECT count(*) FROM gone",
        "MERGE INTO refunds_refund USING (VALUES (1)) AS v(n) ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_a_refund_is_never_changed_or_deleted(attack):
    cancelled()
    assert_refused(RESTRICT, "append-only", attack)


def test_an_upsert_of_a_refund_is_refused():
    refund = Refund.objects.get(order=cancelled())
    upsert = " ON CONFLICT (order_id, part) DO UPDATE SET amount = 1"
    assert_refused(RESTRICT, "append-only", copy("refunds_refund", refund.pk) + upsert)


def test_an_order_is_never_refunded_twice():
    order = cancelled()
    refund = Refund.objects.get(order=order)
    assert_refused(UNIQUE, "transfer_id", copy("refunds_refund", refund.pk))
    other = paid_back(world.allocated(world.place(order.customer)))
    assert_refused(UNIQUE, "refund_part_once", copy("refunds_refund", refund.pk, transfer_id=other))


def test_the_price_of_an_order_never_comes_back_twice():
    order, open_one = cancelled(), world.allocated()
    key = f"refund:auto:{order.pk}"
    assert_refused(
        UNIQUE, "transfer_key_once", moving("auto_refund", order.customer_id, "0.5", key)
    )
    for wallet, amount, key in (
        (order.customer_id, "0.5", "attack"),
        (order.customer_id, "0.5", f"refund:auto:0{order.pk}"),
        (order.customer_id, "0.5", f"refund:auto:{order.pk}0"),
        (order.customer_id, "0.5", f"refund:auto:{open_one.pk}"),
        (open_one.customer_id, "0.5001", f"refund:auto:{open_one.pk}"),
        (open_one.customer_id, "0.4999", f"refund:auto:{open_one.pk}"),
    ):
        assert_refused(
            CHECK,
            "is not the refund of an order that is open",
            moving("auto_refund", wallet, amount, key),
        )
    delivered = world.allocated()
    record_sms({delivered.pk: [Arrival(Message("1"))]})
    assert_refused(
        CHECK,
        "is not the refund of an order that is open",
        moving("auto_refund", delivered.customer_id, "0.5", f"refund:auto:{delivered.pk}"),
    )


def test_an_order_is_settled_once():
    order = cancelled()
    other = paid_back(world.allocated(world.place(order.customer)))
    assert_refused(
        RESTRICT,
        "an order is settled once",
        f"UPDATE orders_order SET settlement_id = {other} WHERE id = {order.pk}",
    )


def test_a_refund_of_its_price_in_raw_sql_is_a_right_one():
    order = world.allocated()
    transfer = paid_back(order)
    run(cancel_by_hand(order, transfer), refund_by_hand(order, transfer, "0.5"))
    assert Refund.objects.get().amount == Decimal("0.5000")


def test_a_refund_never_exceeds_the_price():
    order = world.allocated()
    dearer = paid_back(world.allocated(world.place(order.customer, world.offer("0.5001"))))
    assert_refused(
        CHECK,
        "does not agree with its settlement",
        cancel_by_hand(order, dearer),
        refund_by_hand(order, dearer, "0.5001"),
    )


@pytest.mark.parametrize("amount", ["0.4999", "0.5001"])
def test_a_refund_of_another_amount_than_was_moved_is_refused(amount):
    order = world.allocated()
    transfer = paid_back(order)
    assert_refused(
        CHECK,
        "does not agree with its transfer",
        cancel_by_hand(order, transfer),
        refund_by_hand(order, transfer, amount),
    )


@pytest.mark.parametrize("amount", ["0", "-0.5", "'NaN'"])
def test_a_refund_of_no_amount_is_refused(amount):
    order = world.allocated()
    transfer = paid_back(order)
    assert_refused(
        CHECK,
        "refunds_refund_amount_check" if "NaN" in amount else "refund_amount_positive",
        cancel_by_hand(order, transfer),
        refund_by_hand(order, transfer, amount),
    )


def test_a_refund_to_another_wallet_is_refused():
    order = world.allocated()
    transfer = paid_back(world.allocated())
    assert_refused(
        CHECK,
        "does not agree with its settlement",
        cancel_by_hand(order, transfer),
        refund_by_hand(order, transfer, "0.5"),
    )


def test_a_refund_of_money_that_did_not_come_from_its_order_is_refused():
    customer = world.customer("0.5000")
    order = world.allocated(world.place(customer))
    arrived = customer.wallet.transfers.get(kind="deposit").pk
    back = paid_back(order)
    # A deposit of the same amount is no refund, not even as the order's settlement.
    assert_refused(
        CHECK,
        "does not agree with its settlement",
        cancel_by_hand(order, arrived),
        refund_by_hand(order, arrived, "0.5"),
    )
    # Nor is a refund that did not end the order.
    assert_refused(CHECK, "does not agree with its transfer", refund_by_hand(order, back, "0.5"))


def test_a_wrong_refund_stops_the_right_ones_beside_it():
    order, other = world.allocated(), world.allocated()
    transfer = paid_back(order)
    right = refund_by_hand(order, transfer, "0.5")
    wrong = refund_by_hand(other, other.purchase_id, "0.5").split("VALUES")[1]
    assert_refused(
        CHECK,
        "does not agree with its transfer",
        cancel_by_hand(order, transfer),
        f"{right}, {wrong}",
    )


def test_a_clause_of_no_form_that_the_policy_has_is_refused():
    order = world.allocated()
    transfer = paid_back(order)
    assert_refused(
        CHECK,
        "refund_automatic_or_decided_by_a_person",
        cancel_by_hand(order, transfer),
        refund_by_hand(order, transfer, "0.5").replace("auto.cancelled_before_sms", "mercy"),
    )


# --- tables of a session's own ---


def stand_in(table: str, columns: str, row: str) -> tuple[str, str]:
    """A temporary table that says what the attack needs, under the name of one of ours."""
    return f"CREATE TEMPORARY TABLE {table} ({columns})", f"INSERT INTO {table} VALUES ({row})"


def test_no_temporary_table_stands_in_for_the_ledger():
    order, other = world.place(), world.customer()
    deposit = Transfer.objects.get(wallet=other.pk).pk
    attack = copy("orders_order", order.pk, idempotency_key="another", purchase_id=deposit)
    forged = stand_in(
        "wallet_transfer",
        "id bigint, kind text, debit_account bigint, credit_account bigint, amount numeric",
        f"{deposit}, 'purchase', {order.customer_id}, 2, 0.5",
    )
    assert_refused(CHECK, "does not agree with its purchase", *forged, attack)

    bought = order.purchase_id
    forged = stand_in(
        "wallet_transfer",
        "id bigint, kind text, credit_account bigint",
        f"{bought}, 'deposit', {other.pk}",
    )
    attack = (
        "INSERT INTO wallet_deposit (storefront_id, reference, transfer_id)"
        f" VALUES ({other.storefront_id}, 'forged', {bought})"
    )
    assert_refused(CHECK, "does not agree with its transfer", *forged, attack)


def test_every_rule_looks_at_our_schema_alone():
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT function.proname
            FROM pg_trigger AS rule
            JOIN pg_proc AS function ON function.oid = rule.tgfoid
            WHERE NOT rule.tgisinternal
                AND NOT coalesce(array_to_string(function.proconfig, ' '), '')
                    LIKE '%search_path=public, pg_temp%'
            """
        )
        without = {name for (name,) in cursor.fetchall()}
    # These look at no table.
    assert without == {"ledger_is_append_only", "order_terms_are_fixed"}
