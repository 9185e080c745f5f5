"""History for people: who did what, when, why and from where, on one timeline a page.

A row's own history tells what became of the row. What else happened to it is told by sources, as
with links: a floor registers a source for a model's label, below or above, without being imported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import F, OuterRef, Subquery

from smsactivator.common.display import amount
from smsactivator.common.history import Actor
from smsactivator.common.links import Link
from smsactivator.common.money import MoneyField

LONGEST = 200
_SAME_MOMENT = timedelta(seconds=1)
_WORDS = {"sms": "SMS", "ref": "reference"}  # of fields' names
_KINDS = {"+": "Created", "~": "Changed", "-": "Deleted"}


class Origin(StrEnum):
    """From where something was done."""

    AUTOMATIC = "Automatic"
    STOREFRONT = "Storefront"
    PERSON = "Person"


@dataclass(frozen=True, slots=True)
class Change:
    """One field's step from ``old`` to ``new``, in words."""

    label: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Entry:
    """At ``at`` (UTC) ``who`` did ``what`` because of ``why``, from ``origin``, in words.

    ``key`` names the row that it tells of: told by two sources, it is shown once. ``about`` leads
    to what it is about when that is not the page's own row, and ``url`` is set when its reader may
    follow. Readers without ``permission`` are not shown the entry.
    """

    at: datetime
    key: str
    what: str
    who: str = ""
    origin: Origin | None = None
    why: str = ""
    changes: tuple[Change, ...] = ()
    about: Link | None = None
    permission: str = ""
    url: str = ""


# From primary keys of a model's rows to what happened to them, of each source the newest LONGEST
# and one more, so that the page knows that there are more. A fixed number of queries per call.
Source = Callable[[Sequence[int]], Mapping[int, Iterable[Entry]]]
# How another row is named beside an entry about it.
Named = Callable[[int], Link]
_sources: dict[str, list[Source]] = defaultdict(list)


def entries_for(label: str) -> Callable[[Source], Source]:
    """Register the decorated function as a source of entries for rows of ``app.Model``."""

    def register(source: Source) -> Source:
        _sources[label].append(source)
        return source

    return register


def collect(label: str, pks: Sequence[int]) -> dict[int, list[Entry]]:
    """What every registered source tells of these rows of ``label``, each being asked once."""
    found: dict[int, list[Entry]] = {pk: [] for pk in pks}
    if found:
        for source in _sources[label]:
            for pk, entries in source(pks).items():
                found[pk].extend(entries)
    return found


def told_of(
    model: type[models.Model], pks: Sequence[int], named: Named, permission: str = ""
) -> dict[int, list[Entry]]:
    """The rows' own history and what is collected of them, for the timeline of something else.

    ``named`` leads to a row; ``permission`` is what its history asks for.
    """
    collected = collect(model._meta.label, pks)
    own = histories(model, pks, named=named, permission=permission)
    return {
        pk: [
            *own.get(pk, ()),
            *(replace(entry, about=entry.about or named(pk)) for entry in collected[pk]),
        ]
        for pk in pks
    }


def timeline(instance: models.Model, reader: Any = None) -> tuple[list[Entry], bool]:
    """The newest ``LONGEST`` entries, newest first, and whether there are older ones.

    What ``reader`` may not see is left out, and so is what asks for a permission when no reader is
    named. A fixed number of queries.
    """
    entries = list(histories(type(instance), [instance.pk]).get(instance.pk, ()))
    entries += collect(instance._meta.label, [instance.pk])[instance.pk]
    told: dict[str, Entry] = {}
    for entry in entries:
        if not entry.permission or (reader is not None and reader.has_perm(entry.permission)):
            told.setdefault(entry.key, entry)
    # The sort is stable: what happened at one moment stays as its source tells it.
    newest = sorted(told.values(), key=lambda entry: entry.at, reverse=True)
    return [_linked(entry, reader) for entry in newest[:LONGEST]], len(newest) > LONGEST


def origin_of(label: str, user_id: int | None = None) -> tuple[Origin | None, str]:
    """From where an actor (``history.Actor``) acted, and its name without that."""
    kind, _, name = label.partition(": ")
    if user_id is None and kind == "automatic" and name:
        return Origin.AUTOMATIC, name
    if user_id is None and label.startswith("API key "):
        return Origin.STOREFRONT, label
    return (Origin.PERSON if label else None), label


def by_actor(actor: Actor) -> dict[str, Any]:
    """An entry's ``who`` and ``origin``."""
    origin, who = origin_of(actor.label, actor.user_id)
    return {"who": who, "origin": origin}


def histories(
    model: type[models.Model],
    pks: Sequence[int],
    *,
    named: Named | None = None,
    permission: str = "",
) -> dict[int, list[Entry]]:
    """The newest ``LONGEST`` + 1 steps of these rows' own history, newest first, by row.

    At most three queries. Each step is told by the difference from the one before it, without what
    it says already.
    """
    manager = getattr(model, "history", None)
    found: dict[int, list[Entry]] = defaultdict(list)
    if manager is None or not pks:
        return found
    history = manager.model
    key = model._meta.pk.attname
    earlier = history.objects.filter(**{key: OuterRef(key)}, history_id__lt=OuterRef("history_id"))
    rows = list(
        history.objects.filter(**{f"{key}__in": pks})
        .select_related("history_user")
        .annotate(before=Subquery(earlier.order_by("-history_id").values("history_id")[:1]))
        # A sum, so that PostgreSQL sorts these rows and does not walk the whole table backwards.
        .order_by((F("history_id") + 0).desc())[: LONGEST + 1]
    )
    known = {row.history_id: row for row in rows}
    cut = [row.before for row in rows if row.before is not None and row.before not in known]
    known |= history.objects.in_bulk(cut)
    steps = [(row, list(_differences(row, known.get(row.before)))) for row in rows]
    names = _names(value for _, changes in steps for both in changes for value in both)
    for row, changes in steps:
        pk = getattr(row, key)
        user = row.history_user
        label = row.history_actor or (user.get_username() if user else "unknown")
        origin, who = origin_of(label, row.history_user_id)
        found[pk].append(
            Entry(
                at=row.history_date,
                key=f"{model._meta.label_lower}:{row.history_id}",
                what=row.history_change_reason or _KINDS[row.history_type],
                who=who,
                origin=origin,
                changes=tuple(
                    Change(_label(old.field), _words(old, names), _words(new, names))
                    for old, new in changes
                ),
                about=named(pk) if named else None,
                permission=permission,
            )
        )
    return found


def _linked(entry: Entry, reader: Any) -> Entry:
    if entry.about is None or not entry.about.url or reader is None:
        return entry
    return replace(entry, url=entry.about.url) if entry.about.allowed(reader) else entry


@dataclass(frozen=True, slots=True)
class _Value:
    """What a row holds in a field."""

    field: models.Field[Any, Any]
    value: Any


def _differences(row: Any, before: Any) -> Iterator[tuple[_Value, _Value]]:
    if before is None:
        return
    for field in row.tracked_fields:
        old, new = getattr(before, field.attname), getattr(row, field.attname)
        if old != new and not _is_said(row, field, new):
            yield _Value(field, old), _Value(field, new)


def _is_said(row: Any, field: models.Field[Any, Any], value: Any) -> bool:
    """Whether the step says this already: its moment, who took it, its reason, or that it is one
    more.
    """
    if field.name == "version":
        return True
    if isinstance(value, datetime):
        return bool(abs(value - row.history_date) < _SAME_MOMENT)
    if field.related_model is get_user_model():
        return bool(value == row.history_user_id)
    if isinstance(field, models.TextField):
        return bool(value) and value in (row.history_change_reason or "")
    return False


def _names(values: Iterable[_Value]) -> dict[int, str]:
    """The people that these values name: one query."""
    people = get_user_model()
    pks = {
        one.value for one in values if one.field.related_model is people and one.value is not None
    }
    return {person.pk: person.get_username() for person in people.objects.filter(pk__in=pks)}


def _label(field: models.Field[Any, Any]) -> str:
    label = " ".join(_WORDS.get(word, word) for word in str(field.verbose_name).split())
    return label[:1].upper() + label[1:]


def _words(of: _Value, names: Mapping[int, str]) -> str:
    field, value = of.field, of.value
    if value is None or value == "":
        return "—"
    if field.choices:
        return str(dict(field.flatchoices).get(value, value))
    related: Any = field.related_model
    if related is get_user_model():
        return names.get(value, f"User {value}")
    if related is not None:
        name = str(related._meta.verbose_name)
        return f"{name[:1].upper()}{name[1:]} {value}"
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(field, MoneyField):
        return f"{amount(value)} USD"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)
