"""How much a person may move by one kind of decision, by the limits of the person's roles."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from smsactivator.common.money import SMALLEST
from wallet.models import RoleLimit


class OverLimit(Refused):
    """The amount is above what this person's roles may move."""

    code = "over_limit"
    status = 403


def require(person: Any, *permissions: str) -> None:
    """Raise PermissionDenied unless the person has every one of the permissions."""
    if not person.has_perms(permissions):
        raise PermissionDenied


def save(limit: RoleLimit, fields: Collection[str], *, person: Any, reason: str) -> None:
    """Write a new limit, or these ``fields`` of one, with its history.

    Locks the limit. Raises PermissionDenied.
    """
    new = limit._state.adding
    require(person, f"wallet.{'add' if new else 'change'}_rolelimit")
    with transaction.atomic():
        if new:
            history.create([limit], actor=Actor.person(person), reason=reason)
        elif fields:
            before = RoleLimit.objects.select_for_update(no_key=True).get(pk=limit.pk)
            if not RoleLimit.history.filter(id=limit.pk).exists():
                # The first ones were made by a migration, which writes no history.
                RoleLimit.history.bulk_history_create(
                    [before],
                    default_change_reason="As the house made it",
                    custom_historical_attrs={"history_actor": "automatic: first limits"},
                )
            history.save([limit], [*fields], actor=Actor.person(person), reason=reason)


def hold(
    person: Any,
    decision: RoleLimit.Decision,
    amount: Decimal,
    used_since: Callable[[datetime], Decimal],
) -> None:
    """Make sure that the person may move ``amount`` USD more today (UTC), by one decision.

    Locks the person's row, before anything else is locked, so that two decisions at once do not
    both fit. ``used_since`` tells what the person has moved by such decisions since a moment, and
    is asked under the lock. Raises OverLimit.
    """
    lock(person)
    refuse_over(person, decision, amount, used_since)


def refuse_over(
    person: Any,
    decision: RoleLimit.Decision,
    amount: Decimal,
    used_since: Callable[[datetime], Decimal],
) -> None:
    """Raise OverLimit as ``hold`` does, and lock nothing: for whoever holds the lock, or looks."""
    if why := room(person, decision, used_since).why_not(amount):
        raise OverLimit(why)


@dataclass(frozen=True, slots=True)
class Room:
    """What a person may move by one kind of decision today (UTC), and has moved of it, USD."""

    decision: RoleLimit.Decision
    each: Decimal
    daily: Decimal
    used: Decimal

    def why_not(self, amount: Decimal) -> str:
        """Why the person does not move this amount, USD; "" if nothing keeps them."""
        name = self.decision.label.lower()
        if amount > self.each:
            return (
                f"Your limit for one {name} is {self.each} USD, and this is {amount} USD: "
                "ask somebody with a higher limit."
            )
        if self.used + amount > self.daily:
            return (
                f"Your limit for {name} is {self.daily} USD a day, and {self.used} USD are used up "
                "today (UTC): ask somebody else, or wait for tomorrow."
            )
        return ""

    @property
    def why_nothing(self) -> str:
        """Why the person moves nothing at all; "" if something is left."""
        return self.why_not(SMALLEST)


def room(
    person: Any, decision: RoleLimit.Decision, used_since: Callable[[datetime], Decimal]
) -> Room:
    """The person's room for decisions of this kind; locks nothing."""
    limits = RoleLimit.objects.filter(role__user=person, decision=decision).aggregate(
        each=Max("each"), daily=Max("daily")
    )
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return Room(
        decision,
        limits["each"] or Decimal(0),
        limits["daily"] or Decimal(0),
        used_since(midnight),
    )


def lock(person: Any) -> None:
    """Lock the person's row: a form that is sent twice is worked on once after the other."""
    get_user_model().objects.select_for_update(no_key=True).get(pk=person.pk)
