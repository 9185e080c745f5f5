"""Versions of the policy to come, each made as one is made: by adding its file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from refunds import policy

# From July on: an SMS has ten minutes, "banned later" is decided by ticket, and there is a clause
# of its own.
JULY = """
from datetime import date, timedelta

from refunds.policy.base import Facts, automatic, by_ticket
from refunds.policy.v2026_05_07 import VERSION as MAY


@automatic(
    "auto.no_sms_in_time",
    title="No SMS within the SLA",
    text="No SMS within the 10-minute SLA — full refund.",
)
def no_sms_in_time(facts: Facts) -> str:
    if facts.cancelled or facts.broken_at or facts.allocated_at is None or facts.deadline is None:
        return ""
    due = facts.allocated_at + timedelta(minutes=10)
    if facts.first_sms_at is not None:
        return "The SMS took more than 10 minutes" if facts.first_sms_at > due else ""
    return "No SMS had arrived in 10 minutes" if facts.sms_ruled_out and facts.at > due else ""


@by_ticket(
    "ticket.banned_later",
    title="Account banned later",
    text="The service banned the account later.",
    claims="the account was banned later",
    formerly=("none.banned_later",),
)
def banned_later(facts: Facts) -> str:
    return "An SMS arrived in time" if facts.first_sms_at else ""


@by_ticket("ticket.unreadable", title="Unreadable SMS", text="The SMS cannot be read.")
def unreadable(facts: Facts) -> str:
    return "An SMS arrived in time" if facts.first_sms_at else ""


VERSION = MAY.amended(
    "2026-07-01",
    date(2026, 7, 1),
    no_sms_in_time,
    banned_later,
    unreadable,
    without=("none.banned_later",),
)
"""

# From July on nothing is refunded by itself but what had no SMS.
STRICT = """
from datetime import date

from refunds.policy.v2026_05_07 import VERSION as MAY

VERSION = MAY.amended(
    "2026-07-01", date(2026, 7, 1), without=("auto.cancelled_before_sms", "auto.number_broken")
)
"""


@contextmanager
def added(directory: Path) -> Iterator[Callable[[str, str], None]]:
    """A function that adds a version's file, by its name and its text; it is gone afterwards."""

    def add(name: str, text: str) -> None:
        (directory / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        policy.versions.cache_clear()

    policy.__path__.append(str(directory))
    try:
        yield add
    finally:
        policy.__path__.remove(str(directory))
        for file in directory.glob("v*.py"):
            sys.modules.pop(f"refunds.policy.{file.stem}", None)
            vars(policy).pop(file.stem, None)
        importlib.invalidate_caches()
        policy.versions.cache_clear()
