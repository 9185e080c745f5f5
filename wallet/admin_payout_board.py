"""The payout board: what is open, by state, age and method, and what became of a period's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, date, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from smsactivator.common import csvs
from smsactivator.common.charts import STACKED_BARS
from smsactivator.common.display import amount, badge, moment
from smsactivator.common.links import admin_url
from wallet import payout_board
from wallet.models import OPEN_PAYOUTS, Payout, PayoutMethod
from wallet.pages import PAYOUT_TONES, payouts_listed
from wallet.payout_board import AGES, ENDED, ON_THEIR_WAY, TO_APPROVE, Age, Cell, Figures
from wallet.statements import PeriodForm

log = logging.getLogger(__name__)

State = Payout.State
LONGEST = 366  # days of the board's period
USUAL = 30
# The board adds up what all customers are owed: for those who see the books.
BOARD = ("wallet.view_payout", "wallet.view_auditrun")
# Told apart by lightness, the longest wait darkest.
AGE_COLOURS = (
    "var(--color-primary-200)",
    "var(--color-primary-400)",
    "var(--color-primary-600)",
    "var(--color-primary-800)",
)


class BoardForm(PeriodForm):
    """Days in UTC, both included; without any, the last ``USUAL``."""

    at = None  # type: ignore[assignment]

    def clean(self) -> dict[str, Any]:
        """At most ``LONGEST`` days."""
        given = super().clean()
        if not self.errors:
            since, until = self._chosen(given, timezone.now().astimezone(UTC).date())
            if since > until:
                raise forms.ValidationError("The first day is after the last.")
            if (until - since).days >= LONGEST:
                raise forms.ValidationError(f"Choose at most {LONGEST} days.")
        return given

    def days(self, today: date) -> tuple[date, date]:
        """The first and the last day."""
        return self._chosen(self.cleaned_data, today)

    @staticmethod
    def _chosen(given: dict[str, Any], today: date) -> tuple[date, date]:
        until = given.get("until") or max(today, given.get("since") or today)
        return given.get("since") or until - timedelta(days=USUAL - 1), until


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """What is open and for how long, and what became of a period's; 400 for a wrong period."""
    form = _board_form(request)
    today, methods_by_pk = timezone.now().astimezone(UTC).date(), _methods()
    cells = payout_board.open_now(today)
    context = {
        **admin.site.each_context(request),
        "title": "Payout board",
        "form": form,
        "errors": [error for errors in form.errors.values() for error in errors],
        "all": _written(payout_board.cells_of(cells), payouts_listed(waits="open")),
        "states": [_state_row(state, cells, today) for state in OPEN_PAYOUTS],
        "ages": [
            {
                "label": age.label,
                "colour": colour,
                **_written(payout_board.cells_of(cells, age=age), _aged(age, today)),
            }
            for age, colour in zip(AGES, AGE_COLOURS, strict=True)
        ],
        "methods": [_method_row(pk, method, cells) for pk, method in methods_by_pk.items()],
        "chart": json.dumps(_chart(cells)) if cells else "",
        "options": json.dumps(STACKED_BARS),
        "now": timezone.now(),
        "periods": _periods(today),
    }
    if form.is_valid():
        since, until = form.days(today)
        context |= {
            "since": since,
            "until": until,
            **_ended(since, until),
            "csv_url": admin_url("wallet_payout_board_csv", since=since, until=until),
        }
    return TemplateResponse(
        request, "wallet/payout_board.html", context, status=200 if form.is_valid() else 400
    )


@require_safe
def download(request: HttpRequest) -> HttpResponseBase:
    """The board's figures in their finest groups, as CSV."""
    form = _board_form(request)
    if not form.is_valid():
        raise BadRequest("; ".join(str(e) for errors in form.errors.values() for e in errors))
    today = timezone.now().astimezone(UTC).date()
    since, until = form.days(today)
    log.info("user %s takes the payout board as CSV: %s to %s", request.user.pk, since, until)
    answer = StreamingHttpResponse(
        csvs.rows(_board_cells(since, until, today)), content_type="text/csv; charset=utf-8"
    )
    answer["Content-Disposition"] = f'attachment; filename="payouts_board_{since}_{until}.csv"'
    return answer


def _board_form(request: HttpRequest) -> BoardForm:
    if not request.user.has_perms(BOARD):
        raise PermissionDenied
    return BoardForm(request.GET)


def _methods() -> dict[int, PayoutMethod]:
    return {method.pk: method for method in PayoutMethod.objects.order_by("code")}


def _aged(age: Age, today: date, **query: str) -> str:
    """The list of the open payouts of an age."""
    first, last = age.days(today)
    days = {"requested_at_to_0": str(last)}
    if first:
        days["requested_at_from_0"] = str(first)
    return payouts_listed(**(query or {"waits": "open"}), **days)


def _written(figures: Figures, url: str) -> dict[str, Any]:
    """Figures for the page: a count leads to its list, unless it is empty."""
    return {
        "count": f"{figures.count:,}",
        "amount": amount(figures.amount),
        "oldest": moment(figures.oldest),
        "url": url if figures.count else "",
    }


def _state_row(state: State, cells: Sequence[Cell], today: date) -> dict[str, Any]:
    own = [cell for cell in cells if cell.state == state]
    return {
        "badge": badge(state.label, PAYOUT_TONES[state]),
        **_written(payout_board.cells_of(own), payouts_listed(state__exact=state.value)),
        "ages": [
            _written(
                payout_board.cells_of(own, age=age), _aged(age, today, state__exact=state.value)
            )
            for age in AGES
        ],
    }


def _method_row(pk: int, method: PayoutMethod, cells: Sequence[Cell]) -> dict[str, Any]:
    own = [cell for cell in cells if cell.method_id == pk]

    def column(states: tuple[State, ...], **query: str) -> dict[str, Any]:
        figures = payout_board.cells_of(own, states=states)
        return _written(figures, payouts_listed(method__id__exact=pk, **query))

    return {
        "label": str(method),
        "enabled": method.enabled,
        **column(OPEN_PAYOUTS, waits="open"),
        "columns": [
            column(TO_APPROVE, waits="approval"),
            column((State.APPROVED,), state__exact=State.APPROVED.value),
            column(ON_THEIR_WAY, waits="way"),
            column((State.FAILED,), state__exact=State.FAILED.value),
        ],
    }


def _chart(cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "labels": [state.label for state in OPEN_PAYOUTS],
        "datasets": [
            {
                "label": age.label,
                "data": [
                    payout_board.cells_of(cells, states=(state,), age=age).count
                    for state in OPEN_PAYOUTS
                ],
                "backgroundColor": colour,
                "stack": "open",
            }
            for age, colour in zip(AGES, AGE_COLOURS, strict=True)
        ],
    }


def _ended(since: date, until: date) -> dict[str, Any]:
    """What became of what was asked for in a period."""
    found = payout_board.asked_between(since, until)
    days = {"requested_at_from_0": str(since), "requested_at_to_0": str(until)}
    still_open = payout_board.total(
        figures for state, figures in found.items() if state in OPEN_PAYOUTS
    )
    return {
        "ended": [
            {
                "badge": badge(state.label, PAYOUT_TONES[state]),
                **_written(
                    found.get(state, payout_board.NONE),
                    payouts_listed(state__exact=state.value, **days),
                ),
            }
            for state in ENDED
        ],
        "still_open": _written(still_open, payouts_listed(waits="open", **days)),
        "asked": _written(payout_board.total(found.values()), payouts_listed(**days)),
    }


def _periods(today: date) -> list[tuple[str, str]]:
    this = today.replace(day=1)
    before = this - timedelta(days=1)
    return [
        (f"Last {USUAL} days", ""),
        ("This month", urlencode({"since": str(this), "until": str(today)})),
        ("Last month", urlencode({"since": str(before.replace(day=1)), "until": str(before)})),
    ]


BOARD_COLUMNS = (
    *("part", "state", "method", "days_open", "payouts", "usd", "oldest_asked_for"),
    *("asked_since", "asked_until"),
)


def _board_cells(since: date, until: date, today: date) -> Iterator[tuple[object, ...]]:
    codes = {pk: method.code for pk, method in _methods().items()}
    yield BOARD_COLUMNS
    order = {state: place for place, state in enumerate(OPEN_PAYOUTS)}
    cells = payout_board.open_now(today)
    cells.sort(key=lambda cell: (order[cell.state], codes[cell.method_id], cell.age.least))
    for cell in cells:
        figures = cell.figures
        yield (
            *("open", cell.state.value, codes[cell.method_id], cell.age.name),
            *(figures.count, figures.amount, figures.oldest, None, None),
        )
    found = payout_board.asked_between(since, until)
    for state in State:
        if state in found:
            asked = found[state]
            yield (
                *("asked for in the period", state.value, None, None),
                *(asked.count, asked.amount, asked.oldest, since, until),
            )
