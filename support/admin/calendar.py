"""The business calendar: its hours, the days to come and why they are closed, its exceptions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDateWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldAdminTimeWidget,
)

from smsactivator.common import actions
from smsactivator.common.actions import Action, ActionForm, Done, ReasonForm, without_key
from smsactivator.common.admin import Facts, ReadOnlyAdmin, Table
from smsactivator.common.display import GOOD, NOTHING, QUIET, badge
from smsactivator.common.links import Link, admin_url, anchor
from support import business, calendars, clock
from support.business import Hours
from support.models import Calendar, CalendarException
from support.models.calendar import ONLY, WEEKDAYS

NAMES = [name.capitalize() for name in WEEKDAYS]
DAYS_SHOWN = 30
EXCEPTIONS_SHOWN = 50


# The browser's own clock; fields copy their widgets.
_clock_widget = UnfoldAdminTimeWidget(attrs={"type": "time"})


class HoursForm(ReasonForm):
    """The calendar as it is, to be changed, and why."""

    zone = forms.ChoiceField(
        label="Time zone",
        choices=lambda: [(name, name) for name in business.zones()],
        widget=UnfoldAdminSelectWidget,
    )
    opens = forms.TimeField(widget=_clock_widget, help_text="Local time.")
    closes = forms.TimeField(
        widget=_clock_widget, help_text="On the same day; until midnight is 23:59."
    )
    weekdays = forms.TypedMultipleChoiceField(
        label="Working weekdays",
        coerce=int,
        choices=list(enumerate(NAMES)),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    country = forms.ChoiceField(
        label="Holidays of",
        required=False,
        choices=lambda: [("", "No holidays"), *((code, code) for code in business.countries())],
        widget=UnfoldAdminSelectWidget,
        help_text="The country, by its ISO 3166 code. Public holidays close the day.",
    )
    subdivision = forms.CharField(
        label="Part of the country",
        required=False,
        max_length=32,
        widget=UnfoldAdminTextInputWidget,
        help_text="For holidays of its own, as BE for Berlin.",
    )
    field_order = ("zone", "opens", "closes", "weekdays", "country", "subdivision", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        row = Calendar.objects.get()
        now = {name: getattr(row, name) for name in ("zone", "opens", "closes", "country")}
        kwargs.setdefault(
            "initial", now | {"subdivision": row.subdivision, "weekdays": sorted(row.weekdays)}
        )
        super().__init__(*args, **kwargs)


class ExceptionForm(ActionForm):
    """A day, its hours, and why."""

    day = forms.DateField(widget=UnfoldAdminDateWidget(attrs={"type": "date"}))
    opens = forms.TimeField(
        required=False,
        widget=UnfoldAdminTimeWidget,
        help_text="Local time. Empty for a closed day.",
    )
    closes = forms.TimeField(required=False, widget=_clock_widget)
    note = forms.CharField(
        max_length=calendars.NOTE,
        widget=UnfoldAdminTextInputWidget,
        help_text="Why. Agents read it in the calendar.",
    )


def _change(person: Any, _calendar: Calendar, typed: dict[str, Any]) -> Done:
    calendars.change(person, **without_key(typed))
    return Done("The calendar is changed. Due times of open tickets are being recalculated.")


def _add(person: Any, _calendar: Calendar, typed: dict[str, Any]) -> Done:
    exception = calendars.add_exception(person, **without_key(typed))
    return Done(f"{exception.day} is an exception. Due times are being recalculated.")


def _remove(person: Any, exception: CalendarException, typed: dict[str, Any]) -> Done:
    day = calendars.remove_exception(person, exception.pk, **without_key(typed))
    return Done(f"{day} is a day like others again. Due times are being recalculated.", _page())


actions.register(
    "support.Calendar",
    Action(
        name="change",
        label="Change the hours",
        explains="The due times of all open tickets are recalculated afterwards.",
        form=HoursForm,
        permission=calendars.CHANGE,
        offered=lambda _person, _calendar: True,
        run=_change,
    ),
    Action(
        name="add-exception",
        label="Add an exception",
        explains="Close a day, or give it hours of its own: it stands above weekday and holiday. "
        "The due times of all open tickets are recalculated afterwards.",
        form=ExceptionForm,
        permission=calendars.CHANGE,
        offered=lambda _person, _calendar: True,
        run=_add,
    ),
)
actions.register(
    "support.CalendarException",
    Action(
        name="remove",
        label="Remove",
        explains="The day is as its weekday and the holidays say again. The due times of all open "
        "tickets are recalculated afterwards.",
        form=ReasonForm,
        permission=calendars.CHANGE,
        offered=lambda _person, _exception: True,
        run=_remove,
    ),
)


def _page() -> str:
    return admin_url("support_calendar_change", ONLY)


def _hours(hours: Hours | None) -> SafeString:
    return badge(str(hours), GOOD) if hours else badge("Closed", QUIET)


@admin.register(Calendar)
class CalendarAdmin(ReadOnlyAdmin):
    """The one calendar."""

    list_display = ("__str__", "zone", "hours", "working_days", "holidays_of")
    history_permission = "support.view_historicalcalendar"

    @display(description="Working hours")
    def hours(self, calendar: Calendar) -> SafeString:
        return _hours(Hours(calendar.opens, calendar.closes))

    @display(description="Working weekdays")
    def working_days(self, calendar: Calendar) -> str:
        return ", ".join(NAMES[number] for number in sorted(calendar.weekdays))

    @display(description="Holidays of")
    def holidays_of(self, calendar: Calendar) -> SafeString | str:
        return "-".join(filter(None, (calendar.country, calendar.subdivision))) or NOTHING

    def links(self, request: HttpRequest, obj: Calendar) -> list[Link]:
        exceptions = Link(
            "All exceptions",
            admin_url("support_calendarexception_changelist"),
            "support.view_calendarexception",
        )
        return [exceptions, *super().links(request, obj)]

    def facts(self, request: HttpRequest, obj: Calendar) -> Iterable[Facts]:
        yield Facts(
            "Working hours",
            [
                ("Time zone", obj.zone),
                ("Hours", self.hours(obj)),
                ("Weekdays", self.working_days(obj)),
                ("Holidays of", self.holidays_of(obj)),
            ],
        )

    def tables(self, request: HttpRequest, obj: Calendar) -> Iterable[Table]:
        calendar = clock.calendar_of(obj)
        today = calendar.local_day(timezone.now())
        days = (calendar.look(today + timedelta(days=number)) for number in range(DAYS_SHOWN))
        yield Table(
            f"The next {DAYS_SHOWN} days",
            ["Day", "Weekday", "Hours", "Why"],
            [
                (f"{day.day:%Y-%m-%d}", NAMES[day.day.weekday()], _hours(day.hours), day.why)
                for day in days
            ],
            empty="",
        )
        yield Table(
            "Exceptions to come",
            ["Day", "Weekday", "Hours", "Why"],
            [
                (_day_link(exception), NAMES[exception.day.weekday()], *_is(exception))
                for exception in self._to_come(today)
            ],
            empty="No day is an exception.",
        )

    @staticmethod
    def _to_come(today: date) -> Iterable[CalendarException]:
        return CalendarException.objects.filter(day__gte=today).order_by("day")[:EXCEPTIONS_SHOWN]


def _is(exception: CalendarException) -> tuple[SafeString, str]:
    return _hours(clock.hours_of(exception)), exception.note


def _day_link(exception: CalendarException) -> SafeString:
    url = admin_url("support_calendarexception_change", exception.pk)
    return anchor(f"{exception.day:%Y-%m-%d}", url)


@admin.register(CalendarException)
class CalendarExceptionAdmin(ReadOnlyAdmin):
    """The exceptional days; added on the calendar's page."""

    ordering = ("-day",)
    list_display = ("day", "weekday", "hours", "note")
    history_permission = "support.view_historicalcalendarexception"

    @display(description="Weekday")
    def weekday(self, exception: CalendarException) -> str:
        return NAMES[exception.day.weekday()]

    @display(description="Hours")
    def hours(self, exception: CalendarException) -> SafeString:
        return _hours(clock.hours_of(exception))

    def links(self, request: HttpRequest, obj: CalendarException) -> list[Link]:
        calendar = Link("Business calendar", _page(), "support.view_calendar")
        return [calendar, *super().links(request, obj)]

    def facts(self, request: HttpRequest, obj: CalendarException) -> Iterable[Facts]:
        yield Facts(
            "Exception",
            [
                ("Day", f"{obj.day:%Y-%m-%d}, {self.weekday(obj)}"),
                ("Hours", self.hours(obj)),
                ("Why", obj.note),
            ],
        )
