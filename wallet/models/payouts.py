"""Payouts: what leaves the platform for a customer who leaves it, and how it is sent."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Func, Q
from django_fsm import FSMModelMixin, transition

from smsactivator.common.constraints import Explained
from smsactivator.common.history import records
from smsactivator.common.money import MoneyField
from smsactivator.common.states import StateField
from wallet.models.customers import Customer
from wallet.models.ledger import Transfer


class PayoutMethod(Explained, models.Model):
    """A stablecoin of the US dollar on a network: a payout of 1 USD is 1 of it.

    A row is all that another coin or network needs, if one of the address formats is its own.
    """

    sentences = {
        "payout_method_once_per_network": (
            "network",
            "There is a payout method of this currency on this network already.",
        ),
        **{
            f"payout_method_{field}_plain": (field, "Capital letters, digits, - and _ only.")
            for field in ("code", "network", "coinspaid_code", "inqud_code")
        },
        "payout_method_currency_plain": ("currency", "Capital letters and digits only."),
        "payout_method_contract_plain": (
            "contract",
            "Letters, digits, - and _ only, as the coin's issuer publishes it.",
        ),
    }

    class AddressFormat(models.TextChoices):
        TRON = "tron", "Tron (T…, Base58Check)"
        EVM = "evm", "Ethereum and networks like it (0x…, EIP-55)"
        SOLANA = "solana", "Solana (Base58 of 32 bytes)"
        STELLAR = "stellar", "Stellar (G…, StrKey)"
        TON = "ton", "TON (user-friendly, CRC-16)"

    class MemoRule(models.TextChoices):
        NONE = "none", "Takes none"
        OPTIONAL = "optional", "May have one"
        REQUIRED = "required", "Needs one"

    code = models.CharField(max_length=32, unique=True, help_text="As USDT-TRON.")
    currency = models.CharField(max_length=16, help_text="As USDT; worth 1 USD.")
    network = models.CharField(max_length=32, help_text="As TRON.")
    address_format = models.CharField(max_length=16, choices=AddressFormat)
    memo_rule = models.CharField(
        "memo (tag)", max_length=16, choices=MemoRule, default=MemoRule.NONE
    )
    coinspaid_code = models.CharField(
        "CoinsPaid's code", max_length=32, blank=True, help_text="Empty: not sent through it."
    )
    inqud_code = models.CharField(
        "Inqud's code", max_length=32, blank=True, help_text="Empty: not sent through it."
    )
    contract = models.CharField(
        "the token's contract",
        max_length=128,
        blank=True,
        default="",
        db_default="",
        help_text="Its address on the network, as the coin's issuer publishes it. Nothing is paid "
        "out to it.",
    )
    enabled = models.BooleanField(default=True, help_text="Whether payouts may be asked for in it.")

    history = records()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["currency", "network"], name="payout_method_once_per_network"
            ),
            # What goes into files for others is plain, and no spreadsheet takes it for a formula.
            *(
                models.CheckConstraint(
                    condition=Q(**{f"{field}__regex": pattern}), name=f"payout_method_{field}_plain"
                )
                for field, pattern in {
                    "code": r"^[A-Z0-9][A-Z0-9_-]*$",
                    "currency": r"^[A-Z0-9]+$",
                    "network": r"^[A-Z0-9][A-Z0-9_-]*$",
                    "coinspaid_code": r"^([A-Z0-9][A-Z0-9_-]*)?$",
                    "inqud_code": r"^([A-Z0-9][A-Z0-9_-]*)?$",
                    "contract": r"^([A-Za-z0-9][A-Za-z0-9_-]{19,127})?$",
                }.items()
            ),
        ]

    def __str__(self) -> str:
        return f"{self.currency} on {self.network}"


class RefusedAddress(Explained, models.Model):
    """An address to which nothing is paid out, since nobody has its key or it is our own.

    Kept by finance, network by network. Networks that write addresses alike share their keys, so it
    is refused on all of them. ``key`` is the address however it is written; the database compares
    payouts with it (wallet/sql/refused_addresses.sql).
    """

    sentences = {
        "refused_address_once": ("address", "This address is in the list already."),
        "refused_for_a_reason": ("note", "Say why nothing is paid out to it."),
    }

    class Why(models.TextChoices):
        CONTRACT = "contract", "The contract of a token"
        BURN = "burn", "One of which nobody has the key"
        OURS = "ours", "Our own, where customers pay in"
        OTHER = "other", "Refused as its note says"

    network = models.CharField(max_length=32, help_text="As TRON.")
    address_format = models.CharField(max_length=16, choices=PayoutMethod.AddressFormat)
    address = models.CharField(max_length=128)
    key = models.CharField(max_length=128, editable=False)
    why = models.CharField(max_length=16, choices=Why)
    note = models.CharField(max_length=200, blank=True, help_text="As: USDC.")
    active = models.BooleanField(default=True, help_text="Off: payouts may go there.")

    history = records()

    class Meta:
        verbose_name_plural = "refused addresses"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["address_format", "key"], name="refused_address_once"),
            models.CheckConstraint(
                condition=~Q(why="other") | ~Q(note=""), name="refused_for_a_reason"
            ),
        ]
        permissions = [("refuse_address", "Can say where nothing is paid out to")]

    def __str__(self) -> str:
        return f"{self.get_why_display()} on {self.network}"

    @property
    def words(self) -> str:
        """Why nothing goes there, in words."""
        note = f" ({self.note})" * bool(self.note)
        return f"{self.get_why_display().lower()}{note}"


def _is_first_attempt(payout: Any) -> bool:
    return bool(payout.attempt == 1)


class Payout(FSMModelMixin, models.Model):
    """``amount`` USD that leave a customer's wallet for an address outside.

    Policy, refund destination: "If you want to leave the platform with a non-zero wallet balance,
    contact support and we can arrange an outbound payout (subject to a minimum of $20)."

    The money leaves the wallet when it is requested. While a payout is open it is in payouts
    pending, once paid in payouts paid, and otherwise where it came from: the database holds state
    and money together (wallet/sql/payouts.sql). Exported never means paid.
    """

    class State(models.TextChoices):
        REQUESTED = "requested", "Waiting for approval"
        FIRST_APPROVED = "first_approved", "Waiting for a second approval"
        APPROVED = "approved", "Approved"
        EXPORTED = "exported", "Exported"
        SUBMITTED = "submitted", "Submitted"
        PAID = "paid", "Paid"
        FAILED = "failed", "Failed, to be decided"
        RETURNED = "returned", "Returned to the wallet"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"
        FORFEITED = "forfeited", "Forfeited"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="payouts")
    method = models.ForeignKey(PayoutMethod, on_delete=models.PROTECT, related_name="payouts")
    address = models.CharField(max_length=128)
    memo = models.CharField("memo (tag)", max_length=64, blank=True)
    amount = MoneyField(help_text="USD, whole cents.")
    # The terms that it was asked for under.
    policy_version = models.CharField(max_length=10)
    minimum = MoneyField(help_text="USD, by the policy.")
    second_from = MoneyField(help_text="USD; more than this is approved by two people.")
    not_before = models.DateTimeField(
        null=True, help_text="A changed address is not approved before."
    )
    reason = models.TextField(help_text="What the customer asked for.")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    requested_at = models.DateTimeField()
    # Of the form that was sent: sent twice, it is one payout.
    request_key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)

    state = StateField(default=State.REQUESTED, choices=State, protected=True, max_length=16)
    # A failed payout that is sent again is the next attempt, approved anew, and by somebody else
    # than who asked for it: else one person could call a payout failed and pay it twice.
    attempt = models.PositiveSmallIntegerField(default=1)
    sent_again_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    approved_at = models.DateTimeField(null=True)
    second_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    second_at = models.DateTimeField(null=True)
    # Who said that the attempt failed: somebody else gives the money back, or one person alone
    # could turn what was paid into money in the wallet.
    failed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    # Who ended it without it being paid, and why.
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.TextField(default="", blank=True)
    # What came of the last attempt.
    transaction_hash = models.CharField(max_length=128, blank=True)
    fee = models.DecimalField(max_digits=28, decimal_places=18, null=True)
    fee_currency = models.CharField(max_length=16, blank=True)
    settled_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=500, blank=True)

    history = records(no_db_index=["customer", "method"])

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=~Q(reason=""), name="payout_has_a_reason"),
            models.CheckConstraint(
                condition=Q(amount__gte=F("minimum"), minimum__gt=0),
                name="payout_not_below_the_minimum",
            ),
            models.CheckConstraint(
                condition=Q(amount=Func("amount", 2, function="trunc")),
                name="payout_in_whole_cents",
            ),
            models.CheckConstraint(
                condition=Q(address__regex=r"^[A-Za-z0-9_-]{20,128}$")
                & Q(address__regex=r"^[A-Za-z0-9]"),
                name="payout_address_plain",
            ),
            models.CheckConstraint(
                condition=Q(memo__regex=r"^([A-Za-z0-9][A-Za-z0-9 ._-]{0,63})?$"),
                name="payout_memo_plain",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        *("requested", "first_approved", "approved", "exported", "submitted"),
                        *("paid", "failed", "returned", "rejected", "withdrawn", "forfeited"),
                    ]
                ),
                name="payout_state",
            ),
            models.CheckConstraint(
                condition=Q(attempt=1, sent_again_by__isnull=True)
                | Q(attempt__gt=1, sent_again_by__isnull=False),
                name="payout_sent_again_by_somebody",
            ),
            # Nobody approves what they requested, and two approvals are two people's.
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True, approved_at__isnull=True)
                | Q(
                    ~Q(approved_by=F("requested_by")),
                    ~Q(approved_by=F("sent_again_by")),
                    approved_by__isnull=False,
                    approved_at__isnull=False,
                ),
                name="payout_approved_by_another",
            ),
            models.CheckConstraint(
                condition=Q(second_by__isnull=True, second_at__isnull=True)
                | Q(
                    ~Q(second_by=F("requested_by")),
                    ~Q(second_by=F("sent_again_by")),
                    ~Q(second_by=F("approved_by")),
                    second_by__isnull=False,
                    second_at__isnull=False,
                    approved_by__isnull=False,
                ),
                name="payout_second_approval_by_a_third",
            ),
            models.CheckConstraint(
                condition=Q(state="requested", approved_by__isnull=True, second_by__isnull=True)
                | Q(
                    state="first_approved",
                    amount__gt=F("second_from"),
                    approved_by__isnull=False,
                    second_by__isnull=True,
                )
                | Q(
                    Q(amount__lte=F("second_from")) | Q(second_by__isnull=False),
                    state__in=[
                        *("approved", "exported", "submitted", "paid"),
                        *("failed", "returned", "forfeited"),
                    ],
                    approved_by__isnull=False,
                )
                | Q(state__in=["rejected", "withdrawn"]),
                name="payout_approved_as_its_amount_asks",
            ),
            models.CheckConstraint(
                condition=Q(not_before__isnull=True)
                | Q(approved_at__isnull=True)
                | Q(approved_at__gte=F("not_before")),
                name="payout_changed_address_waited",
            ),
            models.CheckConstraint(
                condition=Q(
                    Q(state="withdrawn", attempt=1, decided_by=F("requested_by"))
                    | Q(~Q(decision_reason=""), state__in=["returned", "rejected", "forfeited"]),
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                )
                | Q(
                    ~Q(state__in=["returned", "rejected", "withdrawn", "forfeited"]),
                    decided_by__isnull=True,
                    decided_at__isnull=True,
                    decision_reason="",
                ),
                name="payout_ended_by_somebody_with_a_reason",
            ),
            models.CheckConstraint(
                condition=~Q(state="paid")
                | Q(~Q(transaction_hash=""), settled_at__isnull=False, problem=""),
                name="payout_paid_with_its_hash",
            ),
            models.CheckConstraint(
                condition=~Q(state="failed") | Q(~Q(problem=""), settled_at__isnull=False),
                name="payout_failed_with_its_problem",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["failed", "returned"], failed_by__isnull=False)
                | Q(
                    ~Q(state__in=["failed", "returned", "forfeited"]),
                    failed_by__isnull=True,
                )
                | Q(state="forfeited"),
                name="payout_failed_by_somebody",
            ),
            # Nobody undoes alone what was approved and sent: who says that it failed, or tries it
            # again, does not also bring its money back.
            models.CheckConstraint(
                condition=Q(decided_by__isnull=True)
                | Q(failed_by__isnull=True)
                | ~Q(decided_by=F("failed_by")),
                name="payout_given_back_by_another",
            ),
            models.CheckConstraint(
                condition=~Q(state="rejected")
                | Q(sent_again_by__isnull=True)
                | ~Q(decided_by=F("sent_again_by")),
                name="payout_rejected_by_another_than_sent_it_again",
            ),
            models.CheckConstraint(
                condition=Q(fee__isnull=True, fee_currency="")
                # NaN is above every number.
                | Q(~Q(fee_currency=""), fee__isnull=False, fee__gte=0, fee__lt=1_000_000),
                name="payout_fee_names_its_currency",
            ),
            models.CheckConstraint(
                condition=Q(transaction_hash__regex=r"^[A-Za-z0-9]*$"),
                name="payout_transaction_hash_plain",
            ),
            # One transaction may pay several, but an address once in each coin.
            models.UniqueConstraint(
                fields=["transaction_hash", "address", "memo", "method"],
                condition=~Q(transaction_hash=""),
                name="payout_transaction_pays_an_address_once",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "id"], name="payout_by_state"),
            models.Index(fields=["requested_at"], name="payout_by_time"),
            models.Index(fields=["address"], name="payout_by_address"),
        ]
        permissions = [
            ("request_payout", "Can request payouts"),
            ("approve_payout", "Can approve and reject payouts"),
            ("settle_payout", "Can say what became of payouts, send them again and return them"),
        ]

    def __str__(self) -> str:
        return f"Payout {self.reference}"

    @property
    def reference(self) -> str:
        """What we and whoever sends it call it, at every attempt."""
        return f"PO-{self.pk:06d}" if self.pk else "PO-new"

    @property
    def needs_second(self) -> bool:
        """Whether two people approve it."""
        return bool(Decimal(self.amount) > self.second_from)

    @transition("state", source=State.REQUESTED, target=State.FIRST_APPROVED)
    def approve_first(self) -> None:
        """The first of two people agrees."""

    @transition("state", source=[State.REQUESTED, State.FIRST_APPROVED], target=State.APPROVED)
    def approve(self) -> None:
        """All agree who must."""

    @transition(
        "state",
        source=[State.REQUESTED, State.FIRST_APPROVED, State.APPROVED],
        target=State.REJECTED,
    )
    def reject(self) -> None:
        """It is not sent; the money goes back to the wallet."""

    @transition(
        "state",
        source=[State.REQUESTED, State.FIRST_APPROVED],
        target=State.WITHDRAWN,
        conditions=[_is_first_attempt],
    )
    def withdraw(self) -> None:
        """Who requested it takes it back; the money goes back to the wallet.

        One that was sent again is no longer theirs to take back: finance decided about it.
        """

    @transition("state", source=State.APPROVED, target=State.EXPORTED)
    def export(self) -> None:
        """Its batch's files were made; it may be on its way from now on."""

    @transition("state", source=State.EXPORTED, target=State.APPROVED)
    def void(self) -> None:
        """Its batch was given up before anybody sent it."""

    @transition("state", source=State.EXPORTED, target=State.SUBMITTED)
    def submit(self) -> None:
        """Its batch was handed to whoever sends it."""

    @transition("state", source=[State.EXPORTED, State.SUBMITTED, State.FAILED], target=State.PAID)
    def pay(self) -> None:
        """It was sent, by a transaction on its network."""

    @transition("state", source=[State.EXPORTED, State.SUBMITTED], target=State.FAILED)
    def fail(self) -> None:
        """It was not sent."""

    @transition("state", source=State.PAID, target=State.FAILED)
    def come_back(self) -> None:
        """What it was paid by came back, or paid nobody."""

    @transition("state", source=State.FAILED, target=State.REQUESTED)
    def send_again(self) -> None:
        """It is tried again, under the same reference, when it is approved anew."""

    @transition("state", source=State.FAILED, target=State.RETURNED)
    def give_back(self) -> None:
        """The money goes back to the wallet."""

    @transition("state", source=[State.APPROVED, State.FAILED], target=State.FORFEITED)
    def forfeit(self) -> None:
        """The customer was terminated while it was on its way: the money is forfeited."""


# Of these the money is in payouts pending.
OPEN_PAYOUTS = (
    Payout.State.REQUESTED,
    Payout.State.FIRST_APPROVED,
    Payout.State.APPROVED,
    Payout.State.EXPORTED,
    Payout.State.SUBMITTED,
    Payout.State.FAILED,
)


class PayoutMove(models.Model):
    """A transfer that moved a payout's money. Append-only."""

    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="moves")
    transfer = models.OneToOneField(Transfer, on_delete=models.PROTECT, related_name="payout_move")

    def __str__(self) -> str:
        return f"{self.payout} by transfer {self.transfer_id}"


class PayoutOutcome(models.Model):
    """What became of a payout, to be told to the customer once.

    An outbox: ``told_at`` is written by whoever tells it, and nothing else ever changes.
    """

    class What(models.TextChoices):
        REQUESTED = "requested", "Requested"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"
        PAID = "paid", "Paid"
        FAILED = "failed", "Failed"
        RETURNED = "returned", "Returned"
        FORFEITED = "forfeited", "Forfeited"

    payout = models.ForeignKey(Payout, on_delete=models.PROTECT, related_name="outcomes")
    what = models.CharField(max_length=16, choices=What)
    at = models.DateTimeField()
    detail = models.TextField(
        blank=True, help_text="The transaction's hash, or a reason in words for the customer."
    )
    told_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(
                    what__in=[
                        *("requested", "rejected", "withdrawn"),
                        *("paid", "failed", "returned", "forfeited"),
                    ]
                ),
                name="payout_outcome_known",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["id"], condition=Q(told_at__isnull=True), name="payout_outcome_untold"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.payout}: {self.get_what_display().lower()}"
