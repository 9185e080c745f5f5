"""Prove the books again from the rows."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from smsactivator.auditing import audit_ledger


class Command(BaseCommand):
    help = "Prove the ledger, the orders' money and the refunds again. Exits 1 on any difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        run = audit_ledger()
        if options["json"]:
            content = {
                "passed": run.passed,
                "started_at": run.started_at.isoformat(),
                "finished_at": run.finished_at.isoformat(),
                "checks": run.checks,
            }
            self.stdout.write(json.dumps(content, indent=2))
        else:
            self._print(run.checks)
        if not run.passed:
            raise SystemExit(1)

    def _print(self, checks: list[dict[str, Any]]) -> None:
        for check in checks:
            verdict = f"FAILED ({check['count']})" if check["count"] else "ok"
            self.stdout.write(f"{verdict:>12}  {check['name']}  ({check['seconds']} s)")
            for figure, amount in check["figures"].items():
                self.stdout.write(f"{'':14}{figure.replace('_', ' ')}: {amount} USD")
            for difference in check["differences"]:
                self.stdout.write(f"{'':14}{difference}")
        failed = sum(1 for check in checks if check["count"])
        self.stdout.write(
            f"{failed} of {len(checks)} checks failed"
            if failed
            else f"all {len(checks)} checks passed"
        )
