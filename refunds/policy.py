"""The refund policy, version 2026-05-07: its automatic clauses.

Each clause is a case of "When you get a refund automatically"; the facts of an order say which one
applies. The text beside each is the policy's own.
"""

from __future__ import annotations

from django.db import models

# In force since 2026-05-07; no order is older.
VERSION = "2026-05-07"


class Clause(models.TextChoices):
    """The automatic clauses."""

    NO_SMS_IN_TIME = "auto.no_sms_in_time", "No SMS within the SLA"
    CANCELLED_BEFORE_SMS = "auto.cancelled_before_sms", "Cancelled before any SMS"
    NUMBER_BROKEN = "auto.number_broken", "Number broken"
    ALLOCATION_FAILED = "auto.allocation_failed", "Allocation failed"


TEXT = {
    Clause.NO_SMS_IN_TIME: (
        "No SMS within the 20-minute SLA — the order auto-cancels and the full price is credited "
        "back to the wallet."
    ),
    Clause.CANCELLED_BEFORE_SMS: (
        "You cancel the order before any SMS arrives — full refund, processed instantly."
    ),
    Clause.NUMBER_BROKEN: (
        "The allocated number is reported broken / dead by the upstream — full refund."
    ),
    Clause.ALLOCATION_FAILED: (
        "Allocation failure on our side (the order was never actually fulfilled) — full refund."
    ),
}
