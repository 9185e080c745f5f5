"""The automatic refunds: one verb for each automatic clause of the policy.

Each claims orders that the clause covers, takes them through their transition, moves their prices
from escrow to their wallets and writes the refunds and the history: a fixed number of statements in
one transaction, whatever the size of the batch. What another process holds is left to it (SKIP
LOCKED); what a dead one left behind is simply found again.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django_fsm import TransitionNotAllowed, can_proceed

from orders.locking import claim, lock_one
from orders.models import REFUNDED, Order, State, UpstreamSide
from orders.queries import overdue_by_upstream, placed_by_a_clock_ahead
from refunds import policy
from refunds.models import Sweep
from refunds.policy import Clause, Outcome, Version
from smsactivator.common import history
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from wallet import ledger
from wallet.models import Account, Transfer

log = logging.getLogger(__name__)

# Large enough that statements cost little, small enough that no wallet is locked for long.
BATCH = 10_000
SWEEP = Actor.automatic("refund sweep")
REASONS = {
    Clause.NO_SMS_IN_TIME: "No SMS arrived by the deadline",
    Clause.CANCELLED_BEFORE_SMS: "Cancelled by the customer before any SMS",
    Clause.NUMBER_BROKEN: "The upstream reported the number broken",
    Clause.ALLOCATION_FAILED: "No number could be allocated",
}
TRANSITIONS: dict[Clause, Callable[..., None]] = {
    Clause.NO_SMS_IN_TIME: Order.expire,
    Clause.CANCELLED_BEFORE_SMS: Order.cancel,
    Clause.NUMBER_BROKEN: Order.break_number,
    Clause.ALLOCATION_FAILED: Order.fail_allocation,
}


# What the ledger, the database and the state machine say of an order whose data are wrong.
CONTRADICTIONS = (Refused, IntegrityError, TransitionNotAllowed)


class SmsArrived(Refused):
    """An SMS has arrived, so the order was delivered and cannot be cancelled."""

    code = "sms_received"


class NotPromised(Refused):
    """The version of the policy that an order was placed under does not refund this by itself."""

    code = "not_promised"


class AlreadyEnded(Refused):
    """The order has ended and its money went back already."""

    code = "already_ended"


class OrderForfeited(Refused):
    """The customer was terminated: the price is forfeited."""

    code = "order_forfeited"
    status = 403


def refund_expired(limit: int = BATCH) -> int:
    """Refund orders that got no SMS by their deadline. Returns how many.

    Policy, automatic: "No SMS within the 20-minute SLA — the order auto-cancels and the full price
    is credited back to the wallet." An order is taken when its upstream was looked at after the
    deadline, or could not be looked at for a grace period: an SMS that was there in time wins. One
    whose number broke is left to ``refund_broken``, whichever of the two comes first.
    """
    for condition in overdue_by_upstream():
        due = _orders("deadline").filter(condition, broken_at=None).order_by("deadline")
        if refunded := _refund_due(due, Clause.NO_SMS_IN_TIME, limit):
            return refunded
    return 0


def refund_broken(limit: int = BATCH) -> int:
    """Refund orders whose numbers their upstream reported broken. Returns how many.

    Policy, automatic: "The allocated number is reported broken / dead by the upstream — full
    refund."
    """
    broken = (
        _orders("broken_at")
        .filter(state__in=[State.AWAITING_SMS, State.ACTIVE], broken_at__isnull=False)
        .order_by("broken_at")
    )
    return _refund_due(broken, Clause.NUMBER_BROKEN, limit)


def refund_unallocated(limit: int = BATCH) -> int:
    """Refund orders that the upstream refused or that were not allocated in time. Returns how many.

    Policy, automatic: "Allocation failure on our side (the order was never actually fulfilled) —
    full refund."
    """
    now = timezone.now()
    too_old = Q(placed_at__lt=now - settings.ALLOCATION_TIMEOUT)
    # Placed by a clock that was ahead, and not allocated by any that is right.
    too_old |= placed_by_a_clock_ahead(now)
    unallocated = (
        _orders()
        .filter(too_old | Q(refused_at__isnull=False), state=State.PLACED)
        .order_by("placed_at")
    )
    return _refund_due(unallocated, Clause.ALLOCATION_FAILED, limit)


def cancel(order_id: int, *, actor: Actor) -> Order:
    """Cancel an order for its customer and refund it at once. Cancelling twice is harmless.

    Policy, automatic: "You cancel the order before any SMS arrives — full refund, processed
    instantly." Locks the order, then the wallet. Raises OrderUnknown; SmsArrived after an SMS,
    AlreadyEnded after another refund, OrderForfeited after a termination, NotPromised.
    """
    with transaction.atomic():
        order = lock_one(order_id)
        if order.state == State.CANCELLED:
            return order
        if not can_proceed(order.cancel):
            raise _why_not_cancelled(order)
        _refund([order], Clause.CANCELLED_BEFORE_SMS, actor)
        return order


def sweep() -> int:
    """Refund all that is due now, batch by batch. Returns how many orders; records the Sweep."""
    refunded = 0
    for refund in (refund_expired, refund_broken, refund_unallocated):
        while done := refund():
            refunded += done
    Sweep.objects.update_or_create(
        name="refunds", defaults={"finished_at": timezone.now(), "refunded": refunded}
    )
    return refunded


def _orders(*guarded_by: str) -> QuerySet[Order]:
    """Orders with what their refund reads of them: a batch is large, and a row is wide."""
    return Order.objects.only(
        "customer",
        "price",
        "state",
        "placed_at",
        "first_sms_at",
        "upstream_side",
        "upstream_due_at",
        *guarded_by,
    )


def _refund_due(due: QuerySet[Order], clause: Clause, limit: int) -> int:
    """Refund up to ``limit`` of the orders in one transaction. Returns how many.

    An order whose data contradict themselves must not keep the others from their money: when the
    batch is refused it is taken apart, and the order alone is left behind and logged at error. It
    then stays due, which /healthz reports.
    """
    try:
        with _no_cycles_looked_for(), transaction.atomic():
            return _refund(claim(due, limit), clause, SWEEP)
    except CONTRADICTIONS:
        log.exception("a batch of refunds was refused; it is taken apart (%s)", clause)
    return _refund_apart(due, list(due.values_list("pk", flat=True)[:limit]), clause)


@contextmanager
def _no_cycles_looked_for() -> Iterator[None]:
    """Pause the garbage collector: a batch makes ten thousands of objects, and none in a cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _refund_apart(due: QuerySet[Order], order_ids: Sequence[int], clause: Clause) -> int:
    """Refund the orders in halves, and halves of halves, until what is refused stands alone."""
    try:
        with transaction.atomic():
            return _refund(claim(due.filter(pk__in=order_ids), len(order_ids)), clause, SWEEP)
    except CONTRADICTIONS as error:
        if len(order_ids) == 1:
            log.error("order %s cannot be refunded: %s", order_ids[0], error)  # noqa: TRY400
            return 0
    middle = len(order_ids) // 2
    return _refund_apart(due, order_ids[:middle], clause) + _refund_apart(
        due, order_ids[middle:], clause
    )


def _refund(orders: Sequence[Order], clause: Clause, actor: Actor) -> int:
    """Refund locked orders in full under one clause. Raises TransitionNotAllowed, NotPromised."""
    if not orders:
        return 0
    versions = [policy.in_force(order.placed_at) for order in orders]
    _refuse_unless_promised(orders, versions, clause)
    now = timezone.now()
    states_before = [order.state for order in orders]
    transition = TRANSITIONS[clause]
    for order in orders:
        transition(order, at=now)
        if order.upstream_side == UpstreamSide.HELD:
            order.release(due_at=now)
    transfers = ledger.post(
        [
            ledger.Posting(
                kind=Transfer.Kind.AUTOMATIC_REFUND,
                debit=Account.ORDER_ESCROW,
                credit=order.customer_id,
                amount=order.price,
                key=f"refund:auto:{order.pk}",
            )
            for order in orders
        ]
    )
    for order, transfer_id in zip(orders, transfers, strict=True):
        order.settlement_id = transfer_id
    history.save(
        orders,
        ["state", "ended_at", "settlement", "upstream_side", "upstream_due_at"],
        actor=actor,
        reason=REASONS[clause],
    )
    _write_refunds(orders, states_before, versions, clause, now)
    return len(orders)


def _refuse_unless_promised(
    orders: Sequence[Order], versions: Sequence[Version], clause: Clause
) -> None:
    """A refund names a clause of the version that its order was placed under. Raises NotPromised.

    Only that the version has the clause is asked; when it covers an order is said by the queries
    above, faster, and the tests hold that they agree.
    """
    promised: dict[str, bool] = {}
    for order, version in zip(orders, versions, strict=True):
        if version.name not in promised:
            rule = version.rule(clause)
            promised[version.name] = rule is not None and rule.outcome == Outcome.AUTOMATIC
        if not promised[version.name]:
            raise NotPromised(
                f"Version {version.name} of the policy, which order {order.pk} was placed under, "
                f"has no automatic refund {clause}."
            )


def _write_refunds(
    orders: Sequence[Order],
    states_before: Sequence[str],
    versions: Sequence[Version],
    clause: Clause,
    now: datetime,
) -> None:
    """The refunds of saved orders, with the facts as the orders' rows hold them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO refunds_refund (
                order_id, transfer_id, amount, facts, clause, policy_version, created_at
            )
            SELECT bought.id, bought.settlement_id, bought.price,
                jsonb_build_object(
                    'state', refunded.state_before,
                    'price', bought.price::text,
                    'placed_at', bought.placed_at,
                    'allocated_at', bought.allocated_at,
                    'deadline', bought.deadline,
                    'first_sms_at', bought.first_sms_at,
                    'refusal_code', bought.refusal_code,
                    'broken_at', bought.broken_at,
                    'broken_signal', bought.broken_signal,
                    'upstream_looked_at', upstream.looked_at,
                    'upstream_failing_since', upstream.failing_since
                ),
                %s, refunded.policy_version, %s
            FROM unnest(%s::bigint[], %s::text[], %s::text[])
                AS refunded(order_id, state_before, policy_version)
            JOIN orders_order AS bought ON bought.id = refunded.order_id
            JOIN orders_upstream AS upstream ON upstream.id = bought.upstream_id
            """,
            [
                clause,
                now,
                [order.pk for order in orders],
                list(states_before),
                [version.name for version in versions],
            ],
        )


def _why_not_cancelled(order: Order) -> Refused:
    if order.state in REFUNDED:
        return AlreadyEnded(
            f"Order {order.pk} ended as {State(order.state).label.lower()} and its price went back "
            "to the wallet already."
        )
    if order.state == State.FORFEITED:
        return OrderForfeited(
            f"Order {order.pk} was forfeited when the account was terminated. "
            f"{ledger.terminated_by(order.customer_id)}"
        )
    return SmsArrived(
        f"Order {order.pk} received an SMS, so it was delivered and can no longer be cancelled. "
        "If the SMS did not serve its purpose, write to support."
    )
