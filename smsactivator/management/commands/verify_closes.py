"""Compute the closes of days and months again from the ledger."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from smsactivator.closing import FIGURES
from wallet import closes
from wallet.closes import Verdict


class Command(BaseCommand):
    help = "Compute the closes of the books again. Exits 1 and says what differs, in which close."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="since", type=date.fromisoformat, metavar="DAY")

    def handle(self, *args: Any, **options: Any) -> None:
        self.closes = 0
        wrong = closes.verify(FIGURES, since=options["since"], progress=self._print)
        if not self.closes and options["since"]:
            self.stdout.write("nothing was closed since that day: nothing was verified")
            raise SystemExit(1)
        if wrong:
            self.stdout.write(f"{len(wrong)} closes differ")
            raise SystemExit(1)
        self.stdout.write(
            "all closes are as they were made" if self.closes else "nothing is closed"
        )

    def _print(self, verdict: Verdict) -> None:
        self.closes += 1
        close = verdict.close
        said = "FAILED" if verdict.problems else "ok"
        self.stdout.write(
            f"{close.period:<10}  {close.transfers:>10,} transfers"
            f"  {close.owed:>18,} USD owed  {said}"
        )
        for problem in verdict.problems:
            self.stdout.write(f"{'':12}{problem}")
        self.stdout.flush()
