"""Storefronts and their customers, wallets, and the ledger."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q

from smsactivator.common.history import records
from smsactivator.common.money import MoneyField

# Account numbers below this are the shop's; from here on they are customers' (and so wallets').
FIRST_WALLET = 1000


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


class Wallet(models.Model):
    """A customer's one wallet, USD.

    ``balance`` and ``version`` are written by the database alone, when a transfer is inserted
    (wallet/sql/ledger.sql): they are the last transfer's ``balance_after`` and ``wallet_version``.
    """

    customer = models.OneToOneField(
        Customer, on_delete=models.PROTECT, primary_key=True, related_name="wallet"
    )
    balance = MoneyField(default=0, editable=False)
    version = models.BigIntegerField(default=0, editable=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(balance__gte=0), name="wallet_not_overdrawn"),
        ]

    def __str__(self) -> str:
        return f"Wallet {self.pk}"


class Account(models.IntegerChoices):
    """The shop's own accounts. A wallet's account is its customer's primary key (from 1000)."""

    CRYPTO_DEPOSITS = 1, "Crypto deposits"
    ORDER_ESCROW = 2, "Order escrow"
    SALES = 3, "Sales"
    UPSTREAM_COST = 4, "Upstream cost"
    UPSTREAM_PREPAID = 5, "Upstream prepaid"


class Transfer(models.Model):
    """``amount`` USD from one account to another: the debit and the credit are one row.

    Append-only in the database. A transfer that touches a wallet carries the wallet's balance after
    it and a gapless version.
    """

    class Kind(models.TextChoices):
        DEPOSIT = "deposit", "Deposit"
        PURCHASE = "purchase", "Purchase"
        DELIVERY = "delivery", "Delivery"
        AUTOMATIC_REFUND = "auto_refund", "Automatic refund"
        UPSTREAM_COST = "upstream_cost", "Upstream cost"

    debit_account = models.BigIntegerField()
    credit_account = models.BigIntegerField()
    amount = MoneyField()
    kind = models.CharField(max_length=16, choices=Kind)
    key = models.CharField("idempotency key", max_length=200)
    posted_at = models.DateTimeField(db_index=True)
    wallet = models.ForeignKey(
        Wallet, on_delete=models.PROTECT, null=True, related_name="transfers", db_index=False
    )
    wallet_version = models.BigIntegerField(null=True)
    balance_after = MoneyField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="transfer_amount_positive"),
            models.CheckConstraint(
                condition=~Q(debit_account=F("credit_account")),
                name="transfer_between_two_accounts",
            ),
            models.CheckConstraint(
                condition=(Q(debit_account__in=Account.values) | Q(debit_account__gte=FIRST_WALLET))
                & (Q(credit_account__in=Account.values) | Q(credit_account__gte=FIRST_WALLET)),
                name="transfer_accounts_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    kind="deposit",
                    debit_account=Account.CRYPTO_DEPOSITS,
                    credit_account__gte=FIRST_WALLET,
                )
                | Q(
                    kind="purchase",
                    debit_account__gte=FIRST_WALLET,
                    credit_account=Account.ORDER_ESCROW,
                )
                | Q(
                    kind="delivery",
                    debit_account=Account.ORDER_ESCROW,
                    credit_account=Account.SALES,
                )
                | Q(
                    kind="auto_refund",
                    debit_account=Account.ORDER_ESCROW,
                    credit_account__gte=FIRST_WALLET,
                )
                | Q(
                    kind="upstream_cost",
                    debit_account=Account.UPSTREAM_COST,
                    credit_account=Account.UPSTREAM_PREPAID,
                ),
                name="transfer_kind_names_its_accounts",
            ),
            # At most one side is a wallet, and it is the wallet whose version this row carries.
            # Each column is asked for by itself: a CHECK that comes to NULL lets the row pass.
            models.CheckConstraint(
                condition=Q(
                    debit_account__lt=FIRST_WALLET,
                    credit_account__lt=FIRST_WALLET,
                    wallet__isnull=True,
                    wallet_version__isnull=True,
                    balance_after__isnull=True,
                )
                | Q(
                    Q(debit_account=F("wallet"), credit_account__lt=FIRST_WALLET)
                    | Q(credit_account=F("wallet"), debit_account__lt=FIRST_WALLET),
                    wallet__isnull=False,
                    wallet_version__isnull=False,
                    balance_after__isnull=False,
                    balance_after__gte=0,
                ),
                name="transfer_wallet_is_its_one_wallet_side",
            ),
            models.UniqueConstraint(fields=["key"], name="transfer_key_once"),
            models.UniqueConstraint(
                fields=["wallet", "wallet_version"], name="transfer_wallet_version_once"
            ),
        ]

    def __str__(self) -> str:
        return f"Transfer {self.pk}"

    @property
    def change(self) -> Any:
        """What this did to the wallet's balance, USD, signed."""
        return self.amount if self.credit_account == self.wallet_id else -self.amount


class Deposit(models.Model):
    """A crypto payment that arrived for a customer, once per storefront's payment reference."""

    storefront = models.ForeignKey(Storefront, on_delete=models.PROTECT, related_name="deposits")
    reference = models.CharField("payment reference", max_length=128)
    transfer = models.OneToOneField(Transfer, on_delete=models.PROTECT, related_name="deposit")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["storefront", "reference"], name="deposit_reference_once"
            ),
        ]

    def __str__(self) -> str:
        return self.reference


class AuditRun(models.Model):
    """One audit of the books: when, what was checked, what was found."""

    started_at = models.DateTimeField(db_index=True)
    finished_at = models.DateTimeField()
    passed = models.BooleanField()
    checks = models.JSONField(help_text="A list of {name, seconds, count, differences, figures}.")

    def __str__(self) -> str:
        return f"Audit of {self.started_at:%Y-%m-%d %H:%M:%S} UTC"
