"""What can be exported: each floor declares its datasets in its ``datasets`` module.

A dataset is one declaration: a name, a permission, columns, and one SELECT. A floor that has a new
one registers it, and the page that exports are asked for on, the worker and the downloads know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from smsactivator.common.errors import NotFound
from smsactivator.common.periods import Period

Row = tuple[Any, ...]


class DatasetUnknown(NotFound):
    """No floor declares a dataset of this name."""

    code = "unknown_dataset"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of a period, for people with ``permission``.

    ``sql`` selects ``columns`` in their order, as text, numbers and moments, for ``%(since)s`` and
    ``%(until)s`` (the moment just after the period), in an order that leaves no two rows equal, so
    that the same rows make the same file. It names no customer's address and no text of an SMS,
    unless the permission is one for those. ``explains`` says which rows belong to a period.
    """

    name: str
    label: str
    explains: str
    permission: str
    columns: tuple[str, ...]
    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


_datasets: dict[str, Dataset] = {}


def register(*datasets: Dataset) -> None:
    """Offer the datasets for export."""
    _datasets.update({dataset.name: dataset for dataset in datasets})


def datasets() -> list[Dataset]:
    """Every dataset that there is, by its label."""
    return sorted(_datasets.values(), key=lambda dataset: dataset.label)


def dataset(name: str) -> Dataset:
    """The dataset of this name. Raises DatasetUnknown."""
    if name not in _datasets:
        raise DatasetUnknown(f"There is no dataset {name}.")
    return _datasets[name]


def label_of(name: str) -> str:
    """A dataset in words; its name when there is none of it any more."""
    return _datasets[name].label if name in _datasets else name


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of a dataset as they were at ``taken_at``, however long they are read."""

    count: int
    taken_at: datetime
    _cursor: CursorWrapper
    _name: str

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """The rows in their order, ``size`` at a time: constant memory."""
        while True:
            self._cursor.execute(f"FETCH FORWARD {size} FROM {self._name}")
            rows = self._cursor.fetchall()
            if not rows:
                return
            yield rows


@contextmanager
def snapshot(of: Dataset, period: Period, *, name: str, timeout: timedelta) -> Iterator[Snapshot]:
    """Read a dataset in one statement, so that no row is half there, and count it.

    The statement runs to its end within ``timeout``, and the server keeps its result (a cursor WITH
    HOLD, on disk when it is large): reading on holds no transaction open, and the caller may commit
    in between. ``name`` is the cursor's, once a connection. Raises OperationalError when it takes
    too long.
    """
    words = {**of.parameters, "since": period.begins, "until": period.ends}
    with connection.cursor() as cursor:
        with transaction.atomic():
            cursor.execute(f"SET LOCAL statement_timeout = {timeout // timedelta(milliseconds=1)}")
            # All of it is read, so the plan that is quickest at the first row is not wanted.
            cursor.execute("SET LOCAL cursor_tuple_fraction = 1")
            taken_at = timezone.now()
            cursor.execute(f"DECLARE {name} SCROLL CURSOR WITH HOLD FOR {of.sql}", words)
            # Here it runs, and not at the commit, which has no timeout.
            cursor.execute(f"MOVE FORWARD ALL IN {name}")
            count = cursor.rowcount
            cursor.execute(f"MOVE ABSOLUTE 0 IN {name}")
        try:
            yield Snapshot(count, taken_at, cursor, name)
        finally:
            # A connection that broke took its cursors along.
            if connection.is_usable():
                cursor.execute(f"CLOSE {name}")
