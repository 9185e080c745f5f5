"""The policy on admin pages: its verdict beside an order, and the preview of a version."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from orders.admin import order_link
from orders.models import Order
from refunds import policy, replay
from refunds.explaining import explain_order
from refunds.policy import Outcome
from refunds.replay import Difference, Judged, Replay, Side
from smsactivator.common.admin import Facts, Table
from smsactivator.common.display import (
    BAD,
    GOOD,
    NOTHING,
    QUIET,
    WAITING,
    amount,
    badge,
    moment,
    money,
    mono,
    number,
)
from smsactivator.common.errors import Refused
from smsactivator.common.links import admin_url
from smsactivator.common.panels import facts_for
from wallet.limits import require

log = logging.getLogger(__name__)

SHOWN = 200  # differences on the page; the CSV has all
TONES = {
    Outcome.AUTOMATIC: GOOD,
    Outcome.TICKET: WAITING,
    Outcome.NOT_REFUNDABLE: BAD,
    Outcome.NONE: QUIET,
}


@facts_for("orders.Order")
def by_the_policy(order: Order, person: Any) -> Iterable[Facts]:
    """What the policy says of an order, by the version in force when it was placed."""
    found = explain_order(order)
    rows: list[tuple[str, SafeString | str]] = [
        ("Verdict", outcome_badge(found.verdict.outcome)),
        ("Why", found.verdict.known),
    ]
    if found.verdict.claim:
        rows.append(("Not known, but", found.verdict.claim))
    if found.rule is not None:
        rows += [
            ("Clause", found.rule.title),
            ("In its words", f"“{found.rule.text}”"),
            ("Name", mono(found.rule.clause)),
        ]
    if found.reported_in:
        reported = f"{policy.title(found.facts.reported)} ({found.reported_in})"
        rows.append(("Reported", reported))
    rows += [
        ("Version in force", found.in_force.name),
        ("What can be done", " ".join(found.next) or NOTHING),
    ]
    yield Facts("By the policy", rows)


def outcome_badge(outcome: Outcome) -> SafeString:
    """An outcome in words."""
    return badge(outcome.label, TONES[outcome])


def _day() -> forms.DateInput:
    return forms.DateInput(attrs={"type": "date"})


class PreviewForm(forms.Form):
    """A version, and the days (UTC, both included) whose ended orders it is asked about."""

    version = forms.ChoiceField(
        choices=lambda: [
            (version.name, f"{version.name}, effective {version.effective}")
            for version in reversed(policy.versions())
        ]
    )
    since = forms.DateField(label="From", widget=_day())
    until = forms.DateField(label="to", widget=_day())

    def asked_by(self, person: Any) -> Replay | None:
        """The replay that the form asks for; None, with its errors in the form, when it may not be.

        Raises PermissionDenied.
        """
        if not self.is_valid():
            return None
        days = self.cleaned_data
        try:
            return replay.preview(
                person,
                days["version"],
                _midnight(days["since"]),
                _midnight(days["until"]) + timedelta(days=1),
            )
        except OverflowError:
            self.add_error("until", "Choose an earlier day.")
        except Refused as refusal:
            self.add_error(None, refusal.message)
        return None

    def words(self) -> list[str]:
        """All its errors."""
        return [str(error) for errors in self.errors.values() for error in errors]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PreviewPages:
    """The page of the preview and its CSV. They are read with GET and change nothing."""

    site: AdminSite

    def urls(self) -> list[URLPattern]:
        """Their addresses, under those of the refunds."""
        view = self.site.admin_view
        return [
            path("preview/", view(self.page), name="refunds_policy_preview"),
            path("preview.csv", view(self.csv), name="refunds_policy_preview_csv"),
        ]

    def page(self, request: HttpRequest) -> HttpResponse:
        """The form, and what the version would have said."""
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        require(request.user, "refunds.preview_policy")
        form = PreviewForm(request.GET or None)
        asked = form.asked_by(request.user)
        context: dict[str, Any] = {
            **self.site.each_context(request),
            "title": "Policy preview",
            "form": form,
            "errors": form.words(),
            "days": replay.LONGEST.days,
            "most": f"{replay.MOST:,}",
        }
        if asked is not None:
            shown: list[Difference] = []
            for found in asked.differences():
                if len(shown) < SHOWN:
                    shown.append(found)
            names = ("version", "since", "until")
            query = urlencode({name: form.cleaned_data[name] for name in names})
            context |= {
                "asked": asked,
                "saves": asked.least == asked.most < 0,
                "cost": asked.cost.removeprefix("-") if asked.least == asked.most else asked.cost,
                "shown": len(shown),
                "csv_url": f"{admin_url('refunds_policy_preview_csv')}?{query}",
                "tables": [_totals(asked), _differences(shown, request.user)],
            }
        return TemplateResponse(
            request, "refunds/preview.html", context, status=400 if form.errors else 200
        )

    def csv(self, request: HttpRequest) -> HttpResponseBase:
        """Every difference, streamed."""
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        require(request.user, "refunds.preview_policy")
        form = PreviewForm(request.GET)
        asked = form.asked_by(request.user)
        if asked is None:
            raise BadRequest("; ".join(form.words()))
        days = f"{form.cleaned_data['since']}_{form.cleaned_data['until']}"
        log.info(
            "user %s takes the preview of version %s as CSV: %s",
            request.user.pk,
            asked.version.name,
            days,
        )
        response = StreamingHttpResponse(
            replay.as_csv(asked), content_type="text/csv; charset=utf-8"
        )
        name = f"policy-{asked.version.name}_{days}.csv"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


def _totals(asked: Replay) -> Table:
    then, now = "USD that went back", "USD that would have"
    headers = ("Clause", "", "Orders then", then, "Orders now", now, "To be decided", "Up to, USD")
    return Table(
        title="By clause",
        headers=headers,
        rows=[
            (
                policy.title(clause) if clause else "None",
                outcome_badge(outcome),
                *_side(total.then),
                *_side(total.now),
                number(total.now.undecided),
                money(total.now.up_to),
            )
            for outcome, clause, total in asked.by_clause()
        ],
        empty="No order ended in these days.",
        numeric=frozenset(headers[2:]),
    )


def _side(side: Side) -> tuple[SafeString, SafeString]:
    return number(side.orders), money(side.known)


def _differences(shown: list[Difference], person: Any) -> Table:
    return Table(
        title="Where it differs",
        headers=("Order", "Ended (UTC)", "Then", "USD", "Now", "USD", "Difference, USD", "Why"),
        rows=[
            (
                order_link(found.order).html(person),
                moment(found.ended_at),
                _judged(found.then),
                money(found.then.known),
                _judged(found.now),
                money(found.now.known),
                amount(found.least)
                if found.least == found.most
                else f"{amount(found.least)} to {amount(found.most)}",
                found.why,
            )
            for found in shown
        ],
        empty="Nowhere: it says what happened.",
        numeric=frozenset({"USD", "Difference, USD"}),
    )


def _judged(judged: Judged) -> str:
    if not judged.clause:
        return judged.outcome.label
    return f"{policy.title(judged.clause)}{', to be decided' if judged.up_to else ''}"
