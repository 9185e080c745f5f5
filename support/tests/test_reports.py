"""Reports: exact figures of a scripted month, which are the ledger's."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from refunds.models import RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from smsactivator.common.periods import Period, PeriodRefused
from support import reports
from support.reports import By, Only
from support.tests.month import FORMULA, TICK, Month, at, on, ticket, wait
from wallet.models import Transfer
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

NOVEMBER = Period(date(2026, 11, 1), date(2026, 11, 30))


@pytest.fixture
def month() -> Month:
    return Month()


def refunds(month: Month, by: By, period: Period = NOVEMBER, **only: Any) -> dict[str, Any]:
    """By label: number and USD by each way, refunded orders, placed orders, rate by both."""
    report = reports.refunds(month.sonia, period, by, Only(**only))
    rows = {row.label: row for row in (*report.rows, report.total)}
    assert len(rows) == len(report.rows) + 1
    for name in ("count", "amount", "orders"):
        assert sum(getattr(row, name) for row in report.rows) == getattr(report.total, name)
    for way in reports.Way:
        assert sum(getattr(row, way).count for row in report.rows) == (
            getattr(report.total, way).count
        )
    return {
        label: (
            *((way.count, way.amount) for way in (row.automatic, row.decided, row.goodwill)),
            row.orders,
            row.placed and (row.placed.count, row.placed.amount),
        )
        for label, row in rows.items()
    }


def usd(text: str) -> Decimal:
    return Decimal(text)


NONE = (0, usd("0"))


def test_refunds_by_clause_are_told_apart_by_how_they_came_about(month: Month) -> None:
    assert refunds(month, By.CLAUSE) == {
        "Cancelled before any SMS": ((3, usd("4.5")), NONE, NONE, 3, None),
        "SMS rejected by the service": (NONE, (2, usd("2")), NONE, 2, None),
        "No SMS within the SLA": ((1, usd("1")), NONE, NONE, 1, None),
        "Wrong service or country ordered": (NONE, NONE, (1, usd("1")), 1, None),
        # The second part of an order that counts where its first part falls.
        "Wrong service's SMS": (NONE, (1, usd("0.5")), NONE, 0, None),
        "All": ((4, usd("5.5")), (3, usd("2.5")), (1, usd("1")), 7, (10, usd("14.5"))),
    }


def test_shares_and_rates_add_up_to_those_of_all(month: Month) -> None:
    report = reports.refunds(month.sonia, NOVEMBER, By.CLAUSE)

    first = report.rows[0]
    assert (first.share, first.rate, first.rate_usd) == (
        usd("4.5") / 9,
        usd("0.3"),
        usd("4.5") / usd("14.5"),
    )
    assert (report.total.share, report.total.rate) == (1, usd("0.7"))
    assert sum(row.rate or 0 for row in report.rows) == report.total.rate


def test_refunds_by_upstream_service_and_country_have_the_orders_placed_there(
    month: Month,
) -> None:
    a = ((3, usd("3")), (1, usd("1")), (1, usd("1")), 5, (7, usd("7")))
    b = ((1, usd("2.5")), (2, usd("1.5")), NONE, 2, (3, usd("7.5")))
    total = ((4, usd("5.5")), (3, usd("2.5")), (1, usd("1")), 7, (10, usd("14.5")))

    assert refunds(month, By.UPSTREAM) == {"Alpha": a, FORMULA: b, "All": total}
    assert refunds(month, By.SERVICE) == {"tg": a, "wa": b, "All": total}
    assert refunds(month, By.COUNTRY) == {"7": a, "44": b, "All": total}


def test_the_agent_is_who_let_the_money_go(month: Month) -> None:
    found = refunds(month, By.AGENT)

    assert found == {
        "Automatic, no agent": ((4, usd("5.5")), NONE, NONE, 4, None),
        # The denial was abe's; sonia overturned it.
        "sonia": (NONE, (2, usd("1.5")), (1, usd("1")), 2, None),
        "abe": (NONE, (1, usd("1")), NONE, 1, None),
        "All": found["All"],
    }


def test_refunds_by_day_week_and_month(month: Month) -> None:
    days = refunds(month, By.DAY)
    weeks = refunds(month, By.WEEK)
    months = refunds(month, By.MONTH, Period(date(2026, 10, 1), date(2026, 12, 31)))

    assert days["2026-11-03"] == ((2, usd("3.5")), NONE, NONE, 2, (2, usd("3.5")))
    assert days["2026-11-07"] == (NONE, (1, usd("0.5")), NONE, 0, (0, usd("0")))
    assert days["2026-11-30"] == ((1, usd("1")), NONE, NONE, 1, (2, usd("2")))
    assert list(weeks)[:2] == ["2026-10-26", "2026-11-02"]
    assert weeks["2026-10-26"] == ((1, usd("1")), NONE, NONE, 1, (0, usd("0")))
    assert weeks["2026-11-02"] == (
        (2, usd("3.5")),
        (2, usd("1.5")),
        NONE,
        3,
        (4, usd("7")),
    )
    assert {label: (row[0][0], row[4][0]) for label, row in months.items()} == {
        "2026-10-01": (1, 2),
        "2026-11-01": (4, 10),
        "2026-12-01": (1, 0),
        "All": (6, 12),
    }


def test_a_period_takes_its_first_and_last_microsecond_and_nothing_beside(month: Month) -> None:
    def automatic(day: date) -> int:
        report = reports.refunds(month.sonia, Period(day, day), By.DAY)
        return report.total.automatic.count

    assert automatic(date(2026, 10, 31)) == 1  # 23:59:59.999999
    assert automatic(date(2026, 11, 1)) == 1  # 00:00:00
    assert automatic(date(2026, 11, 30)) == 1
    assert automatic(date(2026, 12, 1)) == 1


def test_filters_narrow_every_grouping_alike(month: Month) -> None:
    for only, expected in (
        ({"clause": Clause.WRONG_SERVICE}, (1, usd("0.5"), 1, 10)),
        ({"service": "tg"}, (5, usd("5"), 5, 7)),
        ({"country": "44"}, (3, usd("4"), 2, 3)),
        ({"way": "goodwill"}, (1, usd("1"), 1, 10)),
        ({"way": "automatic", "service": "wa"}, (1, usd("2.5"), 1, 3)),
        ({"service": "nothing"}, (0, usd("0"), 0, 0)),
    ):
        for by in By:
            total = reports.refunds(month.sonia, NOVEMBER, by, Only(**only)).total
            found = (total.count, total.amount, total.orders, total.base.count)
            assert found == expected, (by, only)


def test_an_agent_and_an_upstream_are_filters_too(month: Month) -> None:
    by_sonia = reports.refunds(month.sonia, NOVEMBER, By.UPSTREAM, Only(agent=month.sonia.pk))
    of_beta = reports.refunds(month.sonia, NOVEMBER, By.AGENT, Only(upstream=month.b.upstream_id))

    assert (by_sonia.total.count, by_sonia.total.amount) == (3, usd("2.5"))
    # Her part of the order in two parts is the only one that the report has: it counts here.
    assert by_sonia.total.orders == 3
    assert (of_beta.total.count, of_beta.total.base.count) == (3, 3)


def test_the_sums_are_those_of_the_ledger_s_transfers(month: Month) -> None:
    granted = RefundRequest.objects.filter(goodwill__isnull=False).values("goodwill__transfer")
    for period in (NOVEMBER, *(Period(date(2026, m, 1), date(2026, m, 28)) for m in (10, 11, 12))):
        of_period = Transfer.objects.filter(posted_at__gte=period.begins, posted_at__lt=period.ends)
        moved = [
            of_period.filter(**which).aggregate(sum=Sum("amount"))["sum"] or usd("0")
            for which in (
                {"kind": "auto_refund"},
                {"kind": "decided_refund"},
                {"kind": "goodwill", "pk__in": granted},
            )
        ]
        for by in By:
            total = reports.refunds(month.sonia, period, by).total
            ways = (total.automatic, total.decided, total.goodwill)
            assert [way.amount for way in ways] == moved, (by, period)
            assert total.amount == sum(moved)


def test_decisions_by_clause(month: Month) -> None:
    report = reports.decisions(month.sonia, NOVEMBER, By.CLAUSE)

    def figures(row: Any) -> tuple[Any, ...]:
        return (
            *(row.asked, row.approved, row.amount, row.goodwill),
            *(row.denied, row.withdrawn, row.against, row.median),
        )

    hour = timedelta(hours=1)
    assert {row.label: figures(row) for row in report.rows} == {
        # 2 h to approve; 1, 3 and 5 h to deny.
        "SMS rejected by the service": (4, 1, usd("1"), 0, 3, 0, 0, 2.5 * hour),
        "Wrong service's SMS": (2, 1, usd("0.5"), 0, 0, 1, 0, hour),
        "Wrong service or country ordered": (1, 1, usd("1"), 1, 0, 0, 1, 4 * hour),
    }
    assert figures(report.total) == (7, 3, usd("2.5"), 1, 3, 1, 1, 2.5 * hour)
    assert (report.total.decided, report.total.against_share) == (6, Decimal(1) / 6)
    assert report.against == [month.goodwill]


def test_decisions_by_agent_count_asking_for_the_one_and_deciding_for_the_other(
    month: Month,
) -> None:
    report = reports.decisions(month.sonia, NOVEMBER, By.AGENT)

    assert {
        row.label: (row.asked, row.approved, row.denied, row.withdrawn) for row in report.rows
    } == {"ann": (7, 0, 0, 1), "abe": (0, 1, 2, 0), "sonia": (0, 2, 1, 0)}
    assert {
        row.label: (row.upheld, row.overturned, row.amount, row.dismissed, row.rate, row.median)
        for row in report.disputes
    } == {
        "abe": (0, 1, usd("1"), 1, 1, timedelta(hours=14)),
        "sonia": (1, 0, usd("0"), 0, 0, timedelta(hours=2)),
    }
    total = report.disputes_total
    assert (total.upheld, total.overturned, total.dismissed) == (1, 1, 1)
    assert (total.rate, total.median) == (usd("0.5"), timedelta(hours=4))


def test_decisions_are_filtered_by_clause_and_agent(month: Month) -> None:
    of_abe = reports.decisions(month.sonia, NOVEMBER, By.CLAUSE, Only(agent=month.abe.pk))
    wrong = reports.decisions(month.sonia, NOVEMBER, By.AGENT, Only(clause=Clause.WRONG_SERVICE))

    assert (of_abe.total.asked, of_abe.total.approved, of_abe.total.denied) == (0, 1, 2)
    assert (of_abe.disputes_total.overturned, of_abe.disputes_total.dismissed) == (1, 1)
    assert of_abe.against == []
    assert (wrong.total.asked, wrong.total.approved, wrong.total.withdrawn) == (2, 1, 1)


def test_a_decision_belongs_to_the_day_it_was_made(month: Month) -> None:
    day = Period(date(2026, 11, 9), date(2026, 11, 9))

    report = reports.decisions(month.sonia, day, By.CLAUSE)

    assert (report.total.asked, report.total.approved, report.total.goodwill) == (1, 1, 1)
    assert reports.decisions(month.sonia, Period(day.until, day.until), By.AGENT).disputes == []


# --- waits ---

NOW = at(20, 12)


@pytest.fixture
def desk() -> dict[str, Any]:
    """Waits of the 2nd and 3rd: each due a day after it began."""
    ann, abe, sonia = (
        person(role, name=name)
        for role, name in (
            ("Support agent", "ann"),
            ("Support agent", "abe"),
            ("Senior agent", "sonia"),
        )
    )
    with on(at(1)):
        buyer = world.customer()

    def run(since: Any, took: Any = None, **fields: Any) -> None:
        of = ticket(buyer, opened=since)
        ended = None if took is None else since + took
        wait(of, since, **{"due": since + timedelta(days=1), "ended": ended, **fields})

    hour, day = timedelta(hours=1), timedelta(days=1)
    run(at(2), 2 * hour, by=ann)
    run(at(2), day, by=ann)  # exactly when due: in time
    run(at(2), day + TICK, by=abe)  # a microsecond late
    run(at(3), 4 * hour, by=ann)
    run(at(3))  # open and late
    run(at(19, 13))  # open, not due at NOW
    run(NOW - day)  # open and due this moment: not late
    run(at(3), hour, outcome="waived")
    run(at(3), 2 * day, outcome="waived")
    run(at(3), 3 * hour, outcome="decided", clock="dispute")
    run(at(3), hour, outcome="joined")  # counted in an earlier run
    run(at(2, 0) - TICK, hour, by=abe)  # begins on the 1st
    return {"ann": ann, "abe": abe, "sonia": sonia}


def figures(row: Any) -> tuple[int, ...]:
    return (row.in_time, row.late, row.open_late, row.open, row.waived, row.waived_late)


def test_a_wait_is_late_by_its_due_time_and_end_whatever_a_job_recorded(
    desk: dict[str, Any],
) -> None:
    report = reports.waits(desk["sonia"], NOVEMBER, By.DAY, now=NOW)

    assert {row.label: figures(row) for row in report.rows} == {
        "2026-11-01": (1, 0, 0, 0, 0, 0),
        "2026-11-02": (2, 1, 0, 0, 0, 0),
        "2026-11-03": (1, 0, 1, 0, 2, 1),
        "2026-11-19": (0, 0, 0, 2, 0, 0),
    }
    assert figures(report.total) == (4, 1, 1, 2, 2, 1)
    assert (report.total.count, report.total.rate) == (10, Decimal(4) / 6)
    assert {row.label: figures(row) for row in report.clocks} == {
        "Answer": (4, 1, 1, 2, 2, 1),
        "Dispute": (1, 0, 0, 0, 0, 0),
    }


def test_times_to_answer_are_of_what_was_answered(desk: dict[str, Any]) -> None:
    report = reports.waits(desk["sonia"], NOVEMBER, By.AGENT, now=NOW)

    rows = {row.label: row for row in report.rows}
    hour = timedelta(hours=1)
    # 2, 4 and 24 hours.
    assert (rows["ann"].median, rows["ann"].ninth) == (4 * hour, 20 * hour)
    # 1, 2, 4, 24 and 24 hours and a microsecond.
    assert report.total.median == 4 * hour
    assert (rows["ann"].in_time, rows["abe"].late) == (3, 1)
    assert figures(rows["No answer yet, or none needed"]) == (0, 0, 1, 2, 2, 1)
    assert rows["No answer yet, or none needed"].median is None


def test_one_agent_s_answers_and_one_clock(desk: dict[str, Any]) -> None:
    of_abe = reports.waits(desk["sonia"], NOVEMBER, By.WEEK, agent=desk["abe"].pk, now=NOW)
    disputes = reports.waits(desk["sonia"], NOVEMBER, By.AGENT, "dispute", now=NOW)

    assert {row.label: figures(row)[:2] for row in of_abe.rows} == {
        "2026-10-26": (1, 0),
        "2026-11-02": (0, 1),
    }
    # Whose it was is told by the refund it was about: the next test.
    assert [(row.label, row.in_time) for row in disputes.rows] == [
        ("No answer yet, or none needed", 1)
    ]


def test_a_dispute_is_its_senior_s(month: Month) -> None:
    from support.models import TicketRefund

    asked = RefundRequest.objects.get(state="upheld")
    case = ticket(month.buyer, opened=at(19))
    TicketRefund.objects.create(ticket=case, request=asked)
    wait(case, at(20), due=at(23), ended=asked.resolved_at, outcome="decided", clock="dispute")

    report = reports.waits(month.sonia, NOVEMBER, By.AGENT, "dispute")

    assert [(row.label, row.in_time, row.median) for row in report.rows] == [
        ("sam", 1, timedelta(hours=2))
    ]


# --- all ---


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        (date(2026, 11, 2), date(2026, 11, 1), "after the last"),
        (date(2026, 1, 1), date(2027, 1, 2), "367 days; at most 366 are taken at once"),
        (date(1999, 12, 31), date(2000, 1, 1), "between the years"),
    ],
)
def test_a_period_that_is_none_is_refused(since: date, until: date, words: str) -> None:
    with pytest.raises(PeriodRefused, match=words):
        Period(since, until)


def test_a_leap_year_and_the_last_day_of_all_fit() -> None:
    assert Period(date(2028, 1, 1), date(2028, 12, 31)).days == 366
    assert Period(date(2999, 12, 31), date(2999, 12, 31)).ends.year == 3000


@pytest.mark.parametrize(
    "read", [reports.refunds, reports.decisions, lambda *args: reports.waits(*args)]
)
def test_a_report_is_read_by_those_who_may(read: Any) -> None:
    for role in ("Senior agent", "Finance"):
        read(person(role), NOVEMBER, By.AGENT)
    with pytest.raises(PermissionDenied):
        read(person("Support agent"), NOVEMBER, By.AGENT)


def test_without_anything_there_are_no_rows_and_no_rate() -> None:
    senior = person("Senior agent")

    refunds = reports.refunds(senior, NOVEMBER, By.UPSTREAM)
    decisions = reports.decisions(senior, NOVEMBER, By.AGENT)
    waits = reports.waits(senior, NOVEMBER, By.DAY)

    assert (refunds.rows, refunds.total.count, refunds.total.rate) == ([], 0, None)
    assert (decisions.rows, decisions.disputes, decisions.total.against_share) == ([], [], None)
    assert (waits.rows, waits.clocks, waits.total.rate) == ([], [], None)


def test_each_report_has_at_most_its_number_of_queries(month: Month) -> None:
    senior = type(month.sonia).objects.get(pk=month.sonia.pk)
    senior.has_perm(reports.PERMISSION)

    for read, by, most in (
        *((reports.refunds, by, 4) for by in By),
        *((reports.decisions, by, 5) for by in (By.CLAUSE, By.AGENT)),
        *((reports.waits, by, 3) for by in (By.DAY, By.AGENT)),
    ):
        with CaptureQueriesContext(connection) as queries:
            read(senior, NOVEMBER, by)
        assert len(queries) <= most, (read, by)
