"""How fast the ledger posts, beside django-hordak and pgbench, how fast it is audited and read.

All on the same durable server in one run, several client processes at once, rounds interleaved;
after each arm the books are audited, or the run stops.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SECONDS = 3.0
CLIENTS = 4
UNIFORM, HOT = 10_000, 10  # wallets
BATCH = 100
TRANSFERS = 1_000_000
LINES = 100_000
SHORT = 100
PAGES = 50
SMALL_AMOUNT = Decimal("0.01")

ARMS = [(arm, wallets) for arm in ("single", "batch") for wallets in ("uniform", "hot")]
WANTED = {
    ("single", "uniform"): 2.5,
    ("single", "hot"): 3.0,
    ("batch", "uniform"): 12.0,
    ("batch", "hot"): 12.0,
}


def run(*, rounds: int, seconds: float, transfers: int, lines: int, rivals: bool) -> dict[str, Any]:
    """Run everything and return the figures."""
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    databases = setup_databases(verbosity=0, interactive=False)
    try:
        url = url_of(str(connection.settings_dict["NAME"]))
        _open_wallets(UNIFORM)
        rates: dict[str, list[float]] = {}
        rival_url = _rival(UNIFORM) if rivals else ""
        bench_url = _pgbench_tables() if rivals and _pgbench() else ""
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            for arm, spread in ARMS if number % 2 else reversed(ARMS):
                wallets = UNIFORM if spread == "uniform" else HOT
                sides = [("product", url), *([("hordak", rival_url)] if rivals else [])]
                for side, database in sides if number % 2 else reversed(sides):
                    rate = _clients(side, database, arm, wallets, seconds)
                    rates.setdefault(f"{side} {arm} {spread}", []).append(rate)
                    _say(f"  {side:<8} {arm:<6} {spread:<8} {rate:>9,.0f} a second")
                    _prove(side, database)
            if bench_url:
                rates.setdefault("pgbench TPC-B", []).append(_run_pgbench(bench_url, seconds))
        result: dict[str, Any] = {
            "clients": CLIENTS,
            "postings_per_second": {
                name: {
                    "median": round(statistics.median(found)),
                    "min": round(min(found)),
                    "max": round(max(found)),
                }
                for name, found in sorted(rates.items())
            },
        }
        if rivals:
            result["over_hordak"] = {
                f"{arm} {spread}": round(
                    statistics.median(rates[f"product {arm} {spread}"])
                    / statistics.median(rates[f"hordak {arm} {spread}"]),
                    1,
                )
                for arm, spread in ARMS
            }
        result["statement"] = _statements(lines)
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            result["postgresql"] = cursor.fetchone()[0]
    finally:
        teardown_databases(databases, verbosity=0)
    result["audit"] = _audits(transfers)
    result["python"] = sys.version.split()[0]
    return result


def table(result: dict[str, Any]) -> str:
    """The figures in words and columns."""
    lines = [f"{'':<28}{'median':>10}{'min':>10}{'max':>10}   postings a second"]
    for name, figures in result["postings_per_second"].items():
        cells = "".join(f"{figures[column]:>10,}" for column in ("median", "min", "max"))
        lines.append(f"{name:<28}{cells}")
    for name, ratio in result.get("over_hordak", {}).items():
        wanted = WANTED[tuple(name.split())]
        lines.append(f"{name}: {ratio} times hordak (wanted: {wanted})")
    audit, statement = result["audit"], result["statement"]
    lines += [
        f"full audit of {audit['transfers']:,} transfers: {audit['full']} s (wanted: 5)",
        f"incremental audit, 100 new: {audit['new_100']} s, 10,000 new: {audit['new_10000']} s",
        "statement page, {long:,} lines / {short} lines = {ratio} (wanted: 1)".format(**statement),
    ]
    return "\n".join(lines)


def url_of(name: str) -> str:
    return make_conninfo(os.environ["DATABASE_URL"], dbname=name)


def as_uri(conninfo: str) -> str:
    """A connection string as a URL, as our settings want it."""
    parts = conninfo_to_dict(conninfo)
    query = "&".join(
        f"{name}={parts[name]}" for name in ("user", "password", "host", "port") if parts.get(name)
    )
    return f"postgresql:///{parts['dbname']}?{query}"


def _database(name: str) -> str:
    """A new, empty database beside the others. Returns its connection string."""
    with psycopg.connect(url_of("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return url_of(name)


def _open_wallets(number: int) -> None:
    from django.db import connection

    from wallet.models import Storefront

    shop = Storefront.objects.create(name="Bench")
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO wallet_customer (storefront_id, external_id, email, status, created_at)
            SELECT %s, 'bench-' || n, '', 'active', now() FROM generate_series(1, %s) AS n;
            """,
            [shop.pk, number],
        )
        cursor.execute(
            """
            INSERT INTO wallet_wallet (customer_id, balance, version)
            SELECT id, 0, 0 FROM wallet_customer ORDER BY id;
            INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key,
                posted_at, wallet_id, wallet_version, balance_after)
            SELECT 'deposit', 1, id, 1000000, 'open:' || id, now(), id, 1, 1000000
            FROM wallet_customer;
            ANALYZE;
            """
        )


def _rival(wallets: int) -> str:
    _say("django-hordak opens its accounts")
    url = _database("bench_hordak")
    code = (
        "import sys; from smsactivator.bench import rival; rival.set_up(sys.argv[1]);"
        f" rival.open_accounts({wallets})"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)  # noqa: S603 - our own code
    return url


def _clients(side: str, url: str, arm: str, wallets: int, seconds: float) -> float:
    """Postings a second of CLIENTS processes that post at the same time."""
    given = {"side": side, "arm": arm, "wallets": wallets, "size": BATCH, "seconds": seconds}
    environment = os.environ | {"DATABASE_URL": as_uri(url)}
    processes = [
        subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-m", "smsactivator.bench.worker", json.dumps(given)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(CLIENTS)
    ]
    for process in processes:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise SystemExit(f"A client of {side} did not start.")
    rates = []
    for process in processes:
        if process.stdin is not None:
            process.stdin.write("go\n")
            process.stdin.flush()
    for process in processes:
        told = json.loads(process.communicate()[0])
        rates.append(float(told["posted"] / told["seconds"]))
    return sum(rates)


def _prove(side: str, url: str) -> None:
    """The books are right, or no figure counts."""
    if side == "product":
        from wallet.audit import LEDGER, audit

        run = audit(LEDGER)
        if not run.passed:
            raise SystemExit(f"The audit failed, no figure counts: {run.checks}")
        return
    code = (
        "import sys; from smsactivator.bench import rival; rival.set_up(sys.argv[1]);"
        " rival.Ledger(1).audit()"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)  # noqa: S603 - our own code


def _pgbench() -> str:
    """Where pgbench is: beside the embedded server, or on the path; empty when there is none."""
    from smsactivator.embedded import _postgres_package

    beside = Path(_postgres_package()) / "pginstall" / "bin" / "pgbench"
    return str(beside) if beside.exists() else shutil.which("pgbench") or ""


def _pgbench_tables() -> str:
    url = _database("bench_tpcb")
    subprocess.run(  # noqa: S603
        [_pgbench(), "--initialize", "--quiet", "--scale", "10", url],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return url


def _run_pgbench(url: str, seconds: float) -> float:
    """TPC-B transactions a second, each of which also updates two balances and a history."""
    told = subprocess.run(  # noqa: S603
        [
            *(_pgbench(), "--client", str(CLIENTS), "--jobs", str(CLIENTS)),
            *("--time", str(max(1, round(seconds))), url),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"tps = ([0-9.]+)", told)
    if found is None:
        raise SystemExit(f"pgbench said no rate: {told}")
    rate = float(found[1])
    _say(f"  pgbench TPC-B            {rate:>9,.0f} a second")
    return rate


def _statements(lines: int) -> dict[str, Any]:
    """The statement page of a long wallet beside a short one's, interleaved."""
    from django.contrib.auth.models import User
    from django.db import transaction
    from django.test import Client

    from smsactivator.common.links import admin_url
    from wallet import ledger
    from wallet.models import Account, Wallet

    long, short = Wallet.objects.order_by("-pk")[:2]
    for wallet, number in ((long, lines), (short, SHORT)):
        missing = max(0, number - wallet.version)
        for start in range(0, missing, 10_000):
            with transaction.atomic():
                ledger.post(
                    [
                        ledger.Posting(
                            "deposit",
                            Account.CRYPTO_DEPOSITS,
                            wallet.pk,
                            SMALL_AMOUNT,
                            f"line:{wallet.pk}:{n}",
                        )
                        for n in range(start, min(start + 10_000, missing))
                    ]
                )
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("bench"))
    taken: dict[int, list[float]] = {long.pk: [], short.pk: []}
    for number in range(PAGES + 1):
        for pk, seconds in taken.items():
            url = admin_url("wallet_wallet_change", pk, since="2026-01-01")
            begun = time.perf_counter()
            if client.get(url).status_code != 200:
                raise SystemExit(f"{url} does not open")
            if number:  # the first one warms up
                seconds.append(time.perf_counter() - begun)
    ratio = statistics.median(taken[long.pk]) / statistics.median(taken[short.pk])
    return {"long": lines, "short": SHORT, "ratio": round(ratio, 2)}


def _audits(transfers: int) -> dict[str, Any]:
    """Seconds of a full audit over so many transfers of orders, and of audits of what is new."""
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    from smsactivator.auditing import audit_ledger
    from smsactivator.bench.refunds import ORDERS_PER_WALLET, Bench
    from wallet.models import Transfer

    _say(f"making {transfers:,} transfers")
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        # A deposit for each wallet, and a purchase and a refund for each order.
        orders = transfers * ORDERS_PER_WALLET // (2 * ORDERS_PER_WALLET + 1)
        bench = Bench(orders)
        bench.prepare(orders)
        bench.sweep()
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        result: dict[str, Any] = {"transfers": Transfer.objects.count()}

        def timed(*, full: bool) -> float:
            begun = time.perf_counter()
            if not audit_ledger(full=full).passed:
                raise SystemExit("The audit failed, no figure counts.")
            return time.perf_counter() - begun

        result["full"] = round(statistics.median(timed(full=True) for _ in range(3)), 2)
        for new in (100, 10_000):
            found = []
            for _ in range(3):
                bench.prepare(new // 2)
                bench.sweep()
                found.append(timed(full=False))
            result[f"new_{new}"] = round(statistics.median(found), 3)
        return result
    finally:
        teardown_databases(databases, verbosity=0)


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")
