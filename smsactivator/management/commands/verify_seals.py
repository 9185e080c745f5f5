"""Compute the daily seals again from the rows."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from wallet import seals
from wallet.models import Seal


class Command(BaseCommand):
    help = "Compute the daily seals again. Exits 1 and names the days and rows that differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="since", type=date.fromisoformat, metavar="DAY")
        parser.add_argument("--to", dest="until", type=date.fromisoformat, metavar="DAY")
        parser.add_argument(
            "--expect",
            metavar="DIGEST",
            help="the digest of --to (or of the last day) as you kept it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.days = 0
        wrong = seals.verify(options["since"], options["until"], progress=self._print)
        if not self.days and (options["since"] or options["until"]):
            self.stdout.write("no day of the books is between these days: nothing was verified")
            raise SystemExit(1)
        day = options["until"]
        last = Seal.objects.filter(day=day).first() if day else seals.newest()
        if last is not None:
            self.stdout.write(f"{last}: {last.digest}")
        if options["expect"] and (last is None or last.digest != options["expect"]):
            self.stdout.write("That is not the digest that was expected.")
            raise SystemExit(1)
        if wrong:
            self.stdout.write(f"{len(wrong)} days differ")
            raise SystemExit(1)
        self.stdout.write("all days are as they were sealed" if last else "no day is sealed yet")

    def _print(self, verdict: seals.Verdict) -> None:
        self.days += 1
        said = f"FAILED: {verdict.problem}" if verdict.problem else "ok"
        self.stdout.write(f"{verdict.day:%Y-%m-%d}  {verdict.transfers:>10,} transfers  {said}")
        for row in verdict.rows:
            self.stdout.write(f"{'':12}{row}")
        self.stdout.flush()
