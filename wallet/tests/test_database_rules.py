"""The ledger's rules, attacked in raw SQL: each is refused by the database itself."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import Error, connection, transaction
from django.utils import timezone

from wallet import deposits
from wallet.models import Customer, Deposit, Storefront, Transfer
from wallet.tests import world
from wallet.tests.attack import (
    CHECK,
    FOREIGN_KEY,
    NOT_NULL,
    OUT_OF_RANGE,
    RESTRICT,
    UNIQUE,
    assert_refused,
    run,
)

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

COLUMNS = (
    "kind, debit_account, credit_account, amount, key, posted_at, "
    "wallet_id, wallet_version, balance_after"
)


@pytest.fixture
def ada() -> Customer:
    """A customer with two transfers: 10 USD in at version 1, 4 USD out at version 2."""
    customer = world.customer()
    deposits.deposit(customer, amount=Decimal(10), reference="tx-1")
    world.post(world.spent(customer, "4", "p:1"))
    return customer


def row(
    customer: Customer,
    *,
    kind: str = "deposit",
    debit: object = 1,
    credit: object = None,
    amount: object = 5,
    key: str = "attack",
    wallet: object = "own",
    version: object = 3,
    after: object = 11,
) -> str:
    """A row of wallet_transfer as SQL; unless told otherwise a right one: 5 USD into the wallet."""
    values = (
        f"'{kind}'",
        debit,
        customer.pk if credit is None else credit,
        amount,
        f"'{key}'",
        "statement_timestamp()",
        customer.pk if wallet == "own" else wallet,
        version,
        after,
    )
    return f"({', '.join(map(str, values))})"


def insert(*rows: str) -> str:
    return f"INSERT INTO wallet_transfer ({COLUMNS}) VALUES {', '.join(rows)}"


def test_a_right_transfer_in_raw_sql_moves_the_wallet_with_it(ada):
    run(insert(row(ada)))

    assert world.figures(ada) == (Decimal("11.0000"), 3)


def test_right_transfers_in_one_statement_form_one_chain(ada):
    back = row(
        ada,
        kind="purchase",
        debit=ada.pk,
        credit=2,
        amount="0.5",
        key="attack-2",
        version=4,
        after="10.5",
    )
    run(insert(back, row(ada)))

    assert world.figures(ada) == (Decimal("10.5000"), 4)


# --- what is written stays ---


@pytest.mark.parametrize("table", ["wallet_transfer", "wallet_deposit"])
@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE {} SET id = id",
        "UPDATE {} SET id = id WHERE false",
        "DELETE FROM {}",
        "DELETE FROM {} WHERE false",
        "TRUNCATE {} CASCADE",
        "WITH gone AS (DELETE FROM {} RETURNING id) SELECT count(*) FROM gone",
        "WITH changed AS (UPDATE {} SET id = id RETURNING id) SELECT count(*) FROM changed",
        "MERGE INTO {} USING (VALUES (1)) AS v(n) ON true WHEN MATCHED THEN DELETE",
        "MERGE INTO {} USING (VALUES (1)) AS v(n) ON true WHEN MATCHED THEN UPDATE SET id = n",
    ],
)
def test_what_is_written_is_never_changed_or_deleted(ada, table, attack):
    assert_refused(RESTRICT, "append-only", attack.format(table))


def test_an_upsert_of_a_transfer_is_refused_even_without_a_conflict(ada):
    upsert = " ON CONFLICT (key) DO UPDATE SET amount = 1000000"
    assert_refused(RESTRICT, "append-only", insert(row(ada, key="deposit:1:tx-1")) + upsert)
    assert_refused(RESTRICT, "append-only", insert(row(ada)) + upsert)


def test_an_insert_that_skips_conflicts_moves_nothing_for_what_it_skips(ada):
    run(insert(row(ada, key="p:1")) + " ON CONFLICT (key) DO NOTHING")

    assert world.figures(ada) == (Decimal("6.0000"), 2)


# --- wallets show their last transfer ---


@pytest.mark.parametrize(
    "values",
    [
        "balance = 1000",
        "balance = balance + 0.0001",
        "balance = balance - 0.0001",
        "balance = 0",
        "version = version + 1",
        "version = 0",
        "balance = 0, version = 0",
        "balance = 10, version = 1",
    ],
    ids=lambda values: values.replace(" ", ""),
)
def test_a_wallet_is_never_set_by_hand(ada, values):
    assert_refused(CHECK, "would not show the balance", f"UPDATE wallet_wallet SET {values}")


@pytest.mark.parametrize(
    ("value", "sqlstate", "rule"),
    [
        ("-0.0001", CHECK, "wallet_not_overdrawn"),
        ("'NaN'", CHECK, "wallet_wallet_balance_check"),
        ("'Infinity'", OUT_OF_RANGE, "numeric field overflow"),
        ("NULL", NOT_NULL, "null value in column"),
    ],
)
def test_a_wallet_never_holds_what_is_no_amount_of_money(ada, value, sqlstate, rule):
    assert_refused(sqlstate, rule, f"UPDATE wallet_wallet SET balance = {value}")


def test_a_wallet_is_not_set_by_hand_beside_another_that_is_right(ada):
    world.customer()
    attack = f"UPDATE wallet_wallet SET balance = balance + (customer_id = {ada.pk})::int"
    assert_refused(CHECK, f"wallet {ada.pk} would not show", attack)


def test_a_wallet_is_not_set_by_hand_through_upsert_or_merge(ada):
    assert_refused(
        CHECK,
        "would not show",
        f"INSERT INTO wallet_wallet VALUES ({ada.pk}, 0, 0) "
        "ON CONFLICT (customer_id) DO UPDATE SET balance = 99",
    )
    assert_refused(
        CHECK,
        "would not show",
        "MERGE INTO wallet_wallet AS w USING (VALUES (1)) AS v(n) ON true "
        "WHEN MATCHED THEN UPDATE SET balance = 99",
    )


def test_a_wallet_is_not_set_by_hand_in_the_statement_that_posts(ada):
    attack = f"WITH posted AS ({insert(row(ada))}) UPDATE wallet_wallet SET balance = 99"
    assert_refused(CHECK, "would not show", attack)


@pytest.mark.parametrize("values", ["5, 0", "0, 1", "5, 1", "0, -1"])
def test_a_wallet_begins_empty(ada, values):
    run(
        "INSERT INTO wallet_customer (id, storefront_id, external_id, email, status, created_at) "
        f"SELECT 5000, {ada.storefront_id}, 'eve', '', 'active', now()"
    )
    assert_refused(
        CHECK, "would not show the balance", f"INSERT INTO wallet_wallet VALUES (5000, {values})"
    )


def test_a_wallet_cannot_be_deleted_or_given_away(ada):
    bob = world.customer()
    assert_refused(RESTRICT, "append-only", "DELETE FROM wallet_wallet")
    assert_refused(
        RESTRICT, "append-only", f"DELETE FROM wallet_wallet WHERE customer_id = {bob.pk}"
    )
    assert_refused(
        UNIQUE,
        "wallet_wallet_pkey",
        f"UPDATE wallet_wallet SET customer_id = {bob.pk} WHERE customer_id = {ada.pk}",
    )


def test_a_wallet_with_transfers_keeps_its_number(ada):
    """No foreign key says so: a wallet of another number would not show its last transfer."""
    run(
        "INSERT INTO wallet_customer (id, storefront_id, external_id, email, status, created_at) "
        f"SELECT 5000, {ada.storefront_id}, 'eve', '', 'active', now()"
    )
    assert_refused(
        CHECK,
        "wallet 5000 would not show the balance",
        f"UPDATE wallet_wallet SET customer_id = 5000 WHERE customer_id = {ada.pk}",
    )


@pytest.mark.parametrize("number", [999, 2, 0, -1])
def test_no_customer_gets_the_number_of_an_account_of_the_shop(ada, number):
    assert_refused(
        CHECK,
        "customer_id_is_a_wallet_account",
        "INSERT INTO wallet_customer (id, storefront_id, external_id, email, status, created_at) "
        f"VALUES ({number}, {ada.storefront_id}, 'eve', '', 'active', now())",
    )
    assert_refused(
        CHECK,
        "customer_id_is_a_wallet_account",
        f"UPDATE wallet_customer SET id = {number} WHERE id = {ada.pk}",
    )


# --- transfers ---

SIDE = "transfer_wallet_is_its_one_wallet_side"
CHAIN = "does not continue its wallet's chain"


@pytest.mark.parametrize(
    ("changes", "sqlstate", "rule"),
    [
        # the balance after it and the version
        ({"after": "11.0001"}, CHECK, CHAIN),
        ({"after": "10.9999"}, CHECK, CHAIN),
        ({"after": 1}, CHECK, CHAIN),
        ({"after": -1}, CHECK, SIDE),
        ({"after": "NULL"}, CHECK, SIDE),
        ({"after": "'NaN'"}, CHECK, "wallet_transfer_balance_after_check"),
        ({"version": 4}, CHECK, CHAIN),
        ({"version": 0}, CHECK, CHAIN),
        ({"version": -1}, CHECK, CHAIN),
        ({"version": "NULL"}, CHECK, SIDE),
        ({"version": 2, "after": 15}, UNIQUE, "transfer_wallet_version_once"),
        ({"version": 1, "after": 5}, UNIQUE, "transfer_wallet_version_once"),
        # the amount
        ({"amount": 0, "after": 6}, CHECK, "transfer_amount_positive"),
        ({"amount": -5, "after": 1}, CHECK, "transfer_amount_positive"),
        ({"amount": "0.00004", "after": 6}, CHECK, "transfer_amount_positive"),
        ({"amount": "NULL"}, NOT_NULL, "null value in column"),
        ({"amount": "'NaN'", "after": "'NaN'"}, CHECK, "wallet_transfer_amount_check"),
        ({"amount": "'NaN'"}, CHECK, "wallet_transfer_amount_check"),
        ({"amount": "'Infinity'"}, OUT_OF_RANGE, "numeric field overflow"),
        ({"amount": "1e15", "after": "1e15"}, OUT_OF_RANGE, "numeric field overflow"),
        # the accounts
        ({"debit": 999}, CHECK, "transfer_accounts_known"),
        ({"debit": 0}, CHECK, "transfer_accounts_known"),
        ({"debit": -1}, CHECK, "transfer_accounts_known"),
        ({"debit": 12}, CHECK, "transfer_accounts_known"),
        ({"credit": 1}, CHECK, "transfer_between_two_accounts"),
        ({"debit": 2}, CHECK, "transfer_kind_names_its_accounts"),
        ({"kind": "purchase"}, CHECK, "transfer_kind_names_its_accounts"),
        ({"kind": "gift"}, CHECK, "transfer_kind_names_its_accounts"),
        # the wallet's columns
        ({"wallet": "NULL"}, CHECK, SIDE),
        ({"wallet": "NULL", "version": "NULL", "after": "NULL"}, CHECK, SIDE),
        ({"wallet": 1001}, CHECK, SIDE),
        (
            {"kind": "delivery", "debit": 2, "credit": 3},
            CHECK,
            SIDE,
        ),
        # a wallet that is not there
        (
            {"credit": 777777, "wallet": 777777, "version": 1, "after": 5},
            FOREIGN_KEY,
            "wallet_id",
        ),
        # the key
        ({"key": "p:1"}, UNIQUE, "transfer_key_once"),
    ],
    ids=str,
)
def test_a_wrong_transfer_is_refused(ada, changes, sqlstate, rule):
    assert_refused(sqlstate, rule, insert(row(ada, **changes)))
    assert world.figures(ada) == (Decimal("6.0000"), 2)


def test_a_transfer_never_touches_two_wallets(ada):
    bob = world.customer()
    for kind in ("deposit", "purchase", "auto_refund"):
        for wallet in (ada.pk, bob.pk):
            attack = row(
                ada, kind=kind, debit=ada.pk, credit=bob.pk, wallet=wallet, version=3, after=1
            )
            assert_refused(CHECK, "transfer_kind_names_its_accounts", insert(attack))


def test_a_wallet_is_never_overdrawn_by_a_transfer(ada):
    out = {"kind": "purchase", "debit": ada.pk, "credit": 2, "amount": "6.0001"}
    assert_refused(CHECK, SIDE, insert(row(ada, **out, after="-0.0001")))
    assert_refused(CHECK, CHAIN, insert(row(ada, **out, after=0)))


def test_a_right_row_does_not_carry_a_wrong_one_in_the_same_statement(ada):
    right = row(ada)
    assert_refused(CHECK, CHAIN, insert(right, row(ada, key="b", version=4, after=99)))
    assert_refused(CHECK, CHAIN, insert(right, row(ada, key="b", version=5, after=16)))
    assert_refused(UNIQUE, "version_once", insert(right, row(ada, key="b", version=3, after=11)))
    assert_refused(UNIQUE, "transfer_key_once", insert(right, row(ada, version=4, after=16)))
    # A balance that is left out must not let the next one start anew.
    blank = row(ada, kind="purchase", debit=ada.pk, credit=2, after="NULL")
    assert_refused(CHECK, SIDE, insert(blank, row(ada, key="b", version=4, after=5)))


def test_a_wrong_transfer_of_one_wallet_stops_a_right_one_of_another(ada):
    bob = world.customer()
    assert_refused(
        CHECK,
        CHAIN,
        insert(row(ada), row(bob, key="b", version=1, after="5.0001")),
    )


def test_a_chain_broken_in_a_modifying_cte_is_refused(ada):
    first = insert(row(ada))
    second = insert(row(ada, key="b", version=5, after=16))
    assert_refused(CHECK, CHAIN, f"WITH first AS ({first}) {second}")


def test_merge_inserts_under_the_same_rules(ada):
    values = row(ada, after=99)
    attack = (
        "MERGE INTO wallet_transfer AS t USING (VALUES (1)) AS v(n) ON false "
        f"WHEN NOT MATCHED THEN INSERT ({COLUMNS}) VALUES {values}"
    )
    assert_refused(CHECK, CHAIN, attack)


@pytest.mark.parametrize(
    ("after", "refused"), [("11", ""), ("99", CHAIN), (r"\N", SIDE), ("NaN", "balance_after_check")]
)
def test_copy_writes_under_the_same_rules(ada, after, refused):
    line = ["deposit", "1", ada.pk, "5", "copied", timezone.now().isoformat(), ada.pk, "3", after]

    def copy() -> None:
        with (
            transaction.atomic(),
            connection.cursor() as cursor,
            cursor.cursor.copy(f"COPY wallet_transfer ({COLUMNS}) FROM STDIN") as stream,
        ):
            stream.write("\t".join(map(str, line)) + "\n")

    if not refused:
        copy()
        assert world.figures(ada) == (Decimal("11.0000"), 3)
        return
    with pytest.raises((Error, connection.Database.Error), match=refused):
        copy()
    assert world.figures(ada) == (Decimal("6.0000"), 2)


# --- deposits ---


def deposit(storefront: int, transfer: int, reference: str = "tx-2") -> str:
    return (
        "INSERT INTO wallet_deposit (storefront_id, reference, transfer_id) "
        f"VALUES ({storefront}, '{reference}', {transfer})"
    )


def test_a_deposit_stands_for_money_that_arrived_for_its_own_storefront(ada):
    run(insert(row(ada)))
    arrived = Transfer.objects.get(key="attack").pk
    other = Storefront.objects.create(name="Other").pk
    purchase = Transfer.objects.get(key="p:1").pk

    assert_refused(CHECK, "does not agree", deposit(other, arrived))
    assert_refused(CHECK, "does not agree", deposit(ada.storefront_id, purchase))
    run(deposit(ada.storefront_id, arrived))


def test_a_payment_is_credited_once(ada):
    run(insert(row(ada)))
    arrived = Transfer.objects.get(key="attack").pk
    first = Deposit.objects.get()

    assert_refused(
        UNIQUE, "deposit_reference_once", deposit(ada.storefront_id, arrived, reference="tx-1")
    )
    assert_refused(
        UNIQUE, "transfer_id", deposit(ada.storefront_id, first.transfer_id, reference="tx-9")
    )
