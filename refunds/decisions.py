"""Decided refunds: one person asks for the price of a delivered order, or a part of it; another
approves or denies.

Policy: "When refunds need a ticket". An approval credits the wallet in the same transaction: out of
sales, never more than the order's price in total. What the policy does not refund can be approved
as goodwill only, by a senior agent, and comes out of goodwill.

Locks are taken in one order: the person, the request, the order, the wallet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Permission
from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet, Sum
from django.utils import timezone
from django_fsm import can_proceed

from orders import delivery
from orders.locking import lock_one
from orders.models import DELIVERED, OPEN, Offer, Order, State
from refunds import policy
from refunds.facts import facts_of
from refunds.models import Refund, RefundRequest
from refunds.policy import Outcome
from smsactivator.common import history
from smsactivator.common.errors import Invalid, NotFound, Refused, why_refused
from smsactivator.common.history import Actor
from smsactivator.common.money import SMALLEST, usd
from wallet import corrections, ledger
from wallet.deciding import AlreadyDecided, OwnRequest, given, same_request
from wallet.limits import Room, hold, lock, require, room
from wallet.models import Account, Correction, RoleLimit, Transfer, Wallet

_TICK = timedelta(microseconds=1)
DECIDED = ("state", "decided_by", "decided_at", "decision_reason", "against_verdict")
WAITING = (RefundRequest.State.REQUESTED, RefundRequest.State.ESCALATED)
DENIED = (
    RefundRequest.State.DENIED,
    RefundRequest.State.DISPUTED,
    RefundRequest.State.UPHELD,
    RefundRequest.State.DISMISSED,
)
_BECAME = {
    RefundRequest.State.WITHDRAWN: "withdrawn",
    RefundRequest.State.APPROVED: "approved and credited",
    RefundRequest.State.DENIED: "denied",
    RefundRequest.State.UPHELD: "denied, disputed, and the denial was upheld",
    RefundRequest.State.OVERTURNED: "denied, disputed, and then granted and credited",
    RefundRequest.State.DISMISSED: "denied, and the reply was dismissed as no dispute",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What came after a final decision: its name, for whoever reads this in years, and when."""

    name: str
    at: datetime


class NotDelivered(Refused):
    """Only what was delivered is refunded by a person; the rest refunds itself."""

    code = "not_delivered"


class AboveThePrice(Refused):
    """More than is left of the order's price."""

    code = "above_the_price"


class AmountRefused(Invalid):
    """The amount is not one that a refund can have."""

    code = "amount_refused"


class ClauseRefused(Invalid):
    """The clause is not one that a person decides under."""

    code = "clause_refused"


class AlreadyRequested(Refused):
    """A refund of the order is being decided."""

    code = "already_requested"


class DeniedBefore(Refused):
    """The same was asked of the order before and denied: the customer can dispute that, once."""

    code = "denied_before"


class FinallyDecided(DeniedBefore):
    """A dispute about the order was decided for good: only a further request opens it again."""

    code = "finally_decided"


class EvidenceRefused(Invalid):
    """A further request names evidence that came after the final decision, and no other does."""

    code = "evidence_refused"


class RequestUnknown(NotFound):
    """There is no such request."""

    code = "unknown_request"


class WaitsForSenior(Refused):
    """The request was passed to a senior agent."""

    code = "waits_for_senior"
    status = 403


class GoodwillOnly(Refused):
    """The clause is not refundable, and this person may not give goodwill."""

    code = "goodwill_only"
    status = 403


class VerdictReasonMissing(Invalid):
    """A decision against the policy's verdict says why."""

    code = "verdict_reason_missing"


def request(
    person: Any,
    order_id: int,
    *,
    amount: Decimal,
    clause: str,
    reason: str,
    key: UUID,
    evidence: Evidence | None = None,
) -> RefundRequest:
    """Ask for ``amount`` USD of a delivered order's price. Nothing moves until it is approved.

    Once per ``key``. The policy's verdict is asked now and kept. What no agent may approve waits
    for a senior agent from the start (``needs_senior``). Where a decision on the order was final,
    only a senior agent who took no part asks, with ``evidence`` that came after it. Locks the
    person, the order. Raises PermissionDenied, ClauseRefused, AmountRefused, ReasonMissing,
    OrderUnknown, NotDelivered, AboveThePrice, AlreadyRequested while another request of the order
    is open, DeniedBefore, FinallyDecided, EvidenceRefused, OwnRequest, RequestConflict.
    """
    require(person, "refunds.request_refund")
    if evidence is not None:
        require(person, "refunds.resolve_dispute")
        if not evidence.name.strip():
            raise EvidenceRefused("Name the new evidence.")
    reason = given(reason)
    amount = _exact(amount)
    with transaction.atomic():
        lock(person)
        content: dict[str, Any] = {
            "order_id": order_id,
            "amount": amount,
            "clause": clause,
            "reason": reason,
            "requested_by_id": person.pk,
            "evidence": evidence.name if evidence else "",
            "evidence_at": evidence.at if evidence else None,
        }
        if made := same_request(RefundRequest, key, **content):
            return made
        order = lock_one(order_id)
        version = policy.in_force(order.placed_at)
        rule = version.rule(clause)
        if rule is None or rule.outcome not in {Outcome.TICKET, Outcome.NOT_REFUNDABLE}:
            raise ClauseRefused("Choose the clause of the policy that the ticket falls under.")
        _refuse_undecided(order)
        ruling = _final_decision(order, person, evidence)
        if ruling is None:
            _refuse_denied(order, clause)
        _refuse_if_not_refundable(order, amount, as_goodwill=rule.outcome == Outcome.NOT_REFUNDABLE)
        facts = facts_of(order, reported=clause, reported_by=person.get_username())
        verdict = version.verdict(facts)
        asked = RefundRequest(
            request_key=key,
            requested_at=timezone.now(),
            policy_version=version.name,
            facts=facts.as_json(),
            verdict=verdict.outcome,
            verdict_clause=verdict.clause,
            verdict_why=verdict.why,
            further_to=ruling,
            **content,
        )
        actor = Actor.person(person)
        how = "Requested" if ruling is None else "Requested further to a final decision"
        try:
            with transaction.atomic():
                history.create([asked], actor=actor, reason=f"{how}: {reason}")
        except IntegrityError:
            # Somebody else's form has the same key, or the order's row was not locked elsewhere.
            same_request(RefundRequest, key, **content)
            _refuse_undecided(order)
            raise
        if why := needs_senior(asked):
            asked.escalate()
            history.save([asked], ["state"], actor=actor, reason=f"Escalated: {why}")
        return asked


def escalate(person: Any, request_id: int, *, reason: str) -> RefundRequest:
    """Pass a request to a senior agent. Locks the request.

    Raises PermissionDenied, ReasonMissing, RequestUnknown, AlreadyDecided.
    """
    require(person, "refunds.request_refund")
    reason = given(reason)
    with transaction.atomic():
        asked = lock_request(request_id)
        if not can_proceed(asked.escalate):
            raise decided_already(asked)
        asked.escalate()
        history.save([asked], ["state"], actor=Actor.person(person), reason=f"Escalated: {reason}")
        return asked


def approve(person: Any, request_id: int, *, reason: str = "") -> RefundRequest:
    """Agree, as another person than the one who asked: the wallet is credited in this transaction.

    An active rental is ended first: it was found dead, and its price must be in sales. ``reason``
    is asked for when the policy's verdict is against it. Locks the person, the request, the order,
    the wallet. Raises PermissionDenied, RequestUnknown, AlreadyDecided, OwnRequest, WaitsForSenior,
    GoodwillOnly, VerdictReasonMissing, OverLimit, NotDelivered, AboveThePrice, and what the
    wallet's state refuses: a terminated customer gets nothing.
    """
    require(person, "refunds.decide_refund")
    with transaction.atomic():
        lock(person)
        asked = _lock_undecided(person, request_id)
        if asked.requested_by_id == person.pk:
            raise OwnRequest("You requested this yourself, so somebody else approves it.")
        if asked.further_to_id is not None:
            refuse_part(asked, person)
        refuse_ruled_meanwhile(asked)
        _refuse_goodwill(asked, person)
        asked.against_verdict = is_against(asked)
        if asked.against_verdict and not reason.strip():
            raise VerdictReasonMissing(
                f"The policy's verdict is against this ({asked.verdict_why}): say why."
            )
        _note(asked, person, reason)
        asked.approve()
        credit(asked, person, asked.decision_reason or asked.reason, DECIDED, "Approved")
        return asked


@dataclass(frozen=True, slots=True)
class Rooms:
    """What a person may decide on at all, read once for a page of requests."""

    refunds: Room
    goodwill: Room

    def why_not(self, person: Any, asked: RefundRequest, wallet: Wallet) -> str:
        """Why this person does not grant what is asked, whoever asked; "" if nothing keeps them."""
        if why := why_refused(_refuse_goodwill, asked, person):
            return why
        if wallet.state == Wallet.State.FORFEITED:
            return ledger.WalletForfeited(wallet.pk).message
        if wallet.state == Wallet.State.CLOSED:
            return ledger.WalletClosed(wallet.pk).message
        return (self.goodwill if is_goodwill(asked) else self.refunds).why_not(asked.amount)

    def why_not_deny(self, person: Any, asked: RefundRequest) -> str:
        """Why this person does not deny what waits; "" if nothing keeps them."""
        if person.has_perm("refunds.decide_escalated_refund") or asked.amount <= self.refunds.each:
            return ""
        return self.refunds.why_not(asked.amount)


def rooms(person: Any) -> Rooms:
    """The person's room for decisions on refunds now; locks nothing."""
    return Rooms(
        room(person, RoleLimit.Decision.DECIDED_REFUND, lambda since: _used(person, since)),
        room(
            person,
            RoleLimit.Decision.GOODWILL,
            corrections.confirmed_by(person, Correction.Kind.GOODWILL),
        ),
    )


def deny(person: Any, request_id: int, *, reason: str) -> RefundRequest:
    """Say no, also to one's own request. The customer may dispute it once.

    An agent denies no more than the agent may approve; one's own request under a clause that is not
    refundable needs no senior agent for that. Locks the person, the request. Raises
    PermissionDenied, ReasonMissing, RequestUnknown, AlreadyDecided, WaitsForSenior, OverLimit.
    """
    require(person, "refunds.decide_refund")
    reason = given(reason)
    with transaction.atomic():
        lock(person)
        asked = _lock_undecided(person, request_id, to_deny=True)
        if asked.further_to_id is not None:
            refuse_part(asked, person)
        if not person.has_perm("refunds.decide_escalated_refund"):
            # Nothing moves, so the day's limit stays as it is.
            limit = RoleLimit.Decision.DECIDED_REFUND
            hold(person, limit, asked.amount, lambda _since: Decimal(0))
        asked.against_verdict = asked.verdict == Outcome.AUTOMATIC
        _note(asked, person, reason)
        asked.deny()
        history.save([asked], DECIDED, actor=Actor.person(person), reason=f"Denied: {reason}")
        return asked


def withdraw(person: Any, request_id: int) -> RefundRequest:
    """Take one's own request back. Locks the request.

    Raises PermissionDenied, RequestUnknown, AlreadyDecided, OwnRequest.
    """
    require(person, "refunds.request_refund")
    with transaction.atomic():
        asked = lock_request(request_id)
        if not can_proceed(asked.withdraw):
            raise decided_already(asked)
        if asked.requested_by_id != person.pk:
            raise OwnRequest("Only the one who requested this can withdraw it. You can deny it.")
        _note(asked, person, "")
        asked.withdraw()
        history.save([asked], DECIDED, actor=Actor.person(person), reason="Withdrawn")
        return asked


def lock_request(request_id: int) -> RefundRequest:
    """The request, locked FOR NO KEY UPDATE. Raises RequestUnknown."""
    found = RefundRequest.objects.select_for_update(no_key=True).filter(pk=request_id).first()
    if found is None:
        raise RequestUnknown(f"There is no refund request {request_id}.")
    return found


def decided_already(asked: RefundRequest) -> AlreadyDecided:
    """What became of a request that is not waiting any more, for whoever comes too late."""
    state = RefundRequest.State(asked.state)
    if state in WAITING:
        return AlreadyDecided(f"{asked} is not decided yet: {state.label.lower()}.")
    if state == RefundRequest.State.DISPUTED:
        return AlreadyDecided(
            f"{asked} was denied by {asked.decided_by} and disputed at {_utc(asked.disputed_at)}: "
            "a senior agent who took no part decides."
        )
    by, at = asked.resolved_by or asked.decided_by, asked.resolved_at or asked.decided_at
    final = "" if asked.resolved_at is None else " That is final."
    return AlreadyDecided(f"{asked} was {_BECAME[state]} by {by} at {_utc(at)}.{final}")


def is_against(asked: RefundRequest) -> bool:
    """Whether approving it goes against the policy's verdict on its facts."""
    return asked.verdict != Outcome.TICKET or asked.verdict_clause != asked.clause


def is_goodwill(asked: RefundRequest) -> bool:
    """Whether it can be granted as goodwill only: its clause is not refundable."""
    rule = policy.rule(asked.clause, asked.policy_version)
    return rule.outcome == Outcome.NOT_REFUNDABLE


def needs_senior(asked: RefundRequest) -> str:
    """Why only a senior agent may approve it, or "": it is goodwill, it is above the limit of every
    role that decides what is not escalated, or a refund of the order was denied before.
    """
    if is_goodwill(asked):
        return "the policy does not refund this, so it can be goodwill only"
    if asked.further_to_id is not None:
        return "an earlier decision on this order was final"
    if RefundRequest.objects.filter(order=asked.order_id, state__in=DENIED).exists():
        return "a refund of this order was denied before"
    may_decide = Permission.objects.filter(
        content_type__app_label="refunds", codename="decide_refund"
    )
    of_seniors = Permission.objects.filter(
        content_type__app_label="refunds", codename="decide_escalated_refund"
    )
    most = (
        RoleLimit.objects.filter(
            decision=RoleLimit.Decision.DECIDED_REFUND, role__permissions__in=may_decide
        )
        .exclude(role__permissions__in=of_seniors)
        .aggregate(most=Max("each"))["most"]
    )
    return "" if asked.amount <= (most or Decimal(0)) else "above what an agent may approve"


def left_to_refund(order: Order) -> Decimal:
    """What is left of the price of a delivered order or an active rental, USD; 0 of any other."""
    if order.state not in DELIVERED and not _is_active_rental(order):
        return Decimal(0)
    refunded = order.refunds.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)
    given_as_goodwill = order.refund_requests.filter(goodwill__isnull=False).aggregate(
        sum=Sum("amount")
    )["sum"] or Decimal(0)
    return usd(order.price - refunded - given_as_goodwill)


def suggested_amount(order: Order, lost_since: datetime) -> Decimal:
    """What to refund, USD: ``suggested_part`` of the price, and never more than is left of it."""
    return min(left_to_refund(order), suggested_part(order, lost_since))


def suggested_part(order: Order, lost_since: datetime) -> Decimal:
    """What the time that was lost comes to, USD: of a rental the price pro rata from ``lost_since``
    to its end, to four places; of an activation the price.
    """
    begins, ends = order.allocated_at, order.rental_ends_at
    if order.kind != Offer.Kind.RENTAL or begins is None or ends is None or ends <= begins:
        return usd(order.price)
    lost = ends - min(max(lost_since, begins), ends)
    part: Decimal = order.price * (Decimal(lost // _TICK) / Decimal((ends - begins) // _TICK))
    return part.quantize(SMALLEST, ROUND_HALF_UP)


def credit(
    asked: RefundRequest, person: Any, reason: str, fields: tuple[str, ...], done: str
) -> None:
    """Move the money of a locked request that ``person`` has just granted, and write it.

    ``fields`` are what the decision changed on the request. Locks the order, then the wallet.
    Raises GoodwillOnly, OverLimit, NotDelivered, AboveThePrice, and what the wallet refuses.
    """
    actor = Actor.person(person)
    words = f"{done}: {reason}"
    if is_goodwill(asked):
        _refuse_goodwill(asked, person)
        order = lock_one(asked.order_id)
        _refuse_if_not_refundable(order, asked.amount, as_goodwill=True)
        asked.goodwill = corrections.grant_goodwill(
            person,
            asked.requested_by_id,
            order.customer_id,
            amount=asked.amount,
            reason=f"{asked} of order {order.pk}: {reason}",
        )
        history.save([asked], (*fields, "goodwill"), actor=actor, reason=words)
        return
    limit = RoleLimit.Decision.DECIDED_REFUND
    hold(person, limit, asked.amount, lambda since: _used(person, since))
    order = lock_one(asked.order_id)
    _refuse_if_not_refundable(order, asked.amount)
    if _is_active_rental(order):
        delivery.cut_short(order, actor=actor, reason=f"Found dead: {asked}")
    [transfer_id] = ledger.post(
        [
            ledger.Posting(
                kind=Transfer.Kind.DECIDED_REFUND,
                debit=Account.SALES,
                credit=order.customer_id,
                amount=asked.amount,
                key=f"refund:decided:{asked.pk}",
            )
        ]
    )
    history.save([asked], fields, actor=actor, reason=words)
    Refund.objects.create(
        order=order,
        request=asked,
        transfer_id=transfer_id,
        part=(order.refunds.aggregate(last=Max("part"))["last"] or 0) + 1,
        clause=asked.clause,
        policy_version=asked.policy_version,
        facts=asked.facts,
        amount=asked.amount,
        created_at=timezone.now(),
        decided_by=person,
        reason=reason,
    )


def _lock_undecided(person: Any, request_id: int, *, to_deny: bool = False) -> RefundRequest:
    asked = lock_request(request_id)
    if asked.state not in WAITING:
        raise decided_already(asked)
    # What the policy does not refund is denied by whoever found it so, without a senior agent.
    by_the_policy = to_deny and asked.requested_by_id == person.pk and is_goodwill(asked)
    if (
        asked.state == RefundRequest.State.ESCALATED
        and not by_the_policy
        and not person.has_perm("refunds.decide_escalated_refund")
    ):
        raise WaitsForSenior(f"{asked} waits for a senior agent.")
    return asked


def _refuse_goodwill(asked: RefundRequest, person: Any) -> None:
    if is_goodwill(asked) and not person.has_perm("refunds.grant_goodwill_refund"):
        raise GoodwillOnly(
            "The policy does not refund under this clause. A senior agent can grant it as "
            "goodwill, with a reason."
        )


def _note(asked: RefundRequest, person: Any, reason: str) -> None:
    asked.decided_by = person
    asked.decided_at = timezone.now()
    asked.decision_reason = reason.strip()


def _refuse_if_not_refundable(order: Order, amount: Decimal, *, as_goodwill: bool = False) -> None:
    """Raises NotDelivered, AboveThePrice.

    Goodwill ends no rental, and on one that is under way the full price could still come back.
    """
    if order.state in OPEN and order.broken_at is not None:
        raise NotDelivered(
            f"The upstream reported the number of order {order.pk} broken: the full price goes "
            "back by itself."
        )
    if order.state not in DELIVERED and (as_goodwill or not _is_active_rental(order)):
        raise NotDelivered(_why_not(order))
    left = left_to_refund(order)
    if amount > left:
        raise AboveThePrice(
            f"{left} USD of the price of order {order.pk} are left to refund, not {amount} USD."
        )


def ruled(order_id: int) -> QuerySet[RefundRequest]:
    """The requests of an order that were decided for good after a dispute, the newest first."""
    return RefundRequest.objects.filter(order=order_id, resolved_at__isnull=False).order_by(
        "-resolved_at", "-pk"
    )


def refuse_part(asked: RefundRequest, person: Any) -> None:
    """Raise OwnRequest for who took part in a final decision on the same order."""
    _refuse_part(ruled(asked.order_id).exclude(pk=asked.pk), person)


def took_part(person: Any, *rulings: RefundRequest) -> bool:
    """Whether a person asked for, decided or resolved one of these."""
    return any(
        person.pk in {one.requested_by_id, one.decided_by_id, one.resolved_by_id} for one in rulings
    )


def _refuse_part(rulings: Iterable[RefundRequest], person: Any) -> None:
    if took_part(person, *rulings):
        raise OwnRequest(
            "You took part in the earlier decision on this order, so a senior agent who did not "
            "looks at it again."
        )


def _final_decision(order: Order, person: Any, evidence: Evidence | None) -> RefundRequest | None:
    """The final decision on a locked order that a request goes further to, if there is one.

    Raises FinallyDecided without evidence, EvidenceRefused, OwnRequest for who took part.
    """
    rulings = list(ruled(order.pk).select_related("decided_by", "resolved_by"))
    if not rulings:
        if evidence is not None:
            raise EvidenceRefused(
                f"No decision on order {order.pk} is final: ask for the refund as usual."
            )
        return None
    ruling = rulings[0]
    if evidence is None:
        raise _final(ruling)
    _refuse_part(rulings, person)
    assert ruling.resolved_at is not None  # noqa: S101 - asked for
    if evidence.at <= ruling.resolved_at:
        raise EvidenceRefused(
            f"{evidence.name} came before the decision of {_utc(ruling.resolved_at)}: name what "
            "came after it."
        )
    return ruling


def refuse_ruled_meanwhile(asked: RefundRequest) -> None:
    """Raises FinallyDecided when another request of the order was denied for good meanwhile."""
    if rulings := ruled_meanwhile(asked, ruled(asked.order_id)):
        raise _final(rulings[0])


def ruled_meanwhile(asked: RefundRequest, rulings: Iterable[RefundRequest]) -> list[RefundRequest]:
    """Which of these denied the order for good after this was asked for, and before it was
    disputed, if it was: what was disputed before that goes on.
    """
    return [
        ruling
        for ruling in rulings
        if ruling.state in {RefundRequest.State.UPHELD, RefundRequest.State.DISMISSED}
        and ruling.resolved_at is not None
        and ruling.resolved_at > asked.requested_at
        and (asked.disputed_at is None or ruling.resolved_at < asked.disputed_at)
    ]


def _final(ruling: RefundRequest) -> FinallyDecided:
    return FinallyDecided(
        f"{decided_already(ruling).message} It is not asked a second time. Only a senior agent who "
        "took no part can open a further request, with a reason and new evidence that came after "
        "the decision."
    )


def _refuse_undecided(order: Order) -> None:
    """Raises AlreadyRequested while a request of the locked order is to be decided."""
    others = RefundRequest.objects.filter(order=order)
    undecided = others.filter(state__in=[*WAITING, RefundRequest.State.DISPUTED]).first()
    if undecided is not None:
        raise AlreadyRequested(
            f"{undecided} of order {order.pk} is to be decided first: "
            f"{undecided.get_state_display().lower()}."
        )


def _refuse_denied(order: Order, clause: str) -> None:
    """Raises DeniedBefore for a clause that was denied. Only a rental has the same trouble anew."""
    denied = (
        RefundRequest.objects.filter(order=order, state=RefundRequest.State.DENIED, clause=clause)
        .order_by("pk")
        .last()
    )
    if denied is not None and order.kind != Offer.Kind.RENTAL:
        raise DeniedBefore(
            f"{decided_already(denied).message} It is not asked a second time. The customer can "
            "dispute it by a reply."
        )


def _is_active_rental(order: Order) -> bool:
    # One whose number was reported broken refunds itself.
    return bool(order.state == State.ACTIVE and order.broken_at is None)


def _why_not(order: Order) -> str:
    state = State(order.state)
    if state in OPEN:
        return (
            f"Order {order.pk} is {state.label.lower()}: its price is still in escrow and goes "
            "back by itself if it fails. Decide when it has ended."
        )
    if state == State.FORFEITED:
        return f"Order {order.pk} was forfeited. {ledger.terminated_by(order.customer_id)}"
    return f"Order {order.pk} ended as {state.label.lower()} and its price went back already."


def _used(person: Any, since: datetime) -> Decimal:
    made = Refund.objects.filter(decided_by=person, created_at__gte=since)
    return made.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)


def _utc(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "an unknown time"


def _exact(amount: Decimal) -> Decimal:
    try:
        exact = usd(amount)
    except ValueError as error:
        raise AmountRefused(f"{error}.") from None
    if exact <= 0:
        raise AmountRefused("A refund is more than 0 USD.")
    return exact
