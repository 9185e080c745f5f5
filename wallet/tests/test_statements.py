"""Balances at past moments and statements of periods, beside an independent model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wallet import queries
from wallet.models import Wallet
from wallet.tests import world

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, tzinfo=UTC)
moves = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-40_000, 40_000).filter(bool)), max_size=40
)


def post_all(moved: list[tuple[int, int]]) -> tuple[Wallet, list[tuple[datetime, Decimal]]]:
    """Post what can be posted; returns the wallet and each line's time and balance after it."""
    customer = world.customer()
    lines: list[tuple[datetime, Decimal]] = []
    moment, balance = START, Decimal(0)
    for hours, units in moved:
        moment += timedelta(hours=hours)
        amount = Decimal(units) / 10_000
        if balance + amount < 0:
            continue
        balance += amount
        with time_machine.travel(moment, tick=False):
            if amount > 0:
                world.post(world.paid_in(customer, str(amount)))
            else:
                world.post(world.spent(customer, str(-amount)))
        lines.append((moment, balance))
    return Wallet.objects.get(pk=customer.pk), lines


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(moved=moves, since=st.integers(-2, 130), length=st.integers(0, 130))
def test_statements_agree_with_the_ledger_to_the_last_digit(moved, since, length):
    wallet, lines = post_all(moved)
    begins = START + timedelta(hours=since)
    ends = begins + timedelta(hours=length)
    before = [balance for at, balance in lines if at < begins]
    within = [balance for at, balance in lines if begins <= at < ends]

    period = queries.period(wallet, begins, ends)

    opening = before[-1] if before else Decimal(0)
    assert (period.opening, period.closing, period.count) == (
        opening,
        within[-1] if within else opening,
        len(within),
    )
    found = [line for chunk in period.lines(size=3) for line in chunk]
    assert [line.balance_after for line in found] == within
    assert period.opening + sum(line.change for line in found) == period.closing
    assert queries.at(wallet, ends).balance == period.closing


def test_a_line_at_the_beginning_is_in_and_one_at_the_end_is_not():
    wallet, _ = post_all([(0, 10_000), (1, 10_000), (1, 10_000)])

    period = queries.period(wallet, START, START + timedelta(hours=1))

    assert (period.first, period.last, period.opening, period.closing) == (1, 1, 0, 1)


def test_the_whole_life_of_a_wallet_is_a_period():
    wallet, _ = post_all([(0, 10_000), (1, -5_000)])

    period = queries.period(wallet, None, None)

    assert (period.opening, period.closing, period.count) == (0, Decimal("0.5"), 2)


def test_an_empty_wallet_has_empty_periods():
    wallet, _ = post_all([])

    assert queries.period(wallet, START, None).count == 0
    assert queries.at(wallet, START) == queries.Standing(0, Decimal(0))


def test_what_is_posted_meanwhile_is_not_in_a_statement_that_was_begun():
    wallet, _ = post_all([(0, 10_000)])
    period = queries.period(wallet, None, None)
    world.post(world.paid_in(wallet.customer, "5"))

    assert [line.wallet_version for chunk in period.lines() for line in chunk] == [1]


def test_a_moment_is_found_with_one_query(django_assert_num_queries):
    wallet, _ = post_all([(1, 10_000)] * 30)

    with django_assert_num_queries(1):
        assert queries.at(wallet, START + timedelta(hours=10, minutes=30)).version == 10
