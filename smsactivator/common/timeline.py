"""A row's history in words: who changed what, when and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.db import models

LONGEST = 200
_KINDS = {"+": "Created", "~": "Changed", "-": "Deleted"}


@dataclass(frozen=True, slots=True)
class Change:
    """One field's step from ``old`` to ``new``, in words."""

    label: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One history row: at ``at`` (UTC), ``who`` did ``what`` because of ``why``."""

    at: datetime
    who: str
    what: str
    why: str
    changes: tuple[Change, ...]


def timeline(instance: models.Model) -> tuple[list[Entry], bool]:
    """The newest ``LONGEST`` entries, newest first, and whether there are older ones.

    One query. Each entry is told by the difference from the row before it.
    """
    history = instance.history  # type: ignore[attr-defined]
    fields = history.model.tracked_fields
    rows = list(history.select_related("history_user").order_by("-history_id")[: LONGEST + 1])
    more = len(rows) > LONGEST
    steps = list(pairwise(rows)) if more else pairwise([*rows, None])
    return [_entry(row, before, fields) for row, before in steps], more


def _entry(row: Any, before: Any, fields: list[models.Field[Any, Any]]) -> Entry:
    return Entry(
        at=row.history_date,
        who=row.history_actor or (str(row.history_user) if row.history_user else "unknown"),
        what=_KINDS[row.history_type],
        why=row.history_change_reason or "",
        changes=tuple(_changes(row, before, fields)) if before is not None else (),
    )


def _changes(row: Any, before: Any, fields: list[models.Field[Any, Any]]) -> Iterator[Change]:
    for field in fields:
        old, new = getattr(before, field.attname), getattr(row, field.attname)
        if old != new:
            label = str(field.verbose_name)
            yield Change(label[:1].upper() + label[1:], _words(field, old), _words(field, new))


def _words(field: models.Field[Any, Any], value: Any) -> str:
    if value is None or value == "":
        return "—"
    if field.choices:
        return str(dict(field.flatchoices).get(value, value))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)
