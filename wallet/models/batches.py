"""Batches of payouts: what finance sends at once, frozen, and the files that were made of it."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django_fsm import FSMModelMixin, transition

from smsactivator.common.history import records
from smsactivator.common.money import MoneyField
from smsactivator.common.states import StateField
from wallet.models.payouts import Payout


class PayoutBatch(FSMModelMixin, models.Model):
    """Approved payouts that finance sends together, through one provider.

    Its lines are frozen when it is gathered. Exported means that its files were made, submitted
    that they were handed over: neither means paid. The database holds all of it, and that a
    payout's state and its batch's agree (wallet/sql/batches.sql).
    """

    class State(models.TextChoices):
        GATHERED = "gathered", "Gathered"
        EXPORTED = "exported", "Exported"
        SUBMITTED = "submitted", "Submitted"
        VOIDED = "voided", "Voided"

    profile = models.CharField(max_length=16, help_text="Whose files are made of it.")
    state = StateField(default=State.GATHERED, choices=State, protected=True, max_length=16)
    count = models.PositiveIntegerField("payouts")
    total = MoneyField(help_text="USD.")
    # Of those that were wanted: [["PO-000123", "why not"], …].
    left_out = models.JSONField(default=list, blank=True)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    made_at = models.DateTimeField()
    # Of the form that was sent: sent twice, it is one batch.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    exported_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    exported_at = models.DateTimeField(null=True)
    submitted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    submitted_at = models.DateTimeField(null=True)
    voided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    voided_at = models.DateTimeField(null=True)
    void_reason = models.TextField(default="", blank=True)

    history = records()

    class Meta:
        verbose_name_plural = "payout batches"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(count__gt=0, total__gt=0), name="payout_batch_not_empty"
            ),
            models.CheckConstraint(
                condition=Q(
                    state="gathered",
                    exported_by__isnull=True,
                    submitted_by__isnull=True,
                    voided_by__isnull=True,
                )
                | Q(
                    state="exported",
                    exported_by__isnull=False,
                    submitted_by__isnull=True,
                    voided_by__isnull=True,
                )
                | Q(
                    state="submitted",
                    exported_by__isnull=False,
                    submitted_by__isnull=False,
                    voided_by__isnull=True,
                )
                | Q(state="voided", submitted_by__isnull=True, voided_by__isnull=False),
                name="payout_batch_state_is_somebodys",
            ),
            models.CheckConstraint(
                condition=Q(exported_by__isnull=True, exported_at__isnull=True)
                | Q(exported_by__isnull=False, exported_at__isnull=False),
                name="payout_batch_exported_at",
            ),
            models.CheckConstraint(
                condition=Q(submitted_by__isnull=True, submitted_at__isnull=True)
                | Q(submitted_by__isnull=False, submitted_at__isnull=False),
                name="payout_batch_submitted_at",
            ),
            models.CheckConstraint(
                condition=Q(voided_by__isnull=True, voided_at__isnull=True, void_reason="")
                | Q(~Q(void_reason=""), voided_by__isnull=False, voided_at__isnull=False),
                name="payout_batch_voided_with_a_reason",
            ),
            # Its files may be on their way: giving it up takes another pair of eyes.
            models.CheckConstraint(
                condition=Q(exported_by__isnull=True)
                | Q(voided_by__isnull=True)
                | ~Q(voided_by=F("exported_by")),
                name="payout_batch_voided_by_another",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "id"], name="payout_batch_by_state"),
        ]
        permissions = [("batch_payout", "Can gather, export, submit and void batches of payouts")]

    def __str__(self) -> str:
        return f"Batch {self.reference}"

    @property
    def reference(self) -> str:
        """What we call it, and its files."""
        return f"PB-{self.pk:06d}" if self.pk else "PB-new"

    @transition("state", source=State.GATHERED, target=State.EXPORTED)
    def export(self) -> None:
        """Its files were made."""

    @transition("state", source=State.EXPORTED, target=State.SUBMITTED)
    def submit(self) -> None:
        """Its files were handed to whoever sends the money."""

    @transition("state", source=[State.GATHERED, State.EXPORTED], target=State.VOIDED)
    def void(self) -> None:
        """It was given up before anybody sent it."""


class BatchLine(models.Model):
    """A payout in a batch, as it was when it was gathered: what the files say of it.

    ``live`` until the batch is voided, or, once it is submitted, until the payout has failed and is
    sent again or given back. A payout has one live line at most.
    """

    batch = models.ForeignKey(
        PayoutBatch, on_delete=models.PROTECT, related_name="lines", db_index=False
    )
    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField(help_text="From 1, in the order of the files.")
    attempt = models.PositiveSmallIntegerField(help_text="The payout's.")
    reference = models.CharField(max_length=32)
    address = models.CharField(max_length=128)
    memo = models.CharField("memo (tag)", max_length=64, blank=True)
    currency = models.CharField(max_length=16)
    network = models.CharField(max_length=32)
    code = models.CharField(max_length=32, help_text="The coin, as the profile names it.")
    amount = MoneyField(help_text="USD, and of the coin.")
    note = models.CharField(max_length=64)
    live = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["batch", "position"], name="batch_line_in_its_place"),
            models.UniqueConstraint(fields=["batch", "payout"], name="batch_line_once_a_batch"),
            models.UniqueConstraint(
                fields=["payout"], condition=Q(live=True), name="payout_in_one_live_batch"
            ),
            # What goes into files for others is plain, and no spreadsheet takes it for a formula.
            models.CheckConstraint(
                condition=Q(code__regex=r"^[A-Z0-9][A-Z0-9_-]*$"), name="batch_line_code_plain"
            ),
            models.CheckConstraint(
                condition=Q(note__regex=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"),
                name="batch_line_note_plain",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference} in {self.batch.reference}"


class PayoutFile(models.Model):
    """A file that was made of a batch, once: whoever takes it again gets the same bytes.

    Append-only. The database holds that size and hash are those of the bytes.
    """

    class Format(models.TextChoices):
        CSV = "csv", "CSV"
        XLSX = "xlsx", "XLSX"

    batch = models.ForeignKey(
        PayoutBatch, on_delete=models.PROTECT, related_name="files", db_index=False
    )
    number = models.PositiveSmallIntegerField(help_text="From 1, where a batch needs several.")
    format = models.CharField(max_length=8, choices=Format)
    name = models.CharField(max_length=100)
    content = models.BinaryField()
    size = models.PositiveIntegerField(help_text="Bytes.")
    rows = models.PositiveIntegerField(help_text="Payouts; the header is beside them.")
    total = MoneyField(help_text="USD.")
    sha256 = models.CharField("SHA-256", max_length=64, help_text="Hexadecimal.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["batch", "number", "format"], name="payout_file_made_once"
            ),
            models.CheckConstraint(
                condition=Q(format__in=["csv", "xlsx"], rows__gt=0, number__gt=0),
                name="payout_file_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class FileDownload(models.Model):
    """Somebody of ours took a batch's file. Append-only."""

    file = models.ForeignKey(PayoutFile, on_delete=models.PROTECT, related_name="downloads")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    at = models.DateTimeField()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["person", "at"], name="file_download_by_person"),
        ]

    def __str__(self) -> str:
        return f"{self.file} taken by {self.person} at {self.at:%Y-%m-%d %H:%M:%S} UTC"


class ResultFile(models.Model):
    """What a provider says became of payouts, byte by byte as it was uploaded. Append-only.

    The same bytes are the same file.
    """

    name = models.CharField(max_length=255)
    content = models.BinaryField()
    size = models.PositiveIntegerField(help_text="Bytes.")
    sha256 = models.CharField("SHA-256", max_length=64, unique=True, help_text="Hexadecimal.")
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    uploaded_at = models.DateTimeField()
    # Of the form that was sent.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(size__gt=0), name="result_file_not_empty"),
        ]

    def __str__(self) -> str:
        return f"Result file {self.pk}: {self.name}"


class ResultLine(models.Model):
    """A row of a result file that was applied. Append-only: a row is applied once.

    Rows that wait or are refused have none, and can be applied later.
    """

    class Outcome(models.TextChoices):
        PAID = "paid", "Paid"
        FAILED = "failed", "Failed"
        ALREADY = "already", "Was so already"

    file = models.ForeignKey(
        ResultFile, on_delete=models.PROTECT, related_name="lines", db_index=False
    )
    row = models.PositiveIntegerField(help_text="Of the file; the header is 1.")
    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="results")
    attempt = models.PositiveSmallIntegerField(help_text="The payout's, that it was applied to.")
    # Of what the row says: said again of a later attempt, it is an old report.
    digest = models.CharField(max_length=64)
    outcome = models.CharField(max_length=16, choices=Outcome)
    detail = models.CharField(max_length=500, blank=True, help_text="The hash, or the problem.")
    applied_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    applied_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["file", "row"], name="result_row_applied_once"),
            models.CheckConstraint(
                condition=Q(outcome__in=["paid", "failed", "already"]), name="result_outcome_known"
            ),
        ]

    def __str__(self) -> str:
        return f"Row {self.row} of result file {self.file_id}"
