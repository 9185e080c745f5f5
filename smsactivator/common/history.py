"""History of many rows at once: django-simple-history's tables, written by one statement a batch.

The library writes history row by row from ``save()``. Here a batch of changed instances is written
with its history by a single statement, and each history row says who did it and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, models, transaction
from django.utils import timezone
from simple_history.models import HistoricalRecords


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: ``label`` in words for people, ``user_id`` when it is one of our own."""

    label: str
    user_id: int | None = None

    @classmethod
    def automatic(cls, what: str) -> Actor:
        return cls(f"automatic: {what}")

    @classmethod
    def api_key(cls, storefront: str, prefix: str) -> Actor:
        return cls(f"API key {prefix}… of {storefront}")

    @classmethod
    def person(cls, user: Any) -> Actor:
        return cls(f"{user.get_username()}", user.pk)


class ActorHistory(models.Model):
    """What our history rows carry beside the library's columns."""

    history_actor = models.CharField(max_length=200, default="", editable=False)

    class Meta:
        abstract = True


def records(**options: Any) -> HistoricalRecords:
    """The history of a model, with our columns and room for years of rows."""
    return HistoricalRecords(
        bases=[ActorHistory], history_id_field=models.BigAutoField(), **options
    )


def _columns(fields: Sequence[models.Field[Any, Any]]) -> str:
    return ", ".join(connection.ops.quote_name(field.column or "") for field in fields)


def save(
    instances: Sequence[models.Model], fields: Sequence[str], *, actor: Actor, reason: str
) -> None:
    """Write ``fields`` of already locked rows, and a history row of each, in one statement.

    Instances are of one model with ``history.records()``. The history row is
    copied from the row as the database holds it, so fields that were never loaded are right too.
    A field with one value for the whole batch is sent once. Raises RuntimeError outside a
    transaction and when a row has gone.
    """
    if not instances:
        return
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("history.save() belongs in the transaction that locked the rows")
    model = type(instances[0])
    meta = model._meta
    pk = meta.pk
    history = model.history.model  # type: ignore[attr-defined]
    changed: list[Any] = [meta.get_field(name) for name in fields]

    arrays: list[str] = [f"%s::{pk.rel_db_type(connection)}[]"]
    parameters: list[Any] = [[instance.pk for instance in instances]]
    names = ["pk"]
    assignments: list[str] = []
    constants: list[Any] = []
    for number, field in enumerate(changed):
        values = [getattr(instance, field.attname) for instance in instances]
        kind = field.db_type(connection)
        column = connection.ops.quote_name(field.column)
        if all(value == values[0] for value in values):
            assignments.append(f"{column} = %s::{kind}")
            constants.append(field.get_db_prep_save(values[0], connection))
        else:
            arrays.append(f"%s::{kind}[]")
            names.append(f"v{number}")
            parameters.append([field.get_db_prep_save(value, connection) for value in values])
            assignments.append(f"{column} = n.v{number}")

    tracked = history.tracked_fields
    table = connection.ops.quote_name(meta.db_table)
    key = connection.ops.quote_name(pk.column or "")
    returned = ", ".join(f"t.{connection.ops.quote_name(f.column)}" for f in tracked)
    statement = f"""
        WITH changed AS (
            UPDATE {table} AS t SET {", ".join(assignments)}
            FROM unnest({", ".join(arrays)}) AS n({", ".join(names)})
            WHERE t.{key} = n.pk
            RETURNING {returned}
        )
        INSERT INTO {connection.ops.quote_name(history._meta.db_table)} (
            {_columns(tracked)},
            history_date, history_type, history_change_reason, history_user_id, history_actor
        )
        SELECT {_columns(tracked)}, %s, '~', %s, %s, %s FROM changed
    """  # noqa: S608 - names come from the models, values are parameters
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            [*constants, *parameters, timezone.now(), reason, actor.user_id, actor.label],
        )
        if cursor.rowcount != len(instances):
            raise RuntimeError(
                f"{len(instances) - cursor.rowcount} rows of {meta.label} were gone or named twice"
            )


def create(instances: Sequence[models.Model], *, actor: Actor, reason: str) -> None:
    """Insert new rows and their first history rows: two statements a batch. Sets their pks."""
    if not instances:
        return
    model = type(instances[0])
    with transaction.atomic():
        model._default_manager.bulk_create(instances)
        model.history.bulk_history_create(  # type: ignore[attr-defined]
            instances,
            default_user=None,
            default_change_reason=reason,
            default_date=timezone.now(),
            custom_historical_attrs={"history_actor": actor.label}
            | ({"history_user_id": actor.user_id} if actor.user_id else {}),
        )


def delete(instances: Sequence[models.Model], *, actor: Actor, reason: str) -> None:
    """Delete rows and write the last history row of each, in one statement.

    For rows that nothing points at: no signal is sent and nothing is deleted with them. Raises
    RuntimeError when a row has gone.
    """
    if not instances:
        return
    meta = type(instances[0])._meta
    pk = meta.pk
    history = type(instances[0]).history.model  # type: ignore[attr-defined]
    tracked = _columns(history.tracked_fields)
    statement = f"""
        WITH gone AS (
            DELETE FROM {connection.ops.quote_name(meta.db_table)}
            WHERE {connection.ops.quote_name(pk.column or "")} = ANY(%s) RETURNING {tracked}
        )
        INSERT INTO {connection.ops.quote_name(history._meta.db_table)} (
            {tracked},
            history_date, history_type, history_change_reason, history_user_id, history_actor
        )
        SELECT {tracked}, %s, '-', %s, %s, %s FROM gone
    """  # noqa: S608 - names come from the models, values are parameters
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            statement,
            [
                [instance.pk for instance in instances],
                *(timezone.now(), reason, actor.user_id, actor.label),
            ],
        )
        if cursor.rowcount != len(instances):
            raise RuntimeError(f"{len(instances) - cursor.rowcount} rows of {meta.label} were gone")
