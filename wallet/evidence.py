"""What a decision rests on, row by row: what each day's seal covers beside the transfers.

Each floor says what it has in its ``sealed.py``: tables whose rows are only added. The histories of
all models are known by themselves. Of each row that was added the seal keeps a SHA-256, under its
key, in chunks that follow each other without a gap: from the key after the last one that was
sealed, to the last one of the day. So a seal reads the rows of its day by their keys, whatever the
clock of who wrote them said, and each row is in exactly one seal.

A row that changes (an order) is proved by its history: the last history row must say what the row
says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache, cached_property
from typing import Any

from django.apps import apps
from django.db import connection, models

from smsactivator.common.history import ActorHistory
from wallet.models import SealedRows

CHUNK = 10_000  # rows whose hashes are kept together, and are in memory at a time
KEY, HASH = 8, 32  # bytes of each
LEAST = -(2**63)  # nothing comes before it: a row that was slipped in below the first key shows


@dataclass(frozen=True)
class Evidence:
    """A table whose rows are added and never changed.

    ``at`` is SQL of a row ``t``: when it was written, as far as it says. It ends a day: of rows
    that come after the first one of the next day, none is of this one. ``without`` are columns
    that do change, and ``also`` is SQL of what belongs to a row and stands elsewhere, by name.
    """

    model: type[models.Model]
    at: str = "NULL::timestamptz"
    without: Sequence[str] = ()
    also: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @cached_property
    def key(self) -> str:
        return connection.ops.quote_name(str(self.model._meta.pk.column))

    @cached_property
    def columns(self) -> list[str]:
        """What is sealed of each row today; each chunk keeps the names that it was made of."""
        names = [str(column.column) for column in self.model._meta.concrete_fields]
        return [name for name in (*names, *self.also) if name not in self.without]

    @property
    def known(self) -> set[str]:
        return {*self.columns, *self.without}

    @property
    def label(self) -> str:
        """The table, for people."""
        if issubclass(self.model, ActorHistory):
            history: Any = self.model
            return f"history of {history.instance_type._meta.verbose_name_plural}"
        return str(self.model._meta.verbose_name_plural)

    def words(self, keys: Sequence[int]) -> Mapping[int, str]:
        """The rows, for people; a history row that is gone does not say whose it was."""
        if not issubclass(self.model, ActorHistory):
            return {key: f"{self.model._meta.verbose_name} {key}" for key in keys}
        history: Any = self.model
        of = history.instance_type._meta
        whose = dict(history.objects.filter(pk__in=keys).values_list("history_id", of.pk.attname))
        return {
            key: f"row {key} of the history of "
            + (f"{of.verbose_name} {whose[key]}" if key in whose else str(of.verbose_name_plural))
            for key in keys
        }

    def _line(self, columns: Sequence[str]) -> str:
        """One row as text, in which no two rows are the same."""
        binary = {
            str(column.column)
            for column in self.model._meta.concrete_fields
            if isinstance(column, models.BinaryField)
        }
        quote = connection.ops.quote_name
        values = [
            f"({self.also[name]})"
            if name in self.also
            else f"sha256(t.{quote(name)})"
            if name in binary
            else f"t.{quote(name)}"
            for name in columns
        ]
        return f"ROW({', '.join(values)})::text"

    def hashes(
        self, after: int, through: int, columns: Sequence[str], most: int | None = None
    ) -> tuple[int, int, bytes]:
        """How many rows there are after one key and up to another, the last key, and the hashes."""
        limit = "" if most is None else f"LIMIT {most}"
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT count(*), coalesce(max(key), 0),
                    coalesce(string_agg(int8send(key) || hash, ''::bytea ORDER BY key), ''::bytea)
                FROM (
                    SELECT t.{self.key}::bigint AS key,
                        sha256(convert_to({self._line(columns)}, 'UTF8')) AS hash
                    FROM {self.table} AS t
                    WHERE t.{self.key} > %s AND t.{self.key} <= %s ORDER BY t.{self.key} {limit}
                ) AS row
                """,  # noqa: S608 - names come from the models
                [after or LEAST, through],
            )
            rows, last, hashes = cursor.fetchone()
        return rows, last, bytes(hashes)

    def end_of_day(self, after: int, through: int, ends: datetime, now: datetime) -> int:
        """The last key of the day that ends at this moment; a moment after now ends none."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT t.{self.key} - 1 FROM {self.table} AS t
                WHERE t.{self.key} > %s AND t.{self.key} <= %s
                    AND ({self.at}) >= %s AND ({self.at}) <= %s
                ORDER BY t.{self.key} LIMIT 1
                """,  # noqa: S608 - names come from the models
                [after or LEAST, through, ends, now],
            )
            found = cursor.fetchone()
        return int(found[0]) if found else through


_evidence: dict[str, Evidence] = {}
_unrecorded: dict[str, tuple[str, ...]] = {}


def register(*evidence: Evidence) -> None:
    """Have these rows sealed; called by the ``sealed`` module of each app."""
    _evidence.update({one.table: one for one in evidence})


def unrecorded(model: type[models.Model], *columns: str) -> None:
    """Say which columns of a model with a history change without a row of it."""
    _unrecorded[model._meta.db_table] = columns


@cache
def histories() -> list[Any]:
    """The history of each model whose changes are recorded."""
    return [model for model in apps.get_models() if issubclass(model, ActorHistory)]


@cache
def everything() -> dict[str, Evidence]:
    """All that is sealed, by table."""
    recorded = {model._meta.db_table: Evidence(model, "t.history_date") for model in histories()}
    return dict(sorted((recorded | _evidence).items()))


# --- sealing ------------------------------------------------------------------------------------


class Ends:
    """Where the seal of each table has come to, and the last key that is settled."""

    def __init__(self) -> None:
        """Before the transactions that write now are waited for: what they drew is below."""
        self.evidence = everything()
        names = list(self.evidence)
        keys = [str(one.model._meta.pk.column) for one in self.evidence.values()]
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT name, coalesce(pg_sequence_last_value(
                    pg_get_serial_sequence(quote_ident(name), key)::regclass), 0)
                FROM unnest(%s::text[], %s::text[]) AS one(name, key)
                """,
                [names, keys],
            )
            self.settled: dict[str, int] = dict(cursor.fetchall())
        self.after = sealed_before(None)
        self._looked: dict[str, int] = {}

    def of_day(self, day: date, ends: datetime, now: datetime) -> list[SealedRows]:
        """Keep the hashes of what was added up to the end of the day; in one snapshot."""
        made = []
        for name, one in self.evidence.items():
            after, settled = self.after.get(name, 0), self.settled[name]
            if self._looked.get(name, after) >= settled:
                continue
            through = one.end_of_day(after, settled, ends, now)
            self._looked[name] = through
            while after < through:
                rows, last, hashes = one.hashes(after, through, one.columns, CHUNK)
                if not rows:
                    # Numbers that were drawn and never used: the next chunk begins before them.
                    break
                after = last if rows == CHUNK else through
                made.append(
                    SealedRows.objects.create(
                        day=day,
                        name=name,
                        columns=one.columns,
                        after=self.after.get(name, 0),
                        through=after,
                        rows=rows,
                        hashes=hashes,
                    )
                )
                self.after[name] = after
        return made


def covered(day: date) -> list[tuple[str, int]]:
    """What the seal of a day covers, for people: each table that was written to, and its rows."""
    known = everything()
    found = SealedRows.objects.filter(day=day).order_by("name").values_list("name")
    return sorted(
        (known[name].label if name in known else name, rows)
        for name, rows in found.annotate(models.Sum("rows"))
    )


def sealed_before(day: date | None) -> dict[str, int]:
    """The last sealed key of each table, by the seals before a day, or by all of them."""
    found = SealedRows.objects.all() if day is None else SealedRows.objects.filter(day__lt=day)
    return dict(found.order_by().values_list("name").annotate(through=models.Max("through")))


def line(chunk: SealedRows) -> str:
    """What a seal says of a chunk."""
    columns = ",".join(chunk.columns)
    hashes = hashlib.sha256(chunk.hashes).hexdigest()
    return f"{chunk.name}|{columns}|{chunk.after}|{chunk.through}|{hashes}"


# --- proving ------------------------------------------------------------------------------------


def differences(chunk: SealedRows) -> Iterator[str]:
    """Each row of a chunk that was changed, deleted or added since it was sealed, in words."""
    one = everything().get(chunk.name)
    if one is None or not set(chunk.columns) <= one.known:
        yield f"{chunk.name} has no {', '.join(chunk.columns)} any more: nothing of it is proved"
        return
    _rows, _last, hashes = one.hashes(chunk.after, chunk.through, chunk.columns)
    if hashes == bytes(chunk.hashes):
        return
    sealed, found = _by_key(bytes(chunk.hashes)), _by_key(hashes)
    differ = sorted(key for key in sealed.keys() | found if sealed.get(key) != found.get(key))
    for key, words in one.words(differ).items():
        how = "deleted" if key not in found else "changed" if key in sealed else "added"
        yield f"{words} was {how}"


def _by_key(hashes: bytes) -> dict[int, bytes]:
    size = KEY + HASH
    rows = (hashes[begins : begins + size] for begins in range(0, len(hashes), size))
    return {int.from_bytes(row[:KEY], signed=True): row[KEY:] for row in rows}


def unlike_their_history(since: date | None = None) -> Iterator[tuple[date, str]]:
    """Each row that is not what its last history row says, with that one's day.

    With ``since``, of the rows that have a history row in the seals from that day on, or in none.
    """
    before = sealed_before(since) if since else {}
    for history in histories():
        model = history.instance_type
        tracked = [str(column.column) for column in history.tracked_fields]
        left_out = {*_unrecorded.get(model._meta.db_table, ())}
        quote = connection.ops.quote_name
        key = quote(str(model._meta.pk.column))
        compared = [name for name in tracked if name not in left_out]
        differs = ", ".join(
            f"CASE WHEN t.{quote(name)} IS DISTINCT FROM last.{quote(name)} THEN '{name}' END"
            for name in compared
        )
        same = " AND ".join(
            f"t.{quote(name)} IS NOT DISTINCT FROM last.{quote(name)}" for name in compared
        )
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT last.{key}, last.history_date, last.history_type, t.{key} IS NULL,
                    concat_ws(', ', {differs})
                FROM (
                    SELECT DISTINCT ON ({key}) * FROM {history._meta.db_table}
                    WHERE history_id > %s ORDER BY {key}, history_id DESC
                ) AS last
                LEFT JOIN {model._meta.db_table} AS t ON t.{key} = last.{key}
                WHERE CASE WHEN last.history_type = '-' THEN t.{key} IS NOT NULL
                    ELSE t.{key} IS NULL OR NOT ({same}) END
                ORDER BY 1
                """,  # noqa: S608 - names come from the models
                [before.get(history._meta.db_table, 0)],
            )
            found = cursor.fetchall()
        for pk, at, how, gone, columns in found:
            if how == "-":
                what = "is there, and its history says that it was deleted"
            elif gone:
                what = "is gone, and its history does not say so"
            else:
                what = f"is not what its history says: {columns}"
            yield at.date(), f"{model._meta.verbose_name} {pk} {what}"
