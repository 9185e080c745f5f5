"""The pages of the reports, and each of their tables as CSV. They only read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from operator import attrgetter
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from orders.models import Offer, Upstream
from refunds import policy
from refunds.models import RefundRequest
from smsactivator.common import csvs
from smsactivator.common.charts import STACKED_BARS
from smsactivator.common.links import admin_url
from smsactivator.common.periods import Period, PeriodRefused, this_month
from support import reports
from support.admin.tables import (
    COUNT,
    MOMENT,
    SHARE,
    TEXT,
    TIME,
    USD,
    Column,
    Series,
    Table,
)
from support.admin.waits import page_of
from support.models import Wait
from support.reports import IN_TIME, By, Only, Way
from wallet.pages import whole_number

log = logging.getLogger(__name__)

REFUND_NOTES = (
    "A refund counts at the moment its transfer was posted, so these sums are those of the ledger.",
    (
        "Refund rate: orders refunded in these days ÷ orders placed in these days, in the same "
        "group; and USD refunded ÷ the prices of those placed orders. An order placed earlier and "
        "refunded now is in the first figure only. An order refunded in several parts counts once, "
        "where the first of them falls."
    ),
)
BASE_NOTE = (
    "Orders are placed under no clause, by no agent and in no way of refunding: the rates divide "
    "by all orders placed that the other filters let through."
)
DECISION_NOTE = (
    "Asked counts on the day, and for the agent, of asking; the rest on the day of the decision "
    "and for who decided. Goodwill is always against the verdict. A denial that a dispute "
    "overturned stays a denial here."
)
DISPUTE_NOTE = (
    "Overturn rate: overturned ÷ upheld and overturned. A dismissed reply was no dispute. Times of "
    "the last row are of all, not sums."
)
WAIT_NOTE = (
    "Waits that began in these days. Late: ended after it was due, or open and past due now. Rate "
    "in time: in time ÷ in time, late, and open and late. The time to answer runs as the customer "
    "waits, nights and holidays included; median and percentile of the last row are of all, not "
    "sums."
)

# --- what is asked for -----------------------------------------------------------------------


class ReportForm(forms.Form):
    """Days in UTC, both included. Without any, this month; with one, the other is chosen to it."""

    since = forms.DateField(
        required=False, label="From", widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d")
    )
    until = forms.DateField(
        required=False, label="To", widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d")
    )
    by = forms.ChoiceField(required=False, label="By")
    groups: tuple[By, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        by: Any = self.fields["by"]
        by.choices = [(group.value, group.label) for group in self.groups]
        if "agent" in self.fields:
            _offer_agents(self)

    def clean(self) -> dict[str, Any]:
        """With ``period`` and ``by`` in it."""
        given = super().clean() or {}
        given["by"] = By(given.get("by") or self.groups[0])
        since, until = given.get("since"), given.get("until")
        if "since" in self.errors or "until" in self.errors:
            return given
        usual = this_month()
        if since is None and until is None:
            since, until = usual.since, usual.until
        since = since or (until or usual.until).replace(day=1)
        until = until or max(since, usual.until)
        try:
            given["period"] = Period(since, until)
        except PeriodRefused as refused:
            raise forms.ValidationError(refused.message) from None
        return given

    def query(self, **changed: Any) -> str:
        """What was asked for, as the query of an address, with some of it changed."""
        period: Period = self.cleaned_data["period"]
        asked = {name: self[name].data for name in self.fields if name in self.data}
        asked |= {"since": str(period.since), "until": str(period.until), **changed}
        return urlencode({name: value for name, value in asked.items() if value})


class AllSelect(forms.Select):
    """A choice whose empty one is all; a value that is not offered any more stays chosen."""

    def __init__(self, choices: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(choices=[("", "All"), *choices])

    def optgroups(self, name: str, value: list[str], attrs: Any = None) -> Any:
        known = {str(key) for key, _ in self.choices}
        self.choices = [*self.choices, *((one, one) for one in value if one not in known)]
        return super().optgroups(name, value, attrs)


class RefundsForm(ReportForm):
    """Every dimension is also a filter."""

    groups = tuple(By)
    clause = forms.ChoiceField(required=False, label="Clause")
    upstream = forms.ModelChoiceField(
        Upstream.objects.order_by("name"), required=False, empty_label="All"
    )
    service = forms.CharField(required=False, max_length=32, widget=AllSelect)
    country = forms.CharField(required=False, max_length=16, widget=AllSelect)
    agent = forms.ModelChoiceField(
        get_user_model().objects.order_by("username"), required=False, empty_label="All"
    )
    way = forms.ChoiceField(required=False, label="How", choices=[("", "All"), *Way.choices])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer_clauses(self)
        sold = list(Offer.objects.order_by().values_list("service", "country").distinct())
        for number, name in enumerate(("service", "country")):
            codes = sorted({codes[number] for codes in sold})
            self.fields[name].widget = AllSelect([(code, code) for code in codes])

    def only(self) -> Only:
        """The filters."""
        given = self.cleaned_data
        return Only(
            clause=given["clause"],
            upstream=given["upstream"] and given["upstream"].pk,
            service=given["service"],
            country=given["country"],
            agent=given["agent"] and given["agent"].pk,
            way=given["way"],
        )


class DecisionsForm(ReportForm):
    """By clause or agent."""

    groups = (By.CLAUSE, By.AGENT)
    clause = forms.ChoiceField(required=False, label="Clause")
    agent = forms.ModelChoiceField(
        get_user_model().objects.order_by("username"), required=False, empty_label="All"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer_clauses(self, automatic=False)

    def only(self) -> Only:
        """The filters."""
        given = self.cleaned_data
        return Only(clause=given["clause"], agent=given["agent"] and given["agent"].pk)


class WaitsForm(ReportForm):
    """One clock, by agent or time."""

    groups = (By.DAY, By.WEEK, By.MONTH, By.AGENT)
    clock = forms.ChoiceField(required=False, label="Clock", choices=Wait.Clock.choices)
    agent = forms.ModelChoiceField(
        get_user_model().objects.order_by("username"), required=False, empty_label="All"
    )


def _offer_agents(form: forms.Form) -> None:
    """Who answers customers, and whom the address asks for."""
    people = get_user_model().objects
    agents = people.filter(groups__permissions__codename="answer_ticket").values("pk")
    asked = whole_number(form.data.get("agent", ""))
    field: Any = form.fields["agent"]
    field.queryset = people.filter(Q(pk__in=agents) | Q(pk=asked)).order_by("username")


def _offer_clauses(form: forms.Form, *, automatic: bool = True) -> None:
    clause: Any = form.fields["clause"]
    clause.choices = [
        ("", "All"),
        *(
            (name, title)
            for name, title in policy.choices()
            if automatic or not name.startswith("auto.")
        ),
    ]


# --- the reports -----------------------------------------------------------------------------


def _axis(period: Period, by: By) -> list[date]:
    if by not in IN_TIME:
        return []
    days = (period.since + timedelta(days=number) for number in range(period.days))
    return list(dict.fromkeys(reports.bucket(day, by) for day in days))


def _within(period: Period, by: By, key: Any) -> Period:
    """The days of one row: of a row by time, those of the period that are in it."""
    if by not in IN_TIME or key is None:
        return period
    days = [
        day
        for number in range(period.days)
        if reports.bucket(day := period.since + timedelta(days=number), by) == key
    ]
    return Period(days[0], days[-1])


def _ranged(name: str, period: Period) -> dict[str, str]:
    """A list's time range of these days."""
    return {f"{name}_from_0": str(period.since), f"{name}_to_0": str(period.until)}


def _label(by: By, link: Callable[[Any], str] | None = None) -> Column:
    return Column(by.value, by.label, TEXT, lambda row: row.label, link=link)


def refund_tables(user: Any, form: Any) -> list[Table]:
    """What went back, and the refund rate."""
    period, by, only = form.cleaned_data["period"], form.cleaned_data["by"], form.only()
    found = reports.refunds(user, period, by, only)

    def listed(row: Any) -> str:
        """The list of refunds, where its filters can show this row; goodwill is not in it."""
        given = only.given()
        if not row.automatic.count + row.decided.count or not given.keys() <= {
            "clause",
            "upstream",
        }:
            return ""
        if by in {By.CLAUSE, By.UPSTREAM} and row.key is not None:
            given[by.value] = row.key
        elif by not in IN_TIME and row.key is not None:
            return ""
        names = {"clause": "clause__exact", "upstream": "order__upstream__id__exact"}
        return admin_url(
            "refunds_refund_changelist",
            **{names[name]: value for name, value in given.items()},
            **_ranged("created_at", _within(period, by, row.key)),
        )

    columns = [
        _label(by, listed),
        Column("refunds", "Number", COUNT, lambda row: row.count, "All refunds"),
        Column("refunds_usd", "USD", USD, lambda row: row.amount, "All refunds"),
        Column("share_percent", "Share of USD", SHARE, lambda row: row.share, "All refunds"),
        Column("rate_percent", "Orders", SHARE, lambda row: row.rate, "Refund rate"),
        Column("rate_usd_percent", "USD", SHARE, lambda row: row.rate_usd, "Refund rate"),
    ]
    for way in Way:
        columns += [
            Column(way.value, "Number", COUNT, attrgetter(f"{way.value}.count"), way.label),
            Column(f"{way.value}_usd", "USD", USD, attrgetter(f"{way.value}.amount"), way.label),
        ]
    columns += [
        Column("orders_refunded", "Refunded", COUNT, lambda row: row.orders, "Orders"),
        Column(
            "orders_placed",
            "Placed",
            COUNT,
            lambda row: row.placed and row.placed.count,
            "Orders",
        ),
        Column(
            "orders_placed_usd",
            "Placed, USD",
            USD,
            lambda row: row.placed and row.placed.amount,
            "Orders",
        ),
    ]
    notes = [*REFUND_NOTES]
    if by in {By.CLAUSE, By.AGENT} or only.given().keys() & {"clause", "agent", "way"}:
        notes.append(BASE_NOTE)
    table = Table(
        "refunds",
        f"Refunds by {by.label.lower()}",
        columns,
        found.rows,
        found.total,
        "Nothing was refunded and no order was placed in this period, as it is filtered.",
        [
            Series("Automatic", lambda row: row.automatic.amount),
            Series("Decided", lambda row: row.decided.amount),
            Series("Goodwill", lambda row: row.goodwill.amount),
        ],
        f"USD refunded by {by.label.lower()}",
        notes,
        _axis(period, by),
    )
    if not found.rows and found.total.base.count:
        placed = found.total.base.count
        table = Table(
            *("refunds", table.title, columns, [], found.total),
            f"Nothing was refunded in this period, as it is filtered; {placed:,} orders were "
            "placed.",
        )
    return [table]


def decision_tables(user: Any, form: Any) -> list[Table]:
    """What people decided, how disputes ended, and what went against the verdict."""
    period, by, only = form.cleaned_data["period"], form.cleaned_data["by"], form.only()
    found = reports.decisions(user, period, by, only)

    def against(row: Any) -> str:
        """The same report of this row alone, at its list."""
        if row.key is None:
            return "#against"
        return f"?{form.query(**{by.value: row.key})}#against"

    decisions = [
        _label(by),
        Column("asked", "Number", COUNT, lambda row: row.asked, "Asked"),
        Column("further", "To a final decision", COUNT, lambda row: row.further, "Asked"),
        Column("approved", "Number", COUNT, lambda row: row.approved, "Approved"),
        Column("approved_usd", "USD", USD, lambda row: row.amount, "Approved"),
        Column("goodwill", "Of it goodwill", COUNT, lambda row: row.goodwill, "Approved"),
        Column("denied", "Denied", COUNT, lambda row: row.denied),
        Column("withdrawn", "Withdrawn", COUNT, lambda row: row.withdrawn),
        Column(
            "against_verdict",
            "Number",
            COUNT,
            lambda row: row.against,
            "Against the verdict",
            against,
        ),
        Column(
            "against_verdict_percent",
            "Of decided",
            SHARE,
            lambda row: row.against_share,
            "Against the verdict",
        ),
        Column("median_seconds", "Median time to decide", TIME, lambda row: row.median),
    ]
    disputes = [
        Column(
            "clause" if by == By.CLAUSE else "denied_by",
            "Clause" if by == By.CLAUSE else "Who denied",
            TEXT,
            lambda row: row.label,
        ),
        Column("upheld", "Upheld", COUNT, lambda row: row.upheld),
        Column("overturned", "Number", COUNT, lambda row: row.overturned, "Overturned"),
        Column("overturned_usd", "USD", USD, lambda row: row.amount, "Overturned"),
        Column("dismissed", "Dismissed", COUNT, lambda row: row.dismissed),
        Column("overturn_percent", "Overturn rate", SHARE, lambda row: row.rate),
        Column("median_seconds", "Median time to resolve", TIME, lambda row: row.median),
    ]
    return [
        Table(
            "decisions",
            f"Decisions by {by.label.lower()}",
            decisions,
            found.rows,
            found.total if found.rows else None,
            "Nothing was asked or decided in this period, as it is filtered.",
            [
                Series("Approved", lambda row: row.approved - row.goodwill),
                Series("Denied", lambda row: row.denied),
                Series("Goodwill", lambda row: row.goodwill),
            ],
            f"Decisions by {by.label.lower()}",
            [DECISION_NOTE],
        ),
        Table(
            "disputes",
            f"Disputes by {'clause' if by == By.CLAUSE else 'who denied'}",
            disputes,
            found.disputes,
            found.disputes_total if found.disputes else None,
            "No dispute was resolved in this period, as it is filtered.",
            [
                Series("Upheld", lambda row: row.upheld),
                Series("Overturned", lambda row: row.overturned),
                Series("Dismissed", lambda row: row.dismissed),
            ],
            f"Disputes by {'clause' if by == By.CLAUSE else 'who denied'}",
            [DISPUTE_NOTE],
        ),
        Table(
            "against",
            "Decided against the verdict",
            AGAINST,
            found.against,
            None,
            "No decision went against the policy's verdict in this period, as it is filtered.",
            notes=[f"The newest {reports.LISTED}."] if len(found.against) >= reports.LISTED else [],
        ),
    ]


def _decision(asked: RefundRequest) -> str:
    """What was decided first, whatever a dispute made of it."""
    if asked.state != RefundRequest.State.APPROVED:
        return "Denied"
    return "Approved" if asked.goodwill_id is None else "Approved as goodwill"


AGAINST = [
    Column(
        *("request", "Request", TEXT, lambda asked: str(asked.pk)),
        link=lambda asked: page_of("refunds_refundrequest_change", asked.pk),
    ),
    Column("decided_at", "Decided (UTC)", MOMENT, lambda asked: asked.decided_at),
    Column("decision", "Decision", TEXT, _decision),
    Column("decided_by", "By", TEXT, lambda asked: str(asked.decided_by)),
    Column(
        *("order", "Order", TEXT, lambda asked: str(asked.order_id)),
        link=lambda asked: admin_url("orders_order_change", asked.order_id),
    ),
    Column("amount_usd", "USD", USD, lambda asked: asked.amount),
    Column("clause", "Clause", TEXT, lambda asked: policy.title(asked.clause)),
    Column("verdict", "The verdict", TEXT, lambda asked: asked.verdict_why),
    Column("reason", "The reason", TEXT, lambda asked: asked.decision_reason),
]


def wait_tables(user: Any, form: Any) -> list[Table]:
    """Whether customers were answered in time."""
    given = form.cleaned_data
    period, by = given["period"], given["by"]
    clock = given["clock"] or Wait.Clock.ANSWER
    agent = given["agent"] and given["agent"].pk
    found = reports.waits(user, period, by, clock, agent)

    def listed(standing: str, *, of_clocks: bool) -> Callable[[Any], str]:
        def link(row: Any) -> str:
            chosen = row.key if of_clocks else clock
            asked = {"clock__exact": chosen} if chosen else {}
            # The list knows who replied, and not who resolved a dispute.
            author = agent or (row.key if by == By.AGENT and not of_clocks else None)
            if (author and clock == Wait.Clock.DISPUTE) or (author and of_clocks and not row.key):
                return ""
            if by == By.AGENT and not of_clocks and row.label != "All" and row.key is None:
                return ""
            if author:
                asked["reply__author__id__exact"] = author
            within = period if of_clocks else _within(period, by, row.key)
            return admin_url(
                "support_wait_changelist",
                **asked,
                **({"standing": standing} if standing else {}),
                **_ranged("since", within),
            )

        return link

    def columns(first: Column, *, of_clocks: bool) -> list[Column]:
        def counted(name: str, title: str, under: str = "") -> Column:
            link = None if name == "waived_late" else listed(name, of_clocks=of_clocks)
            return Column(name, title, COUNT, lambda row: getattr(row, name), under, link)

        return [
            first,
            Column(
                *("waits", "All", COUNT, lambda row: row.count),
                link=listed("", of_clocks=of_clocks),
            ),
            counted("in_time", "In time", "Answered"),
            counted("late", "Late", "Answered"),
            counted("open_late", "Late", "Open"),
            counted("open", "Not due", "Open"),
            counted("waived", "Number", "No answer needed"),
            counted("waived_late", "Past due", "No answer needed"),
            Column("in_time_percent", "Rate in time", SHARE, lambda row: row.rate),
            Column("median_seconds", "Median", TIME, lambda row: row.median, "Time to answer"),
            Column(
                "ninth_seconds", "90th percentile", TIME, lambda row: row.ninth, "Time to answer"
            ),
        ]

    series = [
        Series("Late", lambda row: row.late),
        Series("In time", lambda row: row.in_time),
        Series("Open and late", lambda row: row.open_late),
    ]
    label = Wait.Clock(clock).label.lower()
    empty = "Nobody began to wait in this period, as it is filtered."
    by_clock = Column("clock", "Clock", TEXT, lambda row: row.label)
    return [
        Table(
            "clocks",
            "By clock",
            columns(by_clock, of_clocks=True),
            found.clocks,
            found.clocks_total if found.clocks else None,
            empty,
            notes=[WAIT_NOTE],
        ),
        Table(
            "waits",
            f"The {label} clock by {by.label.lower()}",
            columns(_label(by), of_clocks=False),
            found.rows,
            found.total if found.rows else None,
            empty,
            series,
            f"The {label} clock by {by.label.lower()}",
            axis=_axis(period, by),
        ),
    ]


@dataclass(frozen=True, slots=True)
class Report:
    """A page: what may be asked, and its tables."""

    title: str
    form: type[ReportForm]
    tables: Callable[[Any, Any], list[Table]]


REPORTS = {
    "refunds": Report("Refunds in a period", RefundsForm, refund_tables),
    "decisions": Report("Decisions", DecisionsForm, decision_tables),
    "answers": Report("Answered in time", WaitsForm, wait_tables),
}


def _asked(request: HttpRequest, name: str) -> tuple[Report, ReportForm]:
    if not request.user.has_perm(reports.PERMISSION):
        raise PermissionDenied
    if name not in REPORTS:
        raise Http404(f"There is no report {name}.")
    report = REPORTS[name]
    return report, report.form(request.GET.dict())


def _periods(form: ReportForm) -> list[tuple[str, str]]:
    """Periods that people ask for, each with its query."""
    this = timezone.now().astimezone(UTC).date().replace(day=1)
    last = (this - timedelta(days=1)).replace(day=1)
    return [
        ("This month", form.query(since="", until="")),
        ("Last month", form.query(since=str(last), until=str(this - timedelta(days=1)))),
    ]


@require_safe
def page(request: HttpRequest, name: str) -> HttpResponse:
    """A report; 400 for what is none, which the page says."""
    report, form = _asked(request, name)
    valid = form.is_valid()
    tables = report.tables(request.user, form) if valid else []
    csv = reverse("reports:csv", args=[name])
    if valid:
        # The days that were chosen for what was left out are shown as if they had been entered.
        period = form.cleaned_data["period"]
        form.data = {**form.data, "since": str(period.since), "until": str(period.until)}
    context = {
        **admin.site.each_context(request),
        "title": report.title,
        "form": form,
        "errors": [
            error if name == "__all__" else format_html("{}: {}", form[name].label, error)
            for name, errors in form.errors.items()
            for error in errors
        ],
        "periods": _periods(form) if valid else [],
        "tables": [table.context(f"{csv}?{form.query(table=table.name)}") for table in tables],
        "options": json.dumps(STACKED_BARS),
        "figures": tables,
    }
    return TemplateResponse(request, "support/report.html", context, status=200 if valid else 400)


@require_safe
def download(request: HttpRequest, name: str) -> HttpResponseBase:
    """One table of a report as CSV, streamed."""
    report, form = _asked(request, name)
    if not form.is_valid():
        raise BadRequest("; ".join(str(e) for errors in form.errors.values() for e in errors))
    tables = {table.name: table for table in report.tables(request.user, form)}
    table = tables.get(request.GET.get("table") or next(iter(tables)))
    if table is None:
        raise BadRequest(f"This report has the tables {', '.join(tables)}.")
    period = form.cleaned_data["period"]
    log.info(
        "user %s takes the report %s as CSV: %s",
        request.user.pk,
        name,
        form.query(table=table.name),
    )
    answer = StreamingHttpResponse(csvs.rows(table.cells()), content_type="text/csv; charset=utf-8")
    filename = f"{table.name}_{period.since}_{period.until}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{filename}"'
    return answer


urlpatterns = [
    path("<slug:name>.csv", admin.site.admin_view(download), name="csv"),
    path("<slug:name>/", admin.site.admin_view(page), name="page"),
]
