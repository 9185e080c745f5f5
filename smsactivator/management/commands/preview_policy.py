"""Replay a version of the policy over past orders."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from refunds import replay
from refunds.replay import Replay
from smsactivator.common.display import amount
from smsactivator.common.errors import Refused

PRINTED = 50  # differences; the file has all of them


class Command(BaseCommand):
    help = (
        "Say what a version of the policy would have made of the orders that ended in a period, "
        "where that differs from what happened, and what it would have cost. Changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy_version", metavar="VERSION", help="e.g. 2026-05-07")
        parser.add_argument("--since", required=True, type=_day, help="first day (UTC)")
        parser.add_argument("--until", required=True, type=_day, help="last day, included")
        parser.add_argument("--csv", type=Path, metavar="FILE", help="write every difference here")
        parser.add_argument(
            "--chunk", type=int, default=replay.CHUNK, help="orders a batch (default: %(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["chunk"] < 1:
            raise CommandError("A batch has one order or more.")
        try:
            asked = replay.replay(
                options["policy_version"],
                options["since"],
                options["until"] + timedelta(days=1),
                chunk=options["chunk"],
            )
        except Refused as refusal:
            raise CommandError(refusal.message) from None
        if options["csv"] is None:
            self._list(asked)
        else:
            try:
                with options["csv"].open("x", encoding="utf-8", newline="") as file:
                    file.writelines(replay.as_csv(asked))
            except OSError as error:
                raise CommandError(f"{options['csv']}: {error.strerror}.") from None
        for line in _summary(asked):
            self.stdout.write(line)

    def _list(self, asked: Replay) -> None:
        for number, found in enumerate(asked.differences()):
            if number < PRINTED:
                self.stdout.write(
                    f"Order {found.order}: {found.then.clause or 'nothing'} "
                    f"{amount(found.then.known)} -> {found.now.clause or 'nothing'} "
                    f"{amount(found.now.known)}{_undecided(found.now.up_to)} USD. {found.why}."
                )
        if asked.differing > PRINTED:
            self.stdout.write(f"… and {asked.differing - PRINTED:,} more: take them with --csv.")


def _summary(asked: Replay) -> Iterator[str]:
    yield f"{asked.orders:,} orders, {asked.differing:,} differ from what happened."
    for outcome, clause, total in asked.by_clause():
        then, now = total.then, total.now
        decided_later = (
            f", to be decided {now.undecided:,} (up to {amount(now.up_to)})"
            if now.undecided
            else ""
        )
        yield (
            f"  {clause or outcome.label}: orders {then.orders:,} -> {now.orders:,}, "
            f"USD {amount(then.known)} -> {amount(now.known)}{decided_later}"
        )
    yield f"It would have cost {asked.cost} USD more than what happened."


def _undecided(up_to: Any) -> str:
    return f" (people decide, up to {amount(up_to)})" if up_to else ""


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
