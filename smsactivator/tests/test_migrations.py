"""Migrations on a database full of data from the first release, forwards and backwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg import sql

pytestmark = pytest.mark.servers

# The first release, as it was deployed.
RELEASED = (("smsactivator", "0001"), ("refunds", "0002"), ("orders", "0002"), ("wallet", "0002"))

# Every kind of row of that time: 30 customers with a deposit each, and nine orders, one in each
# state in turn, so that each state there was occurs 20 times and more.
FILL = """
    INSERT INTO wallet_storefront (name, created_at) VALUES ('Shop', now()), ('Other', now());
    INSERT INTO wallet_apikey (storefront_id, name, prefix, digest, created_at, created_by,
        revoked_by) SELECT id, 'bot', 'sf_' || id, md5(id::text), now(), 'admin', ''
    FROM wallet_storefront;
    INSERT INTO wallet_customer (storefront_id, external_id, email, status, created_at)
    SELECT (SELECT min(id) FROM wallet_storefront), 'c' || n, 'c' || n || '@example.com',
        CASE WHEN n % 7 = 0 THEN 'suspended' ELSE 'active' END, now() - interval '9 days'
    FROM generate_series(1, 30) AS n;
    INSERT INTO wallet_historicalcustomer (id, external_id, email, status, created_at,
        history_actor, history_date, history_type, history_change_reason, storefront_id)
    SELECT id, external_id, email, status, created_at, 'API key', now(), '+', 'Created',
        storefront_id FROM wallet_customer;
    INSERT INTO wallet_wallet (customer_id, balance, version)
    SELECT id, 0, 0 FROM wallet_customer;
    INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key, posted_at,
        wallet_id, wallet_version, balance_after)
    SELECT 'deposit', 1, id, 100.1234, 'deposit:' || id, now() - interval '8 days', id, 1, 100.1234
    FROM wallet_customer;
    INSERT INTO wallet_deposit (storefront_id, reference, transfer_id)
    SELECT (SELECT min(id) FROM wallet_storefront), 'tx-' || id, id FROM wallet_transfer;
    INSERT INTO orders_upstream (code, name, base_url, last_error)
    VALUES ('hub', 'Hub', 'https://hub.test', '');
    INSERT INTO orders_offer (upstream_id, service, country, title, kind, price, active)
    SELECT id, 'tg', '0', 'Telegram', 'activation', 0.5, true FROM orders_upstream;
    INSERT INTO orders_offer (upstream_id, service, country, title, kind, rental_hours, price,
        active) SELECT id, 'wa', '0', 'WhatsApp', 'rental', 24, 2.25, true FROM orders_upstream;

    CREATE TEMPORARY TABLE made AS
    SELECT nextval(pg_get_serial_sequence('orders_order', 'id')) AS order_id,
        nextval(pg_get_serial_sequence('wallet_transfer', 'id')) AS bought_by,
        nextval(pg_get_serial_sequence('wallet_transfer', 'id')) AS settled_by,
        customer.id AS customer_id, nth, state, offer.id AS offer_id, offer.price,
        offer.upstream_id, offer.kind, offer.service, offer.rental_hours
    FROM wallet_customer AS customer
    CROSS JOIN unnest(ARRAY['placed', 'awaiting_sms', 'sms_received', 'completed',
        'allocation_failed', 'expired', 'cancelled', 'number_broken', 'active', 'ended'])
        WITH ORDINALITY AS states (state, nth)
    JOIN orders_offer AS offer
        ON offer.kind = CASE WHEN state IN ('active', 'ended') THEN 'rental' ELSE 'activation' END
    ORDER BY nth, customer.id;
    INSERT INTO wallet_transfer (id, kind, debit_account, credit_account, amount, key, posted_at,
        wallet_id, wallet_version, balance_after) OVERRIDING SYSTEM VALUE
    SELECT bought_by, 'purchase', customer_id, 2, price, 'purchase:' || order_id,
        now() - interval '7 days', customer_id, 1 + nth,
        100.1234 - sum(price) OVER (PARTITION BY customer_id ORDER BY nth)
    FROM made;
    INSERT INTO orders_order (id, customer_id, offer_id, upstream_id, kind, service, country,
        rental_hours, price, state, idempotency_key, placed_at, refusal_code, broken_signal, phone,
        upstream_side, upstream_ref, upstream_cost, purchase_id) OVERRIDING SYSTEM VALUE
    SELECT order_id, customer_id, offer_id, upstream_id, kind, service, '0', rental_hours, price,
        'placed', 'key-' || order_id, now() - interval '7 days', '', '',
        '+7900' || order_id, 'held', 'ref-' || order_id, 0.2, bought_by
    FROM made;
    INSERT INTO wallet_transfer (id, kind, debit_account, credit_account, amount, key, posted_at)
        OVERRIDING SYSTEM VALUE
    SELECT settled_by, 'delivery', 2, 3, price, 'delivery:' || order_id, now() - interval '6 days'
    FROM made WHERE state IN ('sms_received', 'completed', 'ended');
    INSERT INTO wallet_transfer (id, kind, debit_account, credit_account, amount, key, posted_at,
        wallet_id, wallet_version, balance_after) OVERRIDING SYSTEM VALUE
    SELECT settled_by, 'auto_refund', 2, made.customer_id, price, 'refund:auto:' || order_id,
        now() - interval '6 days', made.customer_id,
        wallet.version + row_number() OVER line, wallet.balance + sum(price) OVER line
    FROM made JOIN wallet_wallet AS wallet USING (customer_id)
    WHERE state IN ('allocation_failed', 'expired', 'cancelled', 'number_broken')
    WINDOW line AS (PARTITION BY made.customer_id ORDER BY nth);
    UPDATE orders_order AS changed
    SET state = made.state,
        allocated_at = CASE WHEN made.state <> 'placed' THEN now() - interval '7 days' END,
        deadline = CASE WHEN changed.kind = 'activation' AND made.state <> 'placed'
            THEN now() + interval '1 hour' END,
        rental_ends_at = CASE WHEN changed.kind = 'rental' THEN now() + interval '1 day' END,
        first_sms_at = CASE WHEN made.state IN ('sms_received', 'completed') THEN now() END,
        ended_at = CASE WHEN made.state NOT IN ('placed', 'awaiting_sms', 'active', 'sms_received')
            THEN now() - interval '6 days' END,
        settlement_id = (SELECT id FROM wallet_transfer WHERE id = settled_by)
    FROM made WHERE made.order_id = changed.id;
    INSERT INTO refunds_refund (order_id, transfer_id, clause, policy_version, facts, amount,
        created_at)
    SELECT order_id, settled_by, 'auto.no_sms_in_time', '2026-05-07', '{"state": "placed"}', price,
        now() - interval '6 days'
    FROM made WHERE state IN ('allocation_failed', 'expired', 'cancelled', 'number_broken');
    INSERT INTO orders_sms (order_id, digest, code, text, sender, received_at, late)
    SELECT order_id, md5(order_id::text), '1234', 'Code 1234', 'TG', now(), state = 'expired'
    FROM made WHERE state IN ('sms_received', 'completed', 'expired');
    INSERT INTO refunds_sweep (name, finished_at, refunded) VALUES ('refunds', now(), 7);
    INSERT INTO wallet_auditrun (started_at, finished_at, passed, checks)
    VALUES (now(), now(), true, '[]');
    INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff,
        is_active, date_joined)
    SELECT name, '!', false, '', '', '', true, true, now()
    FROM unnest(ARRAY['sonia', 'sam']) AS name;
    INSERT INTO auth_user_groups (user_id, group_id)
    SELECT one.id, role.id FROM auth_user AS one, auth_group AS role WHERE role.name LIKE 'Senior%';
"""

# What the release of this change does with the old rows.
USE = """
from decimal import Decimal
from uuid import uuid4
from django.contrib.auth.models import User
from orders.models import Order
from refunds import automatic, decisions
from smsactivator.common.history import Actor
from wallet import corrections, deposits, standing
from wallet.models import Customer, Wallet

sonia, sam = (User.objects.get(username=name) for name in ("sonia", "sam"))
placed = Order.objects.filter(state="placed").earliest("pk")
automatic.cancel(placed.pk, actor=Actor("test"))
ada = placed.customer
deposits.deposit(ada, amount=Decimal("1"), reference="new")
standing.freeze(sonia, ada.pk, reason="Odd")
standing.unfreeze(sonia, ada.pk, reason="Fine")
corrections.request_goodwill(sonia, ada.pk, amount=Decimal("1"), reason="Waited", key=uuid4())
done = Order.objects.filter(state="completed").earliest("pk")
asked = decisions.request(sonia, done.pk, amount=Decimal("0.25"), clause="ticket.wrong_service",
    reason="Another code", key=uuid4())
decisions.approve(sam, asked.pk)
print(Wallet.objects.get(pk=ada.pk).balance)
"""


class Database:
    """A database beside the tests' own, worked on by processes of its own."""

    def __init__(self, connected: psycopg.Connection[Any], url: str) -> None:
        self.connected = connected
        self.url = url

    def manage(self, *words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=settings.BASE_DIR,
            env=os.environ | {"DATABASE_URL": self.url, "DATABASE_POOL_SIZE": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def rows(self) -> dict[str, dict[str, list[Any]]]:
        """Every table's rows, column by column."""
        tables = self.connected.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            " AND (tablename ~ '^(wallet|orders|refunds)_' OR tablename = 'auth_user')"
        ).fetchall()
        found: dict[str, dict[str, list[Any]]] = {}
        for (table,) in tables:
            cursor = self.connected.execute(
                sql.SQL("SELECT * FROM {} AS t ORDER BY t::text").format(sql.Identifier(table))
            )
            columns = [column.name for column in cursor.description or ()]
            order = columns.index("id") if "id" in columns else 0
            rows = sorted(cursor.fetchall(), key=lambda row, key=order: str(row[key]))
            found[table] = {
                name: [row[number] for row in rows] for number, name in enumerate(columns)
            }
        return found

    def one(self, query: str) -> Any:
        row = self.connected.execute(sql.SQL(query)).fetchone()  # type: ignore[arg-type]
        return row and row[0]


@pytest.fixture
def database() -> Iterator[Database]:
    given = connection.settings_dict
    name = f"{given['NAME']}_{uuid4().hex[:8]}"
    user = quote(given["USER"]) + (f":{quote(given['PASSWORD'])}" if given["PASSWORD"] else "")
    host = quote(given["HOST"], safe="")
    server = f"postgresql://{user}@{host}" + (f":{given['PORT']}" if given["PORT"] else "")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with psycopg.connect(f"{server}/{name}", autocommit=True) as connected:
                yield Database(connected, f"{server}/{name}")
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            admin.execute(drop)


def test_a_database_full_of_the_first_release_s_data_is_migrated(database: Database) -> None:
    for app, migration in RELEASED:
        database.manage("migrate", app, migration, "--verbosity", "0")
    database.manage("migrate", "sessions", "--verbosity", "0")
    database.connected.execute(FILL)
    before = database.rows()
    assert len(before["orders_order"]["id"]) == 300

    database.manage("migrate", "--verbosity", "0")
    _agrees(before, database.rows())
    # Back to the release, as long as nothing new was written, and forward again.
    for app, migration in RELEASED:
        database.manage("migrate", app, migration, "--verbosity", "0")
    assert database.rows() == before
    database.manage("migrate", "--verbosity", "0")
    _agrees(before, database.rows())

    assert database.one(
        "SELECT count(*) FROM wallet_wallet AS wallet JOIN wallet_transfer AS last"
        " ON last.wallet_id = customer_id AND last.wallet_version = version"
        " AND last.posted_at = wallet.posted_at"
    ) == len(before["wallet_wallet"]["customer_id"])
    assert database.one("SELECT count(*) FROM wallet_rolelimit") == 11
    assert "checks passed" in database.manage("audit_ledger", "--full")
    assert Decimal(database.manage("shell", "--no-imports", "--command", USE).strip()) > 90
    assert "checks passed" in database.manage("audit_ledger", "--full")


def _agrees(before: dict[str, dict[str, list[Any]]], now: dict[str, Any]) -> None:
    """Every row and column that was there is there as it was."""
    for table, columns in before.items():
        for name, values in columns.items():
            assert now[table][name] == values, f"{table}.{name}"


# Before the claims followed their accounts, a deposit could have a second claim once the first was
# upheld. The deposits have two claims each, by what became of the account:
CLAIMS_OF_BEFORE = """
    CREATE TEMPORARY TABLE account AS
    SELECT 1000 + nth AS id, name, wallet, ended, by_claim, second
    FROM (VALUES
        -- the account, its wallet, its termination, whether for the first claim, the second claim
        (1, 'given back', 'frozen', 'reinstated', true, 'open'),
        (2, 'given back twice', 'active', 'reinstated', true, 'upheld'),
        (3, 'termination requested', 'frozen', 'requested', true, 'open'),
        (4, 'terminated for a claim', 'forfeited', 'confirmed', true, 'open'),
        (5, 'terminated beside them', 'forfeited', 'confirmed', false, 'open')
    ) AS made (nth, name, wallet, ended, by_claim, second);
    INSERT INTO wallet_storefront (name, created_at) VALUES ('Shop', now());
    INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff,
        is_active, date_joined)
    SELECT name, '!', false, '', '', '', true, true, now()
    FROM unnest(ARRAY['sonia', 'sam']) AS name;
    INSERT INTO wallet_customer (id, storefront_id, external_id, email, status, created_at)
        OVERRIDING SYSTEM VALUE
    SELECT account.id, shop.id, account.name, '', 'active', now()
    FROM account, wallet_storefront AS shop;
    INSERT INTO wallet_wallet (customer_id, balance, version) SELECT id, 0, 0 FROM account;
    INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key, posted_at,
        wallet_id, wallet_version, balance_after)
    SELECT 'deposit', 1, id, 10, 'deposit:' || id, now(), id, 1, 10 FROM account;
    INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key, posted_at,
        wallet_id, wallet_version, balance_after)
    SELECT 'purchase', id, 2, 10, 'purchase:' || id, now(), id, 2, 0 FROM account;
    UPDATE wallet_wallet SET state = wallet FROM account WHERE id = customer_id;
    INSERT INTO wallet_deposit (storefront_id, reference, transfer_id)
    SELECT shop.id, 'tx-' || paid.id, paid.id
    FROM wallet_transfer AS paid, wallet_storefront AS shop WHERE paid.kind = 'deposit';
    INSERT INTO wallet_claim (deposit_id, reference, evidence, froze, recorded_at, recorded_by_id,
        state, decided_by_id, decided_at, decision_reason)
    SELECT deposit.id, one.reference, 'Filed', true, now(), sonia.id, claimed,
        CASE WHEN claimed = 'upheld' THEN sam.id END, CASE WHEN claimed = 'upheld' THEN now() END,
        CASE WHEN claimed = 'upheld' THEN 'Sold on' ELSE '' END
    FROM account
    CROSS JOIN LATERAL (VALUES ('first', 'upheld'), ('second', second)) AS one (reference, claimed)
    JOIN wallet_transfer AS paid ON paid.wallet_id = account.id AND paid.kind = 'deposit'
    JOIN wallet_deposit AS deposit ON deposit.transfer_id = paid.id
    JOIN auth_user AS sonia ON sonia.username = 'sonia'
    JOIN auth_user AS sam ON sam.username = 'sam'
    ORDER BY account.id, one.reference;
    INSERT INTO wallet_termination (customer_id, claim_id, state, reason, requested_by_id,
        requested_at, request_key, decided_by_id, decided_at, decision_reason, froze, wallet_amount,
        orders_amount, orders_ended, reinstated)
    SELECT account.id, CASE WHEN by_claim THEN claim.id END,
        CASE ended WHEN 'requested' THEN ended ELSE 'confirmed' END, 'Sold on', sonia.id, now(),
        gen_random_uuid(), CASE WHEN ended <> 'requested' THEN sam.id END,
        CASE WHEN ended <> 'requested' THEN now() END, '', true, 0, 0, 0, ended = 'reinstated'
    FROM account
    JOIN wallet_transfer AS paid ON paid.wallet_id = account.id AND paid.kind = 'deposit'
    JOIN wallet_deposit AS deposit ON deposit.transfer_id = paid.id
    JOIN wallet_claim AS claim ON claim.deposit_id = deposit.id AND claim.reference = 'first'
    JOIN auth_user AS sonia ON sonia.username = 'sonia'
    JOIN auth_user AS sam ON sam.username = 'sam';
"""


def test_one_claim_of_each_deposit_stands_when_claims_begin_to_follow_their_accounts(
    database: Database,
) -> None:
    database.manage("migrate", "wallet", "0017", "--verbosity", "0")
    database.connected.execute(CLAIMS_OF_BEFORE)

    database.manage("migrate", "wallet", "0018", "--verbosity", "0")

    found = database.connected.execute(
        "SELECT customer.external_id, array_agg(claim.state || coalesce(' by ' || person.username,"
        " '') ORDER BY claim.id) FROM wallet_claim AS claim"
        " JOIN wallet_deposit AS deposit ON deposit.id = claim.deposit_id"
        " JOIN wallet_transfer AS paid ON paid.id = deposit.transfer_id"
        " JOIN wallet_customer AS customer ON customer.id = paid.wallet_id"
        " LEFT JOIN auth_user AS person ON person.id = claim.decided_by_id GROUP BY 1"
    ).fetchall()
    assert dict(found) == {
        "given back": ["dismissed by sam", "open"],
        "given back twice": ["dismissed by sam", "dismissed by sam"],
        "termination requested": ["upheld by sam", "dismissed by sonia"],
        "terminated for a claim": ["terminated by sam", "dismissed by sonia"],
        "terminated beside them": ["dismissed by sam", "terminated"],
    }
    assert database.connected.execute(
        "SELECT DISTINCT claim.decision_reason, past.history_change_reason"
        " FROM wallet_claim AS claim JOIN wallet_historicalclaim AS past USING (id)"
        " WHERE claim.reference = 'second' AND claim.state = 'dismissed'"
        " AND past.state = claim.state AND past.decided_by_id = claim.recorded_by_id"
        " AND past.decided_at = claim.decided_at AND past.decision_reason = claim.decision_reason"
    ).fetchall() == [("Another claim on the deposit stands", "Another claim on the deposit stands")]
    # The last of a claim's history is what it is.
    assert (
        database.one(
            "SELECT count(*) FROM wallet_claim AS claim WHERE state <> (SELECT past.state"
            " FROM wallet_historicalclaim AS past WHERE past.id = claim.id"
            " ORDER BY history_id DESC LIMIT 1)"
        )
        == 0
    )
