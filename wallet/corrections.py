"""Corrections: goodwill, adjustments and reversals, each requested by one person and confirmed by
another, within the limits of both their roles.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, Sum
from django.db.models.functions import Abs
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import Invalid, NotFound, Refused, why_refused
from smsactivator.common.history import Actor
from smsactivator.common.money import usd
from smsactivator.common.seen import Shown, refuse_unless_shown, steps
from wallet import ledger, standing
from wallet.deciding import (
    DECIDED,
    decide,
    given,
    lock_requested,
    same_request,
    take_back,
    why_not_decide,
)
from wallet.limits import hold, lock, require, room
from wallet.models import Account, Correction, RoleLimit, Transfer, Wallet

Kind = Correction.Kind

# Nothing else rests on these; the others belong to orders, refunds and terminations, whose states
# would then not agree with the money. wallet/sql/movements.sql holds the same.
REVERSIBLE = (
    Transfer.Kind.DEPOSIT,
    Transfer.Kind.ADJUSTMENT,
    Transfer.Kind.GOODWILL,
    Transfer.Kind.UPSTREAM_COST,
)


class WalletShort(ledger.InsufficientFunds):
    """The wallet does not hold what a correction takes from it. Nothing was posted."""

    def __init__(self, short: ledger.InsufficientFunds) -> None:
        super().__init__(short.wallet_id, short.balance, short.needed)
        self.message = (
            f"The wallet holds {short.balance} USD and this takes {short.needed} USD from it: "
            "confirm it when the wallet holds as much, or reject it."
        )
        self.args = (self.message,)


class AmountRefused(Invalid):
    """The amount is not one that such a correction can have."""

    code = "amount_refused"


class CustomerMissing(NotFound):
    """There is no such customer."""

    code = "unknown_customer"


class NotReversible(Refused):
    """This transfer cannot be reversed, or is being reversed already."""

    code = "not_reversible"


def request_goodwill(
    person: Any,
    customer_id: int,
    *,
    amount: Decimal,
    reason: str,
    key: UUID,
    seen: int | None = None,
) -> Correction:
    """Ask for ``amount`` USD (> 0) to be given to a customer. Nothing moves until it is confirmed.

    Once per ``key``. ``seen`` is of the wallet. Locks the person, then the wallet. Raises
    PermissionDenied, AmountRefused, ReasonMissing, CustomerMissing, Outdated, WalletForfeited,
    WalletClosed, OverLimit, RequestConflict.
    """
    require(person, "wallet.request_goodwill")
    if _exact(amount) <= 0:
        raise AmountRefused("Goodwill is more than 0 USD.")
    return _request(person, Kind.GOODWILL, customer_id, amount, reason, key, seen)


def request_adjustment(
    person: Any,
    customer_id: int,
    *,
    amount: Decimal,
    reason: str,
    key: UUID,
    seen: int | None = None,
) -> Correction:
    """Ask for a wallet to be corrected by ``amount`` USD: positive is credited, negative debited.

    As ``request_goodwill``.
    """
    require(person, "wallet.request_adjustment")
    if _exact(amount) == 0:
        raise AmountRefused("An adjustment is not 0 USD.")
    return _request(person, Kind.ADJUSTMENT, customer_id, amount, reason, key, seen)


def request_reversal(
    person: Any, transfer_id: int, *, reason: str, key: UUID, seen: int | None = None
) -> Correction:
    """Ask for a transfer to be reversed: exactly, and once.

    As ``request_goodwill``; ``seen`` is of its reversals. Raises NotReversible for a transfer that
    something else rests on, and for one that is reversed or whose reversal was requested.
    """
    require(person, "wallet.request_reversal")
    transfer = Transfer.objects.filter(pk=transfer_id).first()
    if transfer is None or transfer.kind not in REVERSIBLE:
        raise NotReversible(
            "Deposits, adjustments, goodwill and upstream costs can be reversed. What belongs to "
            "an order is put right by a refund or an adjustment."
        )
    amount = transfer.amount if transfer.wallet_id is None else -transfer.change
    try:
        return _request(
            *(person, Kind.REVERSAL, transfer.wallet_id, amount, reason, key, seen),
            reverses_id=transfer.pk,
        )
    except IntegrityError:
        # Somebody else asked for it at the same moment; the database keeps one of the two.
        _refuse_second_reversal(transfer.pk)
        raise


def why_not_request(person: Any, kind: Correction.Kind, wallet: Wallet) -> str:
    """Why this person asks for no such correction of this wallet at all; "" if something can be."""
    if why := why_refused(_refuse_ended, wallet):
        return why
    return room(person, RoleLimit.Decision(kind), _asked_for(person, kind)).why_nothing


def why_not_reverse(person: Any, transfer: Transfer) -> str:
    """Why this person does not ask for this transfer's reversal; "" if nothing keeps them."""
    if why := why_refused(_refuse_second_reversal, transfer.pk):
        return why
    if transfer.wallet_id and (why := why_refused(_refuse_ended, transfer.wallet)):
        return why
    kind = Kind.REVERSAL
    return room(person, RoleLimit.Decision(kind), _asked_for(person, kind)).why_not(transfer.amount)


def confirm(
    person: Any, correction_id: int, *, reason: str = "", seen: int | None = None
) -> Correction:
    """Agree to a request, as a second person: the money moves in this transaction.

    Locks the person, the correction, then the wallet. Raises PermissionDenied, DecisionUnknown,
    Outdated, AlreadyDecided, OwnRequest, OverLimit, WalletShort, and what the wallet's state
    refuses.
    """
    require(person, "wallet.confirm_correction")
    with transaction.atomic():
        lock(person)
        correction = lock_requested(Correction, correction_id, seen)
        decide(correction, person, reason)
        hold(
            person,
            RoleLimit.Decision(correction.kind),
            abs(correction.amount),
            confirmed_by(person, correction.kind),
        )
        try:
            [correction.transfer_id] = ledger.post([_posting(correction)])
        except ledger.InsufficientFunds as short:
            raise WalletShort(short) from None
        correction.confirm()
        _save(correction, person, "Confirmed", "transfer")
        return correction


def why_not_confirm(person: Any, correction: Correction) -> str:
    """Why this person does not confirm what waits for it; "" if nothing keeps them."""
    if why := why_not_decide(person, correction):
        return why
    kind = RoleLimit.Decision(correction.kind)
    confirmed = confirmed_by(person, correction.kind)
    if why := room(person, kind, confirmed).why_not(abs(correction.amount)):
        return why
    if correction.customer is None:
        return ""
    wallet = correction.customer.wallet
    if why := why_refused(_refuse_ended, wallet):
        return why
    needed = max(-correction.amount, Decimal(0))
    if needed > wallet.balance:
        return WalletShort(ledger.InsufficientFunds(wallet.pk, wallet.balance, needed)).message
    return ""


def grant_goodwill(
    person: Any, requested_by_id: int, customer_id: int, *, amount: Decimal, reason: str
) -> Correction:
    """Give goodwill that another person asked for elsewhere: requested and confirmed in one.

    Locks the person, then the wallet, in the caller's transaction. Raises OwnRequest, OverLimit,
    and what the wallet's state refuses.
    """
    lock(person)
    hold(
        person,
        RoleLimit.Decision.GOODWILL,
        amount,
        confirmed_by(person, Kind.GOODWILL),
    )
    correction = Correction(
        kind=Kind.GOODWILL,
        customer_id=customer_id,
        amount=_exact(amount),
        reason=given(reason),
        requested_by_id=requested_by_id,
        requested_at=timezone.now(),
    )
    actor = Actor.person(person)
    history.create([correction], actor=actor, reason=f"Requested: {correction.reason}")
    decide(correction, person, reason)
    [correction.transfer_id] = ledger.post([_posting(correction)])
    correction.confirm()
    _save(correction, person, "Confirmed", "transfer")
    return correction


def reject(person: Any, correction_id: int, *, reason: str, seen: int | None = None) -> Correction:
    """Do not agree to a request, as a second person. Nothing moves.

    Raises PermissionDenied, ReasonMissing, DecisionUnknown, Outdated, AlreadyDecided, OwnRequest.
    """
    require(person, "wallet.confirm_correction")
    with transaction.atomic():
        correction = lock_requested(Correction, correction_id, seen)
        decide(correction, person, given(reason))
        correction.reject()
        _save(correction, person, "Rejected")
        return correction


def withdraw(person: Any, correction_id: int, *, seen: int | None = None) -> Correction:
    """Take one's own request back.

    Raises DecisionUnknown, Outdated, AlreadyDecided, OwnRequest.
    """
    with transaction.atomic():
        correction = lock_requested(Correction, correction_id, seen)
        take_back(correction, person)
        correction.withdraw()
        _save(correction, person, "Withdrawn")
        return correction


def _request(
    person: Any,
    kind: Correction.Kind,
    customer_id: int | None,
    amount: Decimal,
    reason: str,
    key: UUID,
    seen: int | None,
    *,
    reverses_id: int | None = None,
) -> Correction:
    reason = given(reason)
    amount = _exact(amount)
    with transaction.atomic():
        lock(person)
        content: dict[str, Any] = {
            "kind": kind,
            "customer_id": customer_id,
            "amount": amount,
            "reverses_id": reverses_id,
            "reason": reason,
            "requested_by_id": person.pk,
        }
        if made := same_request(Correction, key, **content):
            return made
        if customer_id is not None:
            wallet = Wallet.objects.filter(pk=customer_id).first()
            if wallet is None:
                raise CustomerMissing(f"There is no customer {customer_id}.")
            if reverses_id is None and seen is not None:
                wallet = standing.lock_wallet(customer_id, seen)
            _refuse_ended(wallet)
        if reverses_id is not None:
            refuse_unless_shown(f"Transfer {reverses_id}", seen, _reversals_of(reverses_id))
            _refuse_second_reversal(reverses_id)
        hold(person, RoleLimit.Decision(kind), abs(amount), _asked_for(person, kind))
        correction = Correction(request_key=key, requested_at=timezone.now(), **content)
        history.create([correction], actor=Actor.person(person), reason=f"Requested: {reason}")
        return correction


def reversals_of(transfer_id: int) -> int:
    """What the transfer's page shows of its reversals, as ``smsactivator.common.seen`` counts."""
    return steps(_reversals_of(transfer_id))


def _reversals_of(transfer_id: int) -> Shown:
    asked = Correction.objects.filter(reverses=transfer_id)
    return Correction, list(asked.values_list("pk", flat=True))


def _refuse_ended(wallet: Wallet) -> None:
    """Raise WalletForfeited or WalletClosed: nothing moves on a wallet that has ended."""
    if wallet.state == Wallet.State.FORFEITED:
        raise ledger.WalletForfeited(wallet.pk)
    if wallet.state == Wallet.State.CLOSED:
        raise ledger.WalletClosed(wallet.pk)


def _refuse_second_reversal(transfer_id: int) -> None:
    other = (
        Correction.objects.filter(reverses=transfer_id)
        .filter(state__in=[Correction.State.REQUESTED, Correction.State.CONFIRMED])
        .first()
    )
    if other is not None:
        raise NotReversible(
            f"Transfer {transfer_id} can be reversed once: see correction {other.pk}, "
            f"{other.get_state_display().lower()}."
        )


def _posting(correction: Correction) -> ledger.Posting:
    """The movement that a correction asks for."""
    if correction.reverses is not None:
        return ledger.Posting(
            kind=Transfer.Kind.REVERSAL,
            debit=correction.reverses.credit_account,
            credit=correction.reverses.debit_account,
            amount=correction.reverses.amount,
            key=f"reversal:{correction.reverses_id}",
            reverses=correction.reverses_id,
        )
    goodwill = correction.kind == Kind.GOODWILL
    shop = Account.GOODWILL if goodwill else Account.ADJUSTMENTS
    wallet = int(correction.customer_id or 0)
    credited = correction.amount > 0
    return ledger.Posting(
        kind=Transfer.Kind.GOODWILL if goodwill else Transfer.Kind.ADJUSTMENT,
        debit=shop if credited else wallet,
        credit=wallet if credited else shop,
        amount=abs(correction.amount),
        key=f"{correction.kind}:{correction.pk}",
    )


def _asked_for(person: Any, kind: str) -> Callable[[datetime], Decimal]:
    """What the person asked for since a moment that was not turned down."""
    live = [Correction.State.REQUESTED, Correction.State.CONFIRMED]
    return lambda since: _used(
        Q(requested_by=person, requested_at__gte=since, state__in=live), kind
    )


def confirmed_by(person: Any, kind: str) -> Callable[[datetime], Decimal]:
    """What the person confirmed since a moment."""
    return lambda since: _used(
        Q(decided_by=person, decided_at__gte=since, state=Correction.State.CONFIRMED), kind
    )


def _used(corrections: Q, kind: str) -> Decimal:
    """What corrections of this kind come to, USD, whichever their direction."""
    moved = Correction.objects.filter(corrections, kind=kind).aggregate(sum=Sum(Abs("amount")))
    return moved["sum"] or Decimal(0)


def _exact(amount: Decimal) -> Decimal:
    try:
        return usd(amount)
    except ValueError as error:
        raise AmountRefused(f"{error}.") from None


def _save(correction: Correction, person: Any, done: str, *fields: str) -> None:
    reason = f"{done}: {correction.decision_reason}" if correction.decision_reason else done
    history.save([correction], [*DECIDED, *fields], actor=Actor.person(person), reason=reason)
