"""What became of payouts: paid by a transaction, or failed; and what follows a failure.

Exported never means paid: a payout whose result nobody knows stays pending. Locks: the person, the
payout, the wallet.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import Invalid, Refused, why_refused
from smsactivator.common.history import Actor
from smsactivator.common.seen import refuse_outdated
from wallet import addresses, payouts, refusing, standing
from wallet.deciding import OwnRequest, given
from wallet.limits import lock, require
from wallet.models import Payout, PayoutBatch, PayoutOutcome, ResultLine, Transfer

State = Payout.State
Kind = Transfer.Kind
What = PayoutOutcome.What

SETTLE = "wallet.settle_payout"
RESULT = (
    *("state", "transaction_hash", "fee", "fee_currency", "settled_at", "problem"),
    "failed_by",
)
LARGEST_FEE = Decimal(1_000_000)
SMALLEST_FEE = Decimal(1).scaleb(-18)
NAMED = 5  # payouts that a refusal names


class FeeRefused(Invalid):
    """The fee is not an amount of a named currency."""

    code = "fee_refused"


class TransactionUsed(Refused):
    """Another payout to the same address was paid by this transaction."""

    code = "transaction_used"


class TransactionShared(Refused):
    """The transaction is on other payouts too, and nobody said yet that it paid them all."""

    code = "transaction_shared"
    status = 422


class BatchNotHandedOver(Refused):
    """The payout's batch is exported, and nobody has said whether it was sent."""

    code = "batch_not_handed_over"


class ResultConflict(Refused):
    """The payout was paid before, by another transaction."""

    code = "result_conflict"


class PaidAlready(Refused):
    """The payout is paid: that it failed is said of the transaction, which was looked at."""

    code = "paid_already"


def mark_paid(
    person: Any,
    payout_id: int,
    *,
    transaction_hash: str,
    fee: Decimal | None = None,
    fee_currency: str = "",
    reason: str = "",
    shared: bool = False,
    seen: int | None = None,
) -> Payout:
    """The payout was sent by this transaction: its money is paid out, and the customer is told.

    ``shared`` says that one transaction paid this payout and those that have its hash already. Said
    again with the same hash it changes nothing. Raises PermissionDenied, PayoutUnknown, Outdated,
    HashRefused, FeeRefused, TransactionUsed, TransactionShared, ResultConflict, PayoutElsewhere.
    """
    require(person, SETTLE)
    fee, fee_currency = check_fee(fee, fee_currency)
    try:
        return _mark_paid(
            *(person, payout_id, transaction_hash, fee, fee_currency, reason, shared, seen)
        )
    except IntegrityError:
        # Another one to this address was paid by it at the same moment; the database keeps one.
        payout = Payout.objects.select_related("method").get(pk=payout_id)
        _refuse_used(payout, addresses.check_hash(payout.method, transaction_hash))
        raise


def _mark_paid(
    person: Any,
    payout_id: int,
    transaction_hash: str,
    fee: Decimal | None,
    fee_currency: str,
    reason: str,
    shared: bool,
    seen: int | None,
) -> Payout:
    with transaction.atomic():
        lock(person)
        payout = payouts.lock_payout(payout_id)
        hash_ = addresses.check_hash(payout.method, transaction_hash)
        if payout.state == State.PAID and payout.transaction_hash == hash_:
            return payout
        refuse_outdated(payout, seen)
        if payout.state == State.PAID:
            raise ResultConflict(
                f"{payout} was paid by transaction {payout.transaction_hash}, not by {hash_}."
            )
        payouts.refuse_unless(payout, payout.pay)
        _refuse_used(payout, hash_)
        if not shared:
            _refuse_shared(payout, hash_)
        payout.pay()
        payout.transaction_hash, payout.problem, payout.failed_by = hash_, "", None
        payout.fee, payout.fee_currency = fee, fee_currency
        payout.settled_at = timezone.now()
        payouts.move([payout], Kind.PAYOUT_PAID)
        why = f"Paid by transaction {hash_}"
        _save(payout, person, f"{why}: {reason.strip()}" if reason.strip() else why)
        payouts.note([payout], What.PAID, [hash_])
        return payout


def mark_failed(person: Any, payout_id: int, *, problem: str, seen: int | None = None) -> Payout:
    """The payout was not sent: its money is pending until somebody decides.

    Who says so does not give the money back. Said again of a failed one it changes nothing. Not of
    one that is paid: that is said of its transaction (``mark_came_back``). Raises PermissionDenied,
    ReasonMissing, PayoutUnknown, Outdated, PaidAlready, PayoutElsewhere.
    """
    require(person, SETTLE)
    problem = given(problem)[:500]
    with transaction.atomic():
        lock(person)
        payout = payouts.lock_payout(payout_id, seen)
        if payout.state == State.FAILED:
            return payout
        if payout.state == State.PAID:
            raise PaidAlready(
                f"{payout} is paid, by transaction {payout.transaction_hash}. Look at that on the "
                "network: if its money came back, say so on the payout's page (“It came back”)."
            )
        payouts.refuse_unless(payout, payout.fail)
        payout.fail()
        _fail(payout, person, problem, f"Failed: {problem}")
        return payout


def mark_came_back(
    person: Any,
    payout_id: int,
    *,
    transaction_hash: str,
    problem: str,
    seen: int | None = None,
) -> Payout:
    """A payout that is paid came back, or its transaction paid nobody: as ``mark_failed``.

    ``transaction_hash`` is the one that was looked at, by which it counts as paid. Raises
    PermissionDenied, ReasonMissing, PayoutUnknown, Outdated, HashRefused, PayoutElsewhere, and
    ResultConflict when it is paid by another transaction.
    """
    require(person, SETTLE)
    problem = given(problem)[:500]
    with transaction.atomic():
        lock(person)
        payout = payouts.lock_payout(payout_id, seen)
        payouts.refuse_unless(payout, payout.come_back)
        hash_ = addresses.check_hash(payout.method, transaction_hash)
        if payout.transaction_hash != hash_:
            raise ResultConflict(
                f"{payout} was paid by transaction {payout.transaction_hash}, not by {hash_}."
            )
        payout.come_back()
        payouts.move([payout], Kind.PAYOUT_UNPAID)
        _fail(payout, person, problem, f"Transaction {hash_} came back: {problem}")
        return payout


def _fail(payout: Payout, person: Any, problem: str, why: str) -> None:
    """Write that a locked payout has failed, after its transition."""
    payout.problem, payout.failed_by = problem, person
    payout.settled_at = timezone.now()
    _save(payout, person, why)
    payouts.note([payout], What.FAILED)


def send_again(person: Any, payout_id: int, *, reason: str, seen: int | None = None) -> Payout:
    """Try a failed payout again under the same reference: it is approved anew, by somebody else.

    Raises PermissionDenied, ReasonMissing, PayoutUnknown, Outdated, PayoutElsewhere,
    BatchNotHandedOver, PayoutWalletRefused, AddressRefused.
    """
    require(person, SETTLE)
    reason = given(reason)
    with transaction.atomic():
        lock(person)
        payout = payouts.lock_payout(payout_id, seen)
        payouts.refuse_unless(payout, payout.send_again)
        _refuse_undecidable(payout)
        payouts.refuse_state(standing.lock_wallet(payout.customer_id))
        refusing.refuse(payout.method, payout.address)
        payout.send_again()
        payouts.let_go([payout])
        payout.attempt += 1
        payout.sent_again_by = person
        payout.approved_by = payout.second_by = payout.failed_by = None
        payout.approved_at = payout.second_at = payout.settled_at = payout.fee = None
        payout.transaction_hash = payout.fee_currency = payout.problem = ""
        started = ("attempt", "sent_again_by", *payouts.APPROVAL[1:])
        _save(payout, person, f"To be sent again: {reason}", *started)
        return payout


def why_not_send_again(payout: Payout) -> str:
    """Why a failed payout is not sent again now; "" if nothing stands in the way."""
    return (
        why_undecidable(payout)
        or why_refused(payouts.refuse_state, payout.customer.wallet)
        or why_refused(refusing.refuse, payout.method, payout.address)
    )


def give_back(person: Any, payout_id: int, *, reason: str, seen: int | None = None) -> Payout:
    """Return a failed payout's money to the wallet, as another than who said that it failed, or
    uploaded the result file that did.

    ``reason`` is told to the customer. A closed wallet is opened for it. If the customer was
    terminated meanwhile, the money is forfeited. Raises PermissionDenied, ReasonMissing,
    PayoutUnknown, Outdated, PayoutElsewhere, OwnRequest, BatchNotHandedOver.
    """
    require(person, SETTLE)
    reason = given(reason)
    with transaction.atomic():
        lock(person)
        payout = payouts.lock_payout(payout_id, seen)
        payouts.refuse_unless(payout, payout.give_back)
        _refuse_giver(person, payout)
        payouts.let_go([payout])
        payouts.end(payout, payout.give_back, person, reason, "Returned to the wallet")
        return payout


def why_not_give_back(person: Any, payout: Payout) -> str:
    """Why this person does not give a failed payout's money back yet; "" if nothing keeps them."""
    return why_refused(_refuse_giver, person, payout)


def _refuse_giver(person: Any, payout: Payout) -> None:
    """Who applies a result file trusts whoever uploaded it: both say that it failed."""
    if payout.failed_by_id == person.pk:
        raise OwnRequest(
            "You said yourself that this failed, so somebody else gives its money back."
        )
    uploaded = ResultLine.objects.filter(
        payout=payout,
        attempt=payout.attempt,
        outcome=ResultLine.Outcome.FAILED,
        file__uploaded_by=person.pk,
    )
    if line := uploaded.first():
        raise OwnRequest(
            f"You uploaded result file {line.file_id}, by which this failed, so somebody else "
            "gives its money back."
        )
    _refuse_undecidable(payout)


def check_fee(fee: Decimal | None, currency: str) -> tuple[Decimal | None, str]:
    """The fee and its currency as they are kept; neither is needed. Raises FeeRefused."""
    currency = currency.strip().upper()
    if fee is None and not currency:
        return None, ""
    if fee is None or not fee.is_finite() or not 0 <= fee < LARGEST_FEE:
        raise FeeRefused("A fee is an amount of 0 or more, below a million.")
    if fee != fee.quantize(SMALLEST_FEE):
        raise FeeRefused("A fee has up to 18 decimal places.")
    if not re.fullmatch(r"[A-Z0-9]{1,16}", currency):
        raise FeeRefused("A fee names its currency, as TRX.")
    return fee, currency


def of_which_attempt(payout: Payout, what: str) -> str:
    """What to think of before what was sent again is taken for paid by a ``what``, in words; "" of
    a first attempt. No report says which attempt it is of.
    """
    if payout.attempt == 1:
        return ""
    earlier = "attempt 1" if payout.attempt == 2 else "an earlier one"
    return (
        f"this is attempt {payout.attempt}: if the {what} is of {earlier}, two transactions pay it"
    )


def why_undecidable(payout: Payout) -> str:
    """Why a failed payout is neither sent again nor given back yet; "" if nothing stands in the
    way: while its batch is only exported, its files may yet be sent.
    """
    line = payouts.gathered([payout]).get(payout.pk)
    if line is None or line.batch.state != PayoutBatch.State.EXPORTED:
        return ""
    return (
        f"{line.batch} is exported, and its files may yet be sent: submit it if it was handed "
        f"over, or void it. Then decide about {payout}."
    )


def _refuse_undecidable(payout: Payout) -> None:
    """Raise BatchNotHandedOver with the reason. A batch steps under its payouts' locks."""
    if why := why_undecidable(payout):
        raise BatchNotHandedOver(why)


def _refuse_used(payout: Payout, hash_: str) -> None:
    other = (
        Payout.objects.filter(
            transaction_hash=hash_,
            address=payout.address,
            memo=payout.memo,
            method=payout.method_id,
        )
        .exclude(pk=payout.pk)
        .first()
    )
    if other is not None:
        raise TransactionUsed(f"{other} to the same address was paid by transaction {hash_}.")


def _refuse_shared(payout: Payout, hash_: str) -> None:
    """A hash that was copied from another payout would tell two customers of one payment."""
    others = Payout.objects.filter(transaction_hash=hash_).exclude(pk=payout.pk)
    named = list(others.select_related("customer").order_by("pk")[: NAMED + 1])
    if not named:
        return
    listed = ", ".join(
        f"{other.reference} of {other.customer.external_id}" for other in named[:NAMED]
    )
    more = " and more" if len(named) > NAMED else ""
    raise TransactionShared(
        f"Transaction {hash_} is on other payouts already: {listed}{more}. Look at it on the "
        "network, and say so if it paid these too."
    )


def _save(payout: Payout, person: Any, reason: str, *fields: str) -> None:
    history.save([payout], [*RESULT, *fields], actor=Actor.person(person), reason=reason)
