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
from itertools import cycle
from typing import Any

from django.conf import settings
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone

from orders import queries as orders
from refunds import queries as refunds
from refunds.models import RefundRequest
from smsactivator.common.charts import STACKED_BARS
from smsactivator.common.display import ago, amount, duration
from smsactivator.common.links import admin_url
from smsactivator.common.moments import is_ahead
from support import outbox
from wallet import payout_board, payouts, settlement
from wallet import queries as wallet
from wallet.models import (
    AuditRun,
    Claim,
    Correction,
    Decision,
    Payout,
    Reinstatement,
    Termination,
    Transfer,
)

ESCROW_CHECK = "escrow equals the prices of open orders"
REFRESH_SECONDS = 15
# Tints of one hue tell the clauses apart by lightness too; the table beside gives the numbers.
CLAUSE_COLOURS = (
    "var(--color-primary-800)",
    "var(--color-primary-600)",
    "var(--color-primary-400)",
    "var(--color-primary-200)",
    # Decided refunds.
    "var(--color-base-700)",
    "var(--color-base-500)",
    "var(--color-base-300)",
)
FLOWS = (
    ("Placed", (Transfer.Kind.PURCHASE,)),
    ("Delivered", (Transfer.Kind.DELIVERY,)),
    ("Refunded", (Transfer.Kind.AUTOMATIC_REFUND, Transfer.Kind.DECIDED_REFUND)),
)
# What waits, in which state, and its name where that is not the model's.
WAITING: tuple[tuple[type[Model], Any, str], ...] = (
    (RefundRequest, RefundRequest.State.REQUESTED, "refund requests"),
    (RefundRequest, RefundRequest.State.ESCALATED, "refund requests for a senior"),
    (RefundRequest, RefundRequest.State.DISPUTED, "disputes"),
    (Correction, Decision.State.REQUESTED, ""),
    (Claim, Claim.State.OPEN, ""),
    (Termination, Decision.State.REQUESTED, ""),
    (Reinstatement, Decision.State.REQUESTED, ""),
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
    context["waiting"] = _waiting(user)
    context["payouts"] = _payouts(user)
    if user.has_perm("support.view_outbound"):
        context["deliveries"] = _deliveries()
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


def _full_ago() -> str:
    full = wallet.last_full_audit()
    return ago(full.finished_at) if full else "never"


def _audit(audit: AuditRun) -> dict[str, Any]:
    return {
        "passed": audit.passed,
        "scope": "in full" if audit.full else "of what is new",
        "full_ago": "" if audit.full else _full_ago(),
        "at": audit.finished_at,
        "ago": ago(audit.finished_at),
        "checks": len(audit.checks),
        "failed": [check["name"] for check in audit.checks if check["count"]],
        "old": timezone.now() - audit.finished_at > 3 * timedelta(seconds=settings.AUDIT_SECONDS)
        or is_ahead(audit.finished_at, timezone.now()),
        "url": admin_url("wallet_auditrun_change", audit.pk),
    }


def _sweep(*, linked: bool) -> dict[str, Any] | None:
    sweep = refunds.last_sweep()
    if sweep is None:
        return None
    age = refunds.age(sweep)
    if is_ahead(sweep.finished_at, timezone.now()):
        tone, word = "bad", "After now: a clock is wrong, or was when it ran"
    elif age > settings.HEALTH_STALE:
        tone, word = "bad", "The refund sweep has stopped"
    elif age > settings.HEALTH_STALE / 2:
        tone, word = "waiting", "Late"
    else:
        tone, word = "good", "Running"
    return {
        "age": duration(max(age, timedelta(0))),
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
    rows = []
    for label, kinds in FLOWS:
        last_hour = [hour[kind] for kind in kinds if kind in hour]
        last_day = [day[kind] for kind in kinds if kind in day]
        rows.append(
            {
                "label": label,
                "hour": sum(moved.count for moved in last_hour),
                "hour_amount": amount(sum((moved.amount for moved in last_hour), Decimal(0))),
                "day": sum(moved.count for moved in last_day),
                "day_amount": amount(sum((moved.amount for moved in last_day), Decimal(0))),
            }
        )
    return rows


def _waiting(user: Any) -> list[dict[str, Any]]:
    """What waits for somebody's decision; each count is of an index that knows the state."""
    waiting = []
    for model, state, name in WAITING:
        app, model_name = model._meta.label_lower.split(".")
        if user.has_perm(f"{app}.view_{model_name}"):
            waiting.append(
                {
                    "label": name or model._meta.verbose_name_plural,
                    "count": model._default_manager.filter(state=state).count(),
                    "url": admin_url(f"{app}_{model_name}_changelist", state__exact=state.value),
                }
            )
    return waiting


def _payouts(user: Any) -> dict[str, Any] | None:
    """What of the payouts waits for whoever looks: an approval, or finance."""
    shown: list[tuple[str, str, dict[str, str]]] = []
    if user.has_perm("wallet.view_payout"):
        if user.has_perm(payouts.APPROVE):
            shown.append(("approval", "Waiting for approval", {"waits": "approval"}))
        if user.has_perm(settlement.SETTLE):
            shown += [
                ("export", "Approved, not exported", {"state__exact": Payout.State.APPROVED.value}),
                (
                    "late",
                    f"On their way for over {payout_board.LATE.days} days",
                    {"waits": "late"},
                ),
                ("failed", "Failed, to be decided", {"state__exact": Payout.State.FAILED.value}),
            ]
    if not shown:
        return None
    found = payout_board.waiting()
    return {
        "bad": len(shown) > 1 and found.late + found.failed > 0,
        "items": [
            {
                "label": label,
                "count": getattr(found, name),
                "url": admin_url("wallet_payout_changelist", **query),
            }
            for name, label, query in shown
        ],
    }


def _deliveries() -> dict[str, Any]:
    """What did not reach customers of tickets that are not closed, each state with its list."""
    counts = outbox.undelivered()
    return {
        "count": sum(counts.values()),
        "capped": max(counts.values()) == outbox.MOST_COUNTED,
        "states": [
            {
                "label": state.label,
                "count": count,
                "url": admin_url("support_outbound_changelist", state__exact=state.value),
            }
            for state, count in counts.items()
        ],
    }


def _refunds() -> dict[str, Any]:
    now = timezone.now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    clauses = refunds.refunded_on(today)
    hours = range(now.hour + 1)
    chart = {
        "labels": [f"{hour:02d}" for hour in hours],
        "datasets": [
            {
                "label": refunded.clause.title,
                "data": [refunded.by_hour[hour] for hour in hours],
                "backgroundColor": colour,
                "stack": "refunds",
            }
            for refunded, colour in zip(clauses, cycle(CLAUSE_COLOURS), strict=False)
        ],
    }
    return {
        "chart": json.dumps(chart),
        "options": json.dumps(STACKED_BARS),
        "clauses": [
            {
                "label": refunded.clause.title,
                "colour": colour,
                "count": refunded.count,
                "amount": amount(refunded.amount),
                "url": admin_url(
                    "refunds_refund_changelist",
                    clause__exact=refunded.clause.clause,
                    created_at_from_0=f"{today:%Y-%m-%d}",
                ),
            }
            for refunded, colour in zip(clauses, cycle(CLAUSE_COLOURS), strict=False)
        ],
        "count": sum(refunded.count for refunded in clauses),
        "amount": amount(sum((refunded.amount for refunded in clauses), Decimal(0))),
    }
