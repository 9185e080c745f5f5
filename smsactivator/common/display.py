"""How values are written on admin pages: money, moments, states."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

NOTHING: SafeString = mark_safe('<span class="nothing">—</span>')

# What a badge's tone stands for; its text says it too.
GOOD, BAD, WAITING, QUIET, BUSY = "good", "bad", "waiting", "quiet", "busy"


def amount(value: Decimal) -> str:
    """USD with thousands separated and all four places: ``1,234.5000``."""
    return f"{value:,.4f}"


def money(value: Decimal | None) -> SafeString:
    """An amount in tabular figures, aligned to the right."""
    if value is None:
        return NOTHING
    return format_html('<span class="money">{}</span>', amount(value))


def number(value: int) -> SafeString:
    """A count, aligned to the right."""
    return format_html('<span class="money">{}</span>', f"{value:,}")


def moment(value: datetime | None, *, after: datetime | None = None) -> SafeString:
    """A moment in UTC, to the second; the title says how long ago it was or until it will be.

    Beside another moment of the same day (``after``), its time of day is enough.
    """
    if value is None:
        return NOTHING
    return format_html(
        '<time class="moment" datetime="{}" title="{}">{}</time>',
        value.isoformat(),
        ago(value),
        f"{value:%H:%M:%S}"
        if after is not None and after.date() == value.date()
        else f"{value:%Y-%m-%d %H:%M:%S}",
    )


def duration(span: timedelta) -> str:
    """A length of time in its largest unit or two: ``45 s``, ``3 min``, ``2 h 5 min``, ``4 d``."""
    seconds = int(abs(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d"


def ago(value: datetime) -> str:
    """A moment relative to now: ``3 min ago`` or ``in 3 min``."""
    span = timezone.now() - value
    return f"in {duration(span)}" if span < timedelta() else f"{duration(span)} ago"


def badge(text: str, tone: str = QUIET) -> SafeString:
    """A short label whose words say what its colour says."""
    return format_html('<span class="badge badge-{}">{}</span>', tone, text)


def mono(text: str) -> SafeString:
    """A code, key or number that people compare by eye."""
    return format_html('<span class="mono">{}</span>', text) if text else NOTHING


def signed(value: Decimal) -> SafeString:
    """What something did to a balance, with its sign: ``+5.0000``, and a true minus for a debit."""
    sign = "\N{MINUS SIGN}" if value < 0 else "+"
    return format_html('<span class="money">{}</span>', f"{sign}{amount(abs(value))}")
