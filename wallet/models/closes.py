"""The closes of days and months, and what finance holds against what customers are owed."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from smsactivator.common.money import MoneyField
from wallet.models.books import Seal


class Close(models.Model):
    """The books of a UTC day or a calendar month, closed: figures, and what is owed at its end.

    Append-only and chained (wallet/sql/closes.sql): each continues the one before it of its kind,
    adds up, and carries a digest over itself, its figures, the close before it and the seal of its
    last day. A first month begins with the month, whatever day the books began on.
    """

    class Kind(models.TextChoices):
        DAY = "day", "Day"
        MONTH = "month", "Month"

    kind = models.CharField(max_length=5, choices=Kind)
    first = models.DateField("first day")
    last = models.DateField("last day")
    # What is owed to customers, USD: in wallets, in the escrow of open orders, in pending payouts.
    opening_wallets = MoneyField()
    opening_escrow = MoneyField()
    opening_payouts = MoneyField()
    closing_wallets = MoneyField()
    closing_escrow = MoneyField()
    closing_payouts = MoneyField()
    transfers = models.BigIntegerField(help_text="Of the period.")
    lines = models.PositiveSmallIntegerField(help_text="Rows of figures that belong to it.")
    seal = models.ForeignKey(Seal, on_delete=models.PROTECT, related_name="closes")
    digest = models.CharField(max_length=64, help_text="SHA-256, hexadecimal.")
    previous = models.CharField(
        max_length=64, blank=True, help_text="The digest of the one before; empty for the first."
    )
    closed_at = models.DateTimeField()
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="Nobody, when it was closed on its own.",
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["kind", "first"], name="close_period_once"),
            models.UniqueConstraint(fields=["kind", "previous"], name="close_continues_one_close"),
            models.CheckConstraint(
                condition=Q(kind="day", first=F("last"))
                | Q(kind="month", first__day=1, first__lt=F("last")),
                name="close_of_a_day_or_a_month",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["kind", "-last"], name="close_kind_newest"),
            models.Index(fields=["-last", "-id"], name="close_newest"),
        ]
        permissions = [("close_books", "Can close the books of days and months")]

    def __str__(self) -> str:
        return f"Close of {self.period}"

    @property
    def period(self) -> str:
        """The day, or the month."""
        return f"{self.first:%Y-%m-%d}" if self.kind == self.Kind.DAY else f"{self.first:%Y-%m}"

    @property
    def owed(self) -> Any:
        """What is owed to customers at its end, USD."""
        return self.closing_wallets + self.closing_escrow + self.closing_payouts


class CloseFigure(models.Model):
    """One figure of a close, or one part of it, as it was then, with its words. Append-only.

    ``wallets``, ``escrow`` and ``payouts`` say whether its transfers add to what is owed there (1),
    take from it (-1), or do neither.
    """

    close = models.ForeignKey(
        Close, on_delete=models.PROTECT, related_name="figures", db_index=False
    )
    number = models.PositiveSmallIntegerField(help_text="Its place in the close.")
    section = models.CharField(max_length=40)
    figure = models.CharField(max_length=40)
    label = models.CharField(max_length=100)
    part = models.CharField(max_length=40, blank=True, help_text="As the clause of refunds.")
    part_label = models.CharField(max_length=200, blank=True)
    count = models.BigIntegerField()
    amount = MoneyField(help_text="USD.")
    wallets = models.SmallIntegerField()
    escrow = models.SmallIntegerField()
    payouts = models.SmallIntegerField()
    apart = models.BooleanField(help_text="Its transfers are counted by another figure too.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["close", "figure", "part", "wallets", "escrow", "payouts", "apart"],
                name="close_figure_part_once",
            ),
            models.UniqueConstraint(fields=["close", "number"], name="close_figure_number_once"),
            models.CheckConstraint(
                condition=Q(count=0, amount=0) | Q(count__gt=0, amount__gt=0),
                name="close_figure_counts_what_it_sums",
            ),
            models.CheckConstraint(
                condition=Q(wallets__range=(-1, 1), escrow__range=(-1, 1), payouts__range=(-1, 1)),
                name="close_figure_adds_or_takes",
            ),
            models.CheckConstraint(
                condition=Q(apart=False) | Q(wallets=0, escrow=0, payouts=0),
                name="close_figure_apart_moves_nothing",
            ),
            models.CheckConstraint(
                condition=Q(figure__regex=r"^[a-z_]+$", part__regex=r"^[a-z_.]*$"),
                name="close_figure_named_plainly",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label}: {self.part_label}" if self.part_label else self.label


class Holding(models.Model):
    """What finance says it holds at one place, at one moment. Append-only.

    The newest entry of a name is what is held there; what was entered wrongly is entered again.
    """

    name = models.CharField("where", max_length=60, help_text="Such as “CoinsPaid USDT”.")
    amount = MoneyField(help_text="USD.")
    as_of = models.DateTimeField("as of (UTC)")
    source = models.TextField(help_text="Where the figure comes from, and why it is entered.")
    entered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    entered_at = models.DateTimeField()
    # Of the form that was sent: sent twice, it is one entry.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="holding_not_negative"),
            models.CheckConstraint(
                condition=~Q(name="") & ~Q(source=""), name="holding_says_where_and_whence"
            ),
            models.CheckConstraint(
                condition=Q(as_of__lte=F("entered_at")), name="holding_not_of_the_future"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                Lower("name"), F("as_of").desc(), F("id").desc(), name="holding_newest_by_name"
            ),
        ]
        permissions = [
            ("record_holding", "Can enter what is held, and check it against liabilities")
        ]

    def __str__(self) -> str:
        return f"Holding {self.pk}: {self.name}"


class LiabilityCheck(models.Model):
    """What customers were owed at a moment, beside what finance said it held then. Append-only."""

    at = models.DateTimeField("at (UTC)")
    wallets = MoneyField(help_text="USD, in wallets.")
    escrow = MoneyField(help_text="USD, in the escrow of open orders.")
    payouts = MoneyField(help_text="USD, in payouts that are pending.")
    held = MoneyField(help_text="USD, the sum of the holdings.")
    holdings = ArrayField(models.BigIntegerField(), help_text="Numbers of the entries it compares.")
    oldest = models.DateTimeField(
        "oldest entry (UTC)", help_text="As of when the oldest of them is."
    )
    note = models.TextField(blank=True)
    checked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    checked_at = models.DateTimeField()
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)

    class Meta:
        verbose_name = "liabilities check"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(at__lte=F("checked_at")), name="check_not_of_the_future"
            ),
        ]

    def __str__(self) -> str:
        return f"Liabilities check {self.pk}"

    @property
    def owed(self) -> Any:
        """What customers were owed, USD."""
        return self.wallets + self.escrow + self.payouts

    @property
    def difference(self) -> Any:
        """What was held less what was owed, USD: below zero, it is missing."""
        return self.held - self.owed
