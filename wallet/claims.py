"""Chargeback claims: recorded against a deposit, they freeze the wallet until a senior decides.

Policy, disputes: "any chargeback claim filed against a crypto provider is the user's
responsibility, not ours, and may result in account termination per /tos §9."
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import Invalid, NotFound, Refused
from smsactivator.common.history import Actor
from wallet import standing
from wallet.deciding import DECIDED, AlreadyDecided, given
from wallet.limits import require
from wallet.models import Claim, Deposit


class DepositUnknown(NotFound):
    """There is no such deposit."""

    code = "unknown_deposit"


class ClaimIncomplete(Invalid):
    """A claim names the provider's reference and what the provider sent."""

    code = "claim_incomplete"


class ClaimConflict(Refused):
    """The deposit has another claim that is open, or this reference stands for another one."""

    code = "claim_conflict"


class ClaimUnknown(NotFound):
    """There is no such claim."""

    code = "unknown_claim"


def record(person: Any, deposit_id: int, *, reference: str, evidence: str) -> Claim:
    """Record a claim against a deposit and freeze the wallet that it was credited to.

    Once per deposit and reference: the same again returns the first claim. Locks the wallet. Raises
    PermissionDenied, ClaimIncomplete, DepositUnknown, ClaimConflict.
    """
    require(person, "wallet.record_claim")
    reference, evidence = reference.strip(), evidence.strip()
    if not reference or not evidence:
        raise ClaimIncomplete("Give the provider's reference and what the provider sent.")
    with transaction.atomic():
        deposit = Deposit.objects.select_related("transfer").filter(pk=deposit_id).first()
        if deposit is None:
            raise DepositUnknown(f"There is no deposit {deposit_id}.")
        wallet = standing.lock_wallet(deposit.transfer.credit_account)
        for claim in Claim.objects.filter(deposit=deposit):
            if claim.reference == reference and claim.evidence == evidence:
                return claim
            if claim.reference == reference or claim.state == Claim.State.OPEN:
                raise ClaimConflict(
                    f"{claim} was recorded against this deposit at "
                    f"{claim.recorded_at:%Y-%m-%d %H:%M:%S} UTC and is "
                    f"{claim.get_state_display().lower()}."
                )
        actor = Actor.person(person)
        claim = Claim(
            deposit=deposit,
            reference=reference,
            evidence=evidence,
            froze=standing.hold_frozen(wallet, actor, f"Frozen: chargeback claim {reference}"),
            recorded_by=person,
            recorded_at=timezone.now(),
        )
        history.create([claim], actor=actor, reason="Recorded")
        return claim


def dismiss(person: Any, claim_id: int, *, reason: str) -> Claim:
    """Let the claim come to nothing; the wallet is unfrozen if nothing else keeps it frozen.

    Locks the claim, then the wallet. Raises PermissionDenied, ReasonMissing, ClaimUnknown,
    AlreadyDecided.
    """
    require(person, "wallet.decide_claim")
    with transaction.atomic():
        claim = lock_open(claim_id)
        wallet = standing.lock_wallet(claim.deposit.transfer.credit_account)
        claim.dismiss()
        settle(claim, person, given(reason))
        standing.let_go(
            wallet, claim.froze, Actor.person(person), f"Unfrozen: {claim} was dismissed"
        )
        return claim


def settle(claim: Claim, person: Any, reason: str) -> None:
    """Write the decision of a locked claim that was taken through its transition."""
    claim.decided_by = person
    claim.decided_at = timezone.now()
    claim.decision_reason = reason
    history.save([claim], DECIDED, actor=Actor.person(person), reason=reason)


def lock_open(claim_id: int) -> Claim:
    """The claim, locked. Raises ClaimUnknown, and AlreadyDecided unless it is open."""
    claim = (
        Claim.objects.select_related("deposit__transfer")
        .select_for_update(no_key=True, of=("self",))
        .filter(pk=claim_id)
        .first()
    )
    if claim is None:
        raise ClaimUnknown(f"There is no chargeback claim {claim_id}.")
    if claim.state != Claim.State.OPEN:
        raise AlreadyDecided(
            f"{claim} is {claim.get_state_display().lower()} since "
            f"{claim.decided_at:%Y-%m-%d %H:%M:%S} UTC, by {claim.decided_by}."
        )
    return claim
