"""What a page showed, so that no step is taken on what has changed since.

A page counts the steps in the history of the rows that it shows, its form carries the count, and
the verb compares it under its locks. The count is read before the rows, so that a page which is
read while somebody acts shows more than its form claims, and is refused, never less. Where nobody
looked at a page, as in a task, there is nothing to compare (None).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Count, F, IntegerField, Model, OuterRef, Subquery
from django.db.models.functions import Coalesce

from smsactivator.common.errors import Refused

TOLD = 5  # steps that a refusal tells; the newest
LARGEST = 2**31 - 1  # any count that there will be

# Rows of one model, by their primary keys.
Shown = tuple[type[Model], Collection[int]]
# Who did what, why, and when.
Step = tuple[str, str, datetime]


class Outdated(Refused):
    """Something happened since the person looked; the message says what, who did it and when."""

    code = "outdated"


def steps(*shown: Shown) -> int:
    """How many steps there are in the history of these rows."""
    return sum(_history(model, pks).count() for model, pks in shown if pks)


def of(row: Any) -> int:
    """How many steps there are in the history of this row."""
    return steps((type(row), [row.pk]))


def counted(model: type[Model]) -> Coalesce:
    """The same for each row of a queryset, read together with the row."""
    key = _key(model)
    each = model.history.filter(**{key: OuterRef("pk")})  # type: ignore[attr-defined]
    number = each.order_by().values(key).annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(number, output_field=IntegerField()), 0)


def refuse_outdated(row: Any, seen: int | None) -> None:
    """Raise Outdated unless the locked row is as the page showed it."""
    refuse_unless_shown(row, seen, (type(row), [row.pk]))


def refuse_unless_shown(what: object, seen: int | None, *shown: Shown) -> None:
    """Raise Outdated unless these rows, which are locked, are as the page of ``what`` showed them.

    One statement for each model when nothing has changed.
    """
    if seen is None:
        return
    now = steps(*shown)
    if now != seen:
        # What was counted last is what the page did not show; a count that never was tells all.
        unseen = now - seen if 0 < seen < now else now
        raise outdated(what, _newest(shown, unseen))


def outdated(what: object, happened: str) -> Outdated:
    """What somebody is told who acts on what has changed."""
    return Outdated(
        f"{what} has changed since you looked at it, so nothing was done. "
        f"Meanwhile: {happened}. Look at it again first."
    )


def in_words(newest: Sequence[Step]) -> str:
    """Steps, the newest first, in words, the oldest first; more than ``TOLD`` are cut."""
    told = [
        f"{who}: {what} ({at:%Y-%m-%d %H:%M:%S} UTC)" for who, what, at in reversed(newest[:TOLD])
    ]
    return "; ".join(["…", *told] if len(newest) > TOLD else told)


def _newest(shown: Iterable[Shown], number: int) -> str:
    found: list[tuple[int, Step]] = []
    for model, pks in shown:
        rows = _history(model, pks).select_related("history_user")
        # A sum, so that PostgreSQL sorts these rows and does not walk the whole table backwards.
        for row in rows.order_by((F("history_id") + 0).desc())[: min(number, TOLD + 1)]:
            who = row.history_actor or str(row.history_user or "unknown")
            what = row.history_change_reason or "Changed"
            found.append((row.history_id, (who, what, row.history_date)))
    found.sort(key=lambda one: (one[1][2], one[0]), reverse=True)
    return in_words([step for _, step in found[:number]]) or "it was changed"


def _key(model: type[Model]) -> str:
    return model._meta.pk.attname


def _history(model: type[Model], pks: Collection[int]) -> Any:
    return model.history.filter(**{f"{_key(model)}__in": pks})  # type: ignore[attr-defined]
