"""How fast overdue orders are refunded, and what an idle sweep costs.

Three arms on the same server in the same run, rounds interleaved:

a. the product's sweep;
b. a loop as most would write it: ``select_for_update``, transition, ``save()`` with its history;
c. one hand-written set-based statement that writes the same rows.

After each arm the whole audit must pass, or the run stops: a figure of wrong books is no figure.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 5
ORDERS = 100_000
ORDERS_PER_WALLET = 5
LOOP_SAMPLE = 2_000
SMALL = 10_000
LARGE = 1_000_000
IDLE_RUNS = 50

PREPARE = """
    CREATE TEMPORARY TABLE made ON COMMIT DROP AS
    SELECT
        nextval(pg_get_serial_sequence('orders_order', 'id')) AS order_id,
        nextval(pg_get_serial_sequence('wallet_transfer', 'id')) AS transfer_id,
        wallet.customer_id, wallet.balance, wallet.version,
        nth, 0.2500 AS paid
    FROM (SELECT * FROM wallet_wallet ORDER BY customer_id LIMIT %(wallets)s) AS wallet,
        generate_series(1, %(per_wallet)s) AS nth;

    INSERT INTO wallet_transfer (
        id, kind, debit_account, credit_account, amount, key, posted_at,
        wallet_id, wallet_version, balance_after
    ) OVERRIDING SYSTEM VALUE
    SELECT transfer_id, 'purchase', customer_id, 2, paid, 'purchase:' || order_id, now(),
        customer_id, version + nth, balance - nth * paid
    FROM made;

    INSERT INTO orders_order (
        id, customer_id, offer_id, upstream_id, kind, service, country, price, state,
        idempotency_key, placed_at, allocated_at, deadline, refusal_code, broken_signal, phone,
        upstream_side, upstream_ref, upstream_cost, purchase_id
    ) OVERRIDING SYSTEM VALUE
    SELECT order_id, customer_id, offer.id, offer.upstream_id, 'activation', 'tg', '0', paid,
        'awaiting_sms', 'bench-' || order_id, now() - interval '25 minutes',
        now() - interval '25 minutes', now() - interval '5 minutes', '', '',
        '+79' || lpad(order_id::text, 9, '0'), 'held', 'ref-' || order_id, 0.1, transfer_id
    FROM made, orders_offer AS offer;
"""

# What a specialist would write for this one purpose: the same rows in one statement.
SET_BASED = """
    WITH due AS MATERIALIZED (
        SELECT id AS order_id, customer_id, price, state, placed_at, allocated_at, deadline,
            first_sms_at, refusal_code, broken_at, broken_signal, upstream_side,
            nextval(pg_get_serial_sequence('wallet_transfer', 'id')) AS transfer_id
        FROM orders_order
        WHERE state = 'awaiting_sms' AND upstream_id = %(upstream)s AND deadline < %(now)s
        FOR NO KEY UPDATE SKIP LOCKED
    ), wallet AS MATERIALIZED (
        SELECT customer_id, balance, version FROM wallet_wallet
        WHERE customer_id IN (SELECT customer_id FROM due)
        ORDER BY customer_id FOR NO KEY UPDATE
    ), posted AS (
        INSERT INTO wallet_transfer (
            id, kind, debit_account, credit_account, amount, key, posted_at,
            wallet_id, wallet_version, balance_after
        ) OVERRIDING SYSTEM VALUE
        SELECT transfer_id, 'auto_refund', 2, customer_id, price, 'refund:auto:' || order_id,
            %(now)s, customer_id, version + row_number() OVER line, balance + sum(price) OVER line
        FROM due JOIN wallet USING (customer_id)
        WINDOW line AS (PARTITION BY customer_id ORDER BY order_id)
    ), changed AS (
        UPDATE orders_order AS o
        SET state = 'expired', ended_at = %(now)s, settlement_id = due.transfer_id,
            upstream_side = 'releasing', upstream_due_at = %(now)s
        FROM due WHERE o.id = due.order_id
        RETURNING o.*
    ), remembered AS (
        INSERT INTO orders_historicalorder (
            {columns}, history_date, history_type, history_change_reason, history_actor
        )
        SELECT {columns}, %(now)s, '~', 'No SMS arrived by the deadline', 'automatic: refund sweep'
        FROM changed
    )
    INSERT INTO refunds_refund (
        order_id, transfer_id, amount, facts, clause, policy_version, created_at
    )
    SELECT order_id, transfer_id, price,
        jsonb_build_object(
            'state', state, 'price', price::text, 'placed_at', placed_at,
            'allocated_at', allocated_at, 'deadline', deadline, 'first_sms_at', first_sms_at,
            'refusal_code', refusal_code, 'broken_at', broken_at, 'broken_signal', broken_signal
        ),
        'auto.no_sms_in_time', '2026-05-07', %(now)s
    FROM due
"""


def run(rounds: int = ROUNDS, orders: int = ORDERS, large: int = LARGE) -> dict[str, Any]:
    """Run all rounds and return the figures."""
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    databases = setup_databases(verbosity=0, interactive=False)
    try:
        bench = Bench(orders)
        bench.prepare(SMALL)
        bench.sweep()
        idle_small = bench.idle()
        seconds: dict[str, list[float]] = {"a": [], "b": [], "c": []}
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            arms = ["b", "a", "c"] if number % 2 else ["c", "b", "a"]
            for arm in arms:
                if arm in {"b", "c"}:  # b takes a sample of the orders that a then finishes
                    bench.prepare(orders)
                seconds[arm].append(bench.timed(arm))
        bench.fill_up(large)
        idle_large = bench.idle()
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0]
        return _summary(seconds, idle_small, idle_large, version, orders)
    finally:
        teardown_databases(databases, verbosity=0)


class Bench:
    """A shop with one upstream, and its orders."""

    def __init__(self, orders: int) -> None:
        from django.db import connection

        from orders.models import Offer, Upstream
        from wallet.models import Storefront

        self.connection = connection
        shop = Storefront.objects.create(name="Bench")
        self.upstream = Upstream.objects.create(code="bench", name="Bench", base_url="http://[::1]")
        Offer.objects.create(
            upstream=self.upstream, service="tg", country="0", title="Telegram", price="0.2500"
        )
        self.wallets = orders // ORDERS_PER_WALLET
        self._open_wallets(shop.pk)

    def _open_wallets(self, shop: int) -> None:
        with self.connection.cursor() as cursor:
            # A trigger plans its look-ups by what the server knows of the tables: hence ANALYZE.
            cursor.execute(
                """
                INSERT INTO wallet_customer (storefront_id, external_id, email, status, created_at)
                SELECT %s, 'bench-' || n, '', 'active', now() FROM generate_series(1, %s) AS n;
                """,
                [shop, self.wallets],
            )
            cursor.execute(
                """
                ANALYZE wallet_customer;
                INSERT INTO wallet_wallet (customer_id, balance, version)
                SELECT id, 0, 0 FROM wallet_customer;
                INSERT INTO wallet_transfer (
                    kind, debit_account, credit_account, amount, key, posted_at,
                    wallet_id, wallet_version, balance_after
                )
                SELECT 'deposit', 1, id, 1000, 'deposit:bench:' || id, now(), id, 1, 1000
                FROM wallet_customer;
                ANALYZE wallet_transfer;
                INSERT INTO wallet_deposit (storefront_id, reference, transfer_id)
                SELECT customer.storefront_id, transfer.key, transfer.id
                FROM wallet_transfer AS transfer
                JOIN wallet_customer AS customer ON customer.id = transfer.wallet_id
                WHERE transfer.kind = 'deposit';
                """
            )

    def prepare(self, orders: int) -> None:
        """Add overdue orders, spread over the wallets, and settle the server."""
        from django.db import transaction

        with transaction.atomic(), self.connection.cursor() as cursor:
            wallets = min(self.wallets, orders)
            cursor.execute(PREPARE, {"wallets": wallets, "per_wallet": orders // wallets})
        self._settle()

    def _settle(self) -> None:
        from django.utils import timezone

        from orders.models import Upstream

        with self.connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE orders_order, wallet_wallet, wallet_transfer")
            cursor.execute("CHECKPOINT")
        Upstream.objects.update(looked_at=timezone.now())

    def timed(self, arm: str) -> float:
        """Orders refunded per second by an arm, with the books proved afterwards."""
        run: dict[str, Callable[[], int]] = {"a": self.sweep, "b": self.loop, "c": self.set_based}
        self._settle()
        begun = time.perf_counter()
        refunded = run[arm]()
        rate = refunded / (time.perf_counter() - begun)
        _say(f"  {arm}: {refunded:>7} orders, {rate:>9,.0f} a second")
        self._audit()
        return rate

    def _audit(self) -> None:
        from smsactivator.auditing import audit_ledger

        run = audit_ledger()
        if not run.passed:
            raise SystemExit(f"The audit failed, no figure counts: {run.checks}")

    def sweep(self) -> int:
        """Arm a: the product."""
        from refunds import automatic

        return automatic.sweep()

    def loop(self) -> int:
        """Arm b: order by order, through the models."""
        from django.db import transaction
        from django.utils import timezone

        from orders.models import Order, State
        from refunds import policy
        from refunds.models import Refund
        from wallet.models import Account, Transfer, Wallet

        due = Order.objects.filter(state=State.AWAITING_SMS, deadline__lt=timezone.now())
        ids = list(due.order_by("deadline").values_list("pk", flat=True)[:LOOP_SAMPLE])
        for order_id in ids:
            with transaction.atomic():
                order = Order.objects.select_for_update().get(pk=order_id)
                if order.state != State.AWAITING_SMS:
                    continue
                wallet = Wallet.objects.select_for_update().get(pk=order.customer_id)
                facts = {
                    "state": order.state,
                    "price": str(order.price),
                    "placed_at": order.placed_at.isoformat(),
                    "allocated_at": order.allocated_at and order.allocated_at.isoformat(),
                    "deadline": order.deadline and order.deadline.isoformat(),
                    "first_sms_at": None,
                    "refusal_code": order.refusal_code,
                    "broken_at": None,
                    "broken_signal": order.broken_signal,
                }
                now = timezone.now()
                transfer = Transfer.objects.create(
                    kind=Transfer.Kind.AUTOMATIC_REFUND,
                    debit_account=Account.ORDER_ESCROW,
                    credit_account=wallet.pk,
                    amount=order.price,
                    key=f"refund:auto:{order.pk}",
                    posted_at=now,
                    wallet=wallet,
                    wallet_version=wallet.version + 1,
                    balance_after=wallet.balance + order.price,
                )
                order.expire(at=now)
                order.release(due_at=now)
                order.settlement = transfer
                order._change_reason = "No SMS arrived by the deadline"  # type: ignore[attr-defined]
                order.save(
                    update_fields=[
                        "state",
                        "ended_at",
                        "settlement",
                        "upstream_side",
                        "upstream_due_at",
                    ]
                )
                Refund.objects.create(
                    order=order,
                    transfer=transfer,
                    amount=order.price,
                    facts=facts,
                    clause=policy.Clause.NO_SMS_IN_TIME,
                    policy_version=policy.versions()[-1].name,
                    created_at=now,
                )
        return len(ids)

    def set_based(self) -> int:
        """Arm c: one statement."""
        from django.db import transaction
        from django.utils import timezone

        from orders.models import Order

        history: Any = Order.history.model
        columns = ", ".join(str(field.column) for field in history.tracked_fields)
        with transaction.atomic(), self.connection.cursor() as cursor:
            cursor.execute(
                SET_BASED.format(columns=columns),
                {"upstream": self.upstream.pk, "now": timezone.now()},
            )
            return int(cursor.rowcount)

    def fill_up(self, orders: int) -> None:
        """Bring the number of orders, all ended, up to ``orders``."""
        from orders.models import Order

        self.sweep()
        while (missing := orders - Order.objects.count()) > 0:
            self.prepare(max(missing, self.wallets))
            self.sweep()
        self._settle()

    def idle(self) -> list[float]:
        """Seconds of sweeps that find nothing, sorted, and over how many orders."""
        from orders.models import Order

        self._settle()
        _say(f"idle sweeps over {Order.objects.count():,} orders")
        taken = []
        for _ in range(IDLE_RUNS):
            begun = time.perf_counter()
            if self.sweep():
                raise SystemExit("An idle sweep found work.")
            taken.append(time.perf_counter() - begun)
        return sorted(taken)


def _summary(
    rates: dict[str, list[float]],
    idle_small: list[float],
    idle_large: list[float],
    version: str,
    orders: int,
) -> dict[str, Any]:
    median = {arm: statistics.median(figures) for arm, figures in rates.items()}
    return {
        "postgresql": version,
        "python": sys.version.split()[0],
        "orders": orders,
        "orders_per_second": {
            arm: {"median": round(median[arm]), "min": round(min(r)), "max": round(max(r))}
            for arm, r in rates.items()
        },
        "a_over_b": round(median["a"] / median["b"], 1),
        "a_over_c": round(median["a"] / median["c"], 2),
        "idle_sweep_ratio_large_over_small": round(
            statistics.median(idle_large) / statistics.median(idle_small), 2
        ),
    }


def table(result: dict[str, Any]) -> str:
    named = {"a": "the product's sweep", "b": "a loop, order by order", "c": "one SQL statement"}
    lines = [f"{'arm':<28}{'median':>10}{'min':>10}{'max':>10}   orders a second"]
    for arm, figures in sorted(result["orders_per_second"].items()):
        cells = "".join(f"{figures[name]:>10,}" for name in ("median", "min", "max"))
        lines.append(f"{arm}  {named[arm]:<25}{cells}")
    return "\n".join(
        [
            *lines,
            f"a / b = {result['a_over_b']} (wanted: 40)",
            f"a / c = {result['a_over_c']} (wanted: 0.5)",
            f"idle sweep, many orders / few = {result['idle_sweep_ratio_large_over_small']}",
        ]
    )


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")
