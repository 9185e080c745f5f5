"""The standing of a wallet: freezing it, so that nothing is spent, and letting it go again.

What a frozen wallet refuses is in ``wallet.ledger`` and in the database: purchases, payouts and the
end of the wallet. Refunds, deposits and failed payouts still arrive, and errors are still mended.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django_fsm import can_proceed

from smsactivator.common import history
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from smsactivator.common.seen import refuse_outdated
from wallet import telling
from wallet.deciding import given
from wallet.ledger import WalletMissing
from wallet.limits import require
from wallet.models import Claim, Customer, Decision, Termination, Wallet
from wallet.telling import Ground, What


class StandingRefused(Refused):
    """The wallet's state does not allow it; the message says which state it is in."""

    code = "wallet_state"


class HeldByDecision(Refused):
    """Something that is to be decided keeps the wallet frozen."""

    code = "held_by_decision"


def freeze(person: Any, wallet_id: int, *, reason: str, seen: int | None = None) -> Wallet:
    """Let nothing be spent from the wallet until it is unfrozen; refunds still arrive.

    Locks the wallet. Raises PermissionDenied, ReasonMissing, WalletMissing, Outdated,
    StandingRefused.
    """
    require(person, "wallet.freeze_wallet")
    reason = given(reason)
    with transaction.atomic():
        wallet = lock_wallet(wallet_id, seen)
        if not can_proceed(wallet.freeze):
            raise refused(wallet)
        wallet.freeze()
        save(wallet, Actor.person(person), f"Frozen: {reason}")
        telling.note(wallet, What.FROZEN, Ground.REVIEW)
        return wallet


def unfreeze(person: Any, wallet_id: int, *, reason: str, seen: int | None = None) -> Wallet:
    """Let the wallet be spent from again.

    Locks the wallet. Raises as ``freeze``, and HeldByDecision while a chargeback claim or a
    termination is open.
    """
    require(person, "wallet.freeze_wallet")
    reason = given(reason)
    with transaction.atomic():
        wallet = lock_wallet(wallet_id, seen)
        if not can_proceed(wallet.unfreeze):
            raise refused(wallet)
        if why := why_not_unfreeze(wallet):
            raise HeldByDecision(why)
        wallet.unfreeze()
        save(wallet, Actor.person(person), f"Unfrozen: {reason}")
        telling.note(wallet, What.UNFROZEN, Ground.REVIEW)
        return wallet


def why_not_unfreeze(wallet: Wallet) -> str:
    """What keeps a frozen wallet frozen; "" if it can be let go."""
    held = holders(wallet.pk)
    if not held:
        return ""
    return f"{', '.join(map(str, held))} must be decided first: it keeps the wallet frozen."


def lock_customer(customer_id: int) -> None:
    """Lock the customer, before claims, orders and wallets: no claim is recorded meanwhile.

    An account ends, or is given back, with every claim that there is.
    """
    Customer.objects.select_for_update(no_key=True).get(pk=customer_id)


def lock_wallet(wallet_id: int, seen: int | None = None) -> Wallet:
    """The wallet, locked, after any orders, as the page showed it.

    Raises WalletMissing, Outdated.
    """
    wallet = Wallet.objects.select_for_update(no_key=True).filter(pk=wallet_id).first()
    if wallet is None:
        raise WalletMissing(f"There is no wallet {wallet_id}.")
    refuse_outdated(wallet, seen)
    return wallet


def hold_frozen(wallet: Wallet, actor: Actor, reason: str, ground: str) -> bool:
    """Freeze a locked wallet for something that is to be decided, if it is active.

    Returns whether the freeze is such decisions' own, so that the last of them may end it; a
    freeze by a person stays. A wallet that has ended is frozen when it comes back
    (``hold_returned``).
    """
    if can_proceed(wallet.freeze):
        wallet.freeze()
        save(wallet, actor, reason)
        telling.note(wallet, What.FROZEN, ground)
        return True
    if wallet.state != Wallet.State.FROZEN:
        return True
    return any(holder.froze for holder in holders(wallet.pk))


def hold_returned(wallet: Wallet, actor: Actor) -> None:
    """Freeze a locked wallet that is active again if something is still to be decided of it."""
    if held := holders(wallet.pk):
        wallet.freeze()
        save(wallet, actor, f"Frozen: {', '.join(map(str, held))} is to be decided")
        telling.note(wallet, What.FROZEN, telling.ground_of(held[0]))


def let_go(wallet: Wallet, froze: bool, actor: Actor, reason: str, ground: str) -> None:
    """Unfreeze a locked wallet if decisions froze it and none of them is left."""
    if froze and can_proceed(wallet.unfreeze) and not holders(wallet.pk):
        wallet.unfreeze()
        save(wallet, actor, reason)
        telling.note(wallet, What.UNFROZEN, ground)


def explain(wallet: Wallet) -> str:
    """Why nothing is spent from the wallet, for its customer and storefront; "" if it is active."""
    if wallet.state == Wallet.State.FROZEN:
        held = holders(wallet.pk)
        return telling.frozen(telling.ground_of(held[0]) if held else Ground.REVIEW)
    if wallet.state == Wallet.State.FORFEITED:
        ended = Termination.objects.filter(
            customer=wallet.pk, state=Decision.State.CONFIRMED, reinstated=False
        )
        last = ended.first()
        return telling.terminated(telling.ground_of(last) if last else Ground.TERMINATION)
    return "The wallet is closed." if wallet.state == Wallet.State.CLOSED else ""


def holders(wallet_id: int) -> list[Claim | Termination]:
    """What is to be decided of this customer, and keeps the wallet frozen until then."""
    return [
        *Claim.objects.filter(deposit__transfer__wallet=wallet_id, state=Claim.State.OPEN),
        *Termination.objects.filter(customer=wallet_id, state=Decision.State.REQUESTED),
    ]


def refused(wallet: Wallet) -> StandingRefused:
    """What the wallet's state says to a change that it does not allow."""
    return StandingRefused(
        f"Wallet {wallet.pk} is {wallet.get_state_display().lower()}; its history says why."
    )


def save(wallet: Wallet, actor: Actor, reason: str) -> None:
    """Write a locked wallet's state with its history."""
    history.save([wallet], ["state"], actor=actor, reason=reason)
