"""Payouts that are asked for on tickets: the money, the link, and the reply, in one.

Policy, "Refund destination": "If you want to leave the platform with a non-zero wallet balance,
contact support and we can arrange an outbound payout". Who answers the customer asks for it; others
approve and send it (``wallet.payouts``, ``wallet.settlement``), and what becomes of it is told on
the ticket (``support.notices``). Each verb locks the person, the ticket, the payout and the wallet,
in this order, and is one transaction. ``key`` names the form that was sent: sent twice, it is done
once.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from refunds import policy
from smsactivator.common.errors import Refused
from support import casework, inbound, locking, replies
from support.models import Ticket, TicketPayout
from support.outcomes import dollars
from wallet import payouts
from wallet.deciding import given
from wallet.limits import lock, require
from wallet.models import Payout
from wallet.payouts import PayoutUnknown, Terms


class AskedElsewhere(Refused):
    """The payout belongs to another ticket."""

    code = "asked_elsewhere"


def terms(at: datetime) -> Terms:
    """What the policy in force at a moment says of payouts."""
    version = policy.in_force(at)
    return Terms(policy_version=version.name, minimum=version.payout_minimum)


def request(
    person: Any,
    ticket_id: int,
    *,
    method: str,
    address: str,
    memo: str = "",
    amount: Decimal | None,
    reason: str,
    seen: int,
    key: UUID,
    reply_body: str = "",
    then: str = Ticket.State.OPEN,
) -> Payout:
    """Ask for a payout to the ticket's customer: ``amount`` USD, or None for the whole balance.

    The money leaves the wallet at once, and somebody else approves the payout. What was typed is
    sent as a reply; the payout's own notice follows it. Raises as ``wallet.payouts.request`` and as
    ``support.replies.reply``; AskedElsewhere, KeyConflict or RequestConflict for a form that was
    sent before and did something else.
    """
    require(person, casework.ANSWER, payouts.REQUEST)
    reason = given(reason)
    typed = inbound.checked_body(reply_body, may_be_empty=True).strip()
    with transaction.atomic():
        lock(person)
        ticket = locking.lock(ticket_id)
        made = Payout.objects.filter(request_key=key).first()
        if made is None:
            replies.begin(ticket, person, seen)
        else:
            _refuse_elsewhere(ticket, made)
        payout = payouts.request(
            person,
            ticket.customer_id,
            method=method,
            address=address,
            memo=memo,
            amount=amount,
            terms=terms(timezone.now()),
            reason=reason,
            key=key,
        )
        print_ = inbound.fingerprint("payout", payout.pk, typed, str(then))
        if made is not None:
            told = replies.written(ticket, str(key), print_)
            if (told is not None) != bool(typed):
                raise inbound.KeyConflict(
                    f"This form was sent before, as {payout}, with other words: open it anew."
                )
            return payout
        TicketPayout.objects.create(ticket=ticket, payout=payout)
        if typed:
            replies.say(ticket, person, typed, key=str(key), print_=print_)
        done = f"Asked for payout {payout.reference} of {dollars(payout.amount)} USD: {reason}"
        replies.finish(ticket, person, then, done)
        return payout


def withdraw(
    person: Any,
    ticket_id: int,
    payout_id: int,
    *,
    seen: int,
    key: str,
    payout_seen: int | None = None,
) -> Payout:
    """Take one's own payout back before it is approved: the money returns to the wallet.

    ``seen`` is of the ticket, ``payout_seen`` of the payout. A note tells colleagues, a notice the
    customer. Raises as ``wallet.payouts.withdraw`` and as ``support.replies.reply``; PayoutUnknown,
    and AskedElsewhere for another ticket's payout.
    """
    require(person, casework.ANSWER, payouts.REQUEST)
    print_ = inbound.fingerprint("withdraw payout", payout_id)
    with transaction.atomic():
        lock(person)
        ticket = locking.lock(ticket_id)
        if replies.written(ticket, key, print_):
            return Payout.objects.get(pk=payout_id)
        replies.begin(ticket, person, seen)
        found = Payout.objects.filter(pk=payout_id).first()
        if found is None:
            raise PayoutUnknown(f"There is no payout {payout_id}.")
        _refuse_elsewhere(ticket, found)
        payout = payouts.withdraw(person, payout_id, seen=payout_seen)
        done = f"Withdrew payout {payout.reference} of {dollars(payout.amount)} USD"
        replies.jot(ticket, person, done, key=key, print_=print_)
        replies.finish(ticket, person, Ticket.State.OPEN, done)
        return payout


def _refuse_elsewhere(ticket: Ticket, payout: Payout) -> None:
    """Raise AskedElsewhere unless the payout was asked for on this ticket.

    Another customer's is not told by its ticket.
    """
    if TicketPayout.objects.filter(ticket=ticket, payout=payout).exists():
        return
    home = TicketPayout.objects.filter(payout=payout, ticket__customer=ticket.customer_id).first()
    where = f"on ticket {home.ticket_id}" if home else "elsewhere"
    raise AskedElsewhere(f"{payout} was asked for {where}: open that page.")
