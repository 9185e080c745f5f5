"""Refunds."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from orders.models import Order
from refunds.policy import Clause
from smsactivator.common.money import MoneyField
from wallet.models import Transfer


class Refund(models.Model):
    """Money that went back from an order to its customer's wallet, and why. Append-only."""

    order = models.ForeignKey(
        Order, on_delete=models.PROTECT, related_name="refunds", db_index=False
    )
    transfer = models.OneToOneField(Transfer, on_delete=models.PROTECT, related_name="refund")
    clause = models.CharField(max_length=40, choices=Clause)
    policy_version = models.CharField(max_length=10)
    facts = models.JSONField(help_text="What was known when the policy was applied.")
    amount = MoneyField()
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="refund_amount_positive"),
            models.CheckConstraint(
                condition=Q(clause__in=Clause.values), name="refund_clause_known"
            ),
            models.UniqueConstraint(fields=["order"], name="refund_automatic_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["created_at", "clause"], name="refund_by_day"),
            models.Index(fields=["clause", "-id"], name="refund_clause_newest"),
        ]

    def __str__(self) -> str:
        return f"Refund {self.pk}"


class Sweep(models.Model):
    """The last run of each sweep: one row a sweep, the proof that the beat is alive."""

    name = models.CharField(max_length=40, primary_key=True)
    finished_at = models.DateTimeField()
    refunded = models.PositiveIntegerField(help_text="Orders refunded by the last run.")

    def __str__(self) -> str:
        return self.name
