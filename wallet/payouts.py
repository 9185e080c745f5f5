"""Payouts: what a customer who leaves is sent, from the wish to what became of it.

One person requests it, which takes the money from the wallet at once; another approves it, above an
amount two others; finance sends it and says what became of it (``wallet.batches``,
``wallet.settlement``). Only a failed payout, or one that nobody has sent, gives its money back.

Locks, in this order everywhere: the person, the batch, payouts by primary key, orders by primary
key, wallets by primary key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q, Sum
from django.utils import timezone
from django_fsm import can_proceed

from smsactivator.common import history
from smsactivator.common.errors import Invalid, NotFound, Refused, why_refused
from smsactivator.common.history import Actor
from smsactivator.common.money import usd
from smsactivator.common.seen import refuse_outdated
from wallet import addresses, ledger, refusing, standing
from wallet.deciding import OwnRequest, given, same_request
from wallet.limits import lock, refuse_over, require
from wallet.models import (
    OPEN_PAYOUTS,
    Account,
    BatchLine,
    Payout,
    PayoutMethod,
    PayoutMove,
    PayoutOutcome,
    RoleLimit,
    Transfer,
    Wallet,
)

State = Payout.State
What = PayoutOutcome.What
Kind = Transfer.Kind

REQUEST = "wallet.request_payout"
APPROVE = "wallet.approve_payout"
CENT = Decimal("0.01")
A_DAY = timedelta(days=1)
# Ends of what nobody has sent.
NEVER_SENT = (State.REJECTED, State.WITHDRAWN)

# Policy 2026-05-07, "Refund destination".
CLAUSE = (
    "If you want to leave the platform with a non-zero wallet balance, contact support and we can "
    "arrange an outbound payout (subject to a minimum of $20)."
)
# What an approval, a rejection or an end writes.
APPROVAL = ("state", "approved_by", "approved_at", "second_by", "second_at")
ENDING = ("state", "decided_by", "decided_at", "decision_reason")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the refund policy says of payouts: its version, and the least amount, USD."""

    policy_version: str
    minimum: Decimal


class PayoutUnknown(NotFound):
    """There is no such payout."""

    code = "unknown_payout"


class PayoutElsewhere(Refused):
    """The payout is not, or no longer, in a state in which this can be done."""

    code = "payout_state"


class PayoutAmountRefused(Invalid):
    """The amount is below the minimum, above the balance, or not in whole cents."""

    code = "amount_refused"


class PayoutWalletRefused(Refused):
    """The wallet's state lets nothing leave it."""

    code = "wallet_state"
    status = 403


class ContentDiffers(Refused):
    """What was looked at is another attempt of the payout, or not what it pays."""

    code = "content_differs"


class TooEarly(Refused):
    """The customer's address has changed, and its waiting time is not over."""

    code = "address_waits"


class MethodUnknown(NotFound):
    """Payouts are not made in this coin or on this network."""

    code = "unknown_payout_method"


# --- asking ---


def request(
    person: Any,
    customer_id: int,
    *,
    method: str,
    address: str,
    memo: str = "",
    amount: Decimal | None,
    terms: Terms,
    reason: str,
    key: UUID,
) -> Payout:
    """Ask for ``amount`` USD to be paid out; None is the whole balance, in whole cents.

    The money leaves the wallet for payouts pending in this transaction. Once per ``key``. A changed
    address waits (``PAYOUT_COOL_DOWN``) before it can be approved. What the customer asks for in a
    day is added up for whether two people approve. Locks the person, the wallet.
    Raises PermissionDenied, ReasonMissing, MethodUnknown, AddressRefused, WalletMissing,
    WalletForfeited, WalletClosed, PayoutWalletRefused, PayoutAmountRefused, RequestConflict.
    """
    require(person, REQUEST)
    reason = given(reason)
    way = PayoutMethod.objects.filter(code=method, enabled=True).first()
    if way is None:
        raise MethodUnknown(f"Payouts are not made by {method}: choose another coin or network.")
    address, memo = addresses.check(way, address, memo)
    with transaction.atomic():
        lock(person)
        content: dict[str, Any] = {
            "customer_id": customer_id,
            "method_id": way.pk,
            "address": address,
            "memo": memo,
            "reason": reason,
            "requested_by_id": person.pk,
        }
        if amount is not None:
            content["amount"] = _whole_cents(amount)
        elif (whole := _whole_before(key)) is not None:
            content["amount"] = whole
        if made := same_request(Payout, key, **content):
            return made
        # Only now: it may have been listed since this form was sent before.
        refusing.refuse(way, address)
        wallet = standing.lock_wallet(customer_id)
        refuse_state(wallet)
        if wallet.state == Wallet.State.CLOSED:
            raise ledger.WalletClosed(wallet.pk)
        content["amount"] = _within(wallet, content.get("amount"), terms)
        payout = Payout(
            request_key=key,
            requested_at=timezone.now(),
            policy_version=terms.policy_version,
            minimum=terms.minimum,
            second_from=_second_from(customer_id),
            not_before=_waits_until(customer_id, address, memo),
            **content,
        )
        history.create([payout], actor=Actor.person(person), reason=f"Requested: {reason}")
        move([payout], Kind.PAYOUT)
        note([payout], What.REQUESTED)
        return payout


def withdraw(person: Any, payout_id: int, *, seen: int | None = None) -> Payout:
    """Take one's own request back before it is approved: the money returns to the wallet.

    Not once it was sent again. A closed wallet is opened for it. Locks the payout, the wallet.
    Raises PermissionDenied, PayoutUnknown, Outdated, OwnRequest, PayoutElsewhere.
    """
    require(person, REQUEST)
    with transaction.atomic():
        payout = lock_payout(payout_id, seen)
        _refuse_withdrawer(person, payout)
        refuse_unless(payout, payout.withdraw)
        end(payout, payout.withdraw, person, "", "Withdrawn")
        return payout


def why_not_withdraw(person: Any, payout: Payout) -> str:
    """Why this person does not withdraw a payout that could be; "" if nothing keeps them."""
    return why_refused(_refuse_withdrawer, person, payout)


def _refuse_withdrawer(person: Any, payout: Payout) -> None:
    if payout.requested_by_id != person.pk:
        raise OwnRequest("Only the one who requested this can withdraw it. You can reject it.")
    if payout.attempt > 1:
        raise PayoutElsewhere(f"{payout} was sent again, so it is approved or rejected.")


# --- approving ---


def approve(
    person: Any, payout_id: int, *, reason: str = "", what: str = "", seen: int | None = None
) -> Payout:
    """Agree that it is sent, as another than who requested it or sent it again, within limits.

    ``what`` is what the person looked at, in the words of ``content_of``: an approval is of one
    attempt and its content, and of no other. Above the payout's ``second_from`` the first approval
    leaves it waiting for a second person's. Locks the person, the payout, the wallet. Raises
    PermissionDenied, PayoutUnknown, Outdated, ContentDiffers, PayoutElsewhere, OwnRequest,
    TooEarly, OverLimit, PayoutWalletRefused, AddressRefused.
    """
    require(person, APPROVE)
    with transaction.atomic():
        lock(person)
        payout = lock_payout(payout_id, seen)
        if what and what != content_of(payout):
            raise ContentDiffers(
                f"You looked at {what}. This is {content_of(payout)}: look at it again."
            )
        refuse_unless(payout, payout.approve)
        _refuse_approver(person, payout)
        refuse_state(standing.lock_wallet(payout.customer_id))
        refusing.refuse(payout.method, payout.address)
        now = timezone.now()
        if payout.state == State.FIRST_APPROVED:
            payout.second_by, payout.second_at = person, now
            done = "Approved by a second person"
            payout.approve()
        else:
            payout.approved_by, payout.approved_at = person, now
            done = "Approved"
            if payout.needs_second:
                done = "Approved by the first of two"
                payout.approve_first()
            else:
                payout.approve()
        why = f"{done}: {reason.strip()}" if reason.strip() else done
        history.save([payout], APPROVAL, actor=Actor.person(person), reason=why)
        return payout


def content_of(payout: Payout) -> str:
    """What an approval of the payout is of, in words: its attempt, amount, method and address."""
    memo = f", memo {payout.memo}" if payout.memo else ""
    return (
        f"attempt {payout.attempt} of {payout.reference}, {payout.amount:.2f} USD as "
        f"{payout.method} to {payout.address}{memo}"
    )


def why_not_approve(person: Any, payout: Payout) -> str:
    """Why this person does not approve a waiting payout now; "" if nothing keeps them."""
    return (
        why_refused(_refuse_approver, person, payout)
        or why_refused(refuse_state, payout.customer.wallet)
        or why_refused(refusing.refuse, payout.method, payout.address)
    )


def _refuse_approver(person: Any, payout: Payout) -> None:
    if person.pk in {payout.requested_by_id, payout.sent_again_by_id, payout.approved_by_id}:
        raise OwnRequest(
            "You requested, sent again or approved this yourself, so somebody else approves it."
        )
    if payout.not_before is not None and timezone.now() < payout.not_before:
        raise TooEarly(
            f"The customer's address has changed: {payout} can be approved from "
            f"{payout.not_before:%Y-%m-%d %H:%M} UTC. Make sure that the customer asked for it."
        )
    limit = RoleLimit.Decision.PAYOUT
    refuse_over(person, limit, payout.amount, lambda since: _used(person, since))


def reject(person: Any, payout_id: int, *, reason: str, seen: int | None = None) -> Payout:
    """Do not send it: the money returns to the wallet. ``reason`` is told to the customer.

    Not once it is gathered in a batch, and not by who sent it again. A closed wallet is opened for
    it; of a customer who was terminated while it was on its way, it is forfeited. Locks the payout,
    the wallet. Raises PermissionDenied, ReasonMissing, PayoutUnknown, Outdated, PayoutElsewhere,
    OwnRequest.
    """
    require(person, APPROVE)
    reason = given(reason)
    with transaction.atomic():
        payout = lock_payout(payout_id, seen)
        refuse_unless(payout, payout.reject)
        _refuse_rejecter(person, payout)
        end(payout, payout.reject, person, reason, "Rejected")
        return payout


def why_not_reject(person: Any, payout: Payout) -> str:
    """Why this person does not reject a payout that nobody has sent; "" if nothing keeps them."""
    return why_refused(_refuse_rejecter, person, payout)


def _refuse_rejecter(person: Any, payout: Payout) -> None:
    _refuse_sent_again_by(payout, person)
    if line := gathered([payout]).get(payout.pk):
        raise PayoutElsewhere(
            f"{payout} is gathered in {line.batch}: void that first, or let it be sent."
        )


def rejectable(customer_id: int, *, locked: bool) -> list[Payout]:
    """What a customer has asked for and nobody has sent or gathered, before any orders.

    ``locked`` by whoever rejects them, or as they stand, for whoever looks.
    """
    wanted = Payout.objects.filter(
        customer=customer_id,
        state__in=[State.REQUESTED, State.FIRST_APPROVED, State.APPROVED],
    )
    found = lock_payouts(wanted) if locked else list(wanted.order_by("pk"))
    elsewhere = gathered(found)
    return [payout for payout in found if can_proceed(payout.reject) and payout.pk not in elsewhere]


def reject_all(locked: Sequence[Payout], person: Any, reason: str) -> None:
    """Reject what ``rejectable`` found, because the account ends. Locks the wallet.

    Raises OwnRequest for who sent one of them again.
    """
    refuse_sent_again_by(locked, person)
    for payout in locked:
        end(payout, payout.reject, person, reason, "Rejected")


def refuse_sent_again_by(found: Iterable[Payout], person: Any) -> None:
    """Raise OwnRequest for who sent one of the payouts again."""
    for payout in found:
        _refuse_sent_again_by(payout, person)


# --- what is shared with batches and settlement; the payouts are locked ---


def lock_payout(payout_id: int, seen: int | None = None) -> Payout:
    """The payout, locked, as the page showed it. Raises PayoutUnknown, Outdated."""
    found = lock_payouts(Payout.objects.filter(pk=payout_id))
    if not found:
        raise PayoutUnknown(f"There is no payout {payout_id}.")
    refuse_outdated(found[0], seen)
    return found[0]


def lock_payouts(wanted: Any) -> list[Payout]:
    """The payouts of a queryset, locked by primary key, with their methods."""
    return list(
        wanted.select_for_update(no_key=True, of=("self",)).select_related("method").order_by("pk")
    )


def refuse_unless(payout: Payout, transition: Any) -> None:
    """Raise PayoutElsewhere unless the payout's state has this transition."""
    if not can_proceed(transition):
        raise PayoutElsewhere(
            f"{payout} is “{payout.get_state_display()}” by now: look at it again."
        )


def gathered(payouts: Sequence[Payout]) -> dict[int, BatchLine]:
    """The live lines of these payouts, each with its batch, by the payouts' ids."""
    lines = BatchLine.objects.filter(live=True, payout__in=[payout.pk for payout in payouts])
    return {line.payout_id: line for line in lines.select_related("batch")}


def let_go(payouts: Sequence[Payout]) -> None:
    """Let the payouts' live lines go, so that another batch can have them."""
    BatchLine.objects.filter(live=True, payout__in=[payout.pk for payout in payouts]).update(
        live=False
    )


def refuse_state(wallet: Wallet) -> None:
    """Refuse what would leave a locked wallet that is frozen or forfeited, with the clause.

    A closed one is empty, and what was asked for before is still the customer's.

    Raises WalletForfeited, PayoutWalletRefused.
    """
    if wallet.state == Wallet.State.FORFEITED:
        raise ledger.WalletForfeited(wallet.pk)
    if wallet.state == Wallet.State.FROZEN:
        held = ", ".join(map(str, standing.holders(wallet.pk)))
        why = f"{held} is to be decided first" if held else "its history says why"
        raise PayoutWalletRefused(
            f"Wallet {wallet.pk} is frozen, so nothing is paid out of it: {why}. "
            f'Refund policy, refund destination: "{CLAUSE}"'
        )


def end(
    payout: Payout, transition: Callable[[], None], person: Any, reason: str, done: str
) -> None:
    """End a payout that is not sent by one of its transitions: the money returns to the wallet.

    A closed wallet is opened for it, and stays frozen while something is to be decided. Of a
    customer who was terminated while it was on its way, it is forfeited. Locks the wallet.
    """
    actor = Actor.person(person)
    wallet = standing.lock_wallet(payout.customer_id)
    kind = Kind.PAYOUT_RETURN
    if wallet.state == Wallet.State.FORFEITED and can_proceed(payout.forfeit):
        transition, kind, done = payout.forfeit, Kind.FORFEITURE, "Forfeited"
    elif wallet.state == Wallet.State.CLOSED:
        wallet.reopen()
        standing.save(wallet, actor, f"Reopened: the money of {payout} came back")
        standing.hold_returned(wallet, actor)
    transition()
    payout.decided_by = person
    payout.decided_at = timezone.now()
    payout.decision_reason = reason
    move([payout], kind)
    history.save([payout], ENDING, actor=actor, reason=f"{done}: {reason}" if reason else done)
    note([payout], What(payout.state), [reason])


def move(payouts: Sequence[Payout], kind: Kind) -> None:
    """Move the payouts' money by one kind of transfer, which is posted. Locks the wallets.

    Paying and its undoing are numbered, as a payout may be paid, fail, and be found paid after all;
    every other kind moves a payout's money once.
    """
    debit, credit = _SIDES[kind]
    transfers = ledger.post(
        [
            ledger.Posting(
                kind=kind,
                debit=payout.customer_id if debit is None else debit,
                credit=payout.customer_id if credit is None else credit,
                amount=payout.amount,
                key=_key(payout, kind),
            )
            for payout in payouts
        ]
    )
    PayoutMove.objects.bulk_create(
        PayoutMove(payout=payout, transfer_id=transfer)
        for payout, transfer in zip(payouts, transfers, strict=True)
    )


def note(payouts: Sequence[Payout], what: What, details: Sequence[str] = ()) -> None:
    """Write down what became of the payouts, to be told to their customers."""
    now = timezone.now()
    PayoutOutcome.objects.bulk_create(
        PayoutOutcome(payout=payout, what=what, at=now, detail=detail)
        for payout, detail in zip(payouts, details or [""] * len(payouts), strict=True)
    )


# --- what is read ---


def also_used_by(payout: Payout) -> list[int]:
    """Other customers who gave the same address, by their ids.

    A memo tells the customers of an exchange apart only where it is needed: one that may be left
    out would hide the address.
    """
    same = Payout.objects.filter(address=payout.address)
    if payout.method.memo_rule == PayoutMethod.MemoRule.REQUIRED:
        same = same.filter(memo=payout.memo)
    return list(
        same.exclude(customer=payout.customer_id)
        .order_by("customer_id")
        .values_list("customer_id", flat=True)
        .distinct()[:20]
    )


def stranded(balance: Decimal, minimum: Decimal) -> Decimal:
    """What of a balance no payout can take, in whole cents, being less than the least one, USD."""
    whole = _in_cents(balance)
    return whole if whole < minimum else usd(0)


def open_of(customer_id: int) -> bool:
    """Whether a payout of the customer is open."""
    return Payout.objects.filter(customer=customer_id, state__in=OPEN_PAYOUTS).exists()


_SIDES: dict[Kind, tuple[int | None, int | None]] = {
    Kind.PAYOUT: (None, Account.PAYOUTS_PENDING),
    Kind.PAYOUT_RETURN: (Account.PAYOUTS_PENDING, None),
    Kind.PAYOUT_PAID: (Account.PAYOUTS_PENDING, Account.PAYOUTS_PAID),
    Kind.PAYOUT_UNPAID: (Account.PAYOUTS_PAID, Account.PAYOUTS_PENDING),
    Kind.FORFEITURE: (Account.PAYOUTS_PENDING, Account.FORFEITURES),
}


def _key(payout: Payout, kind: Kind) -> str:
    facts = f"payout:{payout.pk}"
    if kind == Kind.PAYOUT:
        return f"{facts}:request"
    if kind == Kind.PAYOUT_RETURN:
        return f"{facts}:return"
    if kind == Kind.FORFEITURE:
        return f"{facts}:forfeited"
    times = payout.moves.filter(transfer__kind=kind).count() + 1
    return f"{facts}:{kind.removeprefix('payout_')}:{times}"


def _whole_cents(amount: Decimal) -> Decimal:
    try:
        exact = usd(amount)
    except ValueError as error:
        raise PayoutAmountRefused(f"{error}.") from None
    if exact != exact.quantize(CENT):
        raise PayoutAmountRefused(f"A payout is in whole cents, and {exact} USD is not.")
    return exact


def _whole_before(key: UUID) -> Decimal | None:
    """What the whole balance was when this form was sent before, in whole cents, or None."""
    taken = Transfer.objects.filter(payout_move__payout__request_key=key, kind=Kind.PAYOUT).first()
    if taken is None or taken.balance_after is None:
        return None
    return _in_cents(taken.balance_after + taken.amount)


def _in_cents(balance: Decimal) -> Decimal:
    return usd(balance.quantize(CENT, rounding="ROUND_DOWN"))


def _within(wallet: Wallet, amount: Decimal | None, terms: Terms) -> Decimal:
    whole = _in_cents(wallet.balance)
    wanted = whole if amount is None else amount
    if wanted < terms.minimum:
        raise PayoutAmountRefused(
            f"A payout is at least {terms.minimum.quantize(CENT)} USD, and this would be "
            f'{wanted.quantize(CENT)} USD. Refund policy, refund destination: "{CLAUSE}"'
        )
    if wanted > whole:
        raise PayoutAmountRefused(
            f"The wallet holds {wallet.balance} USD: at most {whole.quantize(CENT)} USD can be "
            "paid out."
        )
    return wanted


def _refuse_sent_again_by(payout: Payout, person: Any) -> None:
    """Who could call a payout failed and send it again would else bring its money back alone."""
    if payout.sent_again_by_id == person.pk:
        raise OwnRequest(f"You sent {payout} again yourself, so somebody else rejects it.")


def _second_from(customer_id: int) -> Decimal:
    """Above how much two people approve the next payout: a wish in parts is one wish.

    What the customer asked for in the last day and may still be sent, or was, is used up.
    """
    asked = (
        Payout.objects.filter(customer=customer_id, requested_at__gt=timezone.now() - A_DAY)
        .exclude(state__in=[*NEVER_SENT, State.RETURNED])
        .aggregate(sum=Sum("amount"))["sum"]
    )
    return max(settings.PAYOUT_SECOND_APPROVAL_FROM - (asked or Decimal(0)), Decimal(0))


def _waits_until(customer_id: int, address: str, memo: str) -> datetime | None:
    """Until when a changed address waits: from when the customer gave it first.

    What was withdrawn or rejected gives no address: else whoever took the account over could let
    one wait its time while nothing is asked for. Yet a new one beside it is a changed one.
    """
    before = Payout.objects.filter(customer=customer_id)
    if not before.exclude(address=address, memo=memo).exists():
        return None
    given_before = before.filter(address=address, memo=memo).exclude(state__in=NEVER_SENT)
    since = given_before.aggregate(first=Min("requested_at"))
    until: datetime = (since["first"] or timezone.now()) + settings.PAYOUT_COOL_DOWN
    return until if until > timezone.now() else None


def _used(person: Any, since: datetime) -> Decimal:
    """What the person approved since a moment, USD: each attempt of a payout once.

    It is read from the history, as a payout that is sent again forgets who approved it before. An
    attempt that was rejected does not count.
    """
    ended = Payout.objects.filter(
        pk=OuterRef("id"), attempt=OuterRef("attempt"), state__in=NEVER_SENT
    )
    approved = (
        Payout.history.filter(
            Q(approved_by=person, approved_at__gte=since)
            | Q(second_by=person, second_at__gte=since),
            history_date__gte=since,
        )
        .exclude(Exists(ended))
        .order_by()
        .values_list("id", "attempt", "amount")
        .distinct()
    )
    return sum((amount for _, _, amount in approved), Decimal(0))
