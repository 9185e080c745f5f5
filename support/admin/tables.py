"""The tables of reports, as a page and a CSV share them, and the charts over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString

from smsactivator.common.display import NOTHING, amount, duration, moment
from smsactivator.common.links import anchor

CHARTED = 20  # groups that a chart shows by themselves

# Told apart by lightness: full, pale, and hollow with an edge.
STYLES = (
    {"backgroundColor": "var(--color-primary-700)", "borderColor": "var(--color-primary-700)"},
    {"backgroundColor": "var(--color-primary-300)", "borderColor": "var(--color-primary-500)"},
    {"backgroundColor": "transparent", "borderColor": "var(--color-base-500)"},
)
TEXT, COUNT, USD, SHARE, TIME, MOMENT = "text", "count", "usd", "share", "time", "moment"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in CSV, its heading, what its cells are, and where they come from.

    ``under`` is the heading over several columns. ``link`` answers the list behind a cell, or "".
    """

    name: str
    title: str
    kind: str
    value: Callable[[Any], Any]
    under: str = ""
    link: Callable[[Any], str] | None = None

    def plain(self, row: Any) -> object:
        """As CSV has it: percent with two places, times in whole seconds."""
        value = self.value(row)
        if value is None:
            return None
        if self.kind == SHARE:
            return percent(value)
        if self.kind == MOMENT:
            return f"{value:%Y-%m-%dT%H:%M:%SZ}"
        return round(value.total_seconds()) if self.kind == TIME else value

    def shown(self, row: Any) -> SafeString | str:
        """As the page has it."""
        value = self.value(row)
        if value is None:
            return NOTHING
        text = self._written(value)
        url = self.link(row) if self.link and value else ""
        return anchor(text, url) if url else text

    def _written(self, value: Any) -> SafeString | str:
        match self.kind:
            case "count":
                return f"{value:,}"
            case "usd":
                return amount(value)
            case "share":
                return f"{percent(value)} %"
            case "time":
                return duration(value)
            case "moment":
                return moment(value)
        return str(value)


def percent(part: Decimal) -> Decimal:
    """A share as percent, with two places."""
    return (part * 100).quantize(Decimal("0.01"))


@dataclass(frozen=True, slots=True)
class Series:
    """What a chart stacks: its words, and the figure of a row."""

    title: str
    value: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table with its total, its chart and what it says when it is empty."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    total: Any
    empty: str
    series: Sequence[Series] = ()
    charted: str = ""
    notes: Sequence[str] = ()
    # Of rows by time: every day, week or month of the period, so that the chart has no gaps.
    axis: Sequence[date] = ()

    def cells(self) -> Iterator[Sequence[object]]:
        """The table for CSV: names, rows, total."""
        yield [column.name for column in self.columns]
        for row in (*self.rows, *([] if self.total is None else [self.total])):
            yield [column.plain(row) for column in self.columns]

    def context(self, csv_url: str) -> dict[str, Any]:
        """The table for its template."""
        styles = dict(zip((series.title for series in self.series), STYLES, strict=False))
        return {
            "name": self.name,
            "title": self.title,
            "empty": self.empty,
            "notes": self.notes,
            "heads": self._heads(styles),
            "columns": self.columns,
            "rows": [[(c.kind, c.shown(row)) for c in self.columns] for row in self.rows],
            "total": None
            if self.total is None
            else [(column.kind, column.shown(self.total)) for column in self.columns],
            "chart": json.dumps(self._chart()) if self.series and self.rows else "",
            "charted": self.charted,
            "legend": [
                {"title": series.title, "style": _swatch(styles[series.title])}
                for series in self.series
            ],
            "csv_url": csv_url,
        }

    def _heads(self, styles: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
        heads: list[dict[str, Any]] = []
        for column in self.columns:
            if heads and column.under and heads[-1]["title"] == column.under:
                heads[-1]["span"] += 1
                continue
            style = styles.get(column.under)
            heads.append(
                {"title": column.under, "span": 1, "style": _swatch(style) if style else ""}
            )
        return heads if any(head["title"] for head in heads) else []

    def _chart(self) -> dict[str, Any]:
        bars: list[tuple[str, list[Any]]]
        if self.axis:
            at = {row.key: row for row in self.rows}
            bars = [(str(day), [at[day]] if day in at else []) for day in self.axis]
        else:
            bars = [(row.label, [row]) for row in self.rows[:CHARTED]]
            if rest := list(self.rows[CHARTED:]):
                bars.append((f"{len(rest)} others", rest))
        return {
            "labels": [label for label, _ in bars],
            "datasets": [
                {
                    "label": series.title,
                    # As text: what a chart rounds, it rounds by itself.
                    "data": [str(sum(series.value(row) for row in rows)) for _, rows in bars],
                    "borderWidth": 1,
                    "stack": "all",
                    **style,
                }
                for series, style in zip(self.series, STYLES, strict=False)
            ],
        }


def _swatch(style: dict[str, str]) -> str:
    return f"background:{style['backgroundColor']};border-color:{style['borderColor']}"
