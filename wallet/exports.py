"""Exports: asked for on a page, written by a worker in constant memory, taken by those who may.

A worker claims a queued export, reads the rows in one snapshot, and keeps them in compressed parts,
each committed with its heartbeat. Whoever dies leaves a heartbeat that grows old: the beat queues
the export again, and it begins from nothing. A worker that comes back too late finds another
attempt at work, or none, and stops.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.utils import timezone

from smsactivator.common import csvs, exports, history
from smsactivator.common.errors import NotFound, Refused
from smsactivator.common.history import Actor
from smsactivator.common.moments import ahead
from smsactivator.common.periods import Period
from smsactivator.common.queueing import queue
from smsactivator.common.seen import refuse_outdated
from wallet import tasks
from wallet.deciding import same_request
from wallet.limits import lock, require
from wallet.models import Export, ExportDownload, ExportPart

log = logging.getLogger(__name__)

PERMISSION = "wallet.export_data"
MOST_OPEN = 5  # exports of one person that are waiting or being written
MOST_ATTEMPTS = 3
PART = 2_000  # rows
# A worker that was not heard of for so long has died. A part takes well below a second; reading may
# take long, and is stopped before it looks like a death.
LEASE = timedelta(minutes=10)
READING = timedelta(minutes=9)
# A queued export whose task never ran is queued again.
PATIENCE = timedelta(minutes=1)
WORKER = Actor.automatic("exports")
DIED = "Its worker was not heard of any more."

_OPEN = (Export.State.QUEUED, Export.State.RUNNING)
_SAVED = (
    *("state", "attempt", "heartbeat_at", "read_at", "rows_expected", "rows_done"),
    *("size", "sha256", "finished_at", "expires_at", "problem"),
)


class ExportUnknown(NotFound):
    """There is no such export."""

    code = "unknown_export"


class TooManyExports(Refused):
    """The person has enough exports that are not done."""

    code = "too_many_exports"


class ExportOver(Refused):
    """The export is done, or has ended: there is nothing to cancel."""

    code = "export_over"


class NoFile(Refused):
    """The export has no file: it is not done yet, or its file has gone."""

    code = "no_file"


class Overtaken(Exception):
    """Another attempt writes the export, or nobody wants it any more."""


# --- what people do ---


def offered_to(person: Any) -> list[exports.Dataset]:
    """The datasets that the person may export."""
    if not person.has_perm(PERMISSION):
        return []
    return [dataset for dataset in exports.datasets() if person.has_perm(dataset.permission)]


def ask(person: Any, dataset: str, period: Period, *, key: UUID) -> Export:
    """Ask for a dataset's rows in a period; a worker writes them.

    Needs wallet.export_data and the dataset's own permission. ``key`` names the form: sent again,
    it is the same export. Locks the person. Raises DatasetUnknown, PermissionDenied,
    RequestConflict, TooManyExports.
    """
    require(person, PERMISSION, exports.dataset(dataset).permission)
    with transaction.atomic():
        lock(person)
        content: dict[str, Any] = {
            "dataset": dataset,
            "since": period.since,
            "until": period.until,
            "requested_by_id": person.pk,
        }
        if made := same_request(Export, key, **content):
            return made
        if Export.objects.filter(requested_by=person, state__in=_OPEN).count() >= MOST_OPEN:
            raise TooManyExports(
                f"{MOST_OPEN} of your exports are not done yet: wait for one, or cancel one."
            )
        export = Export(request_key=key, requested_at=timezone.now(), **content)
        history.create([export], actor=Actor.person(person), reason="Asked for")
        transaction.on_commit(lambda: queue(tasks.write_export, export.pk), robust=True)
    log.info(
        "user %s asks for export %s: %s, %s to %s",
        *(person.pk, export.pk, dataset, period.since, period.until),
    )
    return export


def cancel(person: Any, export_id: int, *, seen: int | None = None) -> Export:
    """Do not wait for an export any more; its worker stops at its next part.

    Needs wallet.export_data and the dataset's own permission. Locks the export. Raises
    ExportUnknown, DatasetUnknown, PermissionDenied, Outdated, ExportOver.
    """
    _require_data(person, export_id)
    with transaction.atomic():
        export = _lock(export_id)
        refuse_outdated(export, seen)
        if not export.is_open:
            raise ExportOver(
                f"{export} is {export.get_state_display().lower()}: nothing is left to cancel."
            )
        export.cancel()
        _end(export)
        history.save([export], _SAVED, actor=Actor.person(person), reason="Cancelled")
        export.parts.all().delete()
    return export


def take(person: Any, export_id: int) -> tuple[Export, Iterator[bytes]]:
    """Write down that the person takes the file, and return it: its bytes, part by part.

    Needs wallet.export_data and the dataset's own permission. Locks the export. Raises
    ExportUnknown, DatasetUnknown, PermissionDenied, NoFile.
    """
    _require_data(person, export_id)
    with transaction.atomic():
        export = _lock(export_id)
        if export.state != Export.State.DONE:
            raise NoFile(f"{export} is {export.get_state_display().lower()}: it has no file.")
        ExportDownload.objects.create(export=export, person=person, at=timezone.now())
    log.info("user %s takes export %s: %s rows", person.pk, export.pk, export.rows_done)
    return export, _content(export)


def _require_data(person: Any, export_id: int) -> None:
    name = Export.objects.filter(pk=export_id).values_list("dataset", flat=True).first()
    if name is None:
        raise ExportUnknown(f"There is no export {export_id}.")
    require(person, PERMISSION, exports.dataset(name).permission)


def _content(export: Export) -> Iterator[bytes]:
    parts = export.parts.order_by("number")
    for number in list(parts.values_list("number", flat=True)):
        yield zlib.decompress(parts.values_list("data", flat=True).get(number=number))


# --- what the worker does ---


def write(export_id: int) -> bool:
    """Write a queued export to its end; tells whether it did.

    Does nothing when another worker writes it, or when it is over. What the database refuses is
    tried again by the beat; its words are not logged, as they may repeat a row.
    """
    export = claim(export_id)
    if export is None:
        return False
    try:
        for _ in steps(export):
            pass
    except Overtaken:
        log.info("export %s: attempt %s was overtaken", export.pk, export.attempt)
        return False
    except exports.DatasetUnknown as unknown:
        _give_back(export, unknown.message)
        return False
    except DatabaseError as error:
        log.error("export %s: %s", export.pk, type(error.__cause__ or error).__name__)  # noqa: TRY400
        _give_back(export, "The database did not let it be read or kept to its end.")
        return False
    log.info("export %s: %s rows, %s bytes", export.pk, export.rows_done, export.size)
    return True


def claim(export_id: int) -> Export | None:
    """The export, for this worker to write; None when it is not there to be written."""
    with transaction.atomic():
        export = (
            Export.objects.select_for_update(no_key=True, skip_locked=True)
            .filter(pk=export_id, state=Export.State.QUEUED)
            .first()
        )
        if export is None:
            return None
        export.begin()
        export.attempt += 1
        export.heartbeat_at = timezone.now()
        history.save([export], _SAVED, actor=WORKER, reason=f"Attempt {export.attempt} begins")
    return export


def steps(export: Export) -> Iterator[int]:
    """Write a claimed export, one part a step; yields the rows that are kept so far.

    Raises Overtaken, and DatabaseError when reading takes too long.
    """
    dataset = exports.dataset(export.dataset)
    digest = hashlib.sha256()
    size = 0
    cursor = f"export_{export.pk}_{export.attempt}"
    with exports.snapshot(dataset, export.period, name=cursor, timeout=READING) as snapshot:
        export.rows_expected, export.read_at = snapshot.count, snapshot.taken_at
        _beat(export, rows_expected=snapshot.count, read_at=snapshot.taken_at)
        lines: list[tuple[Any, ...]] = [dataset.columns]
        chunks = snapshot.chunks(PART)
        number = 0
        # The heading goes with the first rows, and is there when there are none.
        while (rows := next(chunks, None)) is not None or number == 0:
            lines += rows or []
            text = "".join(csvs.rows(lines)).encode()
            digest.update(text)
            size += len(text)
            export.rows_done += len(rows or [])
            with transaction.atomic():
                _beat(export, rows_done=F("rows_done") + len(rows or []))
                ExportPart.objects.create(
                    export_id=export.pk,
                    number=number,
                    rows=len(rows or []),
                    data=zlib.compress(text),
                )
            yield export.rows_done
            lines = []
            number += 1
    _finish(export, size, digest.hexdigest())


def _beat(export: Export, **written: Any) -> None:
    """Show that the attempt goes on. Locks the export. Raises Overtaken."""
    mine = Export.objects.filter(
        pk=export.pk, state=Export.State.RUNNING, attempt=export.attempt
    ).update(heartbeat_at=timezone.now(), **written)
    if not mine:
        raise Overtaken


def _finish(written: Export, size: int, sha256: str) -> None:
    with transaction.atomic():
        export = _lock_attempt(written)
        export.finish()
        export.size, export.sha256 = size, sha256
        _end(export)
        export.problem = ""
        export.expires_at = timezone.now() + settings.EXPORT_KEPT
        history.save([export], _SAVED, actor=WORKER, reason=f"Written: {export.rows_done:,} rows")
    written.size = size


def _give_back(tried: Export, problem: str) -> None:
    """Let the export be tried again, unless it was often enough."""
    with transaction.atomic():
        try:
            export = _lock_attempt(tried)
        except Overtaken:
            return
        _interrupt(export, problem)


def _interrupt(export: Export, problem: str) -> None:
    """Take a locked export from its worker; the file begins from nothing, or is given up."""
    export.problem = problem
    if export.attempt >= MOST_ATTEMPTS:
        export.fail()
        _end(export)
    else:
        export.interrupt()
        export.heartbeat_at = export.read_at = export.rows_expected = None
        export.rows_done = 0
    history.save([export], _SAVED, actor=WORKER, reason=problem)
    export.parts.all().delete()


def _end(export: Export) -> None:
    export.heartbeat_at = None
    export.finished_at = timezone.now()


# --- what the beat does ---


def tend() -> None:
    """Take exports from workers that died, queue what waits, delete the files that have expired."""
    _rescue()
    _queue_forgotten()
    _expire()


def _rescue() -> None:
    with transaction.atomic():
        now = timezone.now()
        died = Q(heartbeat_at__lte=now - LEASE) | ahead("heartbeat_at", now, LEASE)
        for export in _open(Export.State.RUNNING, died):
            log.warning("export %s: the worker of attempt %s died", export.pk, export.attempt)
            _interrupt(export, DIED)


def _queue_forgotten() -> None:
    now = timezone.now()
    forgotten = Q(requested_at__lte=now - PATIENCE) | ahead("requested_at", now)
    waiting = Export.objects.filter(forgotten, state=Export.State.QUEUED)
    for pk in list(waiting.order_by("requested_at").values_list("pk", flat=True)):
        _queue(pk)


def _expire() -> None:
    with transaction.atomic():
        for export in _open(Export.State.DONE, Q(expires_at__lte=timezone.now())):
            export.expire()
            history.save([export], ["state"], actor=WORKER, reason="Its file was kept long enough")
            export.parts.all().delete()


def _open(state: Export.State, late: Q) -> list[Export]:
    """Exports of a state that are late, locked; those that somebody works on are left out."""
    return list(
        Export.objects.select_for_update(no_key=True, skip_locked=True)
        .filter(late, state=state)
        .order_by("pk")
    )


def _queue(export_id: int) -> None:
    tasks.write_export.apply_async(args=[export_id], expires=settings.TASK_EXPIRES)


def _lock(export_id: int) -> Export:
    return Export.objects.select_for_update(no_key=True).get(pk=export_id)


def _lock_attempt(written: Export) -> Export:
    """The export, locked, while the attempt is still the one that writes it. Raises Overtaken."""
    export = _lock(written.pk)
    if export.state != Export.State.RUNNING or export.attempt != written.attempt:
        raise Overtaken
    return export
