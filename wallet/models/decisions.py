"""What people decide about money: corrections, claims, terminations, and each role's limits."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import F, Q
from django_fsm import FSMModelMixin, transition

from smsactivator.common.constraints import Explained
from smsactivator.common.history import records
from smsactivator.common.money import MoneyField
from smsactivator.common.states import StateField
from wallet.models.customers import Customer
from wallet.models.ledger import Deposit, Transfer


class RoleLimit(Explained, models.Model):
    """How much the members of a role may move by one kind of decision, USD.

    Without a row a role may move nothing. A person in several roles has the largest of the limits.
    """

    sentences = {
        "role_limit_once": (
            "decision",
            "This role has a limit for this decision: change that one.",
        ),
        "role_limit_each_within_daily": (
            "each",
            "A limit is 0 USD or more, and at most that of a day.",
        ),
    }

    class Decision(models.TextChoices):
        GOODWILL = "goodwill", "Goodwill"
        ADJUSTMENT = "adjustment", "Adjustment"
        REVERSAL = "reversal", "Reversal"
        DECIDED_REFUND = "decided_refund", "Decided refund"
        PAYOUT = "payout", "Payout"

    role = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="limits")
    decision = models.CharField(max_length=16, choices=Decision)
    each = MoneyField("limit each", help_text="USD, the most that one decision may move.")
    daily = MoneyField("limit a day", help_text="USD, the most that one person may move a UTC day.")

    history = records()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["role", "decision"], name="role_limit_once"),
            models.CheckConstraint(
                condition=Q(each__gte=0, daily__gte=F("each")), name="role_limit_each_within_daily"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_decision_display()} by {self.role}"


class Decision(FSMModelMixin, models.Model):
    """What one person requests and another decides. The database holds that they are two."""

    class State(models.TextChoices):
        REQUESTED = "requested", "Waiting for a second person"
        CONFIRMED = "confirmed", "Confirmed"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"

    state = StateField(
        default=State.REQUESTED, choices=State, protected=True, max_length=16, editable=False
    )
    reason = models.TextField(help_text="Why, for whoever reads this in years.")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    requested_at = models.DateTimeField()
    # Of the form that was sent: sent twice, it is one request.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.TextField(default="", blank=True)

    class Meta:
        abstract = True
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=~Q(reason=""), name="%(class)s_has_a_reason"),
            models.CheckConstraint(
                condition=Q(state="requested", decided_by__isnull=True, decided_at__isnull=True)
                | Q(
                    ~Q(decided_by=F("requested_by")),
                    state__in=["confirmed", "rejected"],
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                )
                | Q(
                    state="withdrawn",
                    decided_by=F("requested_by"),
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                ),
                name="%(class)s_decided_by_a_second_person",
            ),
        ]

    @transition("state", source=State.REQUESTED, target=State.CONFIRMED)
    def confirm(self) -> None:
        """A second person agrees."""

    @transition("state", source=State.REQUESTED, target=State.REJECTED)
    def reject(self) -> None:
        """A second person does not agree."""

    @transition("state", source=State.REQUESTED, target=State.WITHDRAWN)
    def withdraw(self) -> None:
        """The one who requested it takes it back."""


class Correction(Decision):
    """A movement that people decide: an adjustment, goodwill, or the reversal of a transfer.

    ``amount`` is what it does to the wallet's balance, USD, signed; for the reversal of a transfer
    that touched no wallet it is that transfer's amount.
    """

    class Kind(models.TextChoices):
        GOODWILL = "goodwill", "Goodwill"
        ADJUSTMENT = "adjustment", "Adjustment"
        REVERSAL = "reversal", "Reversal"

    kind = models.CharField(max_length=16, choices=Kind)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, null=True, related_name="corrections"
    )
    amount = MoneyField()
    reverses = models.ForeignKey(
        Transfer, on_delete=models.PROTECT, null=True, related_name="corrections", db_index=False
    )
    transfer = models.OneToOneField(
        Transfer, on_delete=models.PROTECT, null=True, related_name="correction"
    )

    history = records(no_db_index=["transfer", "reverses", "customer"])

    class Meta(Decision.Meta):
        abstract = False
        constraints: ClassVar[list[models.BaseConstraint]] = [
            *Decision.Meta.constraints,
            models.CheckConstraint(
                condition=Q(kind="goodwill", amount__gt=0, customer__isnull=False)
                | Q(~Q(amount=0), kind="adjustment", customer__isnull=False)
                | Q(~Q(amount=0), kind="reversal"),
                name="correction_amount_fits_its_kind",
            ),
            models.CheckConstraint(
                condition=Q(kind="reversal", reverses__isnull=False)
                | Q(kind__in=["goodwill", "adjustment"], reverses__isnull=True),
                name="correction_reversal_names_its_transfer",
            ),
            models.CheckConstraint(
                condition=Q(state="confirmed", transfer__isnull=False)
                | Q(~Q(state="confirmed"), transfer__isnull=True),
                name="correction_moves_money_when_confirmed",
            ),
            models.UniqueConstraint(
                fields=["reverses"],
                condition=Q(reverses__isnull=False, state__in=["requested", "confirmed"]),
                name="correction_reverses_once",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["-id"], condition=Q(state="requested"), name="correction_waiting_newest"
            ),
            models.Index(fields=["requested_by", "requested_at"], name="correction_by_requester"),
            models.Index(
                fields=["decided_by", "decided_at"],
                condition=Q(state="confirmed"),
                name="correction_by_confirmer",
            ),
        ]
        permissions = [
            ("request_goodwill", "Can request goodwill"),
            ("request_adjustment", "Can request adjustments"),
            ("request_reversal", "Can request reversals"),
            ("confirm_correction", "Can confirm and reject corrections"),
        ]

    def __str__(self) -> str:
        return f"Correction {self.pk}"


class Claim(FSMModelMixin, models.Model):
    """A chargeback claim that was filed against a deposit.

    Policy, disputes: "any chargeback claim filed against a crypto provider is the user's
    responsibility, not ours, and may result in account termination per /tos §9."

    Its state follows the account's: what is not dismissed ends with the account, and is to be
    decided again when the customer is let in again (wallet/sql/claims.sql).
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        DISMISSED = "dismissed", "Dismissed"
        UPHELD = "upheld", "Termination requested"
        TERMINATED = "terminated", "Account terminated"

    deposit = models.ForeignKey(Deposit, on_delete=models.PROTECT, related_name="claims")
    reference = models.CharField(
        "provider's reference", max_length=128, help_text="The claim's number at the provider."
    )
    evidence = models.TextField(help_text="What the provider sent, in its words.")
    # Of the form that was sent: sent twice, it is one claim.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    # Whether recording it froze the wallet, or its account came back, so that dismissing it may
    # unfreeze it.
    froze = models.BooleanField(editable=False)
    recorded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    recorded_at = models.DateTimeField()
    state = StateField(default=State.OPEN, choices=State, protected=True, max_length=16)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.TextField(default="", blank=True)

    history = records(no_db_index=["deposit"], excluded_fields=["request_key"])

    class Meta:
        verbose_name = "chargeback claim"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # What was dismissed may be claimed again, also under the same reference.
            models.UniqueConstraint(
                fields=["deposit"], condition=~Q(state="dismissed"), name="claim_one_a_deposit"
            ),
            models.CheckConstraint(
                condition=~Q(reference="") & ~Q(evidence=""), name="claim_has_evidence"
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=["open", "terminated"],
                    decided_by__isnull=True,
                    decided_at__isnull=True,
                )
                | Q(
                    ~Q(decision_reason=""),
                    state__in=["dismissed", "upheld", "terminated"],
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                ),
                name="claim_decided_with_a_reason",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-id"], condition=Q(state="open"), name="claim_open_newest"),
            models.Index(fields=["reference"], name="claim_by_reference"),
        ]
        permissions = [
            ("record_claim", "Can record chargeback claims"),
            ("decide_claim", "Can dismiss chargeback claims or ask for a termination"),
        ]

    def __str__(self) -> str:
        return f"Claim {self.reference}"

    @transition("state", source=State.OPEN, target=State.DISMISSED)
    def dismiss(self) -> None:
        """The claim comes to nothing."""

    @transition("state", source=State.OPEN, target=State.UPHELD)
    def uphold(self) -> None:
        """The claim is a reason to terminate; a second person decides."""

    @transition("state", source=[State.OPEN, State.UPHELD], target=State.TERMINATED)
    def end(self) -> None:
        """The account was terminated: there is nothing to decide any more."""

    @transition("state", source=[State.UPHELD, State.TERMINATED], target=State.OPEN)
    def reopen(self) -> None:
        """The termination was not confirmed, or undone: the claim is to be decided again."""


class ClaimFile(models.Model):
    """A file that shows a claim, as the provider sent it. Append-only."""

    claim = models.ForeignKey(Claim, on_delete=models.PROTECT, related_name="files")
    name = models.CharField(max_length=255)
    content_type = models.CharField(
        max_length=100, help_text="As the content shows, whatever the sender called it."
    )
    content = models.BinaryField()
    size = models.PositiveIntegerField(help_text="Bytes.")
    sha256 = models.CharField(max_length=64, help_text="SHA-256, hexadecimal.")
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    added_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["claim", "sha256", "name"], name="claim_file_once"),
            models.CheckConstraint(condition=Q(size__gt=0), name="claim_file_not_empty"),
        ]

    def __str__(self) -> str:
        return self.name


class ClaimFileReading(models.Model):
    """Somebody of ours took a file of a claim. Append-only."""

    file = models.ForeignKey(ClaimFile, on_delete=models.PROTECT, related_name="readings")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    read_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["person", "read_at"], name="claim_reading_by_person"),
        ]

    def __str__(self) -> str:
        return f"{self.file} read by {self.person} at {self.read_at:%Y-%m-%d %H:%M:%S} UTC"


class Termination(Decision):
    """The end of a customer's account: the balance and the prices of open orders are forfeited.

    Policy, not granted: "AUP violations resulting in account termination — wallet balance is
    forfeited per /aup."
    """

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="terminations")
    claim = models.ForeignKey(
        Claim, on_delete=models.PROTECT, null=True, related_name="terminations"
    )
    # Whether requesting it froze the wallet, so that rejecting it may unfreeze it.
    froze = models.BooleanField(editable=False)
    transfer = models.OneToOneField(
        Transfer, on_delete=models.PROTECT, null=True, related_name="termination"
    )
    wallet_amount = MoneyField(default=0, help_text="USD, forfeited from the wallet.")
    orders_amount = MoneyField(default=0, help_text="USD, forfeited from open orders.")
    orders_ended = models.PositiveIntegerField(default=0)
    # Ended by a reinstatement.
    reinstated = models.BooleanField(default=False)

    history = records(no_db_index=["transfer", "customer", "claim"])

    class Meta(Decision.Meta):
        abstract = False
        constraints: ClassVar[list[models.BaseConstraint]] = [
            *Decision.Meta.constraints,
            models.UniqueConstraint(
                fields=["customer"],
                condition=Q(state="requested") | Q(state="confirmed", reinstated=False),
                name="termination_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=Q(state="confirmed", wallet_amount=0, transfer__isnull=True)
                | Q(state="confirmed", wallet_amount__gt=0, transfer__isnull=False)
                | Q(
                    ~Q(state="confirmed"),
                    wallet_amount=0,
                    orders_amount=0,
                    reinstated=False,
                    transfer__isnull=True,
                ),
                name="termination_forfeits_when_confirmed",
            ),
            models.CheckConstraint(
                condition=Q(orders_amount__gte=0), name="termination_orders_amount_not_negative"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["-id"], condition=Q(state="requested"), name="termination_waiting_newest"
            ),
        ]
        permissions = [
            ("request_termination", "Can request terminations and reinstatements"),
            ("confirm_termination", "Can confirm and reject terminations and reinstatements"),
        ]

    def __str__(self) -> str:
        return f"Termination {self.pk}"

    @property
    def forfeited(self) -> Any:
        """What was forfeited in all, USD."""
        return self.wallet_amount + self.orders_amount


class Reinstatement(Decision):
    """A terminated customer is let in again, with the forfeited money or without it."""

    termination = models.ForeignKey(
        Termination, on_delete=models.PROTECT, related_name="reinstatements"
    )
    amount = MoneyField(
        default=Decimal(0), help_text="USD given back: all that was forfeited, or nothing."
    )
    transfer = models.OneToOneField(
        Transfer, on_delete=models.PROTECT, null=True, related_name="reinstatement"
    )

    history = records(no_db_index=["transfer", "termination"])

    class Meta(Decision.Meta):
        abstract = False
        constraints: ClassVar[list[models.BaseConstraint]] = [
            *Decision.Meta.constraints,
            models.UniqueConstraint(
                fields=["termination"],
                condition=Q(state__in=["requested", "confirmed"]),
                name="reinstatement_once",
            ),
            models.CheckConstraint(
                condition=Q(amount__gte=0), name="reinstatement_amount_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(state="confirmed", amount__gt=0, transfer__isnull=False)
                | Q(state="confirmed", amount=0, transfer__isnull=True)
                | Q(~Q(state="confirmed"), transfer__isnull=True),
                name="reinstatement_gives_back_when_confirmed",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["-id"], condition=Q(state="requested"), name="reinstatement_waiting_newest"
            ),
        ]

    def __str__(self) -> str:
        return f"Reinstatement {self.pk}"


class AccountOutcome(models.Model):
    """What became of a customer's account, to be told to the customer once.

    An outbox, as ``PayoutOutcome``: ``told_at`` is written by whoever tells it, and nothing else
    ever changes.
    """

    class What(models.TextChoices):
        FROZEN = "frozen", "Wallet frozen"
        UNFROZEN = "unfrozen", "Wallet unfrozen"
        TERMINATED = "terminated", "Account terminated"
        REINSTATED = "reinstated", "Account reinstated"

    class Ground(models.TextChoices):
        CLAIM = "claim", "A chargeback claim"
        TERMINATION = "termination", "A termination"
        REVIEW = "review", "Somebody of ours"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="outcomes")
    what = models.CharField(max_length=16, choices=What)
    ground = models.CharField(max_length=16, choices=Ground)
    amount = MoneyField(null=True, help_text="USD that were forfeited or given back.")
    at = models.DateTimeField()
    told_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(
                    what__in=["frozen", "unfrozen"],
                    ground__in=["claim", "termination", "review"],
                    amount__isnull=True,
                )
                | Q(
                    what__in=["terminated", "reinstated"],
                    ground__in=["claim", "termination"],
                    amount__gte=0,
                ),
                name="account_outcome_known",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["id"], condition=Q(told_at__isnull=True), name="account_outcome_untold"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_what_display()}: {self.customer}"
