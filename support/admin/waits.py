"""The waits behind the report of answers: who waited for us, until when, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin import display
from django.db.models import F, Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from smsactivator.common.admin import ChoiceFilter, Facts, ReadOnlyAdmin, TimeRangeFilter
from smsactivator.common.display import (
    BAD,
    GOOD,
    NOTHING,
    QUIET,
    WAITING,
    badge,
    duration,
    moment,
)
from smsactivator.common.links import admin_url, anchor
from support.models import Wait
from support.reports import PERMISSION
from support.timelines import ticket_link


class StandingFilter(ChoiceFilter):
    """As the report counts: by due time, end and now, whatever a job has recorded."""

    title = "standing"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("in_time", "Answered in time"),
            ("late", "Answered late"),
            ("open_late", "Open and late"),
            ("open", "Open, not due yet"),
            ("waived", "No answer needed"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Wait]) -> QuerySet[Wait]:
        others = [Wait.Outcome.WAIVED, Wait.Outcome.JOINED]
        answered = Q(ended_at__isnull=False) & ~Q(outcome__in=others)
        now = timezone.now()
        chosen = {
            "in_time": answered & Q(ended_at__lte=F("due_at")),
            "late": answered & Q(ended_at__gt=F("due_at")),
            "open_late": Q(ended_at__isnull=True, due_at__lt=now),
            "open": Q(ended_at__isnull=True, due_at__gte=now),
            "waived": Q(outcome=Wait.Outcome.WAIVED),
        }.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(chosen)


@admin.register(Wait)
class WaitAdmin(ReadOnlyAdmin):
    """Each run of a ticket's clock."""

    related = ("ticket", "reply__author")
    time_field = "since"
    list_display = (
        "id",
        "of_ticket",
        "clock",
        "began",
        "due",
        "ended",
        "standing",
        "took",
        "answered_by",
    )
    list_filter = (
        ("clock", ChoicesDropdownFilter),
        StandingFilter,
        ("reply__author", RelatedDropdownFilter),
        ("since", TimeRangeFilter),
    )

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Who sees the reports sees what they count."""
        return bool(request.user.has_perm(PERMISSION))

    def has_module_permission(self, request: HttpRequest) -> bool:
        """As its list."""
        return self.has_view_permission(request)

    def get_list_display(self, request: HttpRequest) -> list[str]:
        """With the ticket's subject for those who see tickets, and its number for others."""
        if request.user.has_perm("support.view_ticket"):
            return list(self.list_display)
        return ["number" if name == "of_ticket" else name for name in self.list_display]

    @display(description="Ticket")
    def of_ticket(self, wait: Wait) -> SafeString:
        text = f"{wait.ticket_id}: {wait.ticket.subject}"
        return anchor(text, admin_url("support_ticket_change", wait.ticket_id))

    @display(description="Ticket")
    def number(self, wait: Wait) -> int:
        return wait.ticket_id

    @display(description="Began (UTC)")
    def began(self, wait: Wait) -> SafeString:
        return moment(wait.since)

    @display(description="Due (UTC)")
    def due(self, wait: Wait) -> SafeString:
        return moment(wait.due_at)

    @display(description="Ended (UTC)")
    def ended(self, wait: Wait) -> SafeString:
        return moment(wait.ended_at)

    @display(description="Standing")
    def standing(self, wait: Wait) -> SafeString:
        if wait.outcome == Wait.Outcome.WAIVED:
            return badge("No answer needed", QUIET)
        if wait.outcome == Wait.Outcome.JOINED:
            return badge("Counted in an earlier run", QUIET)
        if wait.ended_at is None:
            late = wait.due_at < timezone.now()
            return badge("Open and late", BAD) if late else badge("Open", WAITING)
        return badge("Late", BAD) if wait.ended_at > wait.due_at else badge("In time", GOOD)

    @display(description="Took")
    def took(self, wait: Wait) -> SafeString | str:
        return NOTHING if wait.ended_at is None else duration(wait.ended_at - wait.since)

    @display(description="Answered by")
    def answered_by(self, wait: Wait) -> SafeString | str:
        return NOTHING if wait.reply is None else str(wait.reply.author)

    def facts(self, request: HttpRequest, obj: Wait) -> Iterable[Facts]:
        yield Facts(
            "Wait",
            [
                ("Ticket", ticket_link(obj.ticket_id, obj.ticket.subject).html(request.user)),
                ("Clock", obj.get_clock_display()),
                ("Began (UTC)", self.began(obj)),
                ("Due (UTC)", self.due(obj)),
                ("Ended (UTC)", self.ended(obj)),
                ("Outcome", obj.get_outcome_display() or NOTHING),
                ("Standing", self.standing(obj)),
                ("Answered by", self.answered_by(obj)),
            ],
        )
        yield Facts(
            "Recorded",
            [
                ("Half of the time gone", moment(obj.half_warned_at)),
                ("Three quarters gone", moment(obj.three_quarters_warned_at)),
                ("Breach", moment(obj.breach_recorded_at)),
            ],
        )


def page_of(name: str, *args: Any, **query: Any) -> str:
    """The address of an admin page, or "" where there is none."""
    try:
        return admin_url(name, *args, **query)
    except NoReverseMatch:
        return ""
