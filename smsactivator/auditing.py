"""The whole audit: the checks of every floor, and the alarm when one fails."""

from __future__ import annotations

import logging
from smtplib import SMTPException

from django.core.mail import mail_admins
from django.db.models import Q

import orders.audit
import refunds.audit
import wallet.audit
from wallet.audit import Progress
from wallet.models import AuditRun

log = logging.getLogger(__name__)

CHECKS = (*wallet.audit.CHECKS, *orders.audit.CHECKS, *refunds.audit.CHECKS)


def audit_ledger(*, full: bool = False, progress: Progress | None = None) -> AuditRun:
    """Run every check, keep the result, log each failed check at error, and mail the admins.

    Begins after the last passed run unless ``full`` (``wallet.audit.audit``). The mail names the
    failed checks and the rows, never a customer. It goes out once for a failure, and again when
    other checks fail or another day has begun; a mail that the server did not take, or that a
    process died over, goes out with the next run. Freezes nothing: what to do is for people to say.
    """
    run = wallet.audit.audit(CHECKS, full=full, progress=progress)
    for check in run.checks:
        if check["count"]:
            log.error(
                "audit failed: %s: %s differences, among them %s",
                check["name"],
                check["count"],
                "; ".join(check["differences"][:3]),
            )
    if not run.passed and not _was_mailed(run) and _mail(run):
        run.mailed = True
        run.save(update_fields=["mailed"])
    return run


def _failed(run: AuditRun) -> list[str]:
    return [check["name"] for check in run.checks if check["count"]]


def _was_mailed(run: AuditRun) -> bool:
    """Whether the last mail, with no passed run since, was about the same failure, the same day."""
    last = (
        AuditRun.objects.filter(Q(mailed=True) | Q(passed=True), pk__lt=run.pk)
        .order_by("-pk")
        .first()
    )
    return (
        last is not None
        and last.mailed
        and _failed(last) == _failed(run)
        and last.started_at.date() == run.started_at.date()
    )


def _mail(run: AuditRun) -> bool:
    """Tell the admins; returns whether the mail server took it."""
    lines = [f"{run} failed. It has changed nothing.", ""]
    for check in run.checks:
        if check["count"]:
            lines += [f"{check['name']}: {check['count']} differences", *check["differences"], ""]
    lines.append("What to do: docs/operations.md, When the audit fails.")
    try:
        mail_admins("The audit of the ledger failed", "\n".join(lines))
    except (SMTPException, OSError):
        # The result is kept, the front page is red, and the log has said it.
        log.exception("the mail about the failed audit was not sent")
        return False
    return True
