"""Reports: what was refunded, how people decided, and whether answers came in time.

Pure reads: a period, a way to group it and filters in; rows and their total out. Each report takes
a fixed number of queries. Every read asks for the permission itself. Amounts are USD, days and
moments UTC. A total is the sum of its rows, except medians and percentiles, which are of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Q, TextChoices
from django.utils import timezone

from orders.models import Upstream
from refunds import policy
from refunds.models import RefundRequest
from smsactivator.common.money import usd
from smsactivator.common.periods import Period
from support.models import Wait
from wallet.limits import require
from wallet.queries import Moved

PERMISSION = "support.view_reports"
LISTED = 200  # decisions against the verdict that a page lists
NOBODY = "Nobody"


class By(TextChoices):
    """What the rows of a report are."""

    CLAUSE = "clause", "Clause"
    UPSTREAM = "upstream", "Upstream"
    SERVICE = "service", "Service"
    COUNTRY = "country", "Country"
    AGENT = "agent", "Agent"
    DAY = "day", "Day"
    WEEK = "week", "Week"
    MONTH = "month", "Month"


IN_TIME = (By.DAY, By.WEEK, By.MONTH)


class Way(TextChoices):
    """How the money went back."""

    AUTOMATIC = "automatic", "Automatic"
    DECIDED = "decided", "Decided"
    GOODWILL = "goodwill", "Goodwill"


@dataclass(frozen=True, slots=True)
class Only:
    """Filters; what is empty filters nothing. ``upstream`` and ``agent`` are primary keys."""

    clause: str = ""
    upstream: int | None = None
    service: str = ""
    country: str = ""
    agent: int | None = None
    way: str = ""

    def given(self) -> dict[str, Any]:
        """The filters that filter something."""
        return {
            name: value
            for name in ("clause", "upstream", "service", "country", "agent", "way")
            if (value := getattr(self, name))
        }


def bucket(day: date, by: By) -> date:
    """The first day of the day, week (from Monday) or month that a day is in."""
    if by == By.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if by == By.MONTH else day


# --- refunds ---------------------------------------------------------------------------------


@dataclass(slots=True)
class RefundRow:
    """What went back in one group of a period.

    ``orders`` are refunded orders, each counted once: where the first of its refunds falls that the
    report has. ``placed`` are the orders placed in the period in the same group, None where placed
    orders have no such group (an order is placed under no clause, and by no agent). ``base`` is
    what the rates divide by: ``placed``, or all orders placed in the period where it is None.
    """

    key: Any
    label: str
    automatic: Moved
    decided: Moved
    goodwill: Moved
    orders: int
    placed: Moved | None
    base: Moved
    share: Decimal | None = None  # of the report's USD

    @property
    def count(self) -> int:
        """The number of refunds."""
        return self.automatic.count + self.decided.count + self.goodwill.count

    @property
    def amount(self) -> Decimal:
        """What went back, USD."""
        return self.automatic.amount + self.decided.amount + self.goodwill.amount

    @property
    def rate(self) -> Decimal | None:
        """Refunded orders over placed orders; None when none was placed."""
        return ratio(self.orders, self.base.count)

    @property
    def rate_usd(self) -> Decimal | None:
        """USD refunded over the prices of placed orders; None when none was placed."""
        return ratio(self.amount, self.base.amount)


@dataclass(frozen=True, slots=True)
class RefundReport:
    """The rows of a period, and their total."""

    by: By
    rows: list[RefundRow]
    total: RefundRow


NOTHING_MOVED = Moved(0, usd(0))

# The transfer's moment decides, as in the ledger. A refund is written in the transfer's own
# transaction, so an hour around the period is surely enough for the index of created_at. OFFSET 0
# has that index asked first: the planner would rather walk all refunds in the transfers' order.
_AUTOMATIC = """
    SELECT refund.order_id, refund.clause, refund.amount, transfer.posted_at AS at,
        transfer.id AS transfer_id, NULL::bigint AS agent, 'automatic' AS way
    FROM (
        SELECT * FROM refunds_refund
        WHERE part = 0
            AND created_at >= %(begins)s - interval '1 hour'
            AND created_at < %(ends)s + interval '1 hour'
        OFFSET 0
    ) AS refund
    JOIN wallet_transfer AS transfer ON transfer.id = refund.transfer_id
    WHERE transfer.posted_at >= %(begins)s AND transfer.posted_at < %(ends)s
"""
_BY_PEOPLE = """
    SELECT refund.order_id, refund.clause, refund.amount, transfer.posted_at AS at,
        transfer.id AS transfer_id, refund.decided_by_id AS agent, 'decided' AS way
    FROM (
        SELECT * FROM refunds_refund
        WHERE part > 0
            AND created_at >= %(begins)s - interval '1 hour'
            AND created_at < %(ends)s + interval '1 hour'
        OFFSET 0
    ) AS refund
    JOIN wallet_transfer AS transfer ON transfer.id = refund.transfer_id
    WHERE transfer.posted_at >= %(begins)s AND transfer.posted_at < %(ends)s
    UNION ALL
    SELECT asked.order_id, asked.clause, transfer.amount, transfer.posted_at,
        transfer.id, coalesce(asked.resolved_by_id, asked.decided_by_id), 'goodwill'
    FROM refunds_refundrequest AS asked
    JOIN wallet_correction AS given ON given.id = asked.goodwill_id
    JOIN wallet_transfer AS transfer ON transfer.id = given.transfer_id
    WHERE (
            asked.state = 'approved'
            AND asked.decided_at >= %(begins)s - interval '1 hour'
            AND asked.decided_at < %(ends)s + interval '1 hour'
            OR asked.state = 'overturned'
            AND asked.resolved_at >= %(begins)s - interval '1 hour'
            AND asked.resolved_at < %(ends)s + interval '1 hour'
        )
        AND transfer.posted_at >= %(begins)s AND transfer.posted_at < %(ends)s
"""
_KEYS = {
    By.CLAUSE: "moved.clause",
    By.AGENT: "moved.agent",
    By.UPSTREAM: "bought.upstream_id",
    By.SERVICE: "bought.service",
    By.COUNTRY: "bought.country",
    By.DAY: "date_trunc('day', moved.at AT TIME ZONE 'UTC')::date",
    By.WEEK: "date_trunc('week', moved.at AT TIME ZONE 'UTC')::date",
    By.MONTH: "date_trunc('month', moved.at AT TIME ZONE 'UTC')::date",
}
_OF_MOVED = {"clause": "moved.clause", "agent": "moved.agent", "way": "moved.way"}
_OF_ORDERS = {
    "upstream": "bought.upstream_id",
    "service": "bought.service",
    "country": "bought.country",
}


def refunds(person: Any, period: Period, by: By, only: Only = Only()) -> RefundReport:
    """What went back to wallets in the period, by ``by``: automatically, as decided, as goodwill.

    The moment of a refund is its transfer's, so the sums are those of the ledger's transfers of the
    same days: ``auto_refund``, ``decided_refund``, and the ``goodwill`` of refund requests. What a
    later reversal takes back is not taken off. The agent is who granted: who approved, or the
    senior who overturned the denial; an automatic refund has none.

    The refund rate is refunded orders over orders placed in the same days and the same group, and
    USD refunded over the prices of those orders. An order that was placed before the period and
    refunded in it is in the first figure and not in the second. Filters by clause, agent and way
    narrow refunds, and not the orders that the rates divide by, which have none of these.

    Four queries at most. Raises PermissionDenied.
    """
    require(person, PERMISSION)
    placed = _placed(period, by, only)
    base = _added(placed.values())
    of_orders = by not in {By.CLAUSE, By.AGENT}
    moved = _moved(period, by, only)
    keys = [*moved, *(key for key in placed if of_orders and key not in moved)]
    labels = _labels(by, keys, nobody="Automatic, no agent")
    rows, none = [], (NOTHING_MOVED, 0)
    for key in keys:
        ways = moved.get(key, {})
        here = placed.get(key, NOTHING_MOVED) if of_orders else None
        rows.append(
            RefundRow(
                key,
                labels[key],
                ways.get(Way.AUTOMATIC, none)[0],
                ways.get(Way.DECIDED, none)[0],
                ways.get(Way.GOODWILL, none)[0],
                orders=sum(orders for _, orders in ways.values()),
                placed=here,
                base=base if here is None else here,
            )
        )
    total = RefundRow(
        None,
        "All",
        _added(row.automatic for row in rows),
        _added(row.decided for row in rows),
        _added(row.goodwill for row in rows),
        orders=sum(row.orders for row in rows),
        placed=base,
        base=base,
    )
    for row in (*rows, total):
        row.share = ratio(row.amount, total.amount)
    return RefundReport(by, _sorted(rows, by, lambda row: row.amount), total)


def _moved(period: Period, by: By, only: Only) -> dict[Any, dict[str, tuple[Moved, int]]]:
    """By group and way: what moved, and how many orders were refunded there first."""
    columns = _OF_MOVED | _OF_ORDERS
    given = only.given()
    where = " AND ".join(f"{columns[name]} = %({name})s" for name in given) or "true"
    needs_order = by.value in _OF_ORDERS or any(name in _OF_ORDERS for name in given)
    bought = "JOIN orders_order AS bought ON bought.id = moved.order_id" if needs_order else ""
    # An order that refunded itself was not delivered, so no person refunds it as well: only what
    # people gave is looked through for the first of each order.
    sql = f"""
        SELECT key, way, count(*), sum(amount), count(*) FILTER (WHERE is_first)
        FROM (
            SELECT {_KEYS[by]} AS key, moved.way, moved.amount, true AS is_first
            FROM ({_AUTOMATIC}) AS moved {bought}
            WHERE {where}
            UNION ALL
            SELECT {_KEYS[by]}, moved.way, moved.amount,
                row_number() OVER (
                    PARTITION BY moved.order_id ORDER BY moved.at, moved.transfer_id
                ) = 1
            FROM ({_BY_PEOPLE}) AS moved {bought}
            WHERE {where}
        ) AS counted
        GROUP BY key, way
    """  # noqa: S608 - put together from constants of this module
    found: dict[Any, dict[str, tuple[Moved, int]]] = {}
    for key, way, count, amount, orders in _read(sql, period, given):
        found.setdefault(key, {})[way] = (Moved(count, usd(amount)), orders)
    return found


def _placed(period: Period, by: By, only: Only) -> dict[Any, Moved]:
    """Orders placed and their prices, by group; under one key where orders have no such group."""
    given = {name: value for name, value in only.given().items() if name in _OF_ORDERS}
    where = "".join(f" AND {_OF_ORDERS[name]} = %({name})s" for name in given)
    key = _KEYS[by].replace("moved.at", "bought.placed_at")
    sql = f"""
        SELECT {"NULL" if key.startswith("moved.") else key}, count(*), sum(bought.price)
        FROM orders_order AS bought
        WHERE bought.placed_at >= %(begins)s AND bought.placed_at < %(ends)s{where}
        GROUP BY 1
    """  # noqa: S608 - put together from constants of this module
    return {key: Moved(count, usd(price)) for key, count, price in _read(sql, period, given)}


# --- decisions -------------------------------------------------------------------------------


@dataclass(slots=True)
class DecisionRow:
    """Refund requests of a period in one group. ``median`` is from request to decision."""

    key: Any
    label: str
    asked: int = 0
    further: int = 0
    approved: int = 0
    goodwill: int = 0
    amount: Decimal = field(default_factory=lambda: usd(0))
    denied: int = 0
    withdrawn: int = 0
    against: int = 0
    median: timedelta | None = None

    @property
    def decided(self) -> int:
        """Approved and denied."""
        return self.approved + self.denied

    @property
    def against_share(self) -> Decimal | None:
        """Decisions against the verdict over all decisions; None without any."""
        return ratio(self.against, self.decided)


@dataclass(slots=True)
class DisputeRow:
    """Disputes resolved in a period in one group. ``median`` is from dispute to resolution."""

    key: Any
    label: str
    upheld: int = 0
    overturned: int = 0
    amount: Decimal = field(default_factory=lambda: usd(0))
    dismissed: int = 0
    median: timedelta | None = None

    @property
    def rate(self) -> Decimal | None:
        """Overturned over upheld and overturned; None without either. A dismissed reply was no
        dispute.
        """
        return ratio(self.overturned, self.upheld + self.overturned)


@dataclass(frozen=True, slots=True)
class DecisionReport:
    """What was decided in a period, how disputes ended, and the newest decisions that went against
    the policy's verdict, ``LISTED`` at most.
    """

    by: By
    rows: list[DecisionRow]
    total: DecisionRow
    disputes: list[DisputeRow]
    disputes_total: DisputeRow
    against: list[RefundRequest]


# A senior who overturns marks the request anew; of the denial before, only a verdict of "automatic"
# says that it went against it (refunds.decisions.deny).
_AGAINST = """(CASE asked.state
    WHEN 'withdrawn' THEN false
    WHEN 'overturned' THEN asked.verdict = 'automatic'
    ELSE asked.against_verdict END)"""
_DECIDED = """
    SELECT {key}, grouping({key}),
        count(*) FILTER (WHERE asked.state = 'approved'),
        count(*) FILTER (WHERE asked.state = 'approved' AND asked.goodwill_id IS NOT NULL),
        coalesce(sum(asked.amount) FILTER (WHERE asked.state = 'approved'), 0),
        count(*) FILTER (WHERE asked.state NOT IN ('approved', 'withdrawn')),
        count(*) FILTER (WHERE asked.state = 'withdrawn'),
        count(*) FILTER (WHERE {against}),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY asked.decided_at - asked.requested_at)
            FILTER (WHERE asked.state <> 'withdrawn')
    FROM refunds_refundrequest AS asked
    WHERE asked.decided_at >= %(begins)s AND asked.decided_at < %(ends)s{where}
    GROUP BY GROUPING SETS (({key}), ())
"""
_ASKED = """
    SELECT {key}, count(*), count(asked.further_to_id)
    FROM refunds_refundrequest AS asked
    WHERE asked.requested_at >= %(begins)s AND asked.requested_at < %(ends)s{where}
    GROUP BY 1
"""
_RESOLVED = """
    SELECT {key}, grouping({key}),
        count(*) FILTER (WHERE asked.state = 'upheld'),
        count(*) FILTER (WHERE asked.state = 'overturned'),
        coalesce(sum(asked.amount) FILTER (WHERE asked.state = 'overturned'), 0),
        count(*) FILTER (WHERE asked.state = 'dismissed'),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY asked.resolved_at - asked.disputed_at)
    FROM refunds_refundrequest AS asked
    WHERE asked.resolved_at >= %(begins)s AND asked.resolved_at < %(ends)s{where}
    GROUP BY GROUPING SETS (({key}), ())
"""


def decisions(
    person: Any,
    period: Period,
    by: By,
    only: Only = Only(),
) -> DecisionReport:
    """Refund requests that people decided in the period, and disputes resolved in it.

    ``by`` is CLAUSE or AGENT. A request counts as asked on the day and for the agent of asking; as
    approved, denied or withdrawn on the day of the decision and for who decided; a denial stays one
    when a dispute overturns it. A dispute counts on the day of its resolution, and for the agent
    who had denied. Of what was asked, ``further`` asked to look at a final decision again. Goodwill
    is part of what was approved, and always against the verdict.

    Five queries at most. Raises PermissionDenied.
    """
    require(person, PERMISSION)
    given = {name: value for name, value in only.given().items() if name in {"clause", "agent"}}

    def read(template: str, agent: str) -> list[tuple[Any, ...]]:
        columns = {"clause": "asked.clause", "agent": f"asked.{agent}"}
        where = "".join(f" AND {columns[name]} = %({name})s" for name in given)
        sql = template.format(key=columns[by.value], where=where, against=_AGAINST)
        return _read(sql, period, given)

    total = DecisionRow(None, "All")
    decided: dict[Any, DecisionRow] = {}
    for key, is_total, *figures, median in read(_DECIDED, "decided_by_id"):
        row = total if is_total else decided.setdefault(key, DecisionRow(key, ""))
        row.approved, row.goodwill, row.amount, row.denied, row.withdrawn, row.against = figures
        row.amount, row.median = usd(row.amount), median
    for key, count, further in read(_ASKED, "requested_by_id"):
        row = decided.setdefault(key, DecisionRow(key, ""))
        row.asked, row.further = count, further
        total.asked += count
        total.further += further
    disputes_total = DisputeRow(None, "All")
    resolved: dict[Any, DisputeRow] = {}
    for key, is_total, *figures, median in read(_RESOLVED, "decided_by_id"):
        of = disputes_total if is_total else resolved.setdefault(key, DisputeRow(key, ""))
        of.upheld, of.overturned, of.amount, of.dismissed = figures
        of.amount, of.median = usd(of.amount), median
    labels = _labels(by, [*decided, *resolved])
    for key, row in decided.items():
        row.label = labels[key]
    for key, of in resolved.items():
        of.label = labels[key]
    return DecisionReport(
        by,
        _sorted(decided.values(), by, lambda row: row.decided),
        total,
        _sorted(resolved.values(), by, lambda row: row.upheld + row.overturned),
        disputes_total,
        _against(period, given) if total.against else [],
    )


def _against(period: Period, given: Mapping[str, Any]) -> list[RefundRequest]:
    """As ``_AGAINST`` counts them, the newest first."""
    columns = {"clause": "clause", "agent": "decided_by"}
    states = RefundRequest.State
    return list(
        RefundRequest.objects.filter(
            Q(against_verdict=True) & ~Q(state__in=[states.WITHDRAWN, states.OVERTURNED])
            | Q(verdict=policy.Outcome.AUTOMATIC, state=states.OVERTURNED),
            decided_at__gte=period.begins,
            decided_at__lt=period.ends,
            **{columns[name]: value for name, value in given.items()},
        )
        .select_related("decided_by")
        .order_by("-decided_at", "-pk")[:LISTED]
    )


# --- answered in time ------------------------------------------------------------------------


@dataclass(slots=True)
class WaitRow:
    """Waits that began in a period, in one group.

    ``in_time`` and ``late`` were answered or decided; ``open_late`` are past due and still open,
    ``open`` are not due yet. ``waived`` needed no answer, ``waived_late`` of them were past due
    then. ``median`` and ``ninth`` (the 90th percentile) are of ``in_time`` and ``late``, from the
    message to the answer as the customer waits, nights and holidays included.
    """

    key: Any
    label: str
    in_time: int = 0
    late: int = 0
    open_late: int = 0
    open: int = 0
    waived: int = 0
    waived_late: int = 0
    median: timedelta | None = None
    ninth: timedelta | None = None

    @property
    def count(self) -> int:
        """All waits."""
        return self.in_time + self.late + self.open_late + self.open + self.waived

    @property
    def rate(self) -> Decimal | None:
        """In time, over in time and late and open late: what can be judged. None without any."""
        return ratio(self.in_time, self.in_time + self.late + self.open_late)


@dataclass(frozen=True, slots=True)
class WaitReport:
    """Each clock's waits, and those of one clock by ``by``."""

    by: By
    clock: str
    clocks: list[WaitRow]
    clocks_total: WaitRow
    rows: list[WaitRow]
    total: WaitRow


# The one who answered: the reply's author, or the senior who resolved the dispute.
_ANSWERED_BY = """coalesce(
    (SELECT reply.author_id FROM support_message AS reply WHERE reply.id = waited.reply_id),
    (SELECT asked.resolved_by_id
        FROM support_ticketrefund AS linked
        JOIN refunds_refundrequest AS asked ON asked.id = linked.request_id
        WHERE waited.outcome = 'decided' AND linked.ticket_id = waited.ticket_id
            AND asked.resolved_at >= waited.since
        ORDER BY asked.resolved_at LIMIT 1))"""
_WAIT_KEYS = {
    By.AGENT: _ANSWERED_BY,
    By.DAY: "date_trunc('day', waited.since AT TIME ZONE 'UTC')::date",
    By.WEEK: "date_trunc('week', waited.since AT TIME ZONE 'UTC')::date",
    By.MONTH: "date_trunc('month', waited.since AT TIME ZONE 'UTC')::date",
}
_WAITED = """
    SELECT key, grouping(key),
        count(*) FILTER (WHERE answered AND ended_at <= due_at),
        count(*) FILTER (WHERE answered AND ended_at > due_at),
        count(*) FILTER (WHERE ended_at IS NULL AND due_at < %(now)s),
        count(*) FILTER (WHERE ended_at IS NULL AND due_at >= %(now)s),
        count(*) FILTER (WHERE outcome = 'waived'),
        count(*) FILTER (WHERE outcome = 'waived' AND ended_at > due_at),
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY ended_at - since)
            FILTER (WHERE answered)
    FROM (
        SELECT {key} AS key, waited.*,
            waited.ended_at IS NOT NULL AND waited.outcome <> 'waived' AS answered
        FROM support_wait AS waited
        WHERE waited.since >= %(begins)s AND waited.since < %(ends)s{where}
            AND waited.outcome <> 'joined'
    ) AS waited
    GROUP BY GROUPING SETS ((key), ())
"""


def waits(
    person: Any,
    period: Period,
    by: By,
    clock: str = Wait.Clock.ANSWER,
    agent: int | None = None,
    now: datetime | None = None,
) -> WaitReport:
    """Waits that began in the period, by clock, and those of one clock by AGENT, DAY, WEEK, MONTH.

    A wait is late by its data at ``now``: it ended after ``due_at``, or is open and ``due_at`` has
    passed. Ended exactly when due, it was in time. One that is counted in an earlier run is left
    out. The agent is the author of the reply; of a
    dispute, the senior who resolved it; of what is open or waived, nobody.

    Three queries. Raises PermissionDenied.
    """
    require(person, PERMISSION)
    words: dict[str, Any] = {"now": now or timezone.now(), "clock": clock, "agent": agent}
    of_agent = f" AND {_ANSWERED_BY} = %(agent)s" if agent else ""
    clocks, clocks_total = _waits(period, "waited.clock", of_agent, words)
    where = f" AND waited.clock = %(clock)s{of_agent}"
    rows, total = _waits(period, _WAIT_KEYS[by], where, words)
    for row in clocks:
        row.label = Wait.Clock(row.key).label
    labels = _labels(by, [row.key for row in rows], nobody="No answer yet, or none needed")
    for row in rows:
        row.label = labels[row.key]
    return WaitReport(
        by,
        clock,
        sorted(clocks, key=lambda row: row.label),
        clocks_total,
        _sorted(rows, by, lambda row: row.count),
        total,
    )


def _waits(
    period: Period, key: str, where: str, words: Mapping[str, Any]
) -> tuple[list[WaitRow], WaitRow]:
    rows, total = [], WaitRow(None, "All")
    for found, is_total, *figures, times in _read(
        _WAITED.format(key=key, where=where), period, words
    ):
        row = total if is_total else WaitRow(found, "")
        row.in_time, row.late, row.open_late, row.open, row.waived, row.waived_late = figures
        row.median, row.ninth = times or (None, None)
        if not is_total:
            rows.append(row)
    return rows, total


# --- what all three share --------------------------------------------------------------------


def ratio(part: int | Decimal, whole: int | Decimal) -> Decimal | None:
    """``part`` of ``whole``; None of nothing."""
    return Decimal(part) / Decimal(whole) if whole else None


def _read(sql: str, period: Period, words: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"begins": period.begins, "ends": period.ends, **words})
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _added(parts: Iterable[Moved]) -> Moved:
    count, amount = 0, usd(0)
    for part in parts:
        count, amount = count + part.count, amount + part.amount
    return Moved(count, amount)


def _sorted(rows: Iterable[Any], by: By, weight: Any) -> list[Any]:
    """By time; other groups by their weight, the heaviest first."""
    if by in IN_TIME:
        return sorted(rows, key=lambda row: row.key)
    return sorted(rows, key=lambda row: (-weight(row), row.label))


def _labels(by: By, keys: Iterable[Any], *, nobody: str = NOBODY) -> dict[Any, str]:
    """What the groups are called: one query at most."""
    wanted = set(keys)
    if by == By.UPSTREAM:
        return dict(Upstream.objects.filter(pk__in=wanted).values_list("pk", "name"))
    if by == By.AGENT:
        people = get_user_model().objects.filter(pk__in=wanted - {None})
        return {None: nobody, **dict(people.values_list("pk", "username"))}
    if by == By.CLAUSE:
        return {key: _title(key) for key in wanted}
    return {key: str(key) for key in wanted}


def _title(clause: str) -> str:
    try:
        return policy.title(clause)
    except policy.PolicyMissing:
        return clause
