"""Delivering what the outbox holds: noted first, sent with no lock held, then recorded.

A delivery that is being sent carries a lease. Whoever dies with it leaves it to the beat, which
flags it as perhaps sent: only a person sends it again.
"""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from random import SystemRandom

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.history import Actor
from smsactivator.common.moments import due, is_ahead
from support import clocks, isolation, mails, outbox
from support.models import Outbound
from support.models.outbox import MOST_TRIES
from support.smtp import NotSent

log = logging.getLogger(__name__)

OUTBOX = Actor.automatic("outbox")
FIRST_WAIT = timedelta(seconds=30)  # doubled after each attempt
LONGEST_WAIT = timedelta(hours=1)
JITTER = 0.2  # of the wait, either way
FURTHEST = LONGEST_WAIT * (1 + JITTER)  # that a delivery is ever put off
PATIENCE = 30  # seconds after which a beat's run leaves the rest to the next
INTERRUPTED = "The attempt was interrupted: it may have been sent."
# What a mail backend meets when nothing is wrong with the code: the network, TLS and SMTP are
# OSErrors, a text that a header or an address cannot carry is a ValueError, and a setting that is
# missing is said by Django.
OPERATING = (OSError, ValueError, ImproperlyConfigured)
_dice = SystemRandom()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. ``logged`` names neither people nor what was said."""

    state: Outbound.State
    problem: str = ""
    logged: str = ""


def deliver(outbound_id: int) -> bool:
    """Try a delivery that is due, once; tells whether it did.

    Does nothing when somebody else tries it, or did. Sends mail with no lock and no transaction.
    """
    way = Outbound.objects.filter(pk=outbound_id).values_list("way", flat=True).first()
    if way == Outbound.Way.API:
        return _show(outbound_id)
    claimed = _claim(outbound_id)
    if claimed is None:
        return False
    _record(claimed, _send(claimed))
    return True


def deliver_due(way: str, limit: int = 500) -> int:
    """Try what is due, the longest waiting first, for half a minute at most. Returns how many.

    Raises Unfinished, as ``attempt``, when all have been tried.
    """
    waiting = Outbound.objects.filter(
        due("due_at", timezone.now(), FURTHEST), state=Outbound.State.QUEUED, way=way
    ).order_by("due_at", "pk")
    until = time.monotonic() + PATIENCE
    keys = list(waiting.values_list("pk", flat=True)[:limit])
    in_time = itertools.takewhile(lambda _: time.monotonic() <= until, keys)
    return isolation.each("delivery", in_time, deliver)


def attempt(outbound_id: int) -> bool:
    """``deliver``, with what an error in code says kept from the log, as it may name the customer.

    Such an error loses and doubles nothing: an attempt that had begun is flagged as perhaps sent
    when its lease is over, and one that had not is still queued. Raises Unfinished.
    """
    return bool(isolation.each("delivery", [outbound_id], deliver))


def flag_lost(limit: int = 500) -> int:
    """Flag attempts whose lease is over as perhaps sent. Returns how many."""
    with transaction.atomic():
        lost = list(
            Outbound.objects.select_for_update(no_key=True, skip_locked=True)
            .filter(
                # Twice what is given: a worker whose clock is behind ends no attempt of others.
                due("due_at", timezone.now(), 2 * settings.OUTBOX_LEASE),
                state=Outbound.State.SENDING,
            )
            .order_by("due_at")[:limit]
        )
        for outbound in lost:
            outbound.lose()
            outbound.due_at = None
            outbound.problem = INTERRUPTED
            log.warning("delivery %s: interrupted, perhaps sent", outbound.pk)
        history.save(lost, ["state", "due_at", "problem"], actor=OUTBOX, reason=INTERRUPTED)
    return len(lost)


def _is_due(outbound: Outbound) -> bool:
    if outbound.state != Outbound.State.QUEUED or outbound.due_at is None:
        return False
    now = timezone.now()
    return outbound.due_at <= now or is_ahead(outbound.due_at, now, FURTHEST)


def _show(outbound_id: int) -> bool:
    """The storefront reads what is delivered, so recording it delivers it."""
    with transaction.atomic(durable=True):
        outbound = outbox.lock(outbound_id)
        if not _is_due(outbound):
            return False
        outbound.begin()
        outbound.attempts += 1
        _succeed(outbound, "Shown to the storefront")
    return True


def _claim(outbound_id: int) -> Outbound | None:
    with transaction.atomic(durable=True):
        outbound = (
            Outbound.objects.select_for_update(no_key=True, skip_locked=True, of=("self",))
            .select_related("message__ticket__customer")
            .filter(pk=outbound_id)
            .first()
        )
        if outbound is None or not _is_due(outbound):
            return None
        address = outbound.message.ticket.customer.email
        if problem := mails.problem_with(address):
            outbound.fail()
            outbound.due_at = None
            outbound.problem = problem
            log.warning("delivery %s: the customer has no usable address", outbound_id)
            history.save([outbound], outbox.SAVED, actor=OUTBOX, reason=problem)
            return None
        outbound.begin()
        outbound.attempts += 1
        outbound.tries_left -= 1
        outbound.due_at = timezone.now() + settings.OUTBOX_LEASE
        outbound.mail_id = outbound.mail_id or mails.new_mail_id()
        outbound.sent_to = address
        history.save(
            [outbound], outbox.SAVED, actor=OUTBOX, reason=f"Attempt {outbound.attempts} begins"
        )
    return outbound


def _send(outbound: Outbound) -> Outcome:
    """Hand the mail to the configured backend and judge what comes of it."""
    try:
        letter = mails.write(outbound)
    except mails.Unwritable as error:
        return Outcome(Outbound.State.FAILED, str(error), "no mail can be made of it")
    try:
        backend = mail.get_connection()
    except (*OPERATING, ImportError) as error:
        words = "The mail backend cannot be set up."
        return Outcome(Outbound.State.QUEUED, words, type(error).__name__)
    try:
        accepted = backend.send_messages([letter])
    except NotSent as refusal:
        state = Outbound.State.FAILED if refusal.final else Outbound.State.QUEUED
        return Outcome(state, refusal.words, str(refusal.code or "no answer"))
    except OPERATING as error:  # its words may name the customer
        accepted = 0
        log_as = type(error).__name__
    else:
        log_as = "not counted as sent"
    if accepted:
        return Outcome(Outbound.State.SENT)
    return Outcome(Outbound.State.UNKNOWN, INTERRUPTED, log_as)


def _record(claimed: Outbound, outcome: Outcome) -> None:
    """Write down how the attempt ended, also when it outlived its lease."""
    with transaction.atomic(durable=True):
        outbound = outbox.lock(claimed.pk)
        known = {Outbound.State.SENDING, Outbound.State.UNKNOWN}
        if outbound.attempts != claimed.attempts or outbound.state not in known:
            log.warning("delivery %s: attempt %s was overtaken", claimed.pk, claimed.attempts)
            return
        if outcome.state == Outbound.State.SENT:
            _succeed(outbound, "Accepted for the customer")
            return
        _fail(outbound, outcome)


def _succeed(outbound: Outbound, reason: str) -> None:
    outbound.succeed()
    outbound.sent_at = timezone.now()
    outbound.due_at = None
    outbound.problem = ""
    history.save([outbound], outbox.SAVED, actor=OUTBOX, reason=reason)
    clocks.answered(outbound)


def _fail(outbound: Outbound, outcome: Outcome) -> None:
    outbound.due_at = None
    outbound.problem = mails.one_line(outcome.problem)[:200]
    if outcome.state == Outbound.State.UNKNOWN:
        if outbound.state == Outbound.State.UNKNOWN:
            return
        outbound.lose()
        said = "perhaps sent"
    elif outcome.state == Outbound.State.FAILED or not outbound.tries_left:
        outbound.fail()
        said = "failed for good"
    else:
        outbound.try_later()
        wait = _wait(MOST_TRIES - outbound.tries_left)
        outbound.due_at = timezone.now() + wait
        said = f"tried again in {wait.total_seconds():.0f} s"
    log.warning("delivery %s: %s (%s)", outbound.pk, said, outcome.logged)
    history.save(
        [outbound], outbox.SAVED, actor=OUTBOX, reason=outbound.problem or said.capitalize()
    )


def _wait(tried: int) -> timedelta:
    """Doubled after each attempt, and never the same for all that failed together."""
    wait: timedelta = min(FIRST_WAIT * 2 ** (tried - 1), LONGEST_WAIT)
    return wait * _dice.uniform(1 - JITTER, 1 + JITTER)
