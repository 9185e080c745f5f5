"""What a version of the policy would have said of orders that ended, beside what happened.

The money of a verdict, USD:

- automatic: the order's price;
- by ticket: what people granted under that clause, also nothing; where nobody has decided under
  it, it is *to be decided*: unknown, from nothing up to the price, or up to what is asked for while
  a request waits. It is counted apart;
- not refundable, or no clause: nothing. Goodwill is given beside the policy and is in neither sum.

A version that is replayed over the orders it was in force for differs only where people decided
against its verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Q, QuerySet

from orders.models import Order, Sms, State
from refunds import facts, policy
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause, Outcome, Version
from smsactivator.common import csvs
from smsactivator.common.display import amount
from smsactivator.common.errors import Invalid, Refused
from smsactivator.common.money import usd
from wallet.limits import require
from wallet.models import Decision, Termination

CHUNK = 2_000
# What one request of a page may ask for; the command has no bounds.
LONGEST = timedelta(days=31)
MOST = 50_000
NOTHING = Decimal(0)
COLUMNS = (
    "order",
    "placed_at",
    "ended_at",
    "price_usd",
    "then",
    "then_clause",
    "then_usd",
    "now",
    "now_clause",
    "now_usd",
    "to_be_decided_up_to_usd",
    "difference_from_usd",
    "difference_to_usd",
    "why",
)
_READ = (
    *("customer_id", "kind", "price", "state", "placed_at", "allocated_at", "deadline"),
    *("first_sms_at", "rental_ends_at", "ended_at"),
    *("refused_at", "refusal_code", "broken_at", "broken_signal"),
)


class PeriodRefused(Invalid):
    """The period has no days, or too many for a page."""

    code = "period_refused"


class TooManyOrders(Refused):
    """More orders ended in the period than a page looks at."""

    code = "too_many_orders"
    status = 422


@dataclass(frozen=True, slots=True)
class Judged:
    """An order under the policy: the outcome, its clause, and its money, USD.

    ``known`` is what went or would go back; ``up_to`` is what people may still add to it.
    """

    outcome: Outcome
    clause: str
    known: Decimal = NOTHING
    up_to: Decimal = NOTHING


@dataclass(frozen=True, slots=True)
class Difference:
    """An order of which the version says something else than what happened."""

    order: int
    placed_at: datetime
    ended_at: datetime
    price: Decimal
    then: Judged
    now: Judged
    why: str

    @property
    def least(self) -> Decimal:
        """What the version would have cost more, USD, if people granted nothing more."""
        return self.now.known - self.then.known - self.then.up_to

    @property
    def most(self) -> Decimal:
        """The same, if people granted all that they may."""
        return self.now.known + self.now.up_to - self.then.known


@dataclass(slots=True)
class Side:
    """Orders of a clause and their money, USD."""

    orders: int = 0
    known: Decimal = NOTHING
    undecided: int = 0
    up_to: Decimal = NOTHING

    def add(self, judged: Judged) -> None:
        self.orders += 1
        self.known += judged.known
        self.undecided += judged.up_to > 0
        self.up_to += judged.up_to


@dataclass(slots=True)
class Total:
    """A clause as it was applied, and as the version would have applied it."""

    then: Side = field(default_factory=Side)
    now: Side = field(default_factory=Side)


@dataclass(slots=True)
class Replay:
    """A version over the orders that ended in [since, until).

    ``differences`` walks them; the totals are complete when it is through.
    """

    version: Version
    since: datetime
    until: datetime
    chunk: int = CHUNK
    orders: int = 0
    differing: int = 0
    # What the version would have cost more, USD: without what is to be decided, and with all of it.
    least: Decimal = NOTHING
    most: Decimal = NOTHING
    totals: dict[tuple[Outcome, str], Total] = field(default_factory=dict)

    def differences(self) -> Iterator[Difference]:
        """Where it differs, the order that ended first before the others.

        Five queries at most a batch of ``chunk`` orders, in constant memory. Walked again, it
        counts anew.
        """
        self.orders = self.differing = 0
        self.least = self.most = NOTHING
        self.totals = {}
        for batch in self._batches():
            for order, then, now, why in _judged(batch, self.version):
                self._count(then, now)
                if then == now:
                    continue
                assert order.ended_at is not None  # noqa: S101 - it was found by it
                found = Difference(
                    order.pk, order.placed_at, order.ended_at, order.price, then, now, why
                )
                self.differing += 1
                self.least += found.least
                self.most += found.most
                yield found

    @property
    def cost(self) -> str:
        """What it would have cost more, USD, in words: one amount, or the least and the most."""
        if self.least == self.most:
            return amount(self.least)
        return f"between {amount(self.least)} and {amount(self.most)}"

    def by_clause(self) -> list[tuple[Outcome, str, Total]]:
        """The totals, in the order of the policy's sections; without a clause last."""
        order = list(Outcome)
        rows = sorted(self.totals.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        return [(outcome, clause, total) for (outcome, clause), total in rows]

    def _count(self, then: Judged, now: Judged) -> None:
        self.orders += 1
        self.totals.setdefault((then.outcome, then.clause), Total()).then.add(then)
        self.totals.setdefault((now.outcome, now.clause), Total()).now.add(now)

    def _batches(self) -> Iterator[list[Order]]:
        ended = _ended(self.since, self.until).only(*_READ).order_by("ended_at", "pk")
        batch = list(ended[: self.chunk])
        while batch:
            yield batch
            if len(batch) < self.chunk:
                return
            last = batch[-1]
            # Many end at the same moment: a sweep's batch does.
            after = Q(ended_at__gt=last.ended_at) | Q(pk__gt=last.pk)
            batch = list(ended.filter(after, ended_at__gte=last.ended_at)[: self.chunk])


def replay(version: str, since: datetime, until: datetime, *, chunk: int = CHUNK) -> Replay:
    """The version of this name over the orders that ended in [since, until), UTC.

    Raises PolicyMissing, PeriodRefused.
    """
    known = policy.version(version)
    if since >= until:
        raise PeriodRefused("The period begins before it ends.")
    return Replay(known, since, until, chunk)


def preview(person: Any, version: str, since: datetime, until: datetime) -> Replay:
    """A replay as a person asks for it, within the bounds of a page.

    Raises PermissionDenied, PolicyMissing, PeriodRefused, TooManyOrders.
    """
    require(person, "refunds.preview_policy")
    if until - since > LONGEST:
        raise PeriodRefused(
            f"A page looks at {LONGEST.days} days at most. Choose a shorter period, or have "
            "“manage.py preview_policy” run."
        )
    asked = replay(version, since, until)
    if _ended(since, until)[: MOST + 1].count() > MOST:
        raise TooManyOrders(
            f"More than {MOST:,} orders ended in these days, which is more than a page looks at. "
            "Choose a shorter period, or have “manage.py preview_policy” run."
        )
    return asked


def as_csv(asked: Replay) -> Iterator[str]:
    """Where it differs, as CSV, row by row."""
    yield from csvs.rows(_cells(asked))


def _cells(asked: Replay) -> Iterator[tuple[object, ...]]:
    yield COLUMNS
    for found in asked.differences():
        yield (
            found.order,
            found.placed_at,
            found.ended_at,
            found.price,
            found.then.outcome,
            found.then.clause,
            _exact(found.then.known),
            found.now.outcome,
            found.now.clause,
            _exact(found.now.known),
            _exact(found.now.up_to),
            _exact(found.least),
            _exact(found.most),
            found.why,
        )


def _exact(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else usd(amount)


def _ended(since: datetime, until: datetime) -> QuerySet[Order]:
    return Order.objects.filter(ended_at__gte=since, ended_at__lt=until)


def _judged(
    batch: Sequence[Order], version: Version
) -> Iterator[tuple[Order, Judged, Judged, str]]:
    """Each order as it was judged, as the version judges it, and why. Four queries."""
    pks = [order.pk for order in batch]
    refunds = _refunds(pks)
    requests = _requests(pks)
    terminations = _terminations([order.customer_id for order in batch if order.pk in requests])
    messages = dict(
        Sms.objects.filter(order__in=pks, late=False)
        .order_by()
        .values_list("order_id")
        .annotate(count=Count("pk"))
    )
    for order in batch:
        asked = requests.get(order.pk)
        then = _happened(order, refunds[order.pk], asked)
        verdict = version.verdict(
            facts.read(
                order,
                sms=messages.get(order.pk, 0),
                sms_ruled_out=True,
                # It is judged as if nothing had gone back yet.
                refunded=NOTHING,
                terminated=asked is not None
                and any(
                    since <= asked.requested_at and (until is None or asked.requested_at < until)
                    for since, until in terminations[order.customer_id]
                ),
                reported=asked.clause if asked is not None else "",
                reported_by=asked.requested_by.get_username() if asked is not None else "",
            )
        )
        if verdict.outcome == Outcome.AUTOMATIC:
            now = Judged(verdict.outcome, verdict.clause, order.price)
        elif verdict.outcome != Outcome.TICKET:
            now = Judged(verdict.outcome, verdict.clause)
        elif verdict.clause == then.clause:
            now = Judged(verdict.outcome, verdict.clause, then.known, then.up_to)
        else:
            now = Judged(verdict.outcome, verdict.clause, NOTHING, order.price)
        yield order, then, now, verdict.why


def _happened(order: Order, refunded: Sequence[Refund], asked: RefundRequest | None) -> Judged:
    """What became of an order: refunded by itself, decided by people, forfeited, or nothing."""
    for refund in refunded:
        if refund.part == 0:
            return Judged(Outcome.AUTOMATIC, refund.clause, refund.amount)
    if order.state == State.FORFEITED:
        return Judged(Outcome.NOT_REFUNDABLE, Clause.TERMINATED.value)
    if asked is None:
        return Judged(Outcome.NONE, "")
    outcome = policy.rule(asked.clause, asked.policy_version).outcome
    if outcome != Outcome.TICKET:
        return Judged(outcome, asked.clause)
    return Judged(
        outcome,
        asked.clause,
        sum((refund.amount for refund in refunded), NOTHING),
        asked.amount if asked.state in UNDECIDED else NOTHING,
    )


UNDECIDED = (
    RefundRequest.State.REQUESTED,
    RefundRequest.State.ESCALATED,
    RefundRequest.State.DISPUTED,
)


def _refunds(pks: Sequence[int]) -> defaultdict[int, list[Refund]]:
    found: defaultdict[int, list[Refund]] = defaultdict(list)
    for refund in Refund.objects.filter(order__in=pks).only("order_id", "clause", "amount", "part"):
        found[refund.order_id].append(refund)
    return found


def _requests(pks: Sequence[int]) -> dict[int, RefundRequest]:
    """The newest request of each order; what was withdrawn was not asked."""
    asked = (
        RefundRequest.objects.filter(order__in=pks)
        .exclude(state=RefundRequest.State.WITHDRAWN)
        .select_related("requested_by")
        .only(
            *("order_id", "clause", "amount", "state", "requested_at", "policy_version"),
            "requested_by__username",
        )
        .order_by("pk")
    )
    return {request.order_id: request for request in asked}


def _terminations(
    customers: Sequence[int],
) -> defaultdict[int, list[tuple[datetime, datetime | None]]]:
    """From when to when the customers were terminated."""
    spans: defaultdict[int, list[tuple[datetime, datetime | None]]] = defaultdict(list)
    ended = Max(
        "reinstatements__decided_at", filter=Q(reinstatements__state=Decision.State.CONFIRMED)
    )
    rows = (
        Termination.objects.filter(customer__in=customers, state=Decision.State.CONFIRMED)
        .order_by()
        .annotate(until=ended)
        .values_list("customer_id", "decided_at", "until")
    )
    for customer, since, until in rows:
        assert since is not None  # noqa: S101 - the database checks it
        spans[customer].append((since, until))
    return spans
