"""Chargeback claims: recorded against a deposit, they freeze the wallet until a senior decides.

Policy, disputes: "any chargeback claim filed against a crypto provider is the user's
responsibility, not ours, and may result in account termination per /tos §9."
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import Invalid, NotFound, Refused
from smsactivator.common.history import Actor
from smsactivator.common.seen import Shown, refuse_outdated, refuse_unless_shown, steps
from wallet import standing
from wallet.deciding import DECIDED, AlreadyDecided, given, same_request
from wallet.limits import lock, require
from wallet.models import Claim, Deposit, Wallet
from wallet.telling import Ground


class DepositUnknown(NotFound):
    """There is no such deposit."""

    code = "unknown_deposit"


class ClaimIncomplete(Invalid):
    """A claim names the provider's reference and what the provider sent."""

    code = "claim_incomplete"


class ClaimConflict(Refused):
    """The deposit has another claim that was not dismissed."""

    code = "claim_conflict"


class ClaimUnknown(NotFound):
    """There is no such claim."""

    code = "unknown_claim"


def record(
    person: Any,
    deposit_id: int,
    *,
    reference: str,
    evidence: str,
    key: UUID | None = None,
    seen: int | None = None,
) -> Claim:
    """Record a claim against a deposit and freeze the wallet that it was credited to.

    A claim against a forfeited wallet changes nothing, and is to be decided when the customer is
    let in again. Once per ``key``, and once per deposit and reference until it is dismissed: the
    same again returns the first claim. Locks the person, the customer, the wallet. Raises
    PermissionDenied, ClaimIncomplete, DepositUnknown, Outdated, ClaimConflict, RequestConflict.
    """
    require(person, "wallet.record_claim")
    reference, evidence = reference.strip(), evidence.strip()
    if not reference or not evidence:
        raise ClaimIncomplete("Give the provider's reference and what the provider sent.")
    key = key or uuid4()
    with transaction.atomic():
        lock(person)
        content: dict[str, Any] = {
            "deposit_id": deposit_id,
            "reference": reference,
            "evidence": evidence,
            "recorded_by_id": person.pk,
        }
        if made := same_request(Claim, key, **content):
            return made
        deposit = Deposit.objects.select_related("transfer").filter(pk=deposit_id).first()
        if deposit is None:
            raise DepositUnknown(f"There is no deposit {deposit_id}.")
        standing.lock_customer(deposit.transfer.credit_account)
        wallet = standing.lock_wallet(deposit.transfer.credit_account)
        live = _live(deposit)
        if live is not None and (live.reference, live.evidence) == (reference, evidence):
            return live
        known = Claim.objects.filter(deposit=deposit)
        refuse_unless_shown(deposit, seen, *_shown(wallet.pk, known))
        if live is not None:
            raise ClaimConflict(_stands(live))
        actor = Actor.person(person)
        claim = Claim(
            request_key=key,
            froze=standing.hold_frozen(
                wallet, actor, f"Frozen: chargeback claim {reference}", Ground.CLAIM
            ),
            recorded_at=timezone.now(),
            **content,
        )
        if wallet.state == Wallet.State.FORFEITED:
            claim.end()
        history.create([claim], actor=actor, reason="Recorded")
        return claim


def steps_of(deposit: Deposit) -> int:
    """What the deposit's page shows of its claims, and of the wallet that a claim freezes."""
    known = Claim.objects.filter(deposit=deposit)
    return steps(*_shown(deposit.transfer.credit_account, known))


def _shown(wallet_id: int, known: Iterable[Claim]) -> list[Shown]:
    return [(Wallet, [wallet_id]), (Claim, [claim.pk for claim in known])]


def why_not_record(deposit: Deposit) -> str:
    """Why no further claim is recorded against the deposit now; "" if nothing stands in the way."""
    live = _live(deposit)
    return _stands(live) if live else ""


def _live(deposit: Deposit) -> Claim | None:
    """The deposit's one claim that came to something, or still may."""
    return Claim.objects.filter(deposit=deposit).exclude(state=Claim.State.DISMISSED).first()


def _stands(claim: Claim) -> str:
    return (
        f"{claim} was recorded against this deposit at {claim.recorded_at:%Y-%m-%d %H:%M:%S} UTC "
        f"and is {claim.get_state_display().lower()}."
    )


def dismiss(person: Any, claim_id: int, *, reason: str, seen: int | None = None) -> Claim:
    """Let the claim come to nothing; the wallet is unfrozen if nothing else keeps it frozen.

    Locks the claim, then the wallet. Raises PermissionDenied, ReasonMissing, ClaimUnknown,
    Outdated, AlreadyDecided.
    """
    require(person, "wallet.decide_claim")
    with transaction.atomic():
        claim = lock_open(claim_id, seen)
        wallet = standing.lock_wallet(claim.deposit.transfer.credit_account)
        claim.dismiss()
        settle(claim, person, given(reason))
        why = f"Unfrozen: {claim} was dismissed"
        standing.let_go(wallet, claim.froze, Actor.person(person), why, Ground.CLAIM)
        return claim


def settle(claim: Claim, person: Any, reason: str) -> None:
    """Write the decision of a locked claim that was taken through its transition."""
    claim.decided_by = person
    claim.decided_at = timezone.now()
    claim.decision_reason = reason
    history.save([claim], DECIDED, actor=Actor.person(person), reason=reason)


def lock_open(claim_id: int, seen: int | None = None) -> Claim:
    """The claim, locked, as the page showed it.

    Raises ClaimUnknown, Outdated, and AlreadyDecided unless it is open.
    """
    claim = (
        Claim.objects.select_related("deposit__transfer")
        .select_for_update(no_key=True, of=("self",))
        .filter(pk=claim_id)
        .first()
    )
    if claim is None:
        raise ClaimUnknown(f"There is no chargeback claim {claim_id}.")
    refuse_outdated(claim, seen)
    if claim.state != Claim.State.OPEN:
        # One that ended with its account was perhaps decided by nobody.
        at = claim.decided_at
        when = f" since {at:%Y-%m-%d %H:%M:%S} UTC, by {claim.decided_by}" if at else ""
        raise AlreadyDecided(f"{claim} is {claim.get_state_display().lower()}{when}.")
    return claim


# --- what follows the account; the customer is locked ---


def lock_all(customer_id: int, *states: Claim.State) -> list[Claim]:
    """The customer's claims in these states, locked, before any orders and wallets."""
    return list(
        Claim.objects.filter(deposit__transfer__wallet=customer_id, state__in=states)
        .select_for_update(no_key=True, of=("self",))
        .order_by("pk")
    )


def end_all(locked: Iterable[Claim], actor: Actor, reason: str) -> None:
    """End claims with their account: there is nothing to decide any more."""
    ended = list(locked)
    for claim in ended:
        claim.end()
    history.save(ended, ["state"], actor=actor, reason=reason)


def open_again(locked: Iterable[Claim], actor: Actor, reason: str) -> None:
    """Open claims that are to be decided again: what was decided of them came to nothing.

    Those that ended with their account are all that keeps its wallet frozen when it comes back.
    """
    opened = list(locked)
    for claim in opened:
        claim.froze = claim.froze or claim.state == Claim.State.TERMINATED
        claim.reopen()
        claim.decided_by = claim.decided_at = None
        claim.decision_reason = ""
    history.save(opened, [*DECIDED, "froze"], actor=actor, reason=reason)
