"""Deposits: a crypto payment that arrived credits its customer's wallet, once."""

from __future__ import annotations

from decimal import Decimal

from django.db import IntegrityError, transaction

from smsactivator.common.errors import Invalid
from wallet import ledger
from wallet.models import Account, Customer, Deposit, Transfer

LARGEST = Decimal(1_000_000)


class DepositOutOfRange(Invalid):
    """The amount is not one that a deposit can have."""

    code = "amount_out_of_range"


def deposit(customer: Customer, *, amount: Decimal, reference: str) -> tuple[Deposit, bool]:
    """Credit ``amount`` USD to the customer's wallet, and tell whether this call did it.

    Exactly once per storefront and payment reference: a replay returns the first deposit. Locks the
    wallet. Raises DepositOutOfRange, and IdempotencyConflict when the reference stands for another
    amount or customer.
    """
    if not amount.is_finite() or not 0 < amount <= LARGEST:
        raise DepositOutOfRange(
            f"A deposit must be more than 0 and at most {LARGEST:,} USD, not {amount}."
        )
    posting = ledger.Posting(
        kind=Transfer.Kind.DEPOSIT,
        debit=Account.CRYPTO_DEPOSITS,
        credit=customer.pk,
        amount=amount,
        key=f"deposit:{customer.storefront_id}:{reference}",
    )
    try:
        return _deposit(customer, reference, posting)
    except IntegrityError:
        # The same reference arrived for another customer at the same moment, so no wallet lock
        # stood between the two. It is committed now: this time the key is found and answered.
        return _deposit(customer, reference, posting)


def _deposit(customer: Customer, reference: str, posting: ledger.Posting) -> tuple[Deposit, bool]:
    with transaction.atomic():
        [transfer_id] = ledger.post([posting])
        return Deposit.objects.get_or_create(
            storefront_id=customer.storefront_id,
            reference=reference,
            defaults={"transfer_id": transfer_id},
        )
