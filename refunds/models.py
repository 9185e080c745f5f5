"""Refunds, and the requests that people decide."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django_fsm import FSMModelMixin, transition

from orders.models import Order
from refunds import policy
from smsactivator.common.history import records
from smsactivator.common.money import MoneyField
from smsactivator.common.states import StateField
from wallet.models import Correction, Transfer


class RefundRequest(FSMModelMixin, models.Model):
    """What one person asks to be refunded from a delivered order, and what became of it.

    Its terms are fixed; who may take which step is in ``refunds.decisions`` and
    ``refunds.disputes``, and the database holds that nobody approves what they requested, that a
    senior who resolves a dispute took no part before, that money moves exactly when the state says
    so (refunds/sql/requests.sql), and that what was decided for good is opened again only by a
    further request, which others decide on new evidence (refunds/sql/further.sql).
    """

    class State(models.TextChoices):
        REQUESTED = "requested", "Waiting for approval"
        ESCALATED = "escalated", "Waiting for a senior agent"
        WITHDRAWN = "withdrawn", "Withdrawn"
        APPROVED = "approved", "Approved and credited"
        DENIED = "denied", "Denied"
        DISPUTED = "disputed", "Disputed"
        UPHELD = "upheld", "Denial upheld"
        OVERTURNED = "overturned", "Denial overturned and credited"
        DISMISSED = "dismissed", "Denied; the reply was no dispute"

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="refund_requests")
    clause = models.CharField(max_length=40, choices=policy.choices)
    amount = MoneyField(help_text="USD, the price of the order or a part of it.")
    reason = models.TextField(help_text="Why, for whoever reads this in years.")
    state = StateField(
        default=State.REQUESTED, choices=State, protected=True, max_length=12, editable=False
    )
    # The policy's verdict when it was requested, by the version in force when the order was placed.
    policy_version = models.CharField(max_length=10)
    facts = models.JSONField(help_text="What was known when the policy was asked.")
    verdict = models.CharField(
        max_length=16, choices=[(outcome.value, outcome.value) for outcome in policy.Outcome]
    )
    verdict_clause = models.CharField(max_length=40, blank=True)
    verdict_why = models.TextField(blank=True)
    # The indexes below begin with each of the three people.
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    requested_at = models.DateTimeField()
    # Of a further request: the final decision that it asks to look at again, and what came since.
    further_to = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="further", db_index=False
    )
    evidence = models.CharField(max_length=200, default="", db_default="", blank=True)
    evidence_at = models.DateTimeField(null=True)
    # Of the form that was sent: sent twice, it is one request.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)

    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        db_index=False,
    )
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.TextField(default="", blank=True)
    against_verdict = models.BooleanField(default=False)

    disputed_at = models.DateTimeField(null=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        db_index=False,
    )
    resolved_at = models.DateTimeField(null=True)
    resolution_reason = models.TextField(default="", blank=True)

    # A clause that is not refundable is granted as goodwill, which is counted apart.
    goodwill = models.OneToOneField(
        Correction, on_delete=models.PROTECT, null=True, related_name="refund_request"
    )

    history = records(
        no_db_index=[
            *("order", "goodwill", "requested_by", "decided_by", "resolved_by", "further_to")
        ]
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="request_amount_positive"),
            models.CheckConstraint(condition=~Q(reason=""), name="request_has_a_reason"),
            models.CheckConstraint(
                condition=Q(clause__regex=r"^(ticket|none)\.[a-z_]+$"),
                name="request_clause_is_one_that_people_decide",
            ),
            # Not disputed ones: a customer's reply never fails because of another request.
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(state__in=["requested", "escalated"]),
                name="request_one_open_an_order",
            ),
            models.CheckConstraint(
                condition=Q(further_to__isnull=True, evidence="", evidence_at__isnull=True)
                | Q(~Q(evidence=""), further_to__isnull=False, evidence_at__isnull=False),
                name="request_further_names_its_evidence",
            ),
            # Asked for each column: a CHECK that comes to NULL lets the row pass.
            models.CheckConstraint(
                condition=Q(
                    state__in=["requested", "escalated"],
                    decided_by__isnull=True,
                    decided_at__isnull=True,
                    decision_reason="",
                )
                | Q(
                    state="withdrawn",
                    decided_by=F("requested_by"),
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                )
                | Q(
                    ~Q(decided_by=F("requested_by")),
                    state="approved",
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                )
                | Q(
                    ~Q(decision_reason=""),
                    state__in=["denied", "disputed", "upheld", "overturned", "dismissed"],
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                ),
                name="request_decided_by_another_when_approved",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=["requested", "escalated", "withdrawn", "approved", "denied"],
                    disputed_at__isnull=True,
                    resolved_by__isnull=True,
                    resolved_at__isnull=True,
                    resolution_reason="",
                )
                | Q(
                    state="disputed",
                    disputed_at__isnull=False,
                    resolved_by__isnull=True,
                    resolved_at__isnull=True,
                    resolution_reason="",
                )
                | Q(
                    ~Q(resolved_by=F("requested_by")),
                    ~Q(resolved_by=F("decided_by")),
                    ~Q(resolution_reason=""),
                    state__in=["upheld", "overturned", "dismissed"],
                    disputed_at__isnull=False,
                    resolved_by__isnull=False,
                    resolved_at__isnull=False,
                ),
                name="request_dispute_resolved_by_a_third_person",
            ),
            models.CheckConstraint(
                condition=Q(against_verdict=False)
                | Q(~Q(decision_reason=""), decided_by__isnull=False),
                name="request_against_the_verdict_with_a_reason",
            ),
            # Goodwill when the clause is not refundable, and only then.
            models.CheckConstraint(
                condition=Q(
                    state__in=["approved", "overturned"],
                    clause__startswith="none.",
                    goodwill__isnull=False,
                )
                | Q(Q(goodwill__isnull=True), ~Q(clause__startswith="none."))
                | Q(
                    Q(goodwill__isnull=True),
                    ~Q(state__in=["approved", "overturned"]),
                ),
                name="request_goodwill_when_not_refundable",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "-id"], name="request_state_newest"),
            models.Index(fields=["requested_by", "requested_at"], name="request_by_requester"),
            models.Index(fields=["decided_by", "decided_at"], name="request_by_decider"),
            models.Index(
                fields=["resolved_by", "resolved_at"],
                condition=Q(resolved_by__isnull=False),
                name="request_by_resolver",
            ),
            models.Index(fields=["requested_at"], name="request_by_day"),
            models.Index(fields=["clause", "-id"], name="request_clause_newest"),
            models.Index(
                fields=["-id"], condition=Q(against_verdict=True), name="request_against_newest"
            ),
            models.Index(
                fields=["-id"],
                condition=Q(further_to__isnull=False),
                name="request_further_newest",
            ),
            # For the reports of a period.
            models.Index(
                fields=["decided_at"],
                condition=Q(decided_at__isnull=False),
                name="request_decided_by_day",
            ),
            models.Index(
                fields=["resolved_at"],
                condition=Q(resolved_at__isnull=False),
                name="request_resolved_by_day",
            ),
        ]
        permissions = [
            ("request_refund", "Can ask for refunds of delivered orders"),
            ("decide_refund", "Can approve and deny refunds, within the limits of the role"),
            ("decide_escalated_refund", "Can decide refunds that wait for a senior agent"),
            ("grant_goodwill_refund", "Can approve what is not refundable, as goodwill"),
            ("resolve_dispute", "Can uphold and overturn denied refunds"),
        ]

    def __str__(self) -> str:
        return f"Refund request {self.pk}"

    @transition("state", source=State.REQUESTED, target=State.ESCALATED)
    def escalate(self) -> None:
        """It waits for a senior agent."""

    @transition("state", source=[State.REQUESTED, State.ESCALATED], target=State.WITHDRAWN)
    def withdraw(self) -> None:
        """The one who asked takes it back."""

    @transition("state", source=[State.REQUESTED, State.ESCALATED], target=State.APPROVED)
    def approve(self) -> None:
        """Another person agrees; the money moves in the same transaction."""

    @transition("state", source=[State.REQUESTED, State.ESCALATED], target=State.DENIED)
    def deny(self) -> None:
        """The answer is no."""

    @transition("state", source=State.DENIED, target=State.DISPUTED)
    def dispute(self) -> None:
        """The customer does not agree. Once: nothing leads back to a denial that is not final."""

    @transition("state", source=State.DISPUTED, target=State.UPHELD)
    def uphold(self) -> None:
        """A senior agent who took no part agrees with the denial. Final."""

    @transition("state", source=State.DISPUTED, target=State.OVERTURNED)
    def overturn(self) -> None:
        """A senior agent who took no part grants the refund. Final."""

    @transition("state", source=State.DISPUTED, target=State.DISMISSED)
    def dismiss(self) -> None:
        """The reply was no dispute ("thanks"). Final."""


class Refund(models.Model):
    """Money that went back from an order to its customer's wallet, and why. Append-only."""

    order = models.ForeignKey(
        Order, on_delete=models.PROTECT, related_name="refunds", db_index=False
    )
    transfer = models.OneToOneField(Transfer, on_delete=models.PROTECT, related_name="refund")
    clause = models.CharField(max_length=40, choices=policy.choices)
    policy_version = models.CharField(max_length=10)
    facts = models.JSONField(help_text="What was known when the policy was applied.")
    amount = MoneyField()
    created_at = models.DateTimeField()
    part = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="0 of the automatic refund; decided ones count from 1."
    )
    # Of a decided refund: what was decided, who let the money go, and why.
    request = models.OneToOneField(
        RefundRequest, on_delete=models.PROTECT, null=True, related_name="refund"
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    reason = models.TextField(default="", db_default="", blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="refund_amount_positive"),
            models.CheckConstraint(
                condition=Q(clause__regex=r"^(auto|ticket)\.[a-z_]+$"), name="refund_clause_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    clause__startswith="auto.",
                    part=0,
                    decided_by__isnull=True,
                    request__isnull=True,
                    reason="",
                )
                | Q(
                    ~Q(clause__startswith="auto."),
                    ~Q(reason=""),
                    part__gt=0,
                    decided_by__isnull=False,
                    request__isnull=False,
                ),
                name="refund_automatic_or_decided_by_a_person",
            ),
            # So also: one automatic refund an order.
            models.UniqueConstraint(fields=["order", "part"], name="refund_part_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["created_at", "clause"], name="refund_by_day"),
            models.Index(fields=["clause", "-id"], name="refund_clause_newest"),
            models.Index(
                fields=["decided_by", "created_at"],
                condition=Q(decided_by__isnull=False),
                name="refund_by_person",
            ),
        ]
        permissions = [
            ("preview_policy", "Can replay a version of the policy over past orders"),
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
