"""How charts look: bars that stack, their words and figures in a table beside them."""

from __future__ import annotations

from typing import Any

STACKED_BARS: dict[str, Any] = {
    "animation": False,
    "maintainAspectRatio": False,
    "responsive": True,
    "maxBarThickness": 28,
    "plugins": {"legend": {"display": False}},
    "scales": {
        "x": {"stacked": True, "grid": {"display": False}, "ticks": {"color": "#888"}},
        "y": {
            "stacked": True,
            "beginAtZero": True,
            "grid": {"color": "rgba(128,128,128,.2)"},
            "ticks": {"precision": 0, "color": "#888"},
        },
    },
}
