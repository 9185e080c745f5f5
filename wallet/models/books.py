"""Proofs of the books: audits, daily seals, and what the seals say of each row."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q


class AuditRun(models.Model):
    """One audit of the books: when, what was checked, what was found.

    A passed run is a checkpoint: transfers up to ``through_id`` are proved and settled (none with a
    lower number can still appear), and ``totals`` are each shop account's balance over them, so the
    next incremental run begins after it. ``after_id`` is where this run began; 0 is a full one.
    """

    started_at = models.DateTimeField(db_index=True)
    finished_at = models.DateTimeField()
    passed = models.BooleanField()
    after_id = models.BigIntegerField(default=0, db_default=0)
    through_id = models.BigIntegerField(default=0, db_default=0)
    totals = models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), help_text="By account, USD."
    )
    checks = models.JSONField(help_text="A list of {name, seconds, count, differences, figures}.")
    # Of a failed run; written when the mail server took it.
    mailed = models.BooleanField(default=False, db_default=False)

    def __str__(self) -> str:
        return f"Audit of {self.started_at:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def full(self) -> bool:
        """Whether it began with the first transfer."""
        return self.after_id == 0


class Seal(models.Model):
    """The seal of one UTC day: a hash over what was written that day and the seal before.

    Append-only; the database takes no transfer into a sealed day.
    """

    TRANSFERS, EVIDENCE = 1, 2

    day = models.DateField(unique=True)
    version = models.PositiveSmallIntegerField(
        default=TRANSFERS,
        db_default=TRANSFERS,
        choices=[(TRANSFERS, "Transfers alone"), (EVIDENCE, "Transfers and evidence")],
        help_text="What it covers.",
    )
    transfers = models.BigIntegerField()
    digest = models.CharField(max_length=64, help_text="SHA-256, hexadecimal.")
    previous = models.CharField(
        max_length=64, blank=True, help_text="The digest of the day before; empty for the first."
    )
    sealed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["previous"], name="seal_continues_one_seal"),
        ]

    def __str__(self) -> str:
        return f"Seal of {self.day:%Y-%m-%d}"


class SealedRows(models.Model):
    """What a day's seal says of some rows of a table: a hash of each, under its key. Append-only.

    Rows with keys after ``after`` and up to ``through``; a table's chunks follow each other without
    a gap (``wallet.evidence``). The database holds that.
    """

    day = models.DateField(db_index=True, help_text="Of the seal.")
    name = models.CharField(max_length=63, help_text="The table.")
    columns = ArrayField(models.CharField(max_length=63), help_text="What was hashed of each row.")
    after = models.BigIntegerField()
    through = models.BigIntegerField()
    rows = models.PositiveIntegerField()
    hashes = models.BinaryField(help_text="Of each row its key, 8 bytes, and its SHA-256, 32.")

    class Meta:
        verbose_name_plural = "sealed rows"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["name", "after"], name="sealed_rows_once"),
            models.CheckConstraint(
                condition=Q(after__gte=0, through__gt=F("after"), rows__gt=0),
                name="sealed_rows_of_a_range",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["name", "-through"], name="sealed_rows_newest"),
        ]

    def __str__(self) -> str:
        return f"Rows of {self.name} after {self.after} in the seal of {self.day:%Y-%m-%d}"
