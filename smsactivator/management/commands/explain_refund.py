"""Explain why an order is refunded or not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from refunds.explaining import Explanation, explain, fact_words
from smsactivator.common.errors import Refused


class Command(BaseCommand):
    help = (
        "Explain an order by the refund policy: what is known, the verdict, its clause, what "
        "happened, and what can be done next. Shows no SMS and no phone number. Exits 1 when the "
        "order, the clause or the version is unknown."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("order", type=int, help="the order's number")
        parser.add_argument(
            "--reported",
            default="",
            metavar="CLAUSE",
            help="what the customer's message comes to, e.g. ticket.service_rejected "
            "(default: as the order's newest refund request has it)",
        )
        parser.add_argument(
            "--as-of",
            default="",
            metavar="VERSION",
            help="judge by this version, e.g. 2026-05-07 "
            "(default: the version in force when the order was placed)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = explain(options["order"], reported=options["reported"], as_of=options["as_of"])
        except Refused as refusal:
            raise CommandError(refusal.message) from None
        self._print("Facts", (f"{name}: {value}" for name, value in fact_words(found.facts)))
        self._print("Verdict", _verdict(found))
        if found.rule is not None:
            self._print("Clause", (f"{found.rule.clause}: {found.rule.title}", found.rule.text))
        self._print("What happened", found.happened)
        self._print("What can be done", found.next)

    def _print(self, title: str, lines: Iterable[str]) -> None:
        self.stdout.write(title)
        for line in lines:
            self.stdout.write(f"  {line}")


def _verdict(found: Explanation) -> Iterable[str]:
    yield f"{found.verdict.outcome.label}: {found.verdict.known}."
    if found.verdict.claim:
        yield f"Not known, but {found.verdict.claim}."
    if found.asked is found.in_force:
        yield f"By version {found.asked.name}, in force when the order was placed."
    else:
        yield f"By version {found.asked.name}; in force was {found.in_force.name}."
    if found.reported_in:
        yield f"As reported in {found.reported_in}."
