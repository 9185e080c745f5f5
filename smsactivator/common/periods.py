"""Days that people ask about: in UTC, both included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.utils import timezone

from smsactivator.common.errors import Invalid

LONGEST = 366  # days
EARLIEST, LATEST = date(2000, 1, 1), date(2999, 12, 31)


class PeriodRefused(Invalid):
    """The days are none that can be asked about."""

    code = "period_refused"


@dataclass(frozen=True, slots=True)
class Period:
    """Days in UTC, both included; at most ``LONGEST``. Raises PeriodRefused."""

    since: date
    until: date

    def __post_init__(self) -> None:
        if not (EARLIEST <= self.since <= LATEST and EARLIEST <= self.until <= LATEST):
            raise PeriodRefused("Choose days between the years 2000 and 2999.")
        if self.since > self.until:
            raise PeriodRefused("The first day is after the last.")
        if self.days > LONGEST:
            raise PeriodRefused(
                f"These are {self.days:,} days; at most {LONGEST} are taken at once. "
                "Take them in parts."
            )

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.until - self.since).days + 1

    @property
    def begins(self) -> datetime:
        """Its first moment."""
        return datetime.combine(self.since, time(), tzinfo=UTC)

    @property
    def ends(self) -> datetime:
        """The moment just after it."""
        return datetime.combine(self.until + timedelta(days=1), time(), tzinfo=UTC)


def this_month() -> Period:
    """From the first of the month to today, in UTC."""
    today = timezone.now().astimezone(UTC).date()
    return Period(today.replace(day=1), today)
