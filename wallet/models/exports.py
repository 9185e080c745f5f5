"""Exports: who asked for which rows, the file in parts, and who took it."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django_fsm import FSMModelMixin, transition

from smsactivator.common.exports import label_of
from smsactivator.common.history import records
from smsactivator.common.periods import Period
from smsactivator.common.states import StateField


class Export(FSMModelMixin, models.Model):
    """The rows of a dataset in a period, as one CSV file that is the same whenever it is taken.

    The file is written by a worker in parts, and goes when the export expires; this row stays, with
    the file's SHA-256. What it is of and, once done, what it came to is fixed by the database, and
    states follow each other as here (wallet/sql/exports.sql).
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Waiting for a worker"
        RUNNING = "running", "Being written"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Expired"

    state = StateField(
        default=State.QUEUED, choices=State, protected=True, max_length=12, editable=False
    )
    dataset = models.CharField(max_length=32)
    since = models.DateField("from", help_text="The first day, UTC.")
    until = models.DateField("to", help_text="The last day, UTC.")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    requested_at = models.DateTimeField()
    # Of the form that was sent: sent twice, it is one export.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)

    # Of the worker that writes it. Whoever took it over has a higher number.
    attempt = models.PositiveSmallIntegerField(default=0)
    heartbeat_at = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True, help_text="The moment that its rows show.")
    rows_expected = models.BigIntegerField(null=True)
    rows_done = models.BigIntegerField(default=0)

    size = models.BigIntegerField(default=0, help_text="Bytes of the file.")
    sha256 = models.CharField("SHA-256", max_length=64, default="", blank=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, default="", blank=True)

    history = records(
        excluded_fields=["rows_done", "heartbeat_at", "request_key"], no_db_index=["requested_by"]
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(since__lte=F("until")), name="export_days_in_order"),
            # Each column is asked for by itself: a CHECK that comes to NULL lets the row pass.
            models.CheckConstraint(
                condition=Q(
                    state="queued",
                    heartbeat_at__isnull=True,
                    rows_expected__isnull=True,
                    rows_done=0,
                    sha256="",
                    finished_at__isnull=True,
                    expires_at__isnull=True,
                )
                | Q(
                    state="running",
                    attempt__gt=0,
                    heartbeat_at__isnull=False,
                    sha256="",
                    finished_at__isnull=True,
                    expires_at__isnull=True,
                )
                | Q(
                    state__in=["failed", "cancelled"],
                    heartbeat_at__isnull=True,
                    sha256="",
                    finished_at__isnull=False,
                    expires_at__isnull=True,
                )
                | Q(
                    state__in=["done", "expired"],
                    heartbeat_at__isnull=True,
                    read_at__isnull=False,
                    rows_expected__isnull=False,
                    rows_done=F("rows_expected"),
                    size__gt=0,
                    sha256__regex=r"^[0-9a-f]{64}$",
                    finished_at__isnull=False,
                    expires_at__isnull=False,
                ),
                name="export_fits_its_state",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # What the beat looks for.
            models.Index(
                fields=["requested_at"],
                condition=Q(state__in=["queued", "running"]),
                name="export_open",
            ),
            models.Index(fields=["expires_at"], condition=Q(state="done"), name="export_to_expire"),
        ]
        permissions = [("export_data", "Can ask for exports and take them")]

    def __str__(self) -> str:
        return f"Export {self.pk}"

    @property
    def label(self) -> str:
        """What it is of, in words."""
        return label_of(self.dataset)

    @property
    def period(self) -> Period:
        """Its days."""
        return Period(self.since, self.until)

    @property
    def is_open(self) -> bool:
        """Whether its file is still to come."""
        return self.state in {self.State.QUEUED, self.State.RUNNING}

    @property
    def filename(self) -> str:
        """Of its file."""
        return f"{self.dataset}_{self.since}_{self.until}_export-{self.pk}.csv"

    @transition("state", source=State.QUEUED, target=State.RUNNING)
    def begin(self) -> None:
        """A worker writes it from now on."""

    @transition("state", source=State.RUNNING, target=State.QUEUED)
    def interrupt(self) -> None:
        """Its worker has gone, or could not go on: it begins again from nothing."""

    @transition("state", source=State.RUNNING, target=State.DONE)
    def finish(self) -> None:
        """The file is whole."""

    @transition("state", source=State.RUNNING, target=State.FAILED)
    def fail(self) -> None:
        """It was tried often enough."""

    @transition("state", source=[State.QUEUED, State.RUNNING], target=State.CANCELLED)
    def cancel(self) -> None:
        """A person does not want it any more."""

    @transition("state", source=State.DONE, target=State.EXPIRED)
    def expire(self) -> None:
        """The file was kept long enough."""


class ExportPart(models.Model):
    """Some thousand lines of an export's file, compressed by themselves (zlib). Never changed."""

    export = models.ForeignKey(
        Export, on_delete=models.PROTECT, related_name="parts", db_index=False
    )
    number = models.PositiveIntegerField(help_text="From 0 on, without a gap.")
    rows = models.PositiveIntegerField(help_text="Without the heading.")
    data = models.BinaryField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["export", "number"], name="export_part_once"),
        ]

    def __str__(self) -> str:
        return f"Part {self.number} of export {self.export_id}"


class ExportDownload(models.Model):
    """That a person took the file of an export. Append-only."""

    export = models.ForeignKey(Export, on_delete=models.PROTECT, related_name="downloads")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"Download {self.pk} of export {self.export_id}"
