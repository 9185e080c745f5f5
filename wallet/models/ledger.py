"""The ledger: the shop's accounts, transfers, deposits."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Func, Q

from smsactivator.common.money import MoneyField
from wallet.models.customers import CURRENCY, FIRST_WALLET, Storefront, Wallet


class Account(models.IntegerChoices):
    """The shop's own accounts. A wallet's account is its customer's primary key (from 1000)."""

    CRYPTO_DEPOSITS = 1, "Crypto deposits"
    ORDER_ESCROW = 2, "Order escrow"
    SALES = 3, "Sales"
    UPSTREAM_COST = 4, "Upstream cost"
    UPSTREAM_PREPAID = 5, "Upstream prepaid"
    FORFEITURES = 6, "Forfeitures"
    GOODWILL = 7, "Goodwill"
    ROUNDING = 8, "Rounding"
    ADJUSTMENTS = 9, "Adjustments"
    PAYOUTS_PENDING = 10, "Payouts pending"
    PAYOUTS_PAID = 11, "Payouts paid"


# They are numbered without a gap.
SHOP = (min(Account.values), max(Account.values))


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
        DECIDED_REFUND = "decided_refund", "Decided refund"
        UPSTREAM_COST = "upstream_cost", "Upstream cost"
        ADJUSTMENT = "adjustment", "Adjustment"
        GOODWILL = "goodwill", "Goodwill"
        FORFEITURE = "forfeiture", "Forfeiture"
        REINSTATEMENT = "reinstatement", "Reinstatement"
        REVERSAL = "reversal", "Reversal"
        ROUNDING = "rounding", "Rounding"
        PAYOUT = "payout", "Payout"
        PAYOUT_RETURN = "payout_return", "Payout returned"
        PAYOUT_PAID = "payout_paid", "Payout paid"
        PAYOUT_UNPAID = "payout_unpaid", "Payout failed after it was paid"

    debit_account = models.BigIntegerField()
    credit_account = models.BigIntegerField()
    amount = MoneyField()
    currency = models.CharField(max_length=3, default=CURRENCY, db_default=CURRENCY, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    key = models.CharField("idempotency key", max_length=200)
    posted_at = models.DateTimeField(db_index=True)
    wallet = models.ForeignKey(
        Wallet,
        on_delete=models.PROTECT,
        null=True,
        related_name="transfers",
        db_index=False,
        # The trigger that continues the wallet's chain proves that there is one, and wallets stay.
        db_constraint=False,
    )
    wallet_version = models.BigIntegerField(null=True)
    balance_after = MoneyField(null=True)
    # Without an index for every row: few transfers reverse one, and the constraint finds those.
    reverses = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="reversals", db_index=False
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="transfer_amount_positive"),
            models.CheckConstraint(
                condition=~Q(debit_account=F("credit_account")),
                name="transfer_between_two_accounts",
            ),
            models.CheckConstraint(
                condition=(Q(debit_account__range=SHOP) | Q(debit_account__gte=FIRST_WALLET))
                & (Q(credit_account__range=SHOP) | Q(credit_account__gte=FIRST_WALLET)),
                name="transfer_accounts_known",
            ),
            # What moves where is in wallet/sql/payouts.sql. PostgreSQL reads and plans a
            # CHECK anew for each INSERT, and written out here it was long.
            models.CheckConstraint(
                condition=Func(
                    "kind",
                    "debit_account",
                    "credit_account",
                    "amount",
                    "reverses",
                    function="transfer_fits_its_kind",
                    output_field=models.BooleanField(),
                ),
                name="transfer_kind_names_its_accounts",
            ),
            models.CheckConstraint(
                condition=Q(kind="reversal") | Q(reverses__isnull=True),
                name="transfer_only_a_reversal_reverses",
            ),
            models.CheckConstraint(condition=Q(currency=CURRENCY), name="transfer_currency_is_usd"),
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
            models.UniqueConstraint(
                fields=["reverses"],
                condition=Q(reverses__isnull=False),
                name="transfer_reversed_once",
            ),
        ]

        indexes: ClassVar[list[models.Index]] = [
            # The lists of what is rare. What orders and deposits move is found by walking the
            # newest rows, and pays for no index.
            models.Index(
                fields=["kind", "-id"],
                condition=Q(
                    kind__in=[
                        *("decided_refund", "adjustment", "goodwill", "forfeiture"),
                        *("reinstatement", "reversal", "rounding"),
                        *("payout", "payout_return", "payout_paid", "payout_unpaid"),
                    ]
                ),
                name="transfer_rare_newest",
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
