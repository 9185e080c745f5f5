"""Proving all that was sealed, closed and booked again, and naming each difference."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from smtplib import SMTPException

from django.core.mail import mail_admins

from smsactivator.auditing import audit_ledger
from smsactivator.closing import FIGURES
from wallet import closes, evidence, seals
from wallet.models import Close, Seal

log = logging.getLogger(__name__)

SEALS, ROWS, CLOSES, AUDIT, EXPECTED = "seals", "rows", "closes", "audit", "expected"
PARTS = {
    SEALS: "Seals",
    ROWS: "Rows and their histories",
    CLOSES: "Closes",
    AUDIT: "Audit",
    EXPECTED: "Digests that were kept elsewhere",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it was, and which part of the proof found it."""

    part: str
    what: str


def sealed_and_closed(since: date | None = None) -> list[Difference]:
    """What is wrong with the seals, the rows that change and the closes, from a day on."""
    return [*_seals(since), *_rows(since), *_closes(since)]


def verify_books(expected: Sequence[str] = ()) -> list[Difference]:
    """Prove everything: seals, rows and their histories, closes, the full audit.

    ``expected`` are digests of seals or closes that were kept elsewhere: each must be there still.
    Changes nothing but that the audit is kept; an empty list when nothing differs.
    """
    return [*sealed_and_closed(), *_audit(), *_expected(expected)]


def newest_digests() -> list[str]:
    """The digests of the last seal and closes, to be kept elsewhere."""
    last = [seals.newest(), closes.newest(Close.Kind.DAY), closes.newest(Close.Kind.MONTH)]
    return [f"{one}: {one.digest}" for one in last if one is not None]


def prove(since: date) -> list[str]:
    """What is wrong with the seals and closes from this day on, in words; changes nothing.

    Each seal and close is computed again from the ledger. A problem is logged at error and mailed
    to the admins, and no customer is named.
    """
    problems = [difference.what for difference in sealed_and_closed(since)]
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


def _seals(since: date | None) -> Iterator[Difference]:
    for wrong in seals.verify(since):
        yield Difference(SEALS, f"Seal of {wrong.day}: it {wrong.problem}")
        for row in wrong.rows:
            yield Difference(SEALS, f"Seal of {wrong.day}: {row}")


def _rows(since: date | None) -> Iterator[Difference]:
    for day, what in evidence.unlike_their_history(since):
        yield Difference(ROWS, f"History of {day}: {what}")


def _closes(since: date | None) -> Iterator[Difference]:
    for wrong in closes.verify(FIGURES, since=since):
        for problem in wrong.problems:
            yield Difference(CLOSES, f"Close of {wrong.close.period}: {problem}")


def _audit() -> Iterator[Difference]:
    for check in audit_ledger(full=True).checks:
        for row in check["differences"]:
            yield Difference(AUDIT, f"{check['name']}: {row}")


def _expected(digests: Sequence[str]) -> Iterator[Difference]:
    for digest in digests:
        if not (
            Seal.objects.filter(digest=digest).exists()
            or Close.objects.filter(digest=digest).exists()
        ):
            yield Difference(EXPECTED, f"no seal and no close has the digest {digest}")
