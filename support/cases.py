"""Deciding refunds on tickets: the decision, what the customer is told, and the money, in one.

Refund policy, "When refunds need a ticket" and "Disputes". Each verb locks the person, the ticket,
the request, the order and the wallet, in this order, and is one transaction: the decision by the
verbs of ``refunds.decisions`` and ``refunds.disputes`` with their own rules, one message with the
person's words and the outcome, its delivery, the ticket's state and queue, and the clocks. ``key``
names the form that was sent: sent twice, it is one decision.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from orders.locking import OrderUnknown
from refunds import decisions, disputes
from refunds.decisions import Evidence, EvidenceRefused, RequestUnknown
from refunds.models import RefundRequest
from smsactivator.common.errors import Refused
from support import casework, clocks, inbound, locking, outcomes, queries, replies
from support.models import Message, Ticket, TicketRefund, Wait
from wallet.deciding import OwnRequest
from wallet.limits import lock, require

State = RefundRequest.State
Decide = Callable[[], RefundRequest]


class DecidedElsewhere(Refused):
    """The refund is decided on another ticket."""

    code = "decided_elsewhere"


def open_refund(
    person: Any,
    ticket_id: int,
    order_id: int,
    *,
    clause: str,
    amount: Decimal,
    reason: str,
    seen: int,
    key: UUID,
    deny: bool = False,
    reply_body: str = "",
    then: str = Ticket.State.OPEN,
    evidence_id: int | None = None,
) -> RefundRequest:
    """Ask for a refund of an order of the ticket's customer; with ``deny``, say no to it at once.

    Above what the person may approve it waits for a senior agent, in their queue. What was typed is
    sent as a reply, and a denial is told with it. Where a decision on the order was final, it is a
    further request, which names ``evidence_id``: a message that the customer sent after it, with
    its files. Raises EvidenceRefused for one that they did not send, and as
    ``refunds.decisions.request`` (and ``deny``) and as ``support.replies.reply``; OrderUnknown for
    another customer's order. Sent twice, it is one request; sent again as a denial, or with other
    words, it is a KeyConflict.
    """
    require(person, casework.ANSWER, "refunds.request_refund")
    typed = inbound.checked_body(reply_body, may_be_empty=True).strip()
    with transaction.atomic():
        lock(person)
        ticket = locking.lock(ticket_id)
        said = None if evidence_id is None else _sent_by_the_customer(ticket, evidence_id)
        terms: dict[str, Any] = {
            "amount": amount,
            "clause": clause,
            "reason": reason,
            "key": key,
            "evidence": said and Evidence(f"{said} on {said.ticket}", said.created_at),
        }
        if RefundRequest.objects.filter(request_key=key).exists():
            # Sent twice: the same request, or a named conflict.
            asked = decisions.request(person, order_id, **terms)
            _refuse_elsewhere(ticket, asked.pk)
            print_ = _print_of_opening(asked, typed, then, deny=deny)
            told = replies.written(ticket, str(key), print_)
            if (told is not None) != (deny or bool(typed)):
                raise inbound.KeyConflict(
                    f"This form was sent before, as {asked}, and did something else: open it anew."
                )
            return asked
        replies.begin(ticket, person, seen)
        _refuse_foreign(ticket, order_id)
        asked = decisions.request(person, order_id, **terms)
        TicketRefund.objects.create(ticket=ticket, request=asked, evidence=said)
        inbound.link(ticket, [order_id])
        if not deny:
            _requeue(ticket)
            # Somebody else decides it, and must not wait for a lease to end.
            casework.let_go(ticket)
            if typed:
                print_ = _print_of_opening(asked, typed, then, deny=deny)
                replies.say(ticket, person, typed, key=str(key), print_=print_)
            what = f"{asked} of {outcomes.dollars(asked.amount)} USD for order {order_id}"
            replies.finish(ticket, person, Ticket.State.OPEN, f"Opened {_small(what)}: {reason}")
            return asked
        asked = decisions.deny(person, asked.pk, reason=reason)
        print_ = _print_of_opening(asked, typed, then, deny=deny)
        _tell(ticket, person, asked, typed, key=str(key), print_=print_)
        _close(ticket, person, asked, then)
        return asked


def approve(
    person: Any,
    ticket_id: int,
    request_id: int,
    *,
    seen: int,
    key: str,
    reason: str = "",
    reply_body: str = "",
    then: str = Ticket.State.RESOLVED,
) -> RefundRequest:
    """Agree to a refund: the wallet is credited and the customer told.

    Raises as ``refunds.decisions.approve`` and ``support.replies.reply``.
    """
    return _decide(
        *(person, ticket_id, request_id, seen, key, "approve", reply_body, then),
        lambda: decisions.approve(person, request_id, reason=reason),
    )


def deny(
    person: Any,
    ticket_id: int,
    request_id: int,
    *,
    reason: str,
    seen: int,
    key: str,
    reply_body: str = "",
    then: str = Ticket.State.RESOLVED,
) -> RefundRequest:
    """Say no to a refund; the customer is told, and how to dispute it.

    Raises as ``refunds.decisions.deny`` and ``support.replies.reply``.
    """
    return _decide(
        *(person, ticket_id, request_id, seen, key, "deny", reply_body, then),
        lambda: decisions.deny(person, request_id, reason=reason),
    )


def escalate(
    person: Any, ticket_id: int, request_id: int, *, reason: str, seen: int, key: str
) -> RefundRequest:
    """Pass a refund to a senior agent: it waits in their queue, and a note says why.

    The customer is told nothing yet. Raises as ``refunds.decisions.escalate`` and
    ``support.replies.reply``.
    """
    return _inside(
        *(person, ticket_id, request_id, seen, key, "escalate"),
        f"Passed to a senior agent: {reason}",
        lambda: decisions.escalate(person, request_id, reason=reason),
    )


def withdraw(
    person: Any, ticket_id: int, request_id: int, *, seen: int, key: str, reason: str = ""
) -> RefundRequest:
    """Take one's own request back; a note says so. The customer is told nothing.

    Raises as ``refunds.decisions.withdraw`` and ``support.replies.reply``.
    """
    return _inside(
        *(person, ticket_id, request_id, seen, key, "withdraw"),
        f"Withdrew the request: {reason}" if reason.strip() else "Withdrew the request",
        lambda: decisions.withdraw(person, request_id),
    )


def uphold(
    person: Any,
    ticket_id: int,
    request_id: int,
    *,
    reason: str,
    seen: int,
    key: str,
    reply_body: str = "",
    then: str = Ticket.State.RESOLVED,
) -> RefundRequest:
    """Agree with a denial that was disputed. The customer is told, and that it is final.

    Raises as ``refunds.disputes.uphold`` and ``support.replies.reply``; OwnRequest also for who
    entered the message that disputes it. So do the other two.
    """
    return _decide(
        *(person, ticket_id, request_id, seen, key, "uphold", reply_body, then),
        lambda: _resolve(disputes.uphold, person, request_id, reason),
    )


def overturn(
    person: Any,
    ticket_id: int,
    request_id: int,
    *,
    reason: str,
    seen: int,
    key: str,
    reply_body: str = "",
    then: str = Ticket.State.RESOLVED,
) -> RefundRequest:
    """Grant what was denied and disputed: the wallet is credited and the customer told. Final.

    Raises as ``refunds.disputes.overturn`` and ``support.replies.reply``.
    """
    return _decide(
        *(person, ticket_id, request_id, seen, key, "overturn", reply_body, then),
        lambda: _resolve(disputes.overturn, person, request_id, reason),
    )


def dismiss(
    person: Any,
    ticket_id: int,
    request_id: int,
    *,
    reason: str,
    seen: int,
    key: str,
    reply_body: str = "",
    then: str = Ticket.State.RESOLVED,
) -> RefundRequest:
    """Find that the reply was no dispute, but a "thanks" or the like. Final, and told.

    Raises as ``refunds.disputes.dismiss`` and ``support.replies.reply``.
    """
    return _decide(
        *(person, ticket_id, request_id, seen, key, "dismiss", reply_body, then),
        lambda: _resolve(disputes.dismiss, person, request_id, reason),
    )


def _resolve(
    verb: Callable[..., RefundRequest], person: Any, request_id: int, reason: str
) -> RefundRequest:
    """Resolve a dispute as somebody who did not enter the customer's part in it."""
    require(person, "refunds.resolve_dispute")
    if TicketRefund.objects.filter(request=request_id, disputed_by__author=person).exists():
        raise OwnRequest(
            "You entered the message that disputes it, so another senior agent decides."
        )
    return verb(person, request_id, reason=reason)


def _print_of_opening(asked: RefundRequest, typed: str, then: str, *, deny: bool) -> str:
    """What the message that went out with a new request stands for."""
    if deny:
        return inbound.fingerprint("deny", asked.pk, typed, str(then))
    return inbound.fingerprint("ask", asked.pk, typed)


def _decide(
    person: Any,
    ticket_id: int,
    request_id: int,
    seen: int,
    key: str,
    what: str,
    reply_body: str,
    then: str,
    act: Decide,
) -> RefundRequest:
    """A decision that the customer is told of."""
    require(person, casework.ANSWER)
    typed = inbound.checked_body(reply_body, may_be_empty=True).strip()
    print_ = inbound.fingerprint(what, request_id, typed, str(then))
    with transaction.atomic():
        lock(person)
        ticket = locking.lock(ticket_id)
        if replies.written(ticket, key, print_):
            return RefundRequest.objects.get(pk=request_id)
        replies.begin(ticket, person, seen)
        _refuse_elsewhere(ticket, request_id)
        asked = act()
        _tell(ticket, person, asked, typed, key=key, print_=print_)
        _close(ticket, person, asked, then)
        return asked


def _inside(
    person: Any,
    ticket_id: int,
    request_id: int,
    seen: int,
    key: str,
    what: str,
    noted: str,
    act: Decide,
) -> RefundRequest:
    """A step that the customer is not told of: a note tells colleagues."""
    require(person, casework.ANSWER)
    noted = inbound.checked_body(noted)
    print_ = inbound.fingerprint(what, request_id, noted)
    with transaction.atomic():
        lock(person)
        ticket = locking.lock(ticket_id)
        if replies.written(ticket, key, print_):
            return RefundRequest.objects.get(pk=request_id)
        replies.begin(ticket, person, seen)
        _refuse_elsewhere(ticket, request_id)
        asked = act()
        replies.jot(ticket, person, f"{asked}: {noted}", key=key, print_=print_)
        _requeue(ticket)
        casework.let_go(ticket)
        replies.finish(ticket, person, Ticket.State.OPEN, f"{asked}: {noted}")
        return asked


def _tell(
    ticket: Ticket, person: Any, asked: RefundRequest, typed: str, *, key: str, print_: str
) -> Message:
    """One message to the customer: what the person typed, then the outcome. Without a word of the
    person's it is a notice, which answers nobody.
    """
    outcome = outcomes.words(asked)
    return replies.say(
        ticket,
        person,
        f"{typed}\n\n{outcome}" if typed else outcome,
        key=key,
        print_=print_,
        kind=Message.Kind.REPLY if typed else Message.Kind.NOTICE,
    )


def _close(ticket: Ticket, person: Any, asked: RefundRequest, then: str) -> None:
    """After a decision: the dispute's clock, the queue, and the ticket's state."""
    if not queries.undecided(ticket, State.DISPUTED).exists():
        clocks.end(ticket, Wait.Clock.DISPUTE, Wait.Outcome.DECIDED, at=timezone.now())
    _requeue(ticket)
    why = asked.resolution_reason or asked.decision_reason
    done = f"{asked}: {asked.get_state_display()}"
    replies.finish(ticket, person, then, f"{done}: {why}" if why else done)


def _requeue(ticket: Ticket) -> None:
    """A ticket is in the seniors' queue while a refund of it waits for one of them."""
    waits = queries.undecided(ticket, *queries.FOR_SENIORS).exists()
    ticket.queue = Ticket.Queue.SENIORS if waits else Ticket.Queue.AGENTS


def _sent_by_the_customer(ticket: Ticket, message_id: int) -> Message:
    """A message that the ticket's customer sent, on any of their tickets. Raises EvidenceRefused.

    What one of us entered is no evidence: whoever wants a decision changed could write it.
    """
    said = (
        Message.objects.select_related("ticket")
        .filter(
            pk=message_id,
            kind=Message.Kind.CUSTOMER,
            author=None,
            ticket__customer=ticket.customer_id,
        )
        .first()
    )
    if said is None:
        raise EvidenceRefused(
            f"Message {message_id} is none that this customer sent: name one as the new evidence."
        )
    return said


def _refuse_foreign(ticket: Ticket, order_id: int) -> None:
    if not queries.orders_of(ticket.customer_id, [order_id]):
        raise OrderUnknown(f"There is no order {order_id} of this customer.")


def _refuse_elsewhere(ticket: Ticket, request_id: int) -> None:
    """Raises RequestUnknown, and DecidedElsewhere for a refund that another ticket has."""
    if queries.cases_of(ticket).filter(request=request_id).exists():
        return
    case = TicketRefund.objects.select_related("disputed_by").filter(request=request_id).first()
    if case is None:
        raise RequestUnknown(f"There is no refund request {request_id} on {ticket}.")
    home = case.disputed_by.ticket_id if case.disputed_by else case.ticket_id
    raise DecidedElsewhere(f"Refund request {request_id} is decided on ticket {home}.")


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]
