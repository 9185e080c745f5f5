"""The whole audit: the checks of every floor, and the alarm when one fails."""

from __future__ import annotations

import logging

import orders.audit
import refunds.audit
import wallet.audit
from wallet.models import AuditRun

log = logging.getLogger(__name__)

CHECKS = (*wallet.audit.CHECKS, *orders.audit.CHECKS, *refunds.audit.CHECKS)


def audit_ledger() -> AuditRun:
    """Run every check, keep the result, and log each failed check at error."""
    run = wallet.audit.audit(CHECKS)
    for check in run.checks:
        if check["count"]:
            log.error(
                "audit failed: %s: %s differences, among them %s",
                check["name"],
                check["count"],
                "; ".join(check["differences"][:3]),
            )
    return run
