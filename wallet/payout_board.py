"""Payouts at a glance: what is open, by state, method and age, and what became of a period's.

What is open is added up from its rows, found by the index of states; what was asked for in a period
by the index of time. So the cost is that of what is open and of the period, however many payouts
there ever were.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import (
    BooleanField,
    Case,
    Count,
    Exists,
    IntegerField,
    Min,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from smsactivator.common.money import usd
from wallet import payouts
from wallet.models import OPEN_PAYOUTS, Customer, Payout, PayoutMethod

State = Payout.State

TO_APPROVE = (State.REQUESTED, State.FIRST_APPROVED)
ON_THEIR_WAY = (State.EXPORTED, State.SUBMITTED)
ENDED = (State.PAID, State.RETURNED, State.REJECTED, State.WITHDRAWN, State.FORFEITED)
# A stablecoin arrives within the hour, and whoever sends it works on business days: what has been
# on its way for longer than a weekend, somebody asks about.
LATE = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Age:
    """Days of asking, counted back from today (UTC): from ``least`` to ``most`` days ago."""

    name: str
    label: str
    least: int
    most: int | None

    def days(self, today: date) -> tuple[date | None, date]:
        """Its first day, if it has one, and its last."""
        first = None if self.most is None else today - timedelta(days=self.most)
        return first, today - timedelta(days=self.least)


AGES = (
    Age("today", "Today", 0, 0),
    Age("1-2", "1 to 2 days", 1, 2),
    Age("3-7", "3 to 7 days", 3, 7),
    Age("older", "Older", 8, None),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """How many payouts, their sum in USD, and when the oldest of them was asked for."""

    count: int
    amount: Decimal
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Cell:
    """The open payouts of one state, method and age."""

    state: State
    method_id: int
    age: Age
    figures: Figures


NONE = Figures(0, usd(0), None)


def total(several: Iterable[Figures]) -> Figures:
    """The figures of all of them together."""
    some = [figures for figures in several if figures.count]
    return Figures(
        sum(figures.count for figures in some),
        sum((figures.amount for figures in some), usd(0)),
        min((figures.oldest for figures in some if figures.oldest), default=None),
    )


def cells_of(
    cells: Iterable[Cell], *, states: Collection[State] = OPEN_PAYOUTS, age: Age | None = None
) -> Figures:
    """The figures of the cells in these states, of all ages or one."""
    return total(cell.figures for cell in cells if cell.state in states and age in (None, cell.age))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def open_now(today: date) -> list[Cell]:
    """What is open, in its finest groups: one query. ``today`` (UTC) is what ages count from."""
    since = [
        When(requested_at__gte=_midnight(first), then=Value(number))
        for number, age in enumerate(AGES)
        if (first := age.days(today)[0]) is not None
    ]
    rows = (
        Payout.objects.filter(state__in=OPEN_PAYOUTS)
        .order_by()
        .annotate(age=Case(*since, default=Value(len(AGES) - 1), output_field=IntegerField()))
        .values_list("state", "method_id", "age")
        .annotate(count=Count("pk"), amount=Sum("amount"), oldest=Min("requested_at"))
    )
    return [
        Cell(State(state), method, AGES[age], Figures(count, amount, oldest))
        for state, method, age, count, amount, oldest in rows
    ]


def asked_between(since: date, until: date) -> dict[State, Figures]:
    """What was asked for in these days (UTC, both included), by its state now: one query."""
    rows = (
        Payout.objects.filter(
            requested_at__gte=_midnight(since),
            requested_at__lt=_midnight(until + timedelta(days=1)),
        )
        .order_by()
        .values_list("state")
        .annotate(count=Count("pk"), amount=Sum("amount"), oldest=Min("requested_at"))
    )
    return {State(state): Figures(*figures) for state, *figures in rows}


def late() -> Q:
    """Payouts that have been on their way for longer than ``LATE`` since they were approved."""
    return Q(state__in=ON_THEIR_WAY) & (
        Q(second_at__lt=timezone.now() - LATE)
        | Q(second_at__isnull=True, approved_at__lt=timezone.now() - LATE)
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many open payouts wait for what."""

    approval: int
    export: int
    late: int
    failed: int


def waiting() -> Waiting:
    """What of the open payouts waits for a person: one query."""
    found = (
        Payout.objects.filter(state__in=OPEN_PAYOUTS)
        .order_by()
        .aggregate(
            approval=Count("pk", filter=Q(state__in=TO_APPROVE)),
            export=Count("pk", filter=Q(state=State.APPROVED)),
            late=Count("pk", filter=late()),
            failed=Count("pk", filter=Q(state=State.FAILED)),
        )
    )
    return Waiting(**found)


def open_sum(customer_id: int) -> Figures:
    """What of a customer's payouts is open."""
    found = Payout.objects.filter(customer=customer_id, state__in=OPEN_PAYOUTS).aggregate(
        count=Count("pk"), amount=Coalesce(Sum("amount"), usd(0)), oldest=Min("requested_at")
    )
    return Figures(**found)


# --- what whoever approves one should look at closely ---


def address_shared() -> Case:
    """Whether another customer gave the same address, for a queryset of payouts.

    As ``payouts.also_used_by``.
    """
    others = Payout.objects.filter(address=OuterRef("address")).exclude(
        customer=OuterRef("customer")
    )
    return Case(
        When(
            method__memo_rule=PayoutMethod.MemoRule.REQUIRED,
            then=Exists(others.filter(memo=OuterRef("memo"))),
        ),
        default=Exists(others),
        output_field=BooleanField(),
    )


def sharers(payout: Payout) -> Sequence[Customer]:
    """Other customers who gave the same address: two queries."""
    found = Customer.objects.in_bulk(payouts.also_used_by(payout))
    return [found[pk] for pk in sorted(found)]


def shared_among(several: Collection[Payout]) -> set[int]:
    """Which of these payouts name an address that another customer gave too: one query."""
    named = Payout.objects.filter(pk__in=[payout.pk for payout in several])
    return set(named.filter(address_shared()).values_list("pk", flat=True))


def other_addresses_before(several: Collection[Payout]) -> dict[int, Payout]:
    """By these payouts' ids, the customer's last payout before, if it named another address.

    What was withdrawn or rejected comes last: asked for in between, it would hide the change. Two
    queries.
    """
    before = (
        Payout.objects.filter(customer=OuterRef("customer"), pk__lt=OuterRef("pk"))
        .order_by(Case(When(state__in=payouts.NEVER_SENT, then=1), default=0), "-pk")
        .values("pk")[:1]
    )
    named = Payout.objects.filter(pk__in=[payout.pk for payout in several])
    last = dict(named.values_list("pk", Subquery(before)))
    found = Payout.objects.in_bulk({pk for pk in last.values() if pk is not None})
    changed = {}
    for payout in several:
        other = found.get(last.get(payout.pk))
        if other and (other.address, other.memo) != (payout.address, payout.memo):
            changed[payout.pk] = other
    return changed


def other_address_before(payout: Payout) -> Payout | None:
    """The customer's last payout before this one, if it named another address."""
    return other_addresses_before([payout]).get(payout.pk)


def of_the_same_transaction(payout: Payout) -> int:
    """How many other payouts have its transaction's hash: providers may pay several at once."""
    if not payout.transaction_hash:
        return 0
    same = Payout.objects.filter(transaction_hash=payout.transaction_hash)
    return same.exclude(pk=payout.pk).count()


def failed_before(payout: Payout) -> Any:
    """The last attempt as it was when it failed, of a payout that was sent again; else None."""
    if payout.attempt == 1:
        return None
    failed = Payout.history.filter(
        id=payout.pk, state=State.FAILED, attempt=payout.attempt - 1
    ).select_related("failed_by")
    return failed.order_by("-history_id").first()


def waits_for_its_address(payout: Payout) -> bool:
    """Whether nobody may approve it yet, because its address has changed."""
    return (
        payout.state in TO_APPROVE
        and payout.not_before is not None
        and timezone.now() < payout.not_before
    )


def warnings(payout: Payout) -> list[str]:
    """What whoever approves it should look at closely, in words. An address is in none of them."""
    found = []
    if others := sharers(payout):
        names = ", ".join(other.external_id for other in others)
        found.append(
            f"Another customer gave the same address: {names}. Make sure that whoever asks is who "
            "the wallet belongs to."
        )
    if before := other_address_before(payout):
        found.append(
            f"The address has changed: {before.reference} of this customer named another one. "
            "Make sure that the customer asked for it."
        )
    if failed := failed_before(payout):
        by = f" It was sent by transaction {failed.transaction_hash}." * bool(
            failed.transaction_hash
        )
        found.append(
            f"Attempt {failed.attempt} failed at {failed.settled_at:%Y-%m-%d %H:%M:%S} UTC: "
            f"“{failed.problem}”.{by} Make sure that it did not arrive: the money is paid twice "
            "otherwise."
        )
    return found


def needs_two(payout: Payout) -> bool:
    """Whether a second person has still to approve it, after whoever does so now."""
    return payout.state == State.REQUESTED and payout.needs_second
