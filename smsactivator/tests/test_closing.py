"""Closes: exact figures, in order, once, frozen, chained, and proved again from the ledger."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from orders import termination
from refunds import decisions
from refunds.policy import Clause
from smsactivator import closing, tasks
from smsactivator.finance import total
from smsactivator.tests import world
from smsactivator.tests.closing import (
    FIRST,
    a_shop,
    at,
    charge,
    close_all,
    ends,
    on,
    post,
    seal,
    sell,
    settle,
    told,
)
from wallet import closes, corrections, settlement
from wallet.closes import Balances, NotInOrder, NotSealed
from wallet.figures import Figure
from wallet.models import Account, Close, CloseFigure, Seal, Transfer
from wallet.tests import paying
from wallet.tests.attack import CHECK, RESTRICT, assert_refused, triggers_aside
from wallet.tests.together import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books]

# --- figures --------------------------------------------------------------------------------------

REVERSIBLE = ("deposit", "adjustment", "goodwill", "upstream_cost")


def movements() -> list[tuple[str, int, int]]:
    """Every kind of transfer that the database takes, between every two accounts it takes it."""
    shop = Account.values
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT kind, debit, credit
            FROM unnest(%s::text[]) AS kind, unnest(%s::bigint[]) AS debit,
                unnest(%s::bigint[]) AS credit
            WHERE debit <> credit AND (debit < 1000 OR credit < 1000) AND kind <> 'reversal'
                AND transfer_fits_its_kind(kind, debit, credit, 0.001, NULL)
            """,
            [Transfer.Kind.values, [*shop, 1000], [*shop, 1000]],
        )
        found: list[tuple[str, int, int]] = cursor.fetchall()
    back = [("reversal", credit, debit) for kind, debit, credit in found if kind in REVERSIBLE]
    return sorted({*found, *back})


def covering(kind: str, debit: int, credit: int) -> list[Figure]:
    with connection.cursor() as cursor:
        found = []
        for figure in closing.FIGURES:
            if not figure.apart:
                cursor.execute(
                    "SELECT count(*) FROM (SELECT 1::bigint AS id, %s::text AS kind,"
                    " %s::bigint AS debit_account, %s::bigint AS credit_account) AS line"
                    f" WHERE {figure.where}",
                    [kind, debit, credit],
                )
                found += [figure] * cursor.fetchone()[0]
    return found


def test_every_kind_of_transfer_is_under_exactly_one_figure_which_says_what_it_does() -> None:
    known = movements()
    assert {kind for kind, _, _ in known} >= set(Transfer.Kind.values)
    for movement in known:
        figures = covering(*movement)
        assert len(figures) == 1, movement
        _, debit, credit = movement
        effect = [
            is_there(credit) - is_there(debit)
            for is_there in (
                lambda account: int(account >= 1000),
                lambda account: int(account == Account.ORDER_ESCROW),
                lambda account: int(account == Account.PAYOUTS_PENDING),
            )
        ]
        [figure] = figures
        assert [figure.wallets, figure.escrow, figure.payouts] == effect, movement


def test_a_transfer_under_no_figure_closes_nothing() -> None:
    a_shop()
    seal(at(2, month=11))
    some = [figure for figure in closing.FIGURES if figure.name != "sales"]
    with pytest.raises(closes.DoesNotAddUp, match="under no figure"):
        closes.close_what_is_sealed(some)
    assert not Close.objects.exists()


def test_each_day_and_month_says_what_moved_to_the_last_digit() -> None:
    a_shop()
    made = close_all(at(2, month=11))

    assert [close.period for close in made] == ["2025-10-30", "2025-10-31", "2025-11-01", "2025-10"]
    first, second, third, month = made
    assert told(first) == {
        "deposits": (1, "100.0000"),
        "purchases": (1, "10.0000"),
        "sales": (1, "10.0000"),
        "upstream_cost": (1, "4.0001"),
    }
    assert told(second) == {"purchases": (2, "20.0000"), "upstream_cost": (1, "3.0000")}
    assert told(third) == {
        "deposits": (1, "0.0005"),
        "automatic_refunds auto.no_sms_in_time": (1, "10.0000"),
        "losses": (1, "3.0000"),
    }
    assert told(month) == {
        "deposits": (1, "100.0000"),
        "purchases": (3, "30.0000"),
        "sales": (1, "10.0000"),
        "upstream_cost": (2, "7.0001"),
    }
    assert [ends(close) for close in made] == [
        ("90.0000", "0.0000", "0.0000"),
        ("70.0000", "20.0000", "0.0000"),
        ("80.0005", "10.0000", "0.0000"),
        ("70.0000", "20.0000", "0.0000"),
    ]
    assert [close.transfers for close in made] == [4, 3, 2, 7]
    assert closes.verify(closing.FIGURES) == []


def test_refunds_are_told_by_clause_and_goodwill_apart() -> None:
    agent, senior = world.person("Support agent"), world.person("Senior agent")
    with on(at(30)):
        buyer = world.customer(funds="100")
        sold, other = sell(buyer, "10"), sell(buyer, "20")
        rejected = decisions.request(
            agent,
            sold.pk,
            clause=Clause.SERVICE_REJECTED,
            amount=Decimal("2.5"),
            reason="Region",
            key=uuid4(),
        )
        decisions.approve(senior, rejected.pk)
        banned = decisions.request(
            agent,
            other.pk,
            clause=Clause.BANNED_LATER,
            amount=Decimal("1.25"),
            reason="Banned",
            key=uuid4(),
        )
        decisions.approve(senior, banned.pk, reason="Long a customer")
        gift = corrections.request_goodwill(
            agent, buyer.pk, amount=Decimal("0.5"), reason="Waited", key=uuid4()
        )
        corrections.confirm(senior, gift.pk)
        for clause in (Clause.CANCELLED_BEFORE_SMS, Clause.NUMBER_BROKEN, Clause.NUMBER_BROKEN):
            with transaction.atomic():
                order = world.place(buyer, of=world.offer(service="3", price="3"))
                world.refund(world.await_sms(order), clause)
    [close] = close_all(at(31, 1))
    said = told(close)
    assert {name: said[name] for name in said if "refund" in name or "goodwill" in name} == {
        f"automatic_refunds {Clause.CANCELLED_BEFORE_SMS}": (1, "3.0000"),
        f"automatic_refunds {Clause.NUMBER_BROKEN}": (2, "6.0000"),
        f"decided_refunds {Clause.SERVICE_REJECTED}": (1, "2.5000"),
        "goodwill": (1, "0.5000"),
        f"goodwill {Clause.BANNED_LATER}": (1, "1.2500"),
    }


DAYS = 4
event = st.tuples(
    st.integers(0, DAYS - 1),
    st.sampled_from(
        ["deposit", "sell", "open", "refund", "in", "out", "round", "reverse", "gift", "cost"]
    ),
    st.integers(1, 99_999),
)


@example_settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(event, max_size=25))
def test_any_movements_add_up_as_an_independent_model_says(events: list[Any]) -> None:
    with transaction.atomic():
        play(sorted(events, key=lambda one: one[0]))
        transaction.set_rollback(True)


def play(events: list[tuple[int, str, int]]) -> None:
    """Do the events, day by day, and compare every day's close with what was done."""
    said: dict[int, dict[str, tuple[int, Decimal]]] = defaultdict(dict)
    wallets, escrow = [Decimal(0)] * DAYS, [Decimal(0)] * DAYS
    open_orders: list[Any] = []
    costs: dict[int, Decimal] = {}
    back: set[int] = set()
    uncosted: list[Any] = []

    def note(day: int, name: str, amount: Decimal, wallet: int = 0, held: int = 0) -> None:
        count, total = said[day].get(name, (0, Decimal(0)))
        said[day][name] = (count + 1, total + amount)
        wallets[day] += wallet * amount
        escrow[day] += held * amount

    with on(at(1)):
        buyer = world.customer(funds="1000000")
    note(0, "deposits", Decimal(1000000), 1)
    for number, (day, what, units) in enumerate(events):
        amount = Decimal(units) / 10_000
        price = Decimal(units).quantize(Decimal("0.0001"))
        key = f"model:{number}"
        with on(at(1 + day) + timedelta(seconds=number + 1)), transaction.atomic():
            if what == "deposit":
                world.customer(funds=str(amount))
                note(day, "deposits", amount, 1)
            elif what in {"sell", "open"}:
                offer = world.offer(service=f"s{units}", price=str(price))
                order = world.await_sms(world.place(buyer, of=offer))
                note(day, "purchases", price, -1, 1)
                uncosted.append(order)
                if what == "open":
                    open_orders.append(order)
                else:
                    world.deliver(order)
                    note(day, "sales", price, 0, -1)
            elif what == "refund" and open_orders:
                order = open_orders.pop(units % len(open_orders))
                clause = [Clause.NO_SMS_IN_TIME, Clause.NUMBER_BROKEN][units % 2]
                world.refund(order, clause)
                back.add(order.pk)
                note(day, f"automatic_refunds {clause}", order.price, 1, -1)
                if order.pk in costs:
                    note(day, "losses", costs[order.pk])
            elif what == "cost" and uncosted:
                order = uncosted.pop(units % len(uncosted))
                charge(order, str(amount))
                costs[order.pk] = amount
                note(day, "upstream_cost", amount)
                if order.pk in back:
                    note(day, "losses", amount)
            elif what == "in":
                post("adjustment", Account.ADJUSTMENTS, buyer.pk, str(amount), key)
                note(day, "adjustments_in", amount, 1)
            elif what == "out":
                post("adjustment", buyer.pk, Account.ADJUSTMENTS, str(amount), key)
                note(day, "adjustments_out", amount, -1)
            elif what == "round":
                less = Decimal(units % 99 + 1) / 10_000
                post("rounding", buyer.pk, Account.ROUNDING, str(less), key)
                note(day, "rounding", less, -1)
            elif what == "gift":
                post("goodwill", Account.GOODWILL, buyer.pk, str(amount), key)
                note(day, "goodwill", amount, 1)
            elif what == "reverse":
                first = post("adjustment", buyer.pk, Account.ADJUSTMENTS, str(amount), f"{key}:1")
                post("reversal", Account.ADJUSTMENTS, buyer.pk, str(amount), f"{key}:2", first)
                note(day, "adjustments_out", amount, -1)
                note(day, "reversals_in", amount, 1)
    made = close_all(at(1 + DAYS, 1))
    assert [close.first for close in made] == [date(2025, 10, 1 + day) for day in range(DAYS)]
    for day, close in enumerate(made):
        assert told(close) == {
            name: (count, f"{total:.4f}") for name, (count, total) in sorted_as(close, said[day])
        }
        assert (close.closing_wallets, close.closing_escrow) == (
            sum(wallets[: day + 1]),
            sum(escrow[: day + 1]),
        )
        assert closes.owed_at(closes.span(close)[1]) == closes.closing_of(close)
    # Behind each figure are exactly the transfers that it sums.
    for close in made:
        for row in close.figures.all():
            figure = closing.BY_NAME[row.figure]
            found = closes.behind(close, figure, row.part)
            assert (len(found), sum(one.amount for one in found)) == (row.count, row.amount)
    assert closes.verify(closing.FIGURES) == []


def sorted_as(close: Close, said: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(said.items(), key=lambda item: list(told(close)).index(item[0]))


def test_a_loss_counts_once_when_both_have_happened() -> None:
    agent, senior = world.person("Support agent"), world.person("Senior agent")
    with on(at(1)):
        buyer = world.customer(funds="100")
        before, after = sell(buyer, "10"), sell(buyer, "10")
        charge(before, "4")
    for day in (2, 4):
        # Two refunds of the same order: its cost is lost once, with the first.
        with on(at(day)):
            for order in (before, after):
                asked = decisions.request(
                    agent,
                    order.pk,
                    clause=Clause.SERVICE_REJECTED,
                    amount=Decimal(1),
                    reason="Region",
                    key=uuid4(),
                )
                decisions.approve(senior, asked.pk)
    with on(at(3)):
        charge(after, "2.5")
    made = close_all(at(5, 1))
    lost = [told(close).get("losses") for close in made]
    assert lost == [None, (1, "4.0000"), (1, "2.5000"), None]


# --- order, once, permission ----------------------------------------------------------------------


def test_finance_closes_what_is_sealed_and_nobody_else_does() -> None:
    a_shop()
    finance = world.person("Finance")
    for role in ("Support agent", "Senior agent", "Auditor"):
        with pytest.raises(PermissionDenied):
            closing.close_days(world.person(role), FIRST)
        with pytest.raises(PermissionDenied):
            closing.close_month(world.person(role, name=f"{role} 2"), FIRST)
    with pytest.raises(NotSealed):
        closing.close_days(finance, FIRST)
    seal(at(2, month=11))
    with pytest.raises(NotSealed):
        closing.close_days(finance, date(2025, 11, 2))
    with pytest.raises(NotSealed):
        closing.close_month(finance, FIRST)

    made = closing.close_days(finance, date(2025, 10, 31))

    assert [close.period for close in made] == ["2025-10-30", "2025-10-31"]
    assert {close.closed_by for close in made} == {finance}
    assert closing.close_days(finance, date(2025, 10, 31)) == []
    month = closing.close_month(finance, date(2025, 10, 15))
    assert (month.first, month.last) == (date(2025, 10, 1), date(2025, 10, 31))
    assert closing.close_month(finance, FIRST) == month
    with pytest.raises(NotSealed):
        closing.close_month(finance, date(2025, 11, 1))
    settle()


def test_a_month_is_closed_after_the_month_before_it() -> None:
    with on(at(30, month=9)):
        world.customer(funds="5")
    seal(at(2, month=11))
    finance = world.person("Finance")
    closing.close_days(finance, date(2025, 10, 31))
    with pytest.raises(NotInOrder):
        closing.close_month(finance, date(2025, 10, 1))
    september = closing.close_month(finance, date(2025, 9, 1))
    october = closing.close_month(finance, date(2025, 10, 1))
    assert (october.previous, october.opening_wallets) == (september.digest, Decimal(5))
    assert (october.transfers, told(october)) == (0, {})
    settle()


def test_the_beat_closes_what_is_sealed_and_running_it_again_does_nothing() -> None:
    a_shop()
    seal(at(2, month=11))
    assert [tasks.close_books(), tasks.close_books()] == [4, 0]
    assert set(Close.objects.values_list("closed_by", flat=True)) == {None}
    beat = settings.CELERY_BEAT_SCHEDULE["close-books"]
    assert beat["task"] == tasks.close_books.name
    assert settings.CELERY_TASK_ROUTES[tasks.close_books.name] == {"queue": "audit"}


def test_without_a_seal_there_is_nothing_to_close() -> None:
    assert closing.close_what_is_sealed() == []
    assert (closes.next_days(), closes.next_month()) == (None, None)


@pytest.mark.django_db(transaction=True)
def test_closing_at_once_closes_each_period_once() -> None:
    a_shop()
    seal(at(2, month=11))
    finance, other = world.person("Finance"), world.person("Finance", name="other")
    through = date(2025, 11, 1)
    done = at_once(
        lambda: closing.close_days(finance, through),
        lambda: closing.close_days(other, through),
        closing.close_what_is_sealed,
    )
    assert Close.objects.filter(kind="day").count() == 3
    assert sum(len([c for c in made if c.kind == "day"]) for made in done) == 3
    month = at_once(*[lambda: closing.close_month(finance, FIRST).pk] * 3)
    assert len(set(month)) == 1
    assert Close.objects.filter(kind="month").count() == 1
    assert closes.verify(closing.FIGURES) == []


# --- frozen and chained ---------------------------------------------------------------------------


def test_a_digest_is_over_the_close_its_figures_its_seal_and_the_close_before() -> None:
    a_shop()
    first, second, *_ = close_all(at(2, month=11))
    for close, previous in ((first, ""), (second, first.digest)):
        seal_digest = Seal.objects.get(day=close.last).digest
        text = (
            f"{previous}|day|{close.first}|{close.last}|{seal_digest}|{close.transfers}|"
            f"{close.opening_wallets}|{close.opening_escrow}|{close.opening_payouts}|"
            f"{close.closing_wallets}|{close.closing_escrow}|{close.closing_payouts}\n"
        )
        for r in CloseFigure.objects.filter(close=close).order_by("number"):
            words = [word.encode().hex() for word in (r.section, r.label, r.part_label)]
            text += (
                f"{r.number}|{r.figure}|{r.part}|{r.count}|{r.amount}|{r.wallets}|{r.escrow}|"
                f"{r.payouts}|{'apart' if r.apart else ''}|{'|'.join(words)}\n"
            )
        assert close.digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE wallet_close SET closed_at = now()",
        "DELETE FROM wallet_close",
        "TRUNCATE wallet_close CASCADE",
        "UPDATE wallet_closefigure SET amount = 1, count = 1 WHERE figure = 'deposits'",
        "DELETE FROM wallet_closefigure",
        "TRUNCATE wallet_closefigure",
    ],
)
def test_a_close_is_never_changed(statement: str) -> None:
    a_shop()
    close_all(at(2, month=11))
    assert_refused(RESTRICT, "append-only", statement)


def copied(changes: dict[str, str]) -> str:
    """An INSERT of a close like the last day's, a day later, with some columns otherwise."""
    columns = {
        "kind": "kind",
        "first": "first + 1",
        "last": "last + 1",
        **{f"opening_{n}": f"closing_{n}" for n in ("wallets", "escrow", "payouts")},
        **{f"closing_{n}": f"closing_{n}" for n in ("wallets", "escrow", "payouts")},
        "transfers": "0",
        "lines": "0",
        "digest": "repeat('a', 64)",
        "previous": "digest",
        "seal_id": "(SELECT id FROM wallet_seal WHERE day = wallet_close.last + 1)",
        "closed_at": "now()",
        **changes,
    }
    return (
        f"INSERT INTO wallet_close ({', '.join(columns)})"
        f" SELECT {', '.join(columns.values())} FROM wallet_close"
        " WHERE kind = 'day' ORDER BY last DESC LIMIT 1"
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"first": "first + 2", "last": "last + 2"}, "does not name the seal"),
        ({"seal_id": "seal_id"}, "does not name the seal"),
        ({"previous": "repeat('b', 64)"}, "does not continue the close before it"),
        ({"opening_wallets": "closing_wallets + 1"}, "does not continue the close before it"),
        ({"opening_escrow": "closing_escrow + 1"}, "does not continue the close before it"),
        ({"closing_wallets": "closing_wallets + 1"}, "does not add up"),
        ({"closing_payouts": "1"}, "does not add up"),
        ({"transfers": "1"}, "does not add up"),
        ({"lines": "1"}, "does not add up"),
        ({}, "does not carry its own digest"),
    ],
)
def test_the_database_takes_no_close_that_is_not_the_next_or_does_not_add_up(
    changes: dict[str, str], rule: str
) -> None:
    a_shop()
    close_all(at(2, month=11))
    seal(at(3, month=11))
    assert_refused(CHECK, rule, copied(changes))


def test_a_period_is_closed_once() -> None:
    a_shop()
    close_all(at(2, month=11))
    again = {
        "first": "first",
        "last": "last",
        "previous": "previous",
        "seal_id": "seal_id",
        **{f"opening_{n}": f"opening_{n}" for n in ("wallets", "escrow", "payouts")},
    }
    assert_refused(CHECK, "does not continue", copied(again))


def test_the_first_close_begins_where_the_books_begin() -> None:
    a_shop()
    seal(at(2, month=11))
    for first in ("2025-10-31", "2025-11-01"):
        assert_refused(
            CHECK,
            "does not begin where the books begin",
            f"""
            INSERT INTO wallet_close (kind, first, last, opening_wallets, opening_escrow,
                opening_payouts, closing_wallets, closing_escrow, closing_payouts, transfers, lines,
                seal_id, digest, previous, closed_at)
            SELECT 'day', day, day, 0, 0, 0, 0, 0, 0, 0, 0, id, 'a', '', now() FROM wallet_seal
            WHERE day = '{first}'
            """,
        )


def test_a_figure_is_not_added_to_a_close_that_is_there() -> None:
    a_shop()
    close_all(at(2, month=11))
    assert_refused(
        CHECK,
        "has all its figures",
        "INSERT INTO wallet_closefigure (close_id, number, section, figure, label, part,"
        " part_label, count, amount, wallets, escrow, payouts, apart)"
        " SELECT id, 99, 'x', 'x', 'x', '', '', 0, 0, 0, 0, 0, true FROM wallet_close LIMIT 1",
    )


def test_the_database_takes_no_month_that_its_days_do_not_say() -> None:
    a_shop()
    seal(at(2, month=11))
    finance = world.person("Finance")
    closing.close_days(finance, date(2025, 10, 31))
    settle()

    def month(**changes: str) -> str:
        return copied(
            {
                "kind": "'month'",
                "first": "'2025-10-01'",
                "last": "'2025-10-31'",
                "opening_wallets": "0",
                "opening_escrow": "0",
                "opening_payouts": "0",
                "previous": "''",
                "seal_id": "seal_id",
                "closing_wallets": "0",
                "closing_escrow": "0",
                "closing_payouts": "0",
                "digest": "'x'",
                **changes,
            }
        )

    digest = (
        "encode(sha256(convert_to('|month|2025-10-01|2025-10-31|'"
        " || (SELECT digest FROM wallet_seal WHERE id = seal_id)"
        f" || '|0{'|0.0000' * 6}' || chr(10), 'UTF8')), 'hex')"
    )
    # Empty, and so it adds up and carries its digest; but its days say otherwise.
    assert_refused(CHECK, "is not what its days say", month(digest=digest))
    assert_refused(CHECK, "does not carry its own digest", month())
    assert_refused(CHECK, "not of a calendar month", month(first="'2025-09-01'"))


def forged(day: date, figure: tuple[int, str, int] | None, **changes: Any) -> str:
    """A close that adds up and carries its digest, with one figure or none, in one statement."""
    before = closes.newest("day")
    ends = closes.closing_of(before) if before else Balances()
    begins = changes.get("begins", ends)
    count, amount, wallets = figure or (0, "0.0000", 0)
    after = begins.wallets + wallets * Decimal(amount)
    owed = [begins.wallets, begins.escrow, begins.payouts, after, begins.escrow, begins.payouts]
    sealed = Seal.objects.get(day=day)
    previous = before.digest if before else ""
    text = f"{previous}|day|{day}|{day}|{sealed.digest}|{count}"
    text += "".join(f"|{one:.4f}" for one in owed) + "\n"
    if figure:
        words = "|".join([b"x".hex(), b"x".hex(), ""])
        text += f"1|x||{count}|{amount}|{wallets}|0|0||{words}\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"""
        WITH made AS (
            INSERT INTO wallet_close (kind, first, last, opening_wallets, opening_escrow,
                opening_payouts, closing_wallets, closing_escrow, closing_payouts, transfers, lines,
                seal_id, digest, previous, closed_at)
            VALUES ('day', '{day}', '{day}', {", ".join(map(str, owed))}, {count},
                {int(figure is not None)}, {sealed.pk}, '{digest}', '{previous}', now())
            RETURNING id
        )
        INSERT INTO wallet_closefigure (close_id, number, section, figure, label, part,
            part_label, count, amount, wallets, escrow, payouts, apart)
        SELECT id, 1, 'x', 'x', 'x', '', '', {count}, {amount}, {wallets}, 0, 0, false FROM made
        WHERE {figure is not None}
    """


@pytest.mark.parametrize(
    "figure", [None, (1, "10.0005", 1), (2, "10.0005", 0), (2, "10.0004", 1), (3, "10.0005", 1)]
)
def test_the_database_takes_no_day_that_says_something_else_than_the_ledger(
    figure: tuple[int, str, int] | None,
) -> None:
    a_shop()
    seal(at(2, month=11))
    closing.close_days(world.person("Finance"), date(2025, 10, 31))
    settle()
    # Two transfers of that day bring 10.0005 to wallets, and take 10 from escrow.
    assert_refused(CHECK, "is not what the ledger says", forged(date(2025, 11, 1), figure))


def test_the_database_takes_no_first_day_that_begins_with_something_else_than_the_ledger() -> None:
    a_shop()
    seal(at(2, month=11))
    with triggers_aside() as cursor:
        # As if the books had begun a day before they were sealed, and nothing happened since.
        cursor.execute("UPDATE wallet_transfer SET posted_at = posted_at - interval '4 days'")
    for begins in (Balances(), Balances(wallets=Decimal("80.0005"))):
        assert_refused(
            CHECK, "does not begin with what was owed before it", forged(FIRST, None, begins=begins)
        )
    right = Balances(Decimal("80.0005"), Decimal("10.0000"))
    with connection.cursor() as cursor:
        cursor.execute(forged(FIRST, None, begins=right))
    settle()


def test_the_database_takes_no_month_whose_figures_do_something_else_than_its_days() -> None:
    a_shop()
    seal(at(2, month=11))
    closing.close_days(world.person("Finance"), date(2025, 10, 31))
    settle()
    days = list(Close.objects.order_by("first"))
    rows = closes._sum(days, closing.FIGURES)
    [deposits] = [row for row in rows if row.figure == "deposits"]
    # As if a deposit brought nothing to wallets; it adds up, and carries its digest.
    deposits.wallets = 0
    ending = closes.closing_of(days[-1]) + Balances(wallets=Decimal(-100))
    month = Close(kind="month", first=date(2025, 10, 1), last=days[-1].last)
    with pytest.raises(IntegrityError, match="is not what its days say"), transaction.atomic():
        closes._write(None, month, None, Balances(), ending, rows)
        settle()


# --- proving --------------------------------------------------------------------------------------


def tamper(*statements: str) -> None:
    with triggers_aside() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.parametrize(
    ("statement", "period", "problem"),
    [
        (
            "UPDATE wallet_closefigure SET amount = 99 WHERE figure = 'deposits' AND count = 1"
            " AND close_id = (SELECT id FROM wallet_close WHERE first = '2025-10-30')",
            "2025-10-30",
            "is not as it was closed",
        ),
        (
            "UPDATE wallet_transfer SET kind = 'adjustment', debit_account = 9"
            " WHERE kind = 'deposit' AND amount = 100",
            "2025-10-30",
            "adjustments_in: 0.0000 in 0 transfers, the ledger says 100.0000 in 1",
        ),
        (
            "UPDATE wallet_transfer SET amount = 101, balance_after = 101 WHERE amount = 100",
            "2025-10-30",
            "deposits: 100.0000 in 1 transfers, the ledger says 101.0000 in 1",
        ),
        (
            "UPDATE wallet_close SET closing_wallets = 1 WHERE first = '2025-10-31'",
            "2025-10-31",
            "ends with 1.0000 in wallets",
        ),
        (
            "UPDATE wallet_close SET previous = repeat('0', 64) WHERE first = '2025-10-31'",
            "2025-10-31",
            "does not continue the close before it",
        ),
        (
            "UPDATE wallet_seal SET digest = repeat('0', 64) WHERE day = '2025-11-01'",
            "2025-11-01",
            "is not as it was closed",
        ),
        (
            "UPDATE wallet_closefigure SET count = 2, amount = 99 WHERE figure = 'purchases'"
            " AND close_id = (SELECT id FROM wallet_close WHERE kind = 'month')",
            "2025-10",
            "purchases: 99.0000 in 2 transfers, its days say 30.0000 in 3",
        ),
        (
            "UPDATE wallet_closefigure SET label = 'Gifts' WHERE figure = 'deposits'"
            " AND close_id = (SELECT id FROM wallet_close WHERE kind = 'month')",
            "2025-10",
            "is not as it was closed",
        ),
    ],
)
def test_what_was_changed_shows_in_its_close(statement: str, period: str, problem: str) -> None:
    a_shop()
    close_all(at(2, month=11))
    tamper(statement)
    wrong = {one.close.period: " / ".join(one.problems) for one in closes.verify(closing.FIGURES)}
    assert problem in wrong[period]
    code, lines = command()
    assert code == 1
    assert any(line.startswith(period) and line.endswith("FAILED") for line in lines)


def command(*options: str) -> tuple[int, list[str]]:
    output = StringIO()
    try:
        call_command("verify_closes", *options, stdout=output)
    except SystemExit as end:
        return int(end.code or 0), output.getvalue().splitlines()
    return 0, output.getvalue().splitlines()


def test_the_command_names_each_close_and_says_whether_all_are_right() -> None:
    assert command() == (0, ["nothing is closed"])
    a_shop()
    close_all(at(2, month=11))
    assert command() == (
        0,
        [
            "2025-10-30           4 transfers             90.0000 USD owed  ok",
            "2025-10-31           3 transfers             90.0000 USD owed  ok",
            "2025-10              7 transfers             90.0000 USD owed  ok",
            "2025-11-01           2 transfers             90.0005 USD owed  ok",
            "all closes are as they were made",
        ],
    )
    assert command("--from", "2025-11-01")[1][0].startswith("2025-11-01")
    assert command("--from", "2027-01-01")[0] == 1


# --- later ----------------------------------------------------------------------------------------


def later(close: Close) -> dict[str, tuple[int, str, list[int]]]:
    return {
        sort.label: (sort.count, str(sort.amount), [one.earlier_id for one in sort.newest])
        for sort in closes.later(close, closing.LATER)
        if sort.count
    }


def gave(asks: Any, agrees: Any, buyer: Any, amount: str) -> int:
    """An adjustment by two people; its transfer."""
    asked = corrections.request_adjustment(
        asks, buyer.pk, amount=Decimal(amount), reason="Owed", key=uuid4()
    )
    return moved_by(corrections.confirm(agrees, asked.pk))


def reversed_(asks: Any, agrees: Any, transfer: int) -> int:
    asked = corrections.request_reversal(asks, transfer, reason="In error", key=uuid4())
    return moved_by(corrections.confirm(agrees, asked.pk))


def moved_by(correction: Any) -> int:
    assert correction.transfer_id is not None
    return int(correction.transfer_id)


def test_what_is_corrected_later_shows_beside_the_close_and_changes_nothing_in_it() -> None:
    agent, senior = world.person("Support agent"), world.person("Senior agent")
    finance = world.person("Finance")
    with on(at(30)):
        buyer = world.customer(funds="100")
        sold, other = sell(buyer), sell(buyer)
        same_day = gave(finance, senior, buyer, "1")
        reversed_(finance, senior, same_day)
        wrong = gave(finance, senior, buyer, "7.7777")
    close_all(at(31, 1))
    day = Close.objects.get()
    before = told(day), day.digest
    with on(at(31)):
        reversed_(finance, senior, wrong)
        for order, clause in ((sold, Clause.SERVICE_REJECTED), (other, Clause.BANNED_LATER)):
            asked = decisions.request(
                agent, order.pk, clause=clause, amount=Decimal(2), reason="Late", key=uuid4()
            )
            decisions.approve(senior, asked.pk, reason="Agreed")
    close_all(at(1, 1, month=11))

    sold.refresh_from_db()
    other.refresh_from_db()
    assert later(day) == {
        "Reversed later": (1, "7.7777", [wrong]),
        "Refunded by a decision later": (1, "2.0000", [sold.settlement_id]),
        "Given goodwill for it later": (1, "2.0000", [other.settlement_id]),
    }
    assert (told(day), Close.objects.get(pk=day.pk).digest) == before
    # In the month both have happened, so nothing is later.
    assert later(Close.objects.get(kind="month")) == {}
    assert closes.verify(closing.FIGURES) == []


def test_payouts_are_told_by_what_became_of_them_and_one_that_fails_later_shows() -> None:
    people = paying.crew()
    with on(at(30)):
        buyer, other = world.customer(funds="100"), world.customer(funds="20")
        paid = paying.taken_to("paid", people, buyer, "50")
        lost = paying.taken_to("submitted", people, other, "20")
    with on(at(31)):
        paying.came_back(people.finance, paid)
        settlement.give_back(people.other, paid.pk, reason="Never arrives")
        settlement.mark_failed(people.finance, lost.pk, problem="Came back")
        ended(people, other)
        settlement.give_back(people.other, lost.pk, reason="The account has ended")
    first, second, month = close_all(at(1, 1, month=11))
    assert told(first) == {
        "deposits": (2, "120.0000"),
        "payouts_requested": (2, "70.0000"),
        "payouts_paid": (1, "50.0000"),
    }
    assert told(second) == {
        "forfeited_payouts": (1, "20.0000"),
        "payouts_returned": (1, "50.0000"),
        "payouts_unpaid": (1, "50.0000"),
    }
    assert [ends(close) for close in (first, second, month)] == [
        ("50.0000", "0.0000", "20.0000"),
        ("100.0000", "0.0000", "0.0000"),
        ("100.0000", "0.0000", "0.0000"),
    ]
    assert [total(close, "payouts") for close in (first, second, month)] == [50, -50, 0]
    transfer = Transfer.objects.get(key=f"payout:{paid.pk}:paid:1").pk
    assert later(first) == {"Paid out, failed later": (1, "50.0000", [transfer])}
    assert later(second) == later(month) == {}
    assert closes.verify(closing.FIGURES) == []


def ended(people: paying.Crew, customer: Any) -> Any:
    asked = termination.request(people.senior, customer.pk, reason="Resold", key=uuid4())
    return termination.confirm(people.finance, asked.pk)


@pytest.mark.parametrize("funds", ["100", "10"])
def test_what_a_reinstatement_gives_back_shows_beside_what_was_forfeited(funds: str) -> None:
    people = paying.crew()
    with on(at(29)):
        buyer = world.customer(funds=funds)
        with transaction.atomic():
            order = world.place(buyer, of=world.offer(service="10", price="10"))
    with on(at(30)):
        over = ended(people, buyer)
    with on(at(31)):
        back = termination.request_reinstatement(
            people.senior, over.pk, give_back=True, reason="Mix-up", key=uuid4()
        )
        termination.confirm_reinstatement(people.finance, back.pk)
    _, second, *_ = close_all(at(1, 1, month=11))
    order.refresh_from_db()
    concerned = over.transfer_id or order.settlement_id
    assert later(second) == {
        "Given back to reinstated customers later": (1, f"{Decimal(funds):.4f}", [concerned])
    }


# --- owed -----------------------------------------------------------------------------------------


def test_what_is_owed_at_a_moment_goes_on_from_the_last_close_before_it(
    django_assert_num_queries: Any,
) -> None:
    a_shop()
    moments = [
        (at(30, 11), Balances()),
        (at(30, 13), Balances(Decimal("90.0000"))),
        (at(31, 13), Balances(Decimal("70.0000"), Decimal("20.0000"))),
        (at(1, 13, month=11), Balances(Decimal("80.0005"), Decimal("10.0000"))),
        (at(9, 13, month=11), Balances(Decimal("80.0005"), Decimal("10.0000"))),
    ]
    for moment, expected in moments:
        assert closes.owed_at(moment) == expected
    close_all(at(2, month=11))
    for moment, expected in moments:
        with django_assert_num_queries(2):
            assert closes.owed_at(moment) == expected
