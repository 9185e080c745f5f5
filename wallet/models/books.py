"""Proofs of the books: audits and daily seals."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


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
    """The seal of one UTC day: a hash over its transfers and the seal of the day before.

    Append-only; the database takes no transfer into a sealed day.
    """

    day = models.DateField(unique=True)
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
