"""When we work: the business calendar that answers are due by, and its exceptional days."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from smsactivator.common.history import records

ONLY = 1  # the primary key of the one calendar
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)


class Calendar(models.Model):
    """The business calendar: one row, which the database keeps.

    Changed by ``support.calendars`` alone. Working hours are local clock times of its zone.
    """

    id = models.SmallIntegerField(primary_key=True, default=ONLY, editable=False)
    zone = models.CharField(
        "time zone", max_length=64, help_text="Its name in the IANA database, as Europe/Berlin."
    )
    opens = models.TimeField()
    closes = models.TimeField(help_text="On the same day; until midnight is 23:59.")
    monday = models.BooleanField()
    tuesday = models.BooleanField()
    wednesday = models.BooleanField()
    thursday = models.BooleanField()
    friday = models.BooleanField()
    saturday = models.BooleanField()
    sunday = models.BooleanField()
    country = models.CharField(
        "holidays of", max_length=2, blank=True, help_text="ISO 3166 code; empty for no holidays."
    )
    subdivision = models.CharField(
        "part of the country", max_length=32, blank=True, help_text="For holidays of its own."
    )

    history = records()

    class Meta:
        verbose_name = "business calendar"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(id=ONLY), name="calendar_is_the_only_one"),
            models.CheckConstraint(condition=~Q(zone=""), name="calendar_has_a_zone"),
            models.CheckConstraint(
                condition=Q(opens__lt=F("closes")), name="calendar_opens_before_it_closes"
            ),
            models.CheckConstraint(
                condition=Q(monday=True)
                | Q(tuesday=True)
                | Q(wednesday=True)
                | Q(thursday=True)
                | Q(friday=True)
                | Q(saturday=True)
                | Q(sunday=True),
                name="calendar_has_a_working_weekday",
            ),
            models.CheckConstraint(
                condition=Q(subdivision="") | ~Q(country=""),
                name="calendar_subdivision_is_of_a_country",
            ),
        ]

    def __str__(self) -> str:
        return "Business calendar"

    @property
    def weekdays(self) -> frozenset[int]:
        """The working weekdays as ``date.weekday()`` numbers them: Monday is 0."""
        return frozenset(number for number, name in enumerate(WEEKDAYS) if getattr(self, name))


class CalendarException(models.Model):
    """A day that is otherwise than its weekday and the holidays say: closed, or with own hours.

    Added and removed by ``support.calendars`` alone, and never changed.
    """

    day = models.DateField(unique=True)
    opens = models.TimeField(null=True, help_text="Empty when closed.")
    closes = models.TimeField(null=True)
    note = models.CharField(max_length=200, help_text="Why; agents read it in the calendar.")

    history = records()

    class Meta:
        verbose_name = "calendar exception"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(opens__isnull=True, closes__isnull=True)
                | Q(opens__isnull=False, closes__isnull=False, opens__lt=F("closes")),
                name="exception_closed_or_opens_before_it_closes",
            ),
            models.CheckConstraint(condition=~Q(note=""), name="exception_has_a_note"),
            models.CheckConstraint(
                condition=Q(day__gte=FIRST_DAY, day__lte=LAST_DAY),
                name="exception_day_of_this_century",
            ),
        ]

    def __str__(self) -> str:
        return f"Exception on {self.day:%Y-%m-%d}"
