"""The front page: what matters now.

It answers at once however many orders there are: a fixed number of queries, each bounded by what
is open now or happened lately. Escrow's balance is the sum of all transfers that ever touched it,
so it is not added up here: the last audit added it up, in one snapshot with the open orders'
prices, and its figures are shown with its time beside the open orders of this moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from orders import queries as orders
from refunds import queries as refunds
from smsactivator.common.display import ago, amount, duration
from smsactivator.common.links import admin_url
from wallet import queries as wallet
from wallet.models import AuditRun, Transfer

ESCROW_CHECK = "escrow equals the prices of open orders"
REFRESH_SECONDS = 15
# Tints of one hue tell the clauses apart by lightness too; the table beside gives the numbers.
CLAUSE_COLOURS = (
    "var(--color-primary-800)",
    "var(--color-primary-600)",
    "var(--color-primary-400)",
    "var(--color-primary-200)",
)
FLOWS = (
    (Transfer.Kind.PURCHASE, "Placed"),
    (Transfer.Kind.DELIVERY, "Delivered"),
    (Transfer.Kind.AUTOMATIC_REFUND, "Refunded"),
)


@dataclass(frozen=True, slots=True)
class Escrow:
    """Escrow against the open orders, USD, as the audit at ``audit.started_at`` found them."""

    escrow: Decimal
    open_orders: Decimal
    audit: AuditRun

    @property
    def difference(self) -> Decimal:
        """What escrow holds too much (positive) or lacks."""
        return self.escrow - self.open_orders


def audited_escrow(audit: AuditRun) -> Escrow | None:
    """The figures of the audit's escrow check, if it made one."""
    for check in audit.checks:
        if check.get("name") == ESCROW_CHECK:
            figures = check.get("figures", {})
            try:
                return Escrow(Decimal(figures["escrow"]), Decimal(figures["open_orders"]), audit)
            except (KeyError, InvalidOperation):
                return None
    return None


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the figures that the user may see to the front page's context (unfold's callback)."""
    user = request.user
    context["title"] = "Now"
    context["refresh_seconds"] = REFRESH_SECONDS
    if user.has_perm("orders.view_order"):
        context["overdue"] = _overdue()
        context["open_orders"] = _open_orders()
    if user.has_perm("wallet.view_transfer"):
        context["flows"] = _flows()
    if user.has_perm("refunds.view_refund"):
        context["refunds"] = _refunds()
        context["sweep"] = _sweep(linked=user.has_perm("refunds.view_sweep"))
    if user.has_perm("wallet.view_auditrun"):
        audit = wallet.last_audit()
        context["audit_shown"] = True
        context["audit"] = _audit(audit) if audit else None
        context["escrow"] = _escrow(audit) if audit else None
    return context


def _overdue() -> dict[str, Any]:
    overdue = orders.overdue_orders()
    late = timezone.now() - overdue.oldest_deadline if overdue.oldest_deadline else None
    return {
        "count": overdue.count,
        "late": duration(late) if late else "",
        "url": admin_url("orders_order_changelist", overdue="yes"),
    }


def _open_orders() -> dict[str, Any]:
    figures = orders.open_orders()
    return {"count": figures.count, "price": amount(figures.price)}


def _escrow(audit: AuditRun) -> dict[str, Any] | None:
    escrow = audited_escrow(audit)
    if escrow is None:
        return None
    return {
        "escrow": amount(escrow.escrow),
        "open_orders": amount(escrow.open_orders),
        "agrees": not escrow.difference,
        "difference": f"{escrow.difference:+,.4f}",
        "ago": ago(audit.started_at),
        "url": admin_url("wallet_auditrun_change", audit.pk),
    }


def _audit(audit: AuditRun) -> dict[str, Any]:
    return {
        "passed": audit.passed,
        "at": audit.finished_at,
        "ago": ago(audit.finished_at),
        "checks": len(audit.checks),
        "failed": [check["name"] for check in audit.checks if check["count"]],
        "old": timezone.now() - audit.finished_at > 3 * timedelta(seconds=settings.AUDIT_SECONDS),
        "url": admin_url("wallet_auditrun_change", audit.pk),
    }


def _sweep(*, linked: bool) -> dict[str, Any] | None:
    sweep = refunds.last_sweep()
    if sweep is None:
        return None
    age = refunds.age(sweep)
    if age > settings.HEALTH_STALE:
        tone, word = "bad", "The refund sweep has stopped"
    elif age > settings.HEALTH_STALE / 2:
        tone, word = "waiting", "Late"
    else:
        tone, word = "good", "Running"
    return {
        "age": duration(age),
        "name": sweep.name,
        "tone": tone,
        "word": word,
        "url": admin_url("refunds_sweep_changelist") if linked else "",
    }


def _flows() -> list[dict[str, Any]]:
    """What was placed, delivered and refunded, from the ledger's own index of time."""
    now = timezone.now()
    hour = wallet.moved_between(now - timedelta(hours=1), now)
    day = wallet.moved_between(now - timedelta(hours=24), now)
    nothing = wallet.Moved(0, Decimal(0))
    rows = []
    for kind, label in FLOWS:
        last_hour, last_day = hour.get(kind, nothing), day.get(kind, nothing)
        rows.append(
            {
                "label": label,
                "hour": last_hour.count,
                "hour_amount": amount(last_hour.amount),
                "day": last_day.count,
                "day_amount": amount(last_day.amount),
            }
        )
    return rows


def _refunds() -> dict[str, Any]:
    now = timezone.now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    clauses = refunds.refunded_on(today)
    hours = range(now.hour + 1)
    chart = {
        "labels": [f"{hour:02d}" for hour in hours],
        "datasets": [
            {
                "label": refunded.clause.label,
                "data": [refunded.by_hour[hour] for hour in hours],
                "backgroundColor": colour,
                "stack": "refunds",
            }
            for refunded, colour in zip(clauses, CLAUSE_COLOURS, strict=True)
        ],
    }
    return {
        "chart": json.dumps(chart),
        "options": json.dumps(CHART_OPTIONS),
        "clauses": [
            {
                "label": refunded.clause.label,
                "colour": colour,
                "count": refunded.count,
                "amount": amount(refunded.amount),
                "url": admin_url(
                    "refunds_refund_changelist",
                    clause__exact=refunded.clause.value,
                    created_at_from_0=f"{today:%Y-%m-%d}",
                ),
            }
            for refunded, colour in zip(clauses, CLAUSE_COLOURS, strict=True)
        ],
        "count": sum(refunded.count for refunded in clauses),
        "amount": amount(sum((refunded.amount for refunded in clauses), Decimal(0))),
    }


CHART_OPTIONS: dict[str, Any] = {
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
