"""The facts of an order, as the policy is asked about them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from orders.models import REFUNDED, Order, State
from orders.queries import last_word, placed_by_a_clock_ahead
from refunds import policy
from refunds.policy import Facts, Verdict
from smsactivator.common.moments import is_ahead
from wallet.models import Wallet


def facts_of(
    order: Order, *, reported: str = "", reported_by: str = "", at: datetime | None = None
) -> Facts:
    """What is known of an order now (or was at ``at``), with what is ``reported`` of it, by whom.

    An order that has ended is judged at its end; of its customer's account, what is known now,
    unless the price went back by itself. Four queries at most beside the order's row; a fifth
    for one that seems to be placed after now.
    """
    refunded = order.refunds.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)
    state = Wallet.objects.values_list("state", flat=True).get(pk=order.customer_id)
    return read(
        order,
        sms=order.messages.filter(late=False).count(),
        sms_ruled_out=is_sms_ruled_out(order),
        refunded=refunded,
        terminated=is_terminated(order, state),
        reported=reported,
        reported_by=reported_by,
        at=at,
        clock_behind=at is None and _is_our_clock_behind(order),
    )


def _is_our_clock_behind(order: Order) -> bool:
    """Whether an open order seems to be placed after now by our own clock alone.

    The database's has to agree, as it has for the refund. One that ended was judged by both.
    """
    now = timezone.now()
    if order.ended_at is not None or not is_ahead(
        order.placed_at, now, settings.ALLOCATION_TIMEOUT
    ):
        return False
    return not Order.objects.filter(placed_by_a_clock_ahead(now), pk=order.pk).exists()


def is_sms_ruled_out(order: Order) -> bool:
    """Whether no SMS in time can turn up any more; reads the order's upstream."""
    if order.ended_at is not None:
        return True
    return order.deadline is not None and order.deadline < last_word(order.upstream)


def is_terminated(order: Order, wallet_state: str) -> bool:
    """Whether the order's customer has lost the price, by the state of the wallet."""
    return wallet_state == Wallet.State.FORFEITED and order.state not in REFUNDED


def read(
    order: Order,
    *,
    sms: int,
    sms_ruled_out: bool,
    refunded: Decimal,
    terminated: bool,
    reported: str = "",
    reported_by: str = "",
    at: datetime | None = None,
    clock_behind: bool = False,
) -> Facts:
    """The facts of an order's row and of what was found beside it; asks the database nothing."""
    moment = at or order.ended_at or timezone.now()
    return Facts(
        at=moment,
        kind=order.kind,
        price=order.price,
        placed_at=order.placed_at,
        allocated_at=order.allocated_at,
        deadline=order.deadline,
        first_sms_at=order.first_sms_at,
        rental_ends_at=order.rental_ends_at,
        ended_at=order.ended_at,
        refused_at=order.refused_at,
        refusal_code=order.refusal_code,
        broken_at=order.broken_at,
        broken_signal=order.broken_signal,
        cancelled=order.state == State.CANCELLED,
        allocation_timed_out=(
            order.allocated_at is None
            and (
                moment - order.placed_at > settings.ALLOCATION_TIMEOUT
                or (
                    not clock_behind
                    and is_ahead(order.placed_at, moment, settings.ALLOCATION_TIMEOUT)
                )
            )
        ),
        sms_ruled_out=sms_ruled_out,
        terminated=terminated or order.state == State.FORFEITED,
        sms=sms,
        refunded=refunded,
        reported=reported,
        reported_by=reported_by,
    )


def verdict_on(order: Order, facts: Facts) -> Verdict:
    """What the policy says, by the version in force when the order was placed."""
    return policy.in_force(order.placed_at).verdict(facts)
