"""Exports of many rows: how much memory the process that writes one needs, and the one that sends.

Each of them is a process of its own, as a worker and a web process are; the peak is what the kernel
counts for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from uuid import uuid4

from smsactivator.bench.ledger import as_uri, url_of

ROWS = 1_000_000
WALLETS = 10_000
WANTED = 300  # MiB
BATCH = 100_000

# Deposits, spread over the wallets: each wallet's lines are a chain, as the ledger writes them.
TRANSFERS = """
    INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key, posted_at,
        wallet_id, wallet_version, balance_after, currency)
    SELECT 'deposit', 1, wallet, 1.2345, 'bench:' || n,
        %(since)s::timestamptz + n * interval '1 second', wallet, version, version * 1.2345, 'USD'
    FROM (
        SELECT n, %(first)s + n %% %(wallets)s AS wallet, 1 + n / %(wallets)s AS version
        FROM generate_series(%(begin)s, %(end)s - 1) AS n
    ) AS made
"""


def run(*, rows: int = ROWS) -> dict[str, Any]:
    """Each dataset of the ledger over one day and over all, written and taken. In MiB."""
    from datetime import date, timedelta

    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    from smsactivator.common.periods import Period

    since = date(2026, 1, 1)
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        url = url_of(str(connection.settings_dict["NAME"]))
        person = _person()
        _fill(rows, since)
        result: dict[str, Any] = {"idle": _process(url, act="idle"), "exports": []}
        # A transfer a second, from the first moment on.
        spans = [
            Period(since, since + timedelta(days=(count - 1) // 86_400)) for count in (1, rows)
        ]
        for dataset in ("transfers", "statements"):
            for span in spans:
                result["exports"].append(_measured(url, person, dataset, span))
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            result["postgresql"] = cursor.fetchone()[0]
    finally:
        teardown_databases(databases, verbosity=0)
    result["python"] = sys.version.split()[0]
    return result


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    heading = (
        "| export | rows | MB, kept as | written in, s | temporary disk, MiB | peak, MiB"
        " | taken in, s | peak, MiB | wanted |"
    )
    lines = [
        heading,
        "|---|---|---|---|---|---|---|---|---|",
        f"| nothing, only the program | | | | | {result['idle']['peak_mib']} | | | |",
    ]
    for one in result["exports"]:
        write, take = one["write"], one["take"]
        lines.append(
            f"| {one['dataset']} | {one['rows']:,} "
            f"| {one['bytes'] / 1e6:.1f}, {one['kept_bytes'] / 1e6:.1f} | {write['seconds']} "
            f"| {one['temporary_mib']} | {write['peak_mib']} | {take['seconds']} "
            f"| {take['peak_mib']} | under {WANTED} |"
        )
    return "\n".join(lines)


def _person() -> Any:
    from django.contrib.auth.models import Group, User

    from smsactivator.roles import FINANCE

    person = User.objects.create_user("bench", is_staff=True)
    person.groups.add(Group.objects.get(name=FINANCE))
    return person


def _fill(rows: int, since: Any) -> None:
    """Deposits without the triggers, which prove each line; the wallets are set to their last."""
    from django.db import connection, transaction

    from smsactivator.common.history import Actor
    from wallet import customers
    from wallet.models import Storefront

    shop = Storefront.objects.create(name="Bench")
    first, _ = customers.create_or_update(shop.pk, "bench-0", actor=Actor.automatic("bench"))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            """
            INSERT INTO wallet_customer (id, storefront_id, external_id, email, status, created_at)
            SELECT %s + n, %s, 'bench-' || n, '', 'active', now()
            FROM generate_series(1, %s) AS n
            """,
            [first.pk, shop.pk, WALLETS - 1],
        )
        cursor.execute(
            """
            INSERT INTO wallet_wallet (customer_id, state, currency, balance, version)
            SELECT id, 'active', 'USD', 0, 0 FROM wallet_customer WHERE id > %s
            """,
            [first.pk],
        )
        for begin in range(0, rows, BATCH):
            cursor.execute(
                TRANSFERS,
                {
                    "since": since,
                    "first": first.pk,
                    "wallets": WALLETS,
                    "begin": begin,
                    "end": min(begin + BATCH, rows),
                },
            )
        cursor.execute(
            """
            UPDATE wallet_wallet AS wallet
            SET balance = last.balance_after, version = last.wallet_version,
                posted_at = last.posted_at
            FROM (
                SELECT DISTINCT ON (wallet_id) wallet_id, wallet_version, balance_after, posted_at
                FROM wallet_transfer ORDER BY wallet_id, wallet_version DESC
            ) AS last
            WHERE last.wallet_id = wallet.customer_id
            """
        )
    with connection.cursor() as cursor:
        for name in ("wallet_transfer", "wallet_wallet", "wallet_customer"):
            cursor.execute(f"VACUUM ANALYZE {name}")
    sys.stderr.write(f"{rows:,} transfers\n")


def _measured(url: str, person: Any, dataset: str, span: Any) -> dict[str, Any]:
    from wallet import exports
    from wallet.models import Export

    export = exports.ask(person, dataset, span, key=uuid4())
    before = _figure("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
    wrote = _process(url, act="write", export=export.pk, person=person.pk)
    took = _process(url, act="take", export=export.pk, person=person.pk)
    done = Export.objects.get(pk=export.pk)
    if (took["bytes"], took["sha256"]) != (done.size, done.sha256):
        raise SystemExit("the file that was taken is not the one that was written")
    after = _figure("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
    kept = sum(len(data) for data in done.parts.values_list("data", flat=True).iterator())
    sys.stderr.write(f"{dataset}: {done.rows_done:,} rows\n")
    return {
        "dataset": dataset,
        "rows": done.rows_done,
        "bytes": done.size,
        "kept_bytes": kept,
        "temporary_mib": round((after - before) / 1024**2),
        "write": {name: wrote[name] for name in ("seconds", "peak_mib")},
        "take": {name: took[name] for name in ("seconds", "peak_mib")},
    }


def _figure(statement: str) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def _process(url: str, **given: Any) -> dict[str, Any]:
    """Run one act in a process of its own."""
    ran = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "smsactivator.bench.exporter", json.dumps(given)],
        env=os.environ | {"DATABASE_URL": as_uri(url)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return answer
