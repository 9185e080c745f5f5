"""The audit of the ledger: each check proves one truth again from the rows.

A check is one SQL statement that returns the rows that break the truth, so that a failure names
them. Upper floors add checks of their own (``orders.audit``, ``refunds.audit``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from wallet.models import AuditRun

SHOWN = 20  # differences that are named; the count is always whole


@dataclass(frozen=True, slots=True)
class Check:
    """``sql`` returns the rows that break the truth: first what they are, then what differs.

    ``figures`` returns one row of named amounts that the check compared, USD.
    """

    name: str
    sql: str
    figures: str = ""


@dataclass(slots=True)
class Result:
    """What one check found."""

    name: str
    seconds: float
    count: int
    differences: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)


CHECKS: tuple[Check, ...] = (
    Check(
        "each wallet shows the balance and version of its last transfer",
        """
        SELECT 'wallet ' || wallet.customer_id,
            format('shows %s at version %s, its last transfer says %s at %s',
                wallet.balance, wallet.version, last.balance_after, last.wallet_version)
        FROM wallet_wallet AS wallet
        LEFT JOIN LATERAL (
            SELECT balance_after, wallet_version FROM wallet_transfer
            WHERE wallet_id = wallet.customer_id ORDER BY wallet_version DESC LIMIT 1
        ) AS last ON true
        WHERE wallet.balance <> coalesce(last.balance_after, 0)
            OR wallet.version <> coalesce(last.wallet_version, 0)
        """,
    ),
    Check(
        "each wallet's balance is the sum of its transfers",
        """
        SELECT 'wallet ' || wallet.customer_id,
            format('holds %s, its transfers come to %s', wallet.balance, coalesce(moved.total, 0))
        FROM wallet_wallet AS wallet
        LEFT JOIN (
            SELECT wallet_id,
                sum(CASE WHEN credit_account = wallet_id THEN amount ELSE -amount END) AS total
            FROM wallet_transfer WHERE wallet_id IS NOT NULL GROUP BY wallet_id
        ) AS moved ON moved.wallet_id = wallet.customer_id
        WHERE wallet.balance <> coalesce(moved.total, 0)
        """,
    ),
    Check(
        "versions are gapless, and each balance continues the one before",
        """
        SELECT 'transfer ' || id,
            format('version %s after %s, balance %s after %s',
                wallet_version, previous_version, balance_after, previous_balance)
        FROM (
            SELECT id, wallet_version, balance_after,
                CASE WHEN credit_account = wallet_id THEN amount ELSE -amount END AS change,
                coalesce(lag(wallet_version) OVER chain, 0) AS previous_version,
                coalesce(lag(balance_after) OVER chain, 0) AS previous_balance
            FROM wallet_transfer WHERE wallet_id IS NOT NULL
            WINDOW chain AS (PARTITION BY wallet_id ORDER BY wallet_version)
        ) AS line
        WHERE wallet_version <> previous_version + 1 OR balance_after <> previous_balance + change
        """,
    ),
    Check(
        "the shop's accounts and all wallets sum to zero",
        """
        SELECT 'all accounts', format('the shop owes %s, the wallets hold %s', shop, wallets)
        FROM (
            SELECT (
                SELECT coalesce(sum(CASE WHEN debit_account < 1000 THEN amount ELSE 0 END), 0)
                    - coalesce(sum(CASE WHEN credit_account < 1000 THEN amount ELSE 0 END), 0)
                FROM wallet_transfer
            ) AS shop, (SELECT coalesce(sum(balance), 0) FROM wallet_wallet) AS wallets
        ) AS totals
        WHERE shop <> wallets
        """,
    ),
)


def audit(checks: Sequence[Check]) -> AuditRun:
    """Run the checks on one snapshot and keep the result. Changes nothing else, locks nothing.

    Inside a caller's transaction the snapshot is the caller's, with its uncommitted rows.
    """
    started_at = timezone.now()
    own_transaction = not connection.in_atomic_block
    with transaction.atomic():
        if own_transaction:
            with connection.cursor() as cursor:
                # Money moves while we count: every check must see the same moment.
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        results = [_run(check) for check in checks]
    return AuditRun.objects.create(
        started_at=started_at,
        finished_at=timezone.now(),
        passed=not any(result.count for result in results),
        checks=[asdict(result) for result in results],
    )


def _run(check: Check) -> Result:
    begun = time.monotonic()
    figures: dict[str, Any] = {}
    with connection.cursor() as cursor:
        cursor.execute(check.sql)
        shown = cursor.fetchmany(SHOWN)
        count = max(cursor.rowcount, len(shown))
        if check.figures:
            cursor.execute(check.figures)
            names = [column.name for column in cursor.description]
            figures = dict(zip(names, map(str, cursor.fetchone()), strict=True))
    return Result(
        name=check.name,
        seconds=round(time.monotonic() - begun, 3),
        count=count,
        differences=[f"{what}: {difference}" for what, difference in shown],
        figures=figures,
    )
