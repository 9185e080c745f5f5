"""The closes with the figures of every floor."""

from __future__ import annotations

import logging
from datetime import date
from smtplib import SMTPException
from typing import Any

from django.core.mail import mail_admins

import orders.figures
import refunds.figures
import wallet.figures
from wallet import closes, seals
from wallet.figures import SECTIONS
from wallet.models import Close

log = logging.getLogger(__name__)

FIGURES = tuple(
    sorted(
        (*wallet.figures.FIGURES, *orders.figures.FIGURES, *refunds.figures.FIGURES),
        key=lambda figure: SECTIONS.index(figure.section),
    )
)
LATER = (*wallet.figures.LATER, *orders.figures.LATER, *refunds.figures.LATER)
BY_NAME = {figure.name: figure for figure in FIGURES}


def close_days(person: Any, through: date) -> list[Close]:
    """Close every sealed day up to this one (``wallet.closes.close_days``)."""
    return closes.close_days(person, through, FIGURES)


def close_month(person: Any, first: date) -> Close:
    """Close the month that begins on this day (``wallet.closes.close_month``)."""
    return closes.close_month(person, first, FIGURES)


def close_what_is_sealed() -> list[Close]:
    """Close all days and months that can be closed by now; nobody's deed (the beat's)."""
    return closes.close_what_is_sealed(FIGURES)


def prove(since: date) -> list[str]:
    """What is wrong with the seals and closes from this day on, in words; changes nothing.

    Each seal and close is computed again from the ledger. A problem is logged at error and mailed
    to the admins, and no customer is named.
    """
    problems = [f"Seal of {wrong.day}: it {wrong.problem}" for wrong in seals.verify(since)]
    problems += [
        f"Close of {wrong.close.period}: {problem}"
        for wrong in closes.verify(FIGURES, since=since)
        for problem in wrong.problems
    ]
    for problem in problems:
        log.error("the books are not as they were: %s", problem)
    if problems:
        lines = [*problems[:50], "", "What to do: docs/operations.md, When the audit fails."]
        try:
            mail_admins("Seals or closes are not as they were made", "\n".join(lines))
        except (SMTPException, OSError):
            # The log has said it, and tomorrow says it again.
            log.exception("the mail about the seals and closes was not sent")
    return problems
