"""Storefronts, their keys and customers, and the customers' wallets."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django_fsm import FSMModelMixin, transition

from smsactivator.common.history import records
from smsactivator.common.money import MoneyField
from smsactivator.common.states import StateField

# Account numbers below this are the shop's; from here on they are customers' (and so wallets').
FIRST_WALLET = 1000
CURRENCY = "USD"


class Storefront(models.Model):
    """A shop front that sells in our name; it sees its own customers and orders only."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A bearer key of a storefront. Only its SHA-256 is kept: the key is 256 random bits."""

    storefront = models.ForeignKey(Storefront, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(max_length=100, help_text="Where this key is used.")
    prefix = models.CharField(max_length=12, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=150, default="", editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)
    revoked_by = models.CharField(max_length=150, default="", editable=False)

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["digest"], name="api_key_digest_once"),
            # A form that is sent twice must not leave a live key behind that nobody knows of.
            models.UniqueConstraint(
                fields=["storefront", "name"],
                condition=Q(revoked_at=None),
                name="api_key_live_name_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class Customer(models.Model):
    """A storefront's customer. Its primary key is its wallet's, and its account in the ledger."""

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended (no new orders; refunds still arrive)"

    storefront = models.ForeignKey(Storefront, on_delete=models.PROTECT, related_name="customers")
    external_id = models.CharField(
        "storefront's id", max_length=64, help_text="The customer's id at the storefront."
    )
    email = models.EmailField(blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField()

    history = records()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["storefront", "external_id"], name="customer_once_per_storefront"
            ),
            models.CheckConstraint(
                condition=Q(id__gte=FIRST_WALLET), name="customer_id_is_a_wallet_account"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["active", "suspended"]), name="customer_status"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["external_id"], name="customer_external_id"),
            models.Index(fields=["email"], name="customer_email"),
            models.Index(
                fields=["-id"], condition=Q(status="suspended"), name="customer_suspended_newest"
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class Wallet(FSMModelMixin, models.Model):
    """A customer's one wallet, USD.

    ``balance``, ``version`` and ``posted_at`` are written by the database alone, when a transfer is
    inserted (wallet/sql/one_round_trip.sql): they are the last transfer's ``balance_after``,
    ``wallet_version`` and ``posted_at``. What a state refuses, the database refuses.
    """

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        FROZEN = "frozen", "Frozen (no spending; refunds still arrive)"
        FORFEITED = "forfeited", "Forfeited (the account is terminated)"
        CLOSED = "closed", "Closed"

    customer = models.OneToOneField(
        Customer, on_delete=models.PROTECT, primary_key=True, related_name="wallet"
    )
    state = StateField(
        default=State.ACTIVE,
        choices=State,
        protected=True,
        max_length=16,
        editable=False,
    )
    currency = models.CharField(max_length=3, default=CURRENCY, db_default=CURRENCY, editable=False)
    balance = MoneyField(default=0, editable=False)
    version = models.BigIntegerField(default=0, editable=False)
    posted_at = models.DateTimeField(
        null=True, editable=False, help_text="When its last transfer was posted."
    )

    history = records(excluded_fields=["currency", "balance", "version", "posted_at"])

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(balance__gte=0), name="wallet_not_overdrawn"),
            models.CheckConstraint(condition=Q(currency=CURRENCY), name="wallet_currency_is_usd"),
            models.CheckConstraint(
                condition=Q(state__in=["active", "frozen"])
                | Q(state__in=["forfeited", "closed"], balance=0),
                name="wallet_ends_empty",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["-customer"], condition=~Q(state="active"), name="wallet_not_active_newest"
            ),
        ]
        permissions = [
            ("freeze_wallet", "Can freeze and unfreeze wallets"),
            ("close_wallet", "Can close and reopen wallets"),
        ]

    def __str__(self) -> str:
        return f"Wallet {self.pk}"

    @transition("state", source=State.ACTIVE, target=State.FROZEN)
    def freeze(self) -> None:
        """No spending from now on; refunds still arrive."""

    @transition("state", source=State.FROZEN, target=State.ACTIVE)
    def unfreeze(self) -> None:
        """Spending is allowed again."""

    @transition("state", source=State.FROZEN, target=State.FORFEITED)
    def forfeit(self) -> None:
        """The account is terminated; nothing moves any more."""

    @transition("state", source=State.FORFEITED, target=State.ACTIVE)
    def reinstate(self) -> None:
        """The customer is let in again."""

    @transition("state", source=State.ACTIVE, target=State.CLOSED)
    def close(self) -> None:
        """The customer has left."""

    @transition("state", source=State.CLOSED, target=State.ACTIVE)
    def reopen(self) -> None:
        """The customer is back."""
