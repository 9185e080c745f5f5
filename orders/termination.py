"""The end of a customer's account, and the way back.

Policy, not granted: "AUP violations resulting in account termination — wallet balance is forfeited
per /aup." One person requests it, which freezes the wallet, so nothing new is ordered while it is
looked at; a second person confirms it. Then the balance and the prices of open orders go to
forfeitures, in one transaction, and the numbers are given back to their upstreams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from orders.locking import lock as lock_orders
from orders.models import OPEN, Order, UpstreamSide
from smsactivator.common import history
from smsactivator.common.errors import Refused, why_refused
from smsactivator.common.history import Actor
from smsactivator.common.money import usd
from smsactivator.common.seen import Shown, outdated, refuse_unless_shown, steps
from wallet import claims, ledger, payouts, standing, telling
from wallet.deciding import (
    DECIDED,
    decide,
    given,
    lock_requested,
    same_request,
    take_back,
    why_not_decide,
)
from wallet.limits import lock, require
from wallet.models import (
    OPEN_PAYOUTS,
    Account,
    Claim,
    Decision,
    Payout,
    Reinstatement,
    Termination,
    Transfer,
    Wallet,
)
from wallet.telling import Ground, What


class TerminationPending(Refused):
    """The customer's termination was requested before, or is done."""

    code = "termination_pending"


class NotTerminated(Refused):
    """There is nothing to reinstate the customer from."""

    code = "not_terminated"


def request(
    person: Any,
    customer_id: int,
    *,
    reason: str,
    key: UUID,
    claim_id: int | None = None,
    seen: int | None = None,
) -> Termination:
    """Ask for a customer's termination, and freeze the wallet until it is decided.

    With ``claim_id`` it is the decision of that open chargeback claim. ``seen`` is of the claim, or
    else of the wallet. Once per ``key``. Locks the person, the claim, the wallet. Raises
    PermissionDenied, ReasonMissing, WalletMissing, Outdated, TerminationPending, StandingRefused
    for a closed wallet, RequestConflict, and for a claim
    ClaimUnknown and AlreadyDecided.
    """
    require(person, "wallet.request_termination")
    if claim_id is not None:
        require(person, "wallet.decide_claim")
    reason = given(reason)
    with transaction.atomic():
        lock(person)
        content: dict[str, Any] = {
            "customer_id": customer_id,
            "claim_id": claim_id,
            "reason": reason,
            "requested_by_id": person.pk,
        }
        if made := same_request(Termination, key, **content):
            return made
        claim = claims.lock_open(claim_id, seen) if claim_id is not None else None
        if claim is not None and claim.deposit.transfer.credit_account != customer_id:
            raise claims.ClaimConflict(f"{claim} is against a deposit of another customer.")
        wallet = standing.lock_wallet(customer_id, seen if claim is None else None)
        _refuse_request(wallet)
        actor = Actor.person(person)
        why = f"Frozen: termination requested: {reason}"
        ground = Ground.TERMINATION if claim is None else Ground.CLAIM
        froze = standing.hold_frozen(wallet, actor, why, ground)
        if claim is not None:
            claim.uphold()
            claims.settle(claim, person, reason)
        termination = Termination(
            request_key=key, requested_at=timezone.now(), froze=froze, **content
        )
        history.create([termination], actor=actor, reason=f"Requested: {reason}")
        return termination


def why_not_request(wallet: Wallet) -> str:
    """Why no termination of this customer is asked for now; "" if nothing stands in the way."""
    return why_refused(_refuse_request, wallet)


def confirm(
    person: Any,
    termination_id: int,
    *,
    reason: str = "",
    total: Decimal | None = None,
    seen: int | None = None,
) -> Termination:
    """Agree, as a second person: the wallet is forfeited and open orders end as forfeited.

    ``total`` is the sum that the person was shown (``Taking.total``): what came in or went out
    since then is no step of the termination, and nobody has agreed to it.

    Payouts that nobody has sent are rejected first, so that their money is forfeited as well; those
    on their way are left to whoever settles them. Chargeback claims end with the account.
    The numbers that open orders hold are given back to their upstreams by the next sweep of
    releases. Locks the person, the termination, the customer with the claims, the payouts and open
    orders, the wallet. Raises PermissionDenied, DecisionUnknown, Outdated, AlreadyDecided,
    OwnRequest.
    """
    require(person, "wallet.confirm_termination")
    with transaction.atomic():
        lock(person)
        termination = lock_requested(Termination, termination_id, seen)
        decide(termination, person, reason)
        actor = Actor.person(person)
        standing.lock_customer(termination.customer_id)
        undecided = claims.lock_all(termination.customer_id, Claim.State.OPEN, Claim.State.UPHELD)
        waiting = payouts.rejectable(termination.customer_id, locked=True)
        # Frozen since the request, so no order is placed meanwhile; those that end are left out.
        open_now = _open_orders(termination.customer_id)
        orders = [
            order
            for order in lock_orders(list(open_now.values_list("pk", flat=True)))
            if order.state in OPEN
        ]
        # What was asked for and nobody has sent is the wallet's again, and forfeited with it. Moves
        # lock the wallet, so they come after the orders.
        payouts.reject_all(waiting, person, f"{termination}: {_clause(termination)}")
        wallet = standing.lock_wallet(termination.customer_id)
        _refuse_other_sum(termination, total, wallet.balance + priced(orders))
        claims.end_all(undecided, actor, f"Account terminated by {termination}")
        termination.wallet_amount = wallet.balance
        termination.orders_amount = priced(orders)
        termination.orders_ended = len(orders)
        termination.transfer_id = _forfeit(wallet, orders, termination, actor)
        termination.confirm()
        history.save(
            [termination],
            [*DECIDED, "wallet_amount", "orders_amount", "orders_ended", "transfer"],
            actor=actor,
            reason=f"Confirmed: {reason.strip()}" if reason.strip() else "Confirmed",
        )
        return termination


def _refuse_other_sum(termination: Termination, shown: Decimal | None, now: Decimal) -> None:
    if shown is not None and shown != now:
        raise outdated(
            termination, f"what confirming takes went from {usd(shown)} to {usd(now)} USD"
        )


def why_not_confirm(person: Any, termination: Termination) -> str:
    """Why this person does not confirm what waits for it; "" if nothing keeps them."""
    return why_not_decide(person, termination) or why_refused(
        payouts.refuse_sent_again_by,
        payouts.rejectable(termination.customer_id, locked=False),
        person,
    )


@dataclass(frozen=True, slots=True)
class Taking:
    """What ``confirm`` takes: the wallet's balance, payouts that nobody has sent, open orders.

    Payouts on their way it leaves to whoever settles them.
    """

    balance: Decimal
    payouts: list[Payout]
    orders: list[Order]
    on_their_way: list[Payout]

    @property
    def total(self) -> Decimal:
        """USD."""
        return self.balance + summed(self.payouts) + priced(self.orders)


def taking(customer_id: int) -> Taking:
    """What confirming the customer's termination would take now. Locks nothing."""
    waiting = payouts.rejectable(customer_id, locked=False)
    still_open = Payout.objects.filter(customer=customer_id, state__in=OPEN_PAYOUTS)
    return Taking(
        balance=Wallet.objects.get(pk=customer_id).balance,
        payouts=waiting,
        orders=list(_open_orders(customer_id).order_by("pk")),
        on_their_way=list(
            still_open.exclude(pk__in=[payout.pk for payout in waiting]).order_by("pk")
        ),
    )


def summed(found: Iterable[Payout]) -> Decimal:
    """What the payouts come to, USD."""
    return sum((payout.amount for payout in found), Decimal(0))


def priced(orders: Iterable[Order]) -> Decimal:
    """What the orders cost, USD."""
    return sum((order.price for order in orders), Decimal(0))


def _clause(termination: Termination) -> str:
    """The policy's sentence that a termination rests on: a claim has its own."""
    return ledger.TERMINATED if termination.claim_id is None else ledger.CHARGEBACK


def _open_orders(customer_id: int) -> QuerySet[Order]:
    return Order.objects.filter(customer=customer_id, state__in=OPEN)


def reject(
    person: Any, termination_id: int, *, reason: str, seen: int | None = None
) -> Termination:
    """Do not agree, as a second person: the wallet is let go, and its claim is open again.

    Raises PermissionDenied, ReasonMissing, DecisionUnknown, AlreadyDecided, OwnRequest.
    """
    require(person, "wallet.confirm_termination")
    with transaction.atomic():
        termination = lock_requested(Termination, termination_id, seen)
        decide(termination, person, given(reason))
        termination.reject()
        _come_to_nothing(termination, person, f"Rejected: {reason.strip()}")
        return termination


def withdraw(person: Any, termination_id: int, *, seen: int | None = None) -> Termination:
    """Take one's own request back, as ``reject``."""
    with transaction.atomic():
        termination = lock_requested(Termination, termination_id, seen)
        take_back(termination, person)
        termination.withdraw()
        _come_to_nothing(termination, person, "Withdrawn")
        return termination


def request_reinstatement(
    person: Any,
    termination_id: int,
    *,
    give_back: bool,
    reason: str,
    key: UUID,
    seen: int | None = None,
) -> Reinstatement:
    """Ask for a terminated customer to be let in again.

    ``give_back`` returns all that was forfeited, from the wallet and from open orders; otherwise it
    stays forfeited. Once per ``key``. Locks the person, the termination. Raises PermissionDenied,
    ReasonMissing, DecisionUnknown, Outdated, NotTerminated, RequestConflict.
    """
    require(person, "wallet.request_termination")
    reason = given(reason)
    with transaction.atomic():
        lock(person)
        termination = lock_requested(Termination, termination_id)
        content: dict[str, Any] = {
            "termination_id": termination.pk,
            "amount": termination.forfeited if give_back else Decimal(0),
            "reason": reason,
            "requested_by_id": person.pk,
        }
        if made := same_request(Reinstatement, key, **content):
            return made
        refuse_unless_shown(termination, seen, *_shown(termination))
        if why := why_not_reinstate(termination):
            raise NotTerminated(why)
        reinstatement = Reinstatement(request_key=key, requested_at=timezone.now(), **content)
        history.create([reinstatement], actor=Actor.person(person), reason=f"Requested: {reason}")
        return reinstatement


def why_not_reinstate(termination: Termination) -> str:
    """Why nobody is let in again from this termination now; "" if nothing stands in the way."""
    if termination.state != Decision.State.CONFIRMED or termination.reinstated:
        return f"{termination} is not in force, so nobody can be reinstated."
    if termination.reinstatements.filter(state=Decision.State.REQUESTED).exists():
        return f"A reinstatement from {termination} waits for its decision."
    return ""


def steps_of(termination: Termination) -> int:
    """What a termination's page shows of it and of its reinstatements."""
    return steps(*_shown(termination))


def _shown(termination: Termination) -> list[Shown]:
    asked = termination.reinstatements.values_list("pk", flat=True)
    return [(Termination, [termination.pk]), (Reinstatement, list(asked))]


def confirm_reinstatement(
    person: Any, reinstatement_id: int, *, reason: str = "", seen: int | None = None
) -> Reinstatement:
    """Agree, as a second person: the wallet is active again, with what is given back.

    Chargeback claims that ended with the account are open again, and keep it frozen. Locks the
    person, the reinstatement, the termination, the customer, the claims, the wallet. Raises
    PermissionDenied, DecisionUnknown, AlreadyDecided, OwnRequest.
    """
    require(person, "wallet.confirm_termination")
    with transaction.atomic():
        lock(person)
        reinstatement = lock_requested(Reinstatement, reinstatement_id, seen)
        decide(reinstatement, person, reason)
        termination = lock_requested(Termination, reinstatement.termination_id)
        actor = Actor.person(person)
        standing.lock_customer(termination.customer_id)
        ended = claims.lock_all(termination.customer_id, Claim.State.TERMINATED)
        wallet = standing.lock_wallet(termination.customer_id)
        claims.open_again(ended, actor, f"{reinstatement}: to be decided again")
        wallet.reinstate()
        standing.save(wallet, actor, f"Reinstated: {reinstatement.reason}")
        ground = telling.ground_of(termination)
        telling.note(wallet, What.REINSTATED, ground, reinstatement.amount)
        standing.hold_returned(wallet, actor)
        if reinstatement.amount:
            [reinstatement.transfer_id] = ledger.post(
                [
                    ledger.Posting(
                        kind=Transfer.Kind.REINSTATEMENT,
                        debit=Account.FORFEITURES,
                        credit=wallet.pk,
                        amount=reinstatement.amount,
                        key=f"reinstatement:{reinstatement.pk}",
                    )
                ]
            )
        reinstatement.confirm()
        history.save([reinstatement], [*DECIDED, "transfer"], actor=actor, reason="Confirmed")
        termination.reinstated = True
        history.save([termination], ["reinstated"], actor=actor, reason=f"By {reinstatement}")
        return reinstatement


def reject_reinstatement(
    person: Any, reinstatement_id: int, *, reason: str, seen: int | None = None
) -> Reinstatement:
    """Do not agree, as a second person: the customer stays terminated. Raises as ``reject``."""
    require(person, "wallet.confirm_termination")
    with transaction.atomic():
        reinstatement = lock_requested(Reinstatement, reinstatement_id, seen)
        decide(reinstatement, person, given(reason))
        reinstatement.reject()
        history.save(
            [reinstatement], DECIDED, actor=Actor.person(person), reason=f"Rejected: {reason}"
        )
        return reinstatement


def withdraw_reinstatement(
    person: Any, reinstatement_id: int, *, seen: int | None = None
) -> Reinstatement:
    """Take one's own request back. Raises DecisionUnknown, AlreadyDecided, OwnRequest."""
    with transaction.atomic():
        reinstatement = lock_requested(Reinstatement, reinstatement_id, seen)
        take_back(reinstatement, person)
        reinstatement.withdraw()
        history.save([reinstatement], DECIDED, actor=Actor.person(person), reason="Withdrawn")
        return reinstatement


def _refuse_request(wallet: Wallet) -> None:
    """Raise TerminationPending, and StandingRefused for a closed wallet."""
    _refuse_second(wallet.pk)
    if wallet.state == Wallet.State.CLOSED:
        raise standing.refused(wallet)


def _refuse_second(customer_id: int) -> None:
    live = (
        Termination.objects.filter(customer=customer_id, reinstated=False)
        .filter(state__in=[Decision.State.REQUESTED, Decision.State.CONFIRMED])
        .first()
    )
    if live is not None:
        raise TerminationPending(
            f"{live} of this customer is {live.get_state_display().lower()} already."
        )


def _forfeit(
    wallet: Wallet, orders: list[Order], termination: Termination, actor: Actor
) -> int | None:
    """Forfeit a locked wallet and locked open orders. Returns the wallet's transfer, if any."""
    now = timezone.now()
    postings = [
        ledger.Posting(
            kind=Transfer.Kind.FORFEITURE,
            debit=Account.ORDER_ESCROW,
            credit=Account.FORFEITURES,
            amount=order.price,
            key=f"forfeiture:{order.pk}",
        )
        for order in orders
    ]
    if wallet.balance:
        postings.append(
            ledger.Posting(
                kind=Transfer.Kind.FORFEITURE,
                debit=wallet.pk,
                credit=Account.FORFEITURES,
                amount=wallet.balance,
                key=f"termination:{termination.pk}",
            )
        )
    transfers = ledger.post(postings)
    for order, transfer_id in zip(orders, transfers, strict=False):
        order.forfeit(at=now)
        order.settlement_id = transfer_id
        if order.upstream_side == UpstreamSide.HELD:
            order.release(due_at=now)
    history.save(
        orders,
        ["state", "ended_at", "settlement", "upstream_side", "upstream_due_at"],
        actor=actor,
        reason=f"Forfeited by {termination}",
    )
    wallet.forfeit()
    standing.save(wallet, actor, f"Forfeited by {termination}: {termination.reason}")
    ground = telling.ground_of(termination)
    telling.note(wallet, What.TERMINATED, ground, termination.forfeited)
    return transfers[-1] if wallet.balance else None


def _come_to_nothing(termination: Termination, person: Any, reason: str) -> None:
    """Write a termination that was not confirmed, open its claim again, let the wallet go."""
    actor = Actor.person(person)
    history.save([termination], DECIDED, actor=actor, reason=reason)
    if termination.claim_id is not None:
        claim = Claim.objects.select_for_update(no_key=True).get(pk=termination.claim_id)
        claims.open_again([claim], actor, f"{termination} was not confirmed")
    wallet = standing.lock_wallet(termination.customer_id)
    why = f"Unfrozen: {termination} was not confirmed"
    standing.let_go(wallet, termination.froze, actor, why, telling.ground_of(termination))
