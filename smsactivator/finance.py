"""The pages of closes: their figures with the transfers behind them, charts and exports."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.contrib import admin
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from smsactivator import closing
from smsactivator.common import actions, csvs, workbooks
from smsactivator.common.actions import Action, ActionForm, Done
from smsactivator.common.admin import Facts, ReadOnlyAdmin, Table
from smsactivator.common.charts import STACKED_BARS
from smsactivator.common.display import (
    moment,
    money,
    mono,
    number,
    signed,
)
from smsactivator.common.links import Link, admin_url, anchor
from support.admin.tables import STYLES
from wallet import closes
from wallet.admin import account_html
from wallet.closes import Corrections
from wallet.models import Close, CloseFigure, Seal, Transfer
from wallet.pages import transfer_link, whole_number

log = logging.getLogger(__name__)

CHARTED = {Close.Kind.DAY: 31, Close.Kind.MONTH: 24}  # bars of a chart
FIGURE_COLUMNS = (
    *("period", "section", "figure", "label", "part", "part_label"),
    *("transfers", "amount_usd", "wallets", "escrow", "payouts", "counted_elsewhere"),
)
OWED = (
    ("wallets", "In wallets"),
    ("escrow", "In escrow of open orders"),
    ("payouts", "Payouts pending"),
)
# What a list of closes shows of each, and what its charts stack: figures that add, and that take.
LISTED = {
    "deposits": {"deposits": 1},
    "sales": {"sales": 1},
    "refunds": {"automatic_refunds": 1, "decided_refunds": 1},
    "goodwill": {"goodwill": 1},
    # What was paid and failed afterwards is paid again under the same reference.
    "payouts": {"payouts_paid": 1, "payouts_unpaid": -1},
    "cost": {"upstream_cost": 1},
    "losses": {"losses": 1},
}


# --- closing ------------------------------------------------------------------------------------


def _close_days(person: Any, seal: Seal, given: dict[str, Any]) -> Done:
    made = closing.close_days(person, seal.day, seen=given["seen"])
    if not made:
        return Done(f"{seal.day:%Y-%m-%d} was closed already.")
    last = made[-1]
    said = last.period if len(made) == 1 else f"{made[0].period} to {last.period}"
    return Done(f"The books of {said} are closed.", admin_url("wallet_close_change", last.pk))


def _close_month(person: Any, close: Close, given: dict[str, Any]) -> Done:
    made = closing.close_month(person, close.first, seen=given["seen"])
    return Done(
        f"The books of {made.period} are closed.", admin_url("wallet_close_change", made.pk)
    )


def _is_not_closed(person: Any, seal: Seal) -> bool:
    days = closes.next_days()
    return days is not None and days[0] <= seal.day


def _ends_the_next_month(person: Any, close: Close) -> bool:
    month = closes.next_month()
    return (
        close.kind == Close.Kind.DAY
        and month is not None
        and closes.last_of_month(month) == close.last
    )


actions.register(
    "wallet.Seal",
    Action(
        name="close",
        label="Close the books to the end of this day",
        explains="Counts every day that is not closed yet, to the end of this one. A close is kept "
        "as it is for good: what is corrected later shows beside it, in the day of the correction.",
        form=ActionForm,
        offered=_is_not_closed,
        run=_close_days,
        sees=lambda _seal: closes.known(),
        permission=closes.PERMISSION,
    ),
)
actions.register(
    "wallet.Close",
    Action(
        name="close-month",
        label="Close the month",
        explains="Adds up the closes of the days of this month. It is kept as it is for good.",
        form=ActionForm,
        offered=_ends_the_next_month,
        run=_close_month,
        sees=lambda _close: closes.known(),
        permission=closes.PERMISSION,
    ),
)


# --- charts -------------------------------------------------------------------------------------


def chart(
    title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[Decimal]]]
) -> dict[str, Any]:
    """Stacked bars of USD for ``smsactivator/bars.html``; the words and figures are beside them."""
    return {
        "title": title,
        "data": json.dumps(
            {
                "labels": labels,
                "datasets": [
                    {
                        "label": name,
                        # As text: what a chart rounds, it rounds by itself.
                        "data": [str(value) for value in values],
                        "borderWidth": 1,
                        "stack": "all",
                        **style,
                    }
                    for (name, values), style in zip(series, STYLES, strict=False)
                ],
            }
        ),
        "options": json.dumps(STACKED_BARS),
        "legend": [
            {
                "title": name,
                "style": f"background:{style['backgroundColor']};"
                f"border-color:{style['borderColor']}",
            }
            for (name, _), style in zip(series, STYLES, strict=False)
        ],
    }


def charts_of(shown: Sequence[Close]) -> list[dict[str, Any]]:
    """What moved, and what was owed at the end, in each of these closes (their figures read)."""
    labels = [close.period for close in shown]
    each = Close.Kind(shown[0].kind).label.lower() if shown else ""
    return [
        chart(
            f"Sales, refunds and goodwill, USD a {each}",
            labels,
            [
                ("Sales", [total(close, "sales") for close in shown]),
                ("Refunds", [total(close, "refunds") for close in shown]),
                ("Goodwill", [total(close, "goodwill") for close in shown]),
            ],
        ),
        chart(
            f"Owed to customers at the end of each {each}, USD",
            labels,
            [
                ("In wallets", [close.closing_wallets for close in shown]),
                ("In escrow", [close.closing_escrow for close in shown]),
                ("Payouts pending", [close.closing_payouts for close in shown]),
            ],
        ),
    ]


def total(close: Close, listed: str) -> Decimal:
    """The sum of what a list shows under a name, USD; of prefetched figures."""
    signs = LISTED[listed]
    return sum(
        (signs[row.figure] * row.amount for row in close.figures.all() if row.figure in signs),
        Decimal(0),
    )


# --- closes -------------------------------------------------------------------------------------


@admin.register(Close)
class CloseAdmin(ReadOnlyAdmin):
    """The closed books of days and months."""

    related = ("closed_by", "seal")
    ordering = ("-last", "-id")
    list_display = (
        *("period_closed", "kind", "deposits", "sales", "refunds", "goodwill", "payouts"),
        *("cost", "losses", "owed"),
    )
    list_filter = (("kind", ChoicesDropdownFilter),)
    list_before_template = "smsactivator/closes.html"
    empty_list = "A day is sealed soon after midnight (UTC), and closed some minutes after that."
    detail_template = "smsactivator/close.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("figures")

    @display(description="Period (UTC)")
    def period_closed(self, close: Close) -> str:
        return close.period

    @display(description="Deposits, USD")
    def deposits(self, close: Close) -> SafeString:
        return money(total(close, "deposits"))

    @display(description="Sales, USD")
    def sales(self, close: Close) -> SafeString:
        return money(total(close, "sales"))

    @display(description="Refunds, USD")
    def refunds(self, close: Close) -> SafeString:
        return money(total(close, "refunds"))

    @display(description="Goodwill, USD")
    def goodwill(self, close: Close) -> SafeString:
        return money(total(close, "goodwill"))

    @display(description="Paid out, USD")
    def payouts(self, close: Close) -> SafeString:
        return money(total(close, "payouts"))

    @display(description="Upstream cost, USD")
    def cost(self, close: Close) -> SafeString:
        return money(total(close, "cost"))

    @display(description="Of it lost, USD")
    def losses(self, close: Close) -> SafeString:
        return money(total(close, "losses"))

    @display(description="Owed at the end, USD")
    def owed(self, close: Close) -> SafeString:
        return money(close.owed)

    @staticmethod
    def _who(close: Close) -> str:
        return close.closed_by.get_username() if close.closed_by else "Automatic"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, under its charts and what can be closed now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET.get("kind__exact", "")
        kind = Close.Kind(asked) if asked in Close.Kind.values else Close.Kind.DAY
        newest = list(
            Close.objects.filter(kind=kind)
            .order_by("-last")
            .prefetch_related("figures")[: CHARTED[kind]]
        )
        to_close = list(_to_close())
        return super().changelist_view(
            request,
            {
                "charts": charts_of(newest[::-1]) if len(newest) > 1 else [],
                "to_close": [link for link in to_close if link.allowed(request.user)],
                "nothing_to_close": not to_close,
                **(extra_context or {}),
            },
        )

    def title_of(self, obj: Close) -> str:
        return f"Close of {obj.period}"

    def buttons(self, request: HttpRequest, obj: Close) -> list[Link]:
        return [
            Link("CSV", admin_url("wallet_close_csv", obj.pk), "wallet.view_close"),
            Link("XLSX", admin_url("wallet_close_xlsx", obj.pk), "wallet.view_close"),
        ]

    def links(self, request: HttpRequest, obj: Close) -> list[Link]:
        found = []
        for word, other in (
            ("Before", {"last__lt": obj.first}),
            ("After", {"first__gt": obj.last}),
        ):
            order = "-last" if word == "Before" else "last"
            close = Close.objects.filter(kind=obj.kind, **other).order_by(order).first()
            if close is not None:
                found.append(_close_link(f"{word}: {close.period}", close))
        if obj.kind == Close.Kind.DAY:
            month = Close.objects.filter(
                kind=Close.Kind.MONTH, first__lte=obj.first, last__gte=obj.last
            ).first()
            if month is not None:
                found.append(_close_link(f"Month {month.period}", month))
        return [*found, *super().links(request, obj)]

    def facts(self, request: HttpRequest, obj: Close) -> Iterable[Facts]:
        seal = Link(str(obj.seal), admin_url("wallet_seal_change", obj.seal_id), "wallet.view_seal")
        yield Facts(
            "Close",
            [
                ("Period (UTC)", f"{obj.first:%Y-%m-%d} to {obj.last:%Y-%m-%d}")
                if obj.kind == Close.Kind.MONTH
                else ("Day (UTC)", obj.period),
                ("Transfers", number(obj.transfers)),
                ("Closed (UTC)", moment(obj.closed_at)),
                ("By", self._who(obj)),
            ],
        )
        yield Facts(
            "Sealed by",
            [
                ("SHA-256", mono(obj.digest)),
                ("Of the close before", mono(obj.previous)),
                ("Last day", seal.html(request.user)),
                ("Its SHA-256", mono(obj.seal.digest)),
            ],
        )

    def tables(self, request: HttpRequest, obj: Close) -> Iterable[Table]:
        # Asked for once for the page, with the correction tables.
        rows = list(obj.figures.all())
        yield Table(
            "Owed to customers",
            ("", "Before, USD", "Change, USD", "At the end, USD"),
            [
                (label, money(before), signed(after - before), money(after))
                for label, before, after in _owed_rows(obj)
            ],
            "",
            frozenset({"Before, USD", "Change, USD", "At the end, USD"}),
        )
        yield Table(
            "Figures",
            ("", "Figure", "Transfers", "USD"),
            list(_figure_cells(obj, rows)),
            "This close has no figures.",
            frozenset({"Transfers", "USD"}),
        )
        yield from _correction_tables(closes.later(obj, closing.LATER), request.user)

    def detail_context(self, request: HttpRequest, obj: Close) -> dict[str, Any]:
        """A month shows its days."""
        if obj.kind != Close.Kind.MONTH:
            return {}
        days = Close.objects.filter(
            kind=Close.Kind.DAY, first__gte=obj.first, last__lte=obj.last
        ).order_by("first")
        return {"charts": charts_of(list(days.prefetch_related("figures")))}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/close.csv", view(require_safe(self.csv_view)), name="wallet_close_csv"),
            path(
                "<int:pk>/close.xlsx", view(require_safe(self.xlsx_view)), name="wallet_close_xlsx"
            ),
            path(
                "<int:pk>/figures/<slug:name>/",
                view(require_safe(self.figure_view)),
                name="wallet_close_figure",
            ),
            *super().get_urls(),
        ]

    def figure_view(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """The transfers behind a figure, or a part of it (``?part=``), from ``?before=`` on."""
        close = self._asked(request, pk, "wallet.view_transfer")
        rows = [row for row in close.figures.all() if row.figure == name]
        part = request.GET.get("part")
        if part is not None:
            rows = [row for row in rows if row.part == part]
        figure = closing.BY_NAME.get(name)
        if not rows or figure is None:
            raise Http404(f"{close} has no such figure.")
        before = whole_number(request.GET.get("before", ""))
        found = closes.behind(close, figure, part, before=before)
        shown = found[: closes.LISTED]
        query = {} if part is None else {"part": part}
        here = ("wallet_close_figure", close.pk, name)
        title = str(rows[0]) if part else rows[0].label
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{title}, {close.period}",
            "links": [_close_link(str(close), close)],
            "facts": [
                Facts(
                    f"{title}, {close.period}, as it was closed",
                    [
                        ("Transfers", number(sum(row.count for row in rows))),
                        ("USD", money(sum((row.amount for row in rows), Decimal(0)))),
                    ],
                )
            ],
            "tables": [
                Table(
                    "Transfers",
                    ("Transfer", "Posted (UTC)", "What", "Debit", "Credit", "USD", "Key"),
                    [_transfer_cells(line, request.user) for line in shown],
                    "There are none.",
                    frozenset({"USD"}),
                )
            ],
            "older": admin_url(*here, **query, before=shown[-1].pk)
            if len(found) > closes.LISTED
            else "",
            "newest": admin_url(*here, **query) if before is not None else "",
        }
        return TemplateResponse(request, "smsactivator/close_figure.html", context)

    def csv_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The figures of a close as CSV."""
        close = self._asked(request, pk)
        log.info("user %s takes %s as CSV", request.user.pk, close)
        answer = HttpResponse(
            "".join(csvs.rows(_figure_lines(close))), content_type="text/csv; charset=utf-8"
        )
        answer["Content-Disposition"] = f'attachment; filename="close_{close.period}.csv"'
        return answer

    def xlsx_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The close, its figures and what was corrected later as a workbook."""
        close = self._asked(request, pk)
        log.info("user %s takes %s as XLSX", request.user.pk, close)
        later = closes.later(close, closing.LATER)
        answer = HttpResponse(
            workbooks.workbook(
                [
                    ("Close", _close_lines(close)),
                    ("Figures", _figure_lines(close)),
                    ("Later corrections", _correction_lines(later)),
                ]
            ),
            content_type=workbooks.CONTENT_TYPE,
        )
        answer["Content-Disposition"] = f'attachment; filename="close_{close.period}.xlsx"'
        return answer

    def _asked(self, request: HttpRequest, pk: int, *permissions: str) -> Close:
        if not request.user.has_perms(("wallet.view_close", *permissions)):
            raise PermissionDenied
        close: Close | None = self.get_object(request, str(pk))
        if close is None:
            raise Http404(f"There is no close {pk}.")
        return close


def _to_close() -> Iterator[Link]:
    """What can be closed now: the forms of the actions that do it."""
    days, month = closes.next_days(), closes.next_month()
    if days is not None:
        first, last = days
        seal = Seal.objects.get(day=last)
        said = f"{first:%Y-%m-%d}" if first == last else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        yield Link(
            f"Close {said}…", admin_url("wallet_seal_do", seal.pk, "close"), closes.PERMISSION
        )
    if month is not None:
        last_day = Close.objects.get(kind=Close.Kind.DAY, last=closes.last_of_month(month))
        yield Link(
            f"Close {month:%Y-%m}…",
            admin_url("wallet_close_do", last_day.pk, "close-month"),
            closes.PERMISSION,
        )


def _close_link(text: str, close: Close) -> Link:
    return Link(text, admin_url("wallet_close_change", close.pk), "wallet.view_close")


def _owed_rows(close: Close) -> Iterator[tuple[str, Decimal, Decimal]]:
    opening, closed = Decimal(0), Decimal(0)
    for name, label in OWED:
        before, after = getattr(close, f"opening_{name}"), getattr(close, f"closing_{name}")
        opening, closed = opening + before, closed + after
        yield label, before, after
    yield "All", opening, closed


def _figure_cells(
    close: Close, rows: Sequence[CloseFigure]
) -> Iterator[tuple[SafeString | str, ...]]:
    """A line for each figure, and one for each of its parts; each leads to its transfers."""
    section = ""
    ordered = sorted(rows, key=lambda row: row.number)
    for name, group in groupby(ordered, key=lambda row: row.figure):
        parts = list(group)
        first = parts[0]
        count = sum(row.count for row in parts)
        summed = sum((row.amount for row in parts), Decimal(0))
        url = admin_url("wallet_close_figure", close.pk, name)
        yield (
            "" if first.section == section else first.section,
            anchor(first.label, url) if count else first.label,
            number(count),
            money(summed),
        )
        section = first.section
        for row in parts:
            if row.part_label:
                yield (
                    "",
                    format_html(
                        '<span class="part">{}</span>',
                        anchor(
                            row.part_label,
                            admin_url("wallet_close_figure", close.pk, name, part=row.part),
                        ),
                    ),
                    number(row.count),
                    money(row.amount),
                )


def _transfer_cells(line: Transfer, user: Any) -> tuple[SafeString | str, ...]:
    return (
        transfer_link(line.pk).html(user),
        moment(line.posted_at),
        Transfer.Kind(line.kind).label,
        account_html(line.debit_account, user),
        account_html(line.credit_account, user),
        money(line.amount),
        mono(line.key),
    )


def _correction_tables(found: Sequence[Corrections], user: Any) -> Iterator[Table]:
    """What happened to the period's transfers afterwards; the close itself stays as it is."""
    there = [sort for sort in found if sort.count]
    yield Table(
        "Corrected later",
        ("What", "Transfers", "USD"),
        [(sort.label, number(sort.count), money(sort.amount)) for sort in there],
        "Nothing of this period was corrected after its end.",
        frozenset({"Transfers", "USD"}),
    )
    for sort in there:
        cut = f" (newest {len(sort.newest)} of {sort.count:,})" if _is_cut(sort) else ""
        yield Table(
            f"{sort.label}{cut}",
            ("Later transfer", "Posted (UTC)", "What", "USD", "Concerns"),
            [
                (
                    transfer_link(one.later.pk).html(user),
                    moment(one.later.posted_at),
                    Transfer.Kind(one.later.kind).label,
                    money(one.later.amount),
                    transfer_link(one.earlier_id).html(user),
                )
                for one in sort.newest
            ],
            "",
            frozenset({"USD"}),
        )


def _is_cut(sort: Corrections) -> bool:
    return len(sort.newest) < sort.count


def _figure_lines(close: Close) -> Iterator[Sequence[object]]:
    """The figures for CSV and workbooks, as they are kept."""
    yield FIGURE_COLUMNS
    for row in sorted(close.figures.all(), key=lambda row: row.number):
        yield (
            *(close.period, row.section, row.figure, row.label, row.part, row.part_label),
            *(row.count, row.amount, row.wallets, row.escrow, row.payouts),
            "yes" if row.apart else "no",
        )
    for when, kept in (("before", "opening"), ("at the end", "closing")):
        for name, label in OWED:
            yield (
                *(close.period, f"Owed {when}", f"{kept}_{name}", label, "", ""),
                *(None, getattr(close, f"{kept}_{name}"), None, None, None, "no"),
            )


def _close_lines(close: Close) -> Iterator[Sequence[object]]:
    yield "what", "value"
    yield "period", close.period
    yield "first day", close.first
    yield "last day", close.last
    yield "transfers", close.transfers
    for name, label in OWED:
        yield f"{label}, before, USD", getattr(close, f"opening_{name}")
        yield f"{label}, at the end, USD", getattr(close, f"closing_{name}")
    yield "owed at the end, USD", close.owed
    yield "closed at (UTC)", close.closed_at
    yield "closed by", close.closed_by.get_username() if close.closed_by else "automatic"
    yield "SHA-256", close.digest
    yield "SHA-256 of the close before", close.previous
    yield "SHA-256 of the last day's seal", close.seal.digest


def _correction_lines(found: Sequence[Corrections]) -> Iterator[Sequence[object]]:
    yield "what", "later_transfer", "posted_at", "kind", "amount_usd", "concerns_transfer"
    for sort in found:
        for one in sort.newest:
            line = one.later
            yield sort.label, line.pk, line.posted_at, line.kind, line.amount, one.earlier_id
        if _is_cut(sort):
            yield f"{sort.label}: all", sort.count, None, None, sort.amount, None
