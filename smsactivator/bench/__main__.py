"""``make bench``: run the measurements, print the tables and the JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from smsactivator.bench import exports, ledger, refunds, support
from smsactivator.embedded import throwaway_servers


def main() -> None:
    """Parse the sizes, bring the servers, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=["refunds", "ledger", "support", "exports"], help="one part alone"
    )
    parser.add_argument("--rounds", type=int, default=refunds.ROUNDS)
    parser.add_argument("--orders", type=int, default=refunds.ORDERS, help="overdue, in a round")
    parser.add_argument("--large", type=int, default=refunds.LARGE, help="for the idle sweep")
    parser.add_argument("--seconds", type=float, default=ledger.SECONDS, help="of an arm")
    parser.add_argument("--transfers", type=int, default=ledger.TRANSFERS, help="to be audited")
    parser.add_argument("--lines", type=int, default=ledger.LINES, help="of the long statement")
    parser.add_argument("--rows", type=int, default=exports.ROWS, help="to be exported")
    parser.add_argument("--without-rivals", action="store_true", help="our own arms alone")
    parser.add_argument("--json", type=Path, help="write the JSON there too")
    options = parser.parse_args()
    with ExitStack() as stack:
        if not os.environ.get("DATABASE_URL"):
            database_url, redis_url = stack.enter_context(throwaway_servers(durable=True))
            os.environ |= {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "smsactivator.settings",
            "SMSACTIVATOR_ENV": "development",
            "DATABASE_POOL_SIZE": "0",
        }
        import django

        django.setup()
        results: dict[str, Any] = {}
        tables = []
        if options.only in {None, "ledger"}:
            results["ledger"] = ledger.run(
                rounds=options.rounds,
                seconds=options.seconds,
                transfers=options.transfers,
                lines=options.lines,
                rivals=not options.without_rivals,
            )
            tables.append(ledger.table(results["ledger"]))
        if options.only in {None, "refunds"}:
            results["refunds"] = refunds.run(options.rounds, options.orders, options.large)
            tables.append(refunds.table(results["refunds"]))
        if options.only in {None, "support"}:
            results["support"] = support.run()
            tables.append(support.table(results["support"]))
        if options.only in {None, "exports"}:
            results["exports"] = exports.run(rows=options.rows)
            tables.append(exports.table(results["exports"]))
    text = json.dumps(results, indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    sys.stdout.write("\n\n".join([text, *tables]) + "\n")


if __name__ == "__main__":
    main()
