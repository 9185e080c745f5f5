"""Prove the books again from the rows."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from smsactivator.auditing import audit_ledger
from wallet.audit import Result
from wallet.models import AuditRun


class Command(BaseCommand):
    help = (
        "Prove the ledger, the orders' money and the refunds again: what is new since the last "
        "passed audit, or all of it. Exits 1 on any difference."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--full",
            action="store_true",
            help="begin with the first transfer, not where the last passed audit ended",
        )
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options["json"]
        run = audit_ledger(full=options["full"], progress=None if as_json else self._print)
        if as_json:
            content = {
                "passed": run.passed,
                "started_at": run.started_at.isoformat(),
                "finished_at": run.finished_at.isoformat(),
                "after_id": run.after_id,
                "through_id": run.through_id,
                "checks": run.checks,
            }
            self.stdout.write(json.dumps(content, indent=2))
        else:
            self._sum_up(run)
        if not run.passed:
            raise SystemExit(1)

    def _print(self, result: Result) -> None:
        """One check, as soon as it is done."""
        verdict = f"FAILED ({result.count})" if result.count else "ok"
        self.stdout.write(f"{verdict:>12}  {result.name}  ({result.seconds} s)")
        for figure, amount in result.figures.items():
            self.stdout.write(f"{'':14}{figure.replace('_', ' ')}: {amount} USD")
        for difference in result.differences:
            self.stdout.write(f"{'':14}{difference}")
        self.stdout.flush()

    def _sum_up(self, run: AuditRun) -> None:
        failed = sum(1 for check in run.checks if check["count"])
        seen = "all transfers" if run.full else f"transfers after {run.after_id}"
        self.stdout.write(f"{seen}, settled through {run.through_id}")
        self.stdout.write(
            f"{failed} of {len(run.checks)} checks failed"
            if failed
            else f"all {len(run.checks)} checks passed"
        )
