"""The two clocks of a ticket: the answer clock, and the seniors' clock of a dispute.

A run of a clock is a row (``Wait``); the ticket shows the open one of each. The answer clock runs
from the oldest customer message not yet answered; a later message never resets it, and only a reply
of a person that was delivered ends it. So it stands still while we wait for the customer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Max, Q
from django.utils import timezone

from smsactivator.common.history import Actor
from support import clock, locking
from support.business import BusinessCalendar
from support.following import follow
from support.models import Message, Outbound, Ticket, Wait
from support.recalculation import recalculated_by

Clock = Wait.Clock
Outcome = Wait.Outcome
State = Ticket.State

DELIVERY = Actor.automatic("delivery")
RECALCULATION = Actor.automatic("calendar")
BATCH = 500
# The columns of a ticket that show the open run of a clock.
_SHOWN = {
    Clock.ANSWER: ("waiting_since", "due_at"),
    Clock.DISPUTE: ("dispute_since", "dispute_due_at"),
}


# --- what starts and ends a run; the caller has locked the ticket, and writes it ---


def start(ticket: Ticket, which: Clock, since: datetime) -> None:
    """Begin a run at ``since``. If one is open it goes on, and from ``since`` if that is earlier.

    Holds the calendar until the end of the transaction. Raises NoWorkingDay.
    """
    running = open_wait(ticket, which)
    if running is not None:
        if running.since <= since:
            return
        # Somebody entered what had reached us earlier.
        _end(running, Outcome.JOINED, timezone.now(), None)
    wait = Wait(ticket=ticket, clock=which, since=since)
    _time(wait, clock.calendar(hold=True))
    wait.save(force_insert=True)
    _show(ticket, wait)


def end(
    ticket: Ticket, which: Clock, outcome: Outcome, *, at: datetime, reply: Message | None = None
) -> None:
    """End the open run, if there is one. One that ends late is recorded as late here."""
    wait = open_wait(ticket, which)
    if wait is None:
        return
    _end(wait, outcome, at, reply)
    _hide(ticket, which)


def open_wait(ticket: Ticket, which: Clock) -> Wait | None:
    """The open run of a clock of a ticket, locked: the beat records on it without the ticket."""
    return ticket.waits.select_for_update(no_key=True).filter(clock=which, ended_at=None).first()


def oldest_unanswered(ticket: Ticket, reply: Message) -> Message | None:
    """The customer's oldest message that neither this reply nor any delivered one answers.

    A message that disputed a denial runs the seniors' clock instead of this one.
    """
    delivered = Outbound.objects.filter(
        message__ticket=ticket, message__kind=Message.Kind.REPLY, state=Outbound.State.SENT
    ).aggregate(last=Max("message__answers"))["last"]
    return (
        ticket.messages.filter(
            kind=Message.Kind.CUSTOMER,
            disputes=None,
            pk__gt=max(reply.answers_id or 0, delivered or 0),
        )
        .order_by("created_at", "pk")
        .first()
    )


# --- what the outbox tells ---


def answered(outbound: Outbound) -> None:
    """A message was delivered: if it is a person's reply, what it answers waits no longer.

    A customer message that its author had not seen goes on waiting, from its own arrival. Being
    told twice changes nothing. Locks the ticket.
    """
    reply = outbound.message
    if reply.kind != Message.Kind.REPLY:
        return
    with transaction.atomic():
        ticket = locking.lock(reply.ticket_id)
        wait = open_wait(ticket, Clock.ANSWER)
        if wait is None:
            return
        waiting = oldest_unanswered(ticket, reply)
        if waiting is not None and waiting.created_at <= wait.since:
            return
        at = outbound.sent_at or timezone.now()
        end(ticket, Clock.ANSWER, Outcome.ANSWERED, at=at, reply=reply)
        if waiting is not None:
            start(ticket, Clock.ANSWER, waiting.created_at)
        locking.save(ticket, actor=DELIVERY, reason="Reply delivered", quietly=True)


def bounced(outbound: Outbound) -> None:
    """A message that had counted as delivered came back: what it had answered waits again, from
    its original time, and the ticket is open again.

    Unless another delivered reply answers the same. A run that began since goes on in the one that
    is opened again. A closed ticket stays closed: the last of its thread waits instead, or a new
    one that follows it. Locks the ticket and those that follow it.
    """
    reply = outbound.message
    with transaction.atomic():
        ticket = locking.lock(reply.ticket_id)
        if reply.kind == Message.Kind.REPLY:
            _open_again(ticket, reply)
        if ticket.state == State.CLOSED:
            _hand_on(ticket, reply)
        else:
            _reopen(ticket)
        locking.save(ticket, actor=DELIVERY, reason=f"{reply} came back undelivered")


def _reopen(ticket: Ticket) -> None:
    if ticket.state in {State.WAITING, State.RESOLVED}:
        ticket.reopen()
        ticket.resolved_at = None


def _hand_on(ticket: Ticket, message: Message) -> None:
    """Let somebody see what came back of a closed ticket, and who waits there wait here."""
    reason = f"{message.get_kind_display()} not delivered: {message} of {ticket} came back"
    last = locking.lock_thread(ticket.pk, ticket.customer_id)[-1]
    if last.state == State.CLOSED:
        last = follow(
            last,
            channel=last.channel,
            opened_at=timezone.now(),
            actor=DELIVERY,
            reason=f"Opened, for {last} is over",
        )
    _reopen(last)
    wait = open_wait(ticket, Clock.ANSWER)
    if wait is not None:
        end(ticket, Clock.ANSWER, Outcome.JOINED, at=timezone.now())
        start(last, Clock.ANSWER, wait.since)
    locking.save(last, actor=DELIVERY, reason=reason)


def _open_again(ticket: Ticket, reply: Message) -> None:
    """Undo what a reply ended on the answer clock, or let another delivered reply have done it."""
    ended = list(ticket.waits.filter(clock=Clock.ANSWER, reply=reply).order_by("since"))
    if not ended:
        return
    other = (
        Outbound.objects.filter(
            message__ticket=ticket,
            message__kind=Message.Kind.REPLY,
            message__answers__gte=reply.answers_id or 0,
            state=Outbound.State.SENT,
        )
        .exclude(message=reply)
        .select_related("message")
        .order_by("sent_at")
        .first()
    )
    if other is not None and other.sent_at is not None:
        for wait in ended:
            _end(wait, Outcome.ANSWERED, other.sent_at, other.message)
        return
    first = ended[0]
    end(ticket, Clock.ANSWER, Outcome.JOINED, at=timezone.now())
    first.ended_at, first.outcome, first.reply = None, "", None
    _time(first, clock.calendar(hold=True))
    first.save(
        update_fields=[
            *("ended_at", "outcome", "reply"),
            *("due_at", "half_at", "three_quarters_at"),
        ]
    )
    _show(ticket, first)


# --- what the beat does ---


def record(limit: int = BATCH) -> int:
    """Record the warnings and breaches that are reached, each once; returns of how many runs.

    What is late follows from ``due_at`` alone; this is what was noticed, and when. One statement.
    Runs that somebody works on are left to them or to the next beat.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH reached AS (
                SELECT id FROM support_wait
                WHERE ended_at IS NULL AND (
                    half_warned_at IS NULL AND half_at <= %(now)s
                    OR three_quarters_warned_at IS NULL AND three_quarters_at <= %(now)s
                    OR breach_recorded_at IS NULL AND due_at < %(now)s
                )
                ORDER BY due_at LIMIT %(limit)s
                FOR NO KEY UPDATE SKIP LOCKED
            )
            UPDATE support_wait AS wait SET
                half_warned_at = coalesce(
                    half_warned_at, CASE WHEN half_at <= %(now)s THEN %(now)s END),
                three_quarters_warned_at = coalesce(
                    three_quarters_warned_at,
                    CASE WHEN three_quarters_at <= %(now)s THEN %(now)s END),
                breach_recorded_at = coalesce(
                    breach_recorded_at, CASE WHEN due_at < %(now)s THEN %(now)s END)
            FROM reached WHERE wait.id = reached.id
            """,
            {"now": timezone.now(), "limit": limit},
        )
        return int(cursor.rowcount)


def record_all() -> int:
    """``record`` until nothing is left to record; returns of how many runs."""
    total = 0
    while found := record():
        total += found
        if found < BATCH:
            break
    return total


@recalculated_by
def recalculate(limit: int = BATCH) -> int:
    """Make the due times of open runs right by the calendar as it is; returns how many were not.

    In batches of ``limit`` tickets, each a transaction with a fixed number of statements. What was
    recorded of a run stays recorded. Locks the tickets, then holds the calendar.
    """
    changed, last = 0, 0
    while True:
        with transaction.atomic():
            tickets = list(
                Ticket.objects.select_for_update(no_key=True)
                .filter(Q(due_at__isnull=False) | Q(dispute_due_at__isnull=False), pk__gt=last)
                .order_by("pk")[:limit]
            )
            changed += _recalculate(tickets)
        if len(tickets) < limit:
            return changed
        last = tickets[-1].pk


def _recalculate(tickets: Sequence[Ticket]) -> int:
    calendar = clock.calendar(hold=True)
    by_id = {ticket.pk: ticket for ticket in tickets}
    wrong, touched = [], {}
    for wait in Wait.objects.filter(ticket__in=by_id, ended_at=None):
        before = _times(wait)
        _time(wait, calendar)
        if _times(wait) != before:
            wrong.append(wait)
            _show(by_id[wait.ticket_id], wait)
            touched[wait.ticket_id] = by_id[wait.ticket_id]
    Wait.objects.bulk_update(wrong, ["half_at", "three_quarters_at", "due_at"])
    _save_quietly(touched.values())
    return len(wrong)


def _save_quietly(tickets: Iterable[Ticket]) -> None:
    locking.save(
        *tickets,
        actor=RECALCULATION,
        reason="Due by the business calendar as it is now",
        quietly=True,
    )


# --- how a run and its ticket are kept together ---


def _end(wait: Wait, outcome: Outcome, at: datetime, reply: Message | None) -> None:
    wait.ended_at = max(at, wait.since)
    wait.outcome = outcome
    wait.reply = reply
    if wait.breach_recorded_at is None and clock.is_breached(wait.due_at, now=wait.ended_at):
        wait.breach_recorded_at = timezone.now()
    wait.save(update_fields=["ended_at", "outcome", "reply", "breach_recorded_at"])


def _time(wait: Wait, calendar: BusinessCalendar) -> None:
    wait.due_at = clock.due(wait.since, calendar)
    wait.half_at, wait.three_quarters_at = clock.warnings(wait.since, wait.due_at, calendar)


def _times(wait: Wait) -> tuple[datetime, datetime, datetime]:
    return wait.half_at, wait.three_quarters_at, wait.due_at


def _show(ticket: Ticket, wait: Wait) -> None:
    since, due = _SHOWN[Clock(wait.clock)]
    setattr(ticket, since, wait.since)
    setattr(ticket, due, wait.due_at)


def _hide(ticket: Ticket, which: Clock) -> None:
    for column in _SHOWN[which]:
        setattr(ticket, column, None)
