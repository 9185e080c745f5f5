"""Closing the books of days and months, and proving a close again from the ledger.

A day is closed after it is sealed, so nothing can be added to what was counted. A close is frozen:
whatever concerns its transfers later is a transfer of a later day, and shows beside it
(``Later``). The rules are held by the database as well (wallet/sql/closes.sql).
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from smsactivator.common.errors import Refused
from smsactivator.common.seen import TOLD, in_words, outdated
from wallet import limits
from wallet.figures import PERIOD, SECTIONS, Figure, Later
from wallet.models import FIRST_WALLET, Account, Close, CloseFigure, Seal, Transfer

log = logging.getLogger(__name__)

PERMISSION = "wallet.close_books"
CLOSING = 0x636C6F73  # any advisory lock that nothing else takes: "clos"
DAY = timedelta(days=1)
NOTHING = Decimal("0.0000")
LISTED = 50  # transfers behind a figure at a time
SHOWN = 100  # later transfers that are named; the count is always whole
# A sealed day is closed by the next beat, within the hour. Without a close it is a fault then.
OVERDUE_AFTER = timedelta(hours=2)
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


class NotSealed(Refused):
    """A day of the period is not over, or has no seal yet."""

    code = "not_sealed"


class NotInOrder(Refused):
    """A close continues the one before it, and that one is not there."""

    code = "not_in_order"


class DoesNotAddUp(RuntimeError):
    """The figures do not come to what the ledger says: one is missing, or two overlap."""


@dataclass(frozen=True, slots=True)
class Balances:
    """What is owed to customers, USD."""

    wallets: Decimal = NOTHING
    escrow: Decimal = NOTHING
    payouts: Decimal = NOTHING

    def __add__(self, other: Balances) -> Balances:
        return Balances(
            self.wallets + other.wallets,
            self.escrow + other.escrow,
            self.payouts + other.payouts,
        )

    @property
    def owed(self) -> Decimal:
        """All of it."""
        return self.wallets + self.escrow + self.payouts


@dataclass(frozen=True, slots=True)
class Correction:
    """A later transfer, and the period's transfer that it concerns."""

    later: Transfer
    earlier_id: int


@dataclass(frozen=True, slots=True)
class Corrections:
    """What happened to a closed period afterwards, of one sort; the newest are named."""

    label: str
    count: int
    amount: Decimal
    newest: Sequence[Correction]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of one close; no ``problems`` when it is right."""

    close: Close
    problems: Sequence[str]


# --- closing ------------------------------------------------------------------------------------


def close_days(
    person: Any, through: date, figures: Sequence[Figure], *, seen: int | None = None
) -> list[Close]:
    """Close every day up to ``through`` that is not closed yet, the oldest first; returns those.

    Needs ``wallet.close_books``. Two at once close each day once; a day that is closed already is
    left as it is. ``seen`` is how many closes the page knew of. Raises NotSealed, Outdated.
    """
    limits.require(person, PERMISSION)
    last = Seal.objects.order_by("-day").first()
    if last is None or last.day < through:
        raise NotSealed(
            f"{through:%Y-%m-%d} is not sealed yet: a day is sealed some minutes after it ends."
        )
    return _close_days(person, through, figures, seen)


def close_month(
    person: Any, first: date, figures: Sequence[Figure], *, seen: int | None = None
) -> Close:
    """Close the calendar month of this day; the same again returns the close that there is.

    Needs ``wallet.close_books``. Its figures are the sums of its days' closes. Raises NotSealed
    while a day of it is not closed, NotInOrder when the month before it is not, and Outdated.
    """
    limits.require(person, PERMISSION)
    return _close_month(person, first.replace(day=1), figures, seen)


def close_what_is_sealed(figures: Sequence[Figure]) -> list[Close]:
    """Close each day that is sealed and each month whose days are closed; returns the closes.

    Nobody does it: the closes name no person. Running it again does nothing.
    """
    last = Seal.objects.order_by("-day").first()
    if last is None:
        return []
    made = _close_days(None, last.day, figures)
    while (month := next_month()) is not None:
        made.append(_close_month(None, month, figures))
    return made


def newest(kind: str) -> Close | None:
    """The last close of a kind."""
    return Close.objects.filter(kind=kind).order_by("-last").first()


def known() -> int:
    """How many closes there are, which is what the page of a step shows."""
    return Close.objects.count()


def _refuse_outdated(seen: int | None) -> None:
    now = known()
    if seen is None or seen == now:
        return
    unseen = min(now - seen if seen < now else now, TOLD + 1)
    last = Close.objects.select_related("closed_by").order_by("-closed_at", "-pk")[:unseen]
    steps = [
        (str(one.closed_by or "automatic"), f"closed {one.period}", one.closed_at) for one in last
    ]
    raise outdated("The list of closes", in_words(steps))


def next_days() -> tuple[date, date] | None:
    """The first and the last day that could be closed now."""
    seals = Seal.objects.order_by("day")
    closed = newest(Close.Kind.DAY)
    first = seals.filter(day__gt=closed.last).first() if closed else seals.first()
    last = seals.last()
    return (first.day, last.day) if first and last else None


def next_month() -> date | None:
    """The first day of the next month that could be closed now."""
    month, day = newest(Close.Kind.MONTH), newest(Close.Kind.DAY)
    if day is None:
        return None
    if month is not None:
        first = month.last + DAY
    else:
        first = Close.objects.filter(kind=Close.Kind.DAY).earliest("first").first.replace(day=1)
    return first if last_of_month(first) <= day.last else None


def _close_days(
    person: Any, through: date, figures: Sequence[Figure], seen: int | None = None
) -> list[Close]:
    made: list[Close] = []
    while True:
        with transaction.atomic():
            _alone()
            if not made:
                _refuse_outdated(seen)
            days = next_days()
            if days is None or days[0] > through:
                return made
            made.append(_close_day(person, days[0], figures))


def _close_day(person: Any, day: date, figures: Sequence[Figure]) -> Close:
    before = newest(Close.Kind.DAY)
    since, until = _begins(day), _begins(day + DAY)
    opening = closing_of(before) if before else moved(BEGINNING, since)
    rows = _count(figures, since, until)
    closing = opening + _effect(rows)
    if closing != opening + moved(since, until):
        raise DoesNotAddUp(
            f"the figures of {day} come to {closing}, the ledger to {opening + moved(since, until)}"
        )
    close = Close(kind=Close.Kind.DAY, first=day, last=day)
    return _write(person, close, before, opening, closing, rows)


def _close_month(
    person: Any, first: date, figures: Sequence[Figure], seen: int | None = None
) -> Close:
    with transaction.atomic():
        _alone()
        _refuse_outdated(seen)
        there = Close.objects.filter(kind=Close.Kind.MONTH, first=first).first()
        if there is not None:
            return there
        name = f"{first:%Y-%m}"
        before = newest(Close.Kind.MONTH)
        days = list(
            Close.objects.filter(
                kind=Close.Kind.DAY, first__gte=first, last__lte=last_of_month(first)
            ).order_by("first")
        )
        if not days or days[-1].last != last_of_month(first):
            raise NotSealed(f"{name} is closed when each of its days is, to the last (UTC).")
        if (
            Close.objects.filter(kind=Close.Kind.DAY, last__lt=first).exists()
            if before is None
            else before.last + DAY != first
        ):
            raise NotInOrder(f"{name} is closed after the month before it.")
        close = Close(kind=Close.Kind.MONTH, first=first, last=days[-1].last)
        opening = Balances(days[0].opening_wallets, days[0].opening_escrow, days[0].opening_payouts)
        rows = _sum(days, figures)
        return _write(person, close, before, opening, closing_of(days[-1]), rows)


def _write(
    person: Any,
    close: Close,
    before: Close | None,
    opening: Balances,
    closing: Balances,
    rows: Sequence[CloseFigure],
) -> Close:
    close.opening_wallets, close.closing_wallets = opening.wallets, closing.wallets
    close.opening_escrow, close.closing_escrow = opening.escrow, closing.escrow
    close.opening_payouts, close.closing_payouts = opening.payouts, closing.payouts
    close.transfers = sum(row.count for row in rows if not row.apart)
    close.lines = len(rows)
    close.seal = Seal.objects.get(day=close.last)
    close.previous = before.digest if before else ""
    close.closed_at = timezone.now()
    close.closed_by = person
    for number, row in enumerate(rows, 1):
        row.number = number
    close.digest = digest_of(close, rows)
    close.save(force_insert=True)
    for row in rows:
        row.close = close
    CloseFigure.objects.bulk_create(rows)
    log.info("%s: %s transfers, %s", close, close.transfers, close.digest)
    return close


def digest_of(close: Close, rows: Iterable[CloseFigure]) -> str:
    """SHA-256 over the close before it, its period, its seal, its balances and each figure.

    Words go in as hexadecimal, so that no two closes have the same lines. The database computes the
    same (``close_digest``) and takes no other.
    """
    head = (
        close.previous,
        close.kind,
        close.first.isoformat(),
        close.last.isoformat(),
        close.seal.digest,
        str(close.transfers),
        *(
            f"{amount:.4f}"
            for amount in (
                close.opening_wallets,
                close.opening_escrow,
                close.opening_payouts,
                close.closing_wallets,
                close.closing_escrow,
                close.closing_payouts,
            )
        ),
    )
    digest = hashlib.sha256(f"{'|'.join(head)}\n".encode())
    for row in rows:
        line = (
            *(str(row.number), row.figure, row.part, str(row.count), f"{row.amount:.4f}"),
            *(str(row.wallets), str(row.escrow), str(row.payouts)),
            "apart" if row.apart else "",
            *(words.encode().hex() for words in (row.section, row.label, row.part_label)),
        )
        digest.update(f"{'|'.join(line)}\n".encode())
    return digest.hexdigest()


# --- counting -----------------------------------------------------------------------------------


def closing_of(close: Close) -> Balances:
    """What was owed at the end of a close."""
    return Balances(close.closing_wallets, close.closing_escrow, close.closing_payouts)


def moved(since: datetime, until: datetime) -> Balances:
    """What the transfers from ``since`` on and before ``until`` did to what is owed, by account."""
    sides = ", ".join(
        f"""coalesce(sum(CASE WHEN line.credit_account {account} THEN line.amount
            WHEN line.debit_account {account} THEN -line.amount END), 0)"""
        for account in (
            f">= {FIRST_WALLET}",
            f"= {Account.ORDER_ESCROW}",
            f"= {Account.PAYOUTS_PENDING}",
        )
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {sides} FROM wallet_transfer AS line WHERE {PERIOD}",
            {"since": since, "until": until},
        )
        return Balances(*(amount + NOTHING for amount in cursor.fetchone()))


def owed_at(moment: datetime) -> Balances:
    """What is owed by the transfers before a moment, to the last digit.

    Reads the transfers after the last close before it, not the whole ledger.
    """
    close = (
        Close.objects.filter(kind=Close.Kind.DAY, last__lt=moment.astimezone(UTC).date())
        .order_by("-last")
        .first()
    )
    if close is None:
        return moved(BEGINNING, moment)
    return closing_of(close) + moved(_begins(close.last + DAY), moment)


def _count(figures: Sequence[Figure], since: datetime, until: datetime) -> list[CloseFigure]:
    """Each figure of a period, by its parts: one pass, and one more for each that stands apart."""
    counted = [figure for figure in figures if not figure.apart]
    which = " ".join(f"WHEN {f.where} THEN {n}" for n, f in enumerate(counted))
    parts = " ".join(f"WHEN {n} THEN {f.part}" for n, f in enumerate(counted) if f.part)
    found: dict[str, list[tuple[str, int, Decimal]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT figure, part, count(*), sum(amount)
            FROM (
                SELECT figure, amount, coalesce(CASE figure {parts} ELSE '' END, '') AS part
                FROM (
                    SELECT line.*, CASE {which} END AS figure FROM wallet_transfer AS line
                    WHERE {PERIOD}
                ) AS line
            ) AS line
            GROUP BY figure, part ORDER BY figure, part
            """,
            {"since": since, "until": until},
        )
        for number, part, count, amount in cursor.fetchall():
            if number is None:
                raise DoesNotAddUp(f"{count} transfers since {since} are under no figure")
            found[counted[number].name].append((part, count, amount))
    for figure in figures:
        if figure.apart:
            found[figure.name] = count_one(figure, since, until)
    return [
        _row(figure, *part)
        for figure in figures
        for part in found[figure.name] or [("", 0, NOTHING)]
    ]


def count_one(figure: Figure, since: datetime, until: datetime) -> list[tuple[str, int, Decimal]]:
    """The parts of one figure in a period, by the condition that also lists its transfers."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT coalesce({figure.part or "''"}, '') AS part, count(*), sum(line.amount)
            FROM wallet_transfer AS line WHERE {figure.condition} GROUP BY 1 ORDER BY 1
            """,
            {"since": since, "until": until},
        )
        return [(part, count, amount) for part, count, amount in cursor.fetchall()]


def _row(figure: Figure, part: str, count: int, amount: Decimal) -> CloseFigure:
    return CloseFigure(
        section=figure.section,
        figure=figure.name,
        label=figure.label,
        part=part,
        # A figure of which there was nothing has no parts.
        part_label=figure.words(part) if figure.part and count else "",
        count=count,
        amount=amount,
        wallets=figure.wallets,
        escrow=figure.escrow,
        payouts=figure.payouts,
        apart=figure.apart,
    )


def _sum(days: Sequence[Close], figures: Sequence[Figure]) -> list[CloseFigure]:
    """The rows of a month: what its days say, with the words of the newest."""
    places = {figure.name: number for number, figure in enumerate(figures)}
    sums: dict[tuple[Any, ...], CloseFigure] = {}
    rows = CloseFigure.objects.filter(close__in=days).order_by("close__first", "number")
    for row in rows:
        before = sums.get(_name(row))
        sums[_name(row)] = CloseFigure(
            section=row.section,
            figure=row.figure,
            label=row.label,
            part=row.part,
            part_label=row.part_label or (before.part_label if before else ""),
            count=row.count + (before.count if before else 0),
            amount=row.amount + (before.amount if before else NOTHING),
            wallets=row.wallets,
            escrow=row.escrow,
            payouts=row.payouts,
            apart=row.apart,
        )
    seen = {row.figure for row in sums.values() if row.count}
    return sorted(
        (row for row in sums.values() if row.count or row.figure not in seen),
        key=lambda row: (
            SECTIONS.index(row.section) if row.section in SECTIONS else len(SECTIONS),
            places.get(row.figure, len(places)),
            *_name(row),
        ),
    )


def _name(row: CloseFigure) -> tuple[Any, ...]:
    # A figure that comes to do something else has two rows in the month in which it does.
    return (row.figure, row.part, row.wallets, row.escrow, row.payouts, row.apart)


def _effect(rows: Iterable[CloseFigure]) -> Balances:
    total = Balances()
    for row in rows:
        total += Balances(
            row.wallets * row.amount, row.escrow * row.amount, row.payouts * row.amount
        )
    return total


# --- reading ------------------------------------------------------------------------------------


def span(close: Close) -> tuple[datetime, datetime]:
    """The period: its first moment, and the first one after it."""
    return _begins(close.first), _begins(close.last + DAY)


def behind(
    close: Close, figure: Figure, part: str | None = None, *, before: int | None = None
) -> list[Transfer]:
    """The transfers behind a figure of a close, or behind one part of it, the newest first.

    One more than LISTED where there are more; those go on before the last one's number.
    """
    since, until = span(close)
    conditions, values = [figure.condition], {"since": since, "until": until}
    more: dict[str, Any] = {}
    if part is not None and figure.part:
        conditions.append(f"coalesce({figure.part}, '') = %(part)s")
        more["part"] = part
    last = Transfer.objects.filter(pk=before).first() if before is not None else None
    if last is not None:
        conditions.append("(line.posted_at, line.id) < (%(at)s, %(id)s)")
        more |= {"at": last.posted_at, "id": last.pk}
    return list(
        Transfer.objects.raw(
            f"""
            SELECT line.* FROM wallet_transfer AS line WHERE {" AND ".join(conditions)}
            ORDER BY line.posted_at DESC, line.id DESC LIMIT {LISTED + 1}
            """,
            values | more,
        )
    )


def later(close: Close, sorts: Sequence[Later]) -> list[Corrections]:
    """What happened afterwards to the transfers of a close: three queries for each sort."""
    since, until = span(close)
    period = {"since": since, "until": until}
    found = []
    for sort in sorts:
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT count(*), coalesce(sum(line.amount), 0) FROM ({sort.sql}) AS pair
                JOIN wallet_transfer AS line ON line.id = pair.later
                """,
                period,
            )
            count, amount = cursor.fetchone()
            cursor.execute(f"{sort.sql} ORDER BY later DESC LIMIT {SHOWN}", period)
            pairs = cursor.fetchall()
        lines = Transfer.objects.in_bulk([pk for pk, _ in pairs])
        found.append(
            Corrections(
                sort.label,
                count,
                amount + NOTHING,
                [Correction(lines[pk], earlier) for pk, earlier in pairs],
            )
        )
    return found


# --- proving ------------------------------------------------------------------------------------


def verify(
    figures: Sequence[Figure],
    *,
    since: date | None = None,
    progress: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Compute the closes again from the ledger and return those that differ, and in what.

    Each figure by its own condition, each balance by the accounts, each digest and chain; a month
    is compared with its days. A close that must be there by now and is not shows as well, wherever
    it is missing. Reads each transfer of the periods, in one snapshot. With ``since``, the closes
    that begin on that day or later; what was owed before them is taken from the close before.
    """
    wrong = []
    with transaction.atomic():
        if len(connection.savepoint_ids) == 0:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        closes = list(Close.objects.order_by("last", "kind", "pk"))
        seals = {seal.pk: seal for seal in Seal.objects.all()}
        before: dict[str, Close] = {}
        for close in sorted([*closes, *_missing(closes, seals.values())], key=_order):
            if since is None or close.first >= since:
                problems = _problems(close, before.get(close.kind), figures, seals)
                verdict = Verdict(close, list(problems))
                if verdict.problems:
                    wrong.append(verdict)
                if progress:
                    progress(verdict)
            if not close._state.adding:
                before[close.kind] = close
    return wrong


def _order(close: Close) -> tuple[date, str]:
    return close.last, close.kind


def _missing(closes: Iterable[Close], seals: Iterable[Seal]) -> list[Close]:
    """The closes that must be there and are not.

    Of each day that has been sealed for a while, or that a close comes after, and of each month
    that ends with such a day.
    """
    there = {(close.kind, close.first) for close in closes}
    closed = max((close.last for close in closes), default=date.min)
    long_ago = timezone.now() - OVERDUE_AFTER
    days = [seal.day for seal in seals if seal.day <= closed or seal.sealed_at < long_ago]
    months = [day.replace(day=1) for day in days if day == last_of_month(day.replace(day=1))]
    wanted = [
        *((Close.Kind.DAY, day, day) for day in days),
        *((Close.Kind.MONTH, day, last_of_month(day)) for day in months),
    ]
    return [
        Close(
            kind=kind,
            first=first,
            last=last,
            transfers=0,
            closing_wallets=NOTHING,
            closing_escrow=NOTHING,
            closing_payouts=NOTHING,
        )
        for kind, first, last in wanted
        if (kind, first) not in there
    ]


def _problems(
    close: Close, before: Close | None, figures: Sequence[Figure], seals: Mapping[int, Seal]
) -> Iterable[str]:
    if close._state.adding:
        yield "is missing"
        return
    if close.seal_id not in seals:
        yield "names a seal that is gone"
        return
    close.seal = seals[close.seal_id]
    rows = list(close.figures.order_by("number"))
    if digest_of(close, rows) != close.digest:
        yield "is not as it was closed: the close, a figure or the seal was changed"
    if close.previous != (before.digest if before else ""):
        yield "does not continue the close before it"
    since, until = span(close)
    opening = Balances(close.opening_wallets, close.opening_escrow, close.opening_payouts)
    begun = closing_of(before) if before else moved(BEGINNING, since)
    if opening != begun:
        yield f"began with {_said(opening)}, before it were owed {_said(begun)}"
    ending = begun + moved(since, until)
    if closing_of(close) != ending:
        yield f"ends with {_said(closing_of(close))}, the ledger says {_said(ending)}"
    if close.kind == Close.Kind.DAY:
        said = {(row.figure, row.part): (row.count, row.amount) for row in rows if row.count}
        counted = {
            (figure.name, part): (count, amount)
            for figure in figures
            for part, count, amount in count_one(figure, since, until)
        }
        yield from _compare(said, counted, "the ledger says")
    else:
        days = Close.objects.filter(
            kind=Close.Kind.DAY, first__gte=close.first, last__lte=close.last
        )
        said = {_name(row): (row.count, row.amount) for row in rows if row.count}
        summed = {
            _name(row): (row.count, row.amount) for row in _sum(list(days), figures) if row.count
        }
        yield from _compare(said, summed, "its days say")


def _compare(
    said: Mapping[tuple[Any, ...], tuple[int, Decimal]],
    found: Mapping[tuple[Any, ...], tuple[int, Decimal]],
    whose: str,
) -> Iterable[str]:
    for name in sorted(said.keys() | found.keys()):
        ours, theirs = said.get(name, (0, NOTHING)), found.get(name, (0, NOTHING))
        if ours != theirs:
            yield (
                f"{' '.join(filter(None, name[:2]))}: {ours[1]} in {ours[0]} transfers,"
                f" {whose} {theirs[1]} in {theirs[0]}"
            )


def _said(owed: Balances) -> str:
    return f"{owed.wallets} in wallets, {owed.escrow} in escrow, {owed.payouts} in payouts"


def _begins(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def last_of_month(first: date) -> date:
    """The last day of the month that begins on this day."""
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1) - DAY


def _alone() -> None:
    """One close after another, until the end of the transaction; readers are not blocked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CLOSING])
