"""One step on many tickets: what would happen, and then each in a transaction of its own.

A plan is shown before anything is done: the tickets that will be taken, what they come to, and the
ones that are left out with the reason. Each ticket is then done by its ordinary verb, on the view
that the plan showed, so whatever happened meanwhile refuses that ticket and no other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from refunds.decisions import is_goodwill
from refunds.models import RefundRequest
from smsactivator.common.errors import Invalid, Refused
from support import cases, casework, locking
from support.models import Message, Ticket, TicketRefund
from wallet.limits import require

MOST = 200  # tickets of one step


class TooMany(Invalid):
    """More tickets than one step takes."""

    code = "too_many"


@dataclass(frozen=True, slots=True)
class Row:
    """A ticket of a plan: its version as shown, its open refund request if any, and the amount
    that the step would move, USD. ``left_out`` says why it is not taken, or "".
    """

    ticket: Ticket
    request: RefundRequest | None
    amount: Decimal
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a step would do."""

    taken: list[Row]
    left_out: list[Row]

    @property
    def total(self) -> Decimal:
        """What the step would move, USD."""
        return sum((row.amount for row in self.taken), Decimal(0))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one ticket: done, with what it moved (USD), or refused with the reason."""

    ticket_id: int
    amount: Decimal
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A ticket of a step: the version and the refund request (or 0) that the plan showed, and the
    key under which it is done.
    """

    ticket_id: int
    seen: int
    request_id: int
    key: UUID


@dataclass(frozen=True, slots=True)
class Words:
    """What was typed for all tickets of a step: why, and what each customer is told."""

    reason: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that can be done to many tickets.

    ``why_not`` tells why a ticket cannot be taken, as far as its page shows; ``run`` calls the
    verb, which checks everything again, and returns what it moved.
    """

    name: str
    label: str
    explains: str
    permission: str
    decides: bool
    moves_money: bool
    why_not: Callable[[Any, Ticket, RefundRequest | None], str]
    run: Callable[[Any, Target, Words], Decimal]


def plan(person: Any, step: Step, ticket_ids: Sequence[int]) -> Plan:
    """What the step would do to these tickets: two queries. Raises PermissionDenied, TooMany."""
    require(person, step.permission)
    if len(set(ticket_ids)) > MOST:
        raise TooMany(f"Choose at most {MOST} tickets at once.")
    tickets = list(
        Ticket.objects.filter(pk__in=ticket_ids)
        .select_related("customer", "claimed_by", "assignee")
        .order_by("pk")
    )
    requests: dict[int, list[RefundRequest]] = defaultdict(list)
    for case in (
        TicketRefund.objects.filter(
            ticket__in=ticket_ids, request__state__in=["requested", "escalated"]
        )
        .select_related("request__order")
        .order_by("pk")
    ):
        requests[case.ticket_id].append(case.request)
    rows = [_row(person, step, ticket, requests[ticket.pk]) for ticket in tickets]
    return Plan(
        taken=[row for row in rows if not row.left_out],
        left_out=[row for row in rows if row.left_out],
    )


def carry_out(
    person: Any, step: Step, seen: Mapping[int, tuple[int, int]], *, words: Words, key: UUID
) -> list[Result]:
    """Do the step to the tickets in ``seen`` (each with the version and the refund request that
    the plan showed), one by one.

    Each has a transaction of its own and is done once per ``key``: sent twice, it is told as done
    and not done again. Raises as ``plan``.
    """
    made = plan(person, step, list(seen))
    targets = {pk: Target(pk, *shown, uuid5(key, str(pk))) for pk, shown in seen.items()}
    before = set(
        Message.objects.filter(
            author=person, ticket__in=seen, key__in=[str(one.key) for one in targets.values()]
        ).values_list("ticket", flat=True)
    )
    results = []
    for row in sorted((*made.taken, *made.left_out), key=lambda row: row.ticket.pk):
        pk = row.ticket.pk
        if row.left_out and pk not in before:
            results.append(Result(pk, Decimal(0), row.left_out))
            continue
        try:
            results.append(Result(pk, step.run(person, targets[pk], words)))
        except Refused as refusal:
            results.append(Result(pk, Decimal(0), refusal.message))
        except PermissionDenied:
            # The others are done or to be done: what became of them is told all the same.
            results.append(Result(pk, Decimal(0), "You may not do this here."))
    return results


def _row(person: Any, step: Step, ticket: Ticket, requests: Sequence[RefundRequest]) -> Row:
    request = requests[0] if requests else None
    why_not = step.why_not(person, ticket, request)
    if request is not None and step.decides:
        if len(requests) > 1:
            why_not = f"{len(requests)} refunds wait here: decide them on its own page."
        elif not why_not:
            why_not = _held(person, ticket)
    moved = request.amount if step.moves_money and request is not None else Decimal(0)
    return Row(ticket, request if step.decides else None, moved, why_not)


def _held(person: Any, ticket: Ticket) -> str:
    if ticket.claimed_by_id == person.pk or not casework.is_claimed(ticket, timezone.now()):
        return ""
    return f"{ticket.claimed_by} is working on it."


def _not_mine(person: Any, ticket: Ticket, _request: RefundRequest | None) -> str:
    if ticket.state in {Ticket.State.RESOLVED, Ticket.State.CLOSED}:
        return f"It is {ticket.get_state_display().lower()}."
    if ticket.assignee_id == person.pk:
        return "It is yours already."
    if ticket.assignee_id is not None and not person.has_perm(casework.ASSIGN):
        return f"It is assigned to {ticket.assignee}."
    return ""


def _not_approved(person: Any, _ticket: Ticket, request: RefundRequest | None) -> str:
    if why := _not_decided(person, _ticket, request):
        return why
    assert request is not None  # noqa: S101 - said by the line above
    if request.requested_by_id == person.pk:
        return "You requested it yourself."
    if request.further_to_id is not None:
        return "It opens a final decision again: decide it on its own page."
    if is_goodwill(request):
        return "It can be granted as goodwill only: decide it on its own page."
    return ""


def _not_decided(person: Any, _ticket: Ticket, request: RefundRequest | None) -> str:
    if request is None:
        return "No refund waits for a decision here."
    if request.state == RefundRequest.State.ESCALATED and not person.has_perm(
        "refunds.decide_escalated_refund"
    ):
        return "It waits for a senior agent."
    return ""


def _take(person: Any, target: Target, _words: Words) -> Decimal:
    with transaction.atomic():
        casework.refuse_outdated(locking.lock(target.ticket_id), target.seen)
        casework.assign(person, target.ticket_id, person.pk)
    return Decimal(0)


def _approve(person: Any, target: Target, words: Words) -> Decimal:
    moved: Decimal = _decide(cases.approve, person, target, words).amount
    return moved


def _deny(person: Any, target: Target, words: Words) -> Decimal:
    _decide(cases.deny, person, target, words)
    return Decimal(0)


def _decide(
    verb: Callable[..., RefundRequest], person: Any, target: Target, words: Words
) -> RefundRequest:
    return verb(
        person,
        target.ticket_id,
        target.request_id,
        reason=words.reason,
        reply_body=words.body,
        seen=target.seen,
        key=str(target.key),
    )


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step(
            name="take",
            label="Assign to me",
            explains="The tickets are assigned to you.",
            permission="support.answer_ticket",
            decides=False,
            moves_money=False,
            why_not=_not_mine,
            run=_take,
        ),
        Step(
            name="approve",
            label="Approve the refunds",
            explains="The refund that waits on each ticket is approved: the wallet is credited and "
            "the customer is told, and the ticket is resolved.",
            permission="refunds.decide_refund",
            decides=True,
            moves_money=True,
            why_not=_not_approved,
            run=_approve,
        ),
        Step(
            name="deny",
            label="Deny the refunds",
            explains="The refund that waits on each ticket is denied for the same reason, the "
            "customer is told, and the ticket is resolved.",
            permission="refunds.decide_refund",
            decides=True,
            moves_money=False,
            why_not=_not_decided,
            run=_deny,
        ),
    )
}
