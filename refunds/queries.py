"""Reads of the refunds that several places share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Sum
from django.db.models.functions import ExtractHour
from django.utils import timezone

from refunds import policy
from refunds.models import Refund, Sweep
from refunds.policy import Outcome, Rule
from smsactivator.common.money import usd


@dataclass(slots=True)
class Refunded:
    """A clause's refunds on a day: their number, their sum in USD, their number by UTC hour."""

    clause: Rule
    count: int
    amount: Decimal
    by_hour: list[int]


def refunded_on(day: datetime) -> list[Refunded]:
    """What was refunded on the UTC day that begins at ``day``: every clause, in the policy's order.

    One query over the index of (created_at, clause): it costs what that day refunded.
    """
    rules = {rule.clause: rule for rule in policy.clauses(Outcome.AUTOMATIC, Outcome.TICKET)}
    # A version's rules stand in the order in which they are asked; the names in the text's order.
    in_order = [clause.value for clause in policy.Clause if clause in rules]
    clauses = {
        clause: Refunded(rules[clause], 0, usd(0), [0] * 24)
        for clause in dict.fromkeys([*in_order, *rules])
    }
    rows = (
        Refund.objects.filter(created_at__gte=day, created_at__lt=day + timedelta(days=1))
        .order_by()
        .values_list("clause", ExtractHour("created_at"))
        .annotate(count=Count("pk"), amount=Sum("amount"))
    )
    for clause, hour, count, amount in rows:
        refunded = clauses.setdefault(clause, Refunded(policy.rule(clause), 0, usd(0), [0] * 24))
        refunded.count += count
        refunded.amount += amount
        refunded.by_hour[hour] = count
    return list(clauses.values())


def last_sweep() -> Sweep | None:
    """The sweep that ran longest ago: the beat is as alive as the most neglected of its sweeps."""
    return Sweep.objects.order_by("finished_at").first()


def age(sweep: Sweep) -> timedelta:
    """How long ago the sweep finished."""
    return timezone.now() - sweep.finished_at
