"""A wallet's statement of a period: which period, as CSV, and for printing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminDateWidget

from smsactivator.common import csvs
from smsactivator.common.links import collect
from wallet.models import CURRENCY, Transfer, Wallet
from wallet.queries import Period, period

PRINTED = 5_000  # lines that a printed statement has at most
EARLIEST, LATEST = date(2000, 1, 1), date(2999, 12, 31)
COLUMNS = (
    "line",
    "posted_at",
    "what",
    "cause",
    "debit",
    "credit",
    "balance",
    "currency",
    "transfer",
    "key",
)


class PeriodForm(forms.Form):
    """Days in UTC, both included; either may be left out. And a moment to ask the balance of."""

    since = forms.DateField(required=False, label="From", widget=UnfoldAdminDateWidget)
    until = forms.DateField(required=False, label="To", widget=UnfoldAdminDateWidget)
    at = forms.DateTimeField(required=False, label="Balance at")

    def clean(self) -> dict[str, Any]:
        """The days in their order, and none that no calendar of ours has."""
        given = super().clean() or {}
        for name in ("since", "until", "at"):
            moment = given.get(name)
            day = moment.date() if isinstance(moment, datetime) else moment
            if day and not EARLIEST <= day <= LATEST:
                self.add_error(name, "Choose a day between the years 2000 and 2999.")
        since, until = given.get("since"), given.get("until")
        if since and until and since > until:
            raise forms.ValidationError("The first day is after the last.")
        return given

    def period_of(self, wallet: Wallet) -> Period:
        """The wallet's statement of these days; of its whole life when they are not valid."""
        since = self.cleaned_data.get("since") if self.is_valid() else None
        until = self.cleaned_data.get("until") if self.is_valid() else None
        return period(
            wallet,
            _midnight(since) if since else None,
            _midnight(until + timedelta(days=1)) if until else None,
        )

    def words(self) -> str:
        """The days, for headings and file names."""
        since = self.cleaned_data.get("since") if self.is_valid() else None
        until = self.cleaned_data.get("until") if self.is_valid() else None
        return f"{since or 'begin'}_{until or 'now'}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Line:
    """A transfer as a statement shows it; ``debit`` or ``credit`` is None."""

    transfer: Transfer
    what: str
    cause: str
    debit: Decimal | None
    credit: Decimal | None


def lines(of: Period) -> Iterator[Line]:
    """The lines of a period, the oldest first, in constant memory."""
    for chunk in of.lines():
        causes = collect("wallet.Transfer", [transfer.pk for transfer in chunk])
        for transfer in chunk:
            spent = transfer.debit_account == of.wallet.pk
            yield Line(
                transfer=transfer,
                what=Transfer.Kind(transfer.kind).label,
                cause=", ".join(link.text for link in causes[transfer.pk]),
                debit=transfer.amount if spent else None,
                credit=None if spent else transfer.amount,
            )


def as_csv(of: Period) -> Iterator[str]:
    """The period as CSV (RFC 4180, UTF-8), row by row: opening balance, lines, closing balance.

    Amounts have four places and no thousands separators. Text that a spreadsheet program would take
    for a formula gets an apostrophe before it.
    """
    yield from csvs.rows(_cells(of))


def _cells(of: Period) -> Iterator[tuple[object, ...]]:
    def balance(what: str, moment: datetime | None, amount: Decimal) -> tuple[object, ...]:
        return ("", moment, what, "", None, None, amount, CURRENCY, "", "")

    yield COLUMNS
    yield balance("Opening balance", of.since, of.opening)
    for line in lines(of):
        yield (
            line.transfer.wallet_version,
            line.transfer.posted_at,
            line.what,
            line.cause,
            line.debit,
            line.credit,
            line.transfer.balance_after,
            CURRENCY,
            line.transfer.pk,
            line.transfer.key,
        )
    yield balance("Closing balance", of.until, of.closing)
