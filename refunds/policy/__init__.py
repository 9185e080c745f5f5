"""The refund policy as code: one file a version, one rule a clause.

A version is a module of this package named ``v<year>_<month>_<day>`` with a ``VERSION``; adding the
next one is adding its file (decision 0018). Orders are judged by the version in force when they
were placed. What the automatic clauses do is in ``refunds.automatic``.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache

from refunds.policy.base import Facts, Outcome, Rule, Verdict, Version
from smsactivator.common.errors import NotFound

__all__ = [
    "AUTOMATIC",
    "Clause",
    "Facts",
    "Outcome",
    "PolicyMissing",
    "Rule",
    "Verdict",
    "Version",
    "choices",
    "clauses",
    "in_force",
    "rule",
    "text",
    "title",
    "version",
    "versions",
]


_MODULE = re.compile(r"v\d{4}_\d{2}_\d{2}")


class PolicyMissing(NotFound):
    """No version of the policy has this name, or this clause."""

    code = "unknown_policy"


class Clause(StrEnum):
    """The clauses that code names. What they say is in the versions."""

    NO_SMS_IN_TIME = "auto.no_sms_in_time"
    CANCELLED_BEFORE_SMS = "auto.cancelled_before_sms"
    NUMBER_BROKEN = "auto.number_broken"
    ALLOCATION_FAILED = "auto.allocation_failed"
    SERVICE_REJECTED = "ticket.service_rejected"
    WRONG_SERVICE = "ticket.wrong_service"
    RENTAL_ISSUE = "ticket.rental_issue"
    NOT_USED_IN_TIME = "none.not_used_in_time"
    BANNED_LATER = "none.banned_later"
    ORDERED_WRONG = "none.ordered_wrong"
    TERMINATED = "none.terminated"


# In the order of the policy's text.
AUTOMATIC = (
    Clause.NO_SMS_IN_TIME,
    Clause.CANCELLED_BEFORE_SMS,
    Clause.NUMBER_BROKEN,
    Clause.ALLOCATION_FAILED,
)


@cache
def versions() -> tuple[Version, ...]:
    """Every version, the oldest first: each module of this package that is named as one."""
    found = [
        importlib.import_module(f"{__name__}.{module.name}").VERSION
        for module in pkgutil.iter_modules(__path__)
        if _MODULE.fullmatch(module.name)
    ]
    return tuple(sorted(found, key=lambda version: version.effective))


def in_force(at: datetime) -> Version:
    """The version in force at a moment. What is older than the first is judged by the first."""
    day = at.astimezone(UTC).date()
    known = versions()
    return next((v for v in reversed(known) if v.effective <= day), known[0])


def version(name: str) -> Version:
    """The version of this name. Raises PolicyMissing."""
    for known in versions():
        if known.name == name:
            return known
    names = ", ".join(known.name for known in versions())
    raise PolicyMissing(f"There is no version {name} of the policy. There are: {names}.")


def rule(clause: str, version_name: str = "") -> Rule:
    """A clause as a version has it; by default as the newest that has it. Raises PolicyMissing."""
    among = (version(version_name),) if version_name else versions()[::-1]
    for known in among:
        if (found := known.rule(clause)) is not None:
            return found
    names = ", ".join(dict.fromkeys(rule.clause for known in among for rule in known.rules))
    where = f"Version {version_name} of the policy" if version_name else "The policy"
    raise PolicyMissing(f"{where} has no clause {clause}. There are: {names}.")


def title(clause: str) -> str:
    """A clause's title, for lists."""
    return rule(clause).title


def text(clause: str, version_name: str = "") -> str:
    """A clause in the policy's own words."""
    return rule(clause, version_name).text


def clauses(*outcomes: Outcome) -> list[Rule]:
    """The clauses of the newest version with these outcomes (by default all), by their names."""
    wanted = outcomes or tuple(Outcome)
    return [rule for rule in versions()[-1].rules if rule.outcome in wanted]


def choices() -> list[tuple[str, str]]:
    """Every clause that any version has, with its title."""
    names = dict.fromkeys(rule.clause for version in versions() for rule in version.rules)
    return [(name, title(name)) for name in names]
