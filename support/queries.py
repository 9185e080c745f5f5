"""Reads of tickets that several places share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from orders.models import Order
from refunds.models import RefundRequest
from smsactivator.common.seen import TOLD, in_words
from support.models import Attachment, Message, Outbound, Ticket, TicketPayout, TicketRefund
from wallet.models import PayoutMethod

# Refunds that somebody has still to decide.
UNDECIDED = (
    RefundRequest.State.REQUESTED,
    RefundRequest.State.ESCALATED,
    RefundRequest.State.DISPUTED,
)
FOR_SENIORS = (RefundRequest.State.ESCALATED, RefundRequest.State.DISPUTED)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The same file on another customer's ticket."""

    attachment_id: int
    ticket_id: int


def what_happened(ticket: Ticket, seen: int) -> str:
    """What happened to a ticket since its version ``seen``: who did what, and when (UTC)."""
    changes = list(
        ticket.history.filter(version__gt=seen)
        .order_by("-version", "-history_id")
        .values_list("history_actor", "history_change_reason", "history_date")[: TOLD + 1]
    )
    return in_words(changes) or "it was reloaded"


def last_customer_message(ticket: Ticket) -> Message | None:
    """What the customer said last on this ticket."""
    return ticket.messages.filter(kind=Message.Kind.CUSTOMER).order_by("-pk").first()


def is_replied(ticket: Ticket) -> bool:
    """Whether a person has replied to the customer's last message, delivered or not yet.

    Of the messages that wait for a reply: one that disputed a denial waits for a decision.
    """
    last = ticket.messages.filter(kind=Message.Kind.CUSTOMER, disputes=None).order_by("-pk").first()
    return last is None or ticket.messages.filter(answers__gte=last).exists()


def cases_of(ticket: Ticket) -> QuerySet[TicketRefund]:
    """The refunds that are decided on this ticket.

    A disputed one is decided where it was disputed, which may be a ticket that follows the one it
    was denied on.
    """
    return TicketRefund.objects.filter(
        Q(disputed_by=None, ticket=ticket) | Q(disputed_by__ticket=ticket)
    ).select_related("request", "disputed_by")


def undecided(ticket: Ticket, *states: str) -> QuerySet[TicketRefund]:
    """The refunds of this ticket that somebody has still to decide, or those in ``states``."""
    return cases_of(ticket).filter(request__state__in=states or UNDECIDED)


def ancestors(ticket: Ticket) -> list[int]:
    """The ticket and those that it goes on from, by primary key, the youngest first."""
    found = [ticket.pk]
    follows = ticket.follows_id
    while follows is not None:
        found.append(follows)
        follows = Ticket.objects.values_list("follows_id", flat=True).get(pk=follows)
    return found


def for_the_customer() -> Q:
    """The messages that a customer is shown: their own, and of ours what was delivered."""
    delivered = Outbound.objects.filter(message=OuterRef("pk"), state=Outbound.State.SENT)
    return Q(kind=Message.Kind.CUSTOMER) | Q(
        Exists(delivered), kind__in=[Message.Kind.REPLY, Message.Kind.NOTICE]
    )


def told_on(ticket: Ticket) -> Q:
    """The refunds that a customer is told of on this ticket: what was denied here and disputed on
    another is told on both, and what we took back is nothing.
    """
    return (Q(ticket=ticket) | Q(disputed_by__ticket=ticket)) & ~Q(
        request__state=RefundRequest.State.WITHDRAWN
    )


def shared_files(ticket: Ticket) -> dict[int, list[Elsewhere]]:
    """The ticket's files that other customers sent too, by attachment: one query.

    The same screenshot from two customers is no proof of anything, and a person should know.
    """
    found: dict[int, list[Elsewhere]] = defaultdict(list)
    rows = Attachment.objects.filter(
        message__ticket=ticket,
        message__kind=Message.Kind.CUSTOMER,
        blob__attachments__message__kind=Message.Kind.CUSTOMER,
    ).values_list(
        "pk",
        "blob__attachments__pk",
        "blob__attachments__message__ticket",
        "blob__attachments__message__ticket__customer",
    )
    for own, other, other_ticket, customer in rows:
        if customer != ticket.customer_id:
            found[own].append(Elsewhere(other, other_ticket))
    return dict(found)


def unwritten(payout_ids: Collection[int]) -> dict[int, str]:
    """Payouts whose address stands in no message that the customer sent on their ticket: one query.

    What one of us entered as said by the customer does not count; of each payout it is told who
    entered the address so, or "". Capitals of an address on Ethereum are a checksum, which not
    everybody writes. One that was asked for on no ticket is not among them.
    """
    said = Message.objects.filter(ticket=OuterRef("ticket"), kind=Message.Kind.CUSTOMER)
    sent = said.filter(author=None)
    exactly = Exists(sent.filter(body__contains=OuterRef("payout__address")))
    in_any_case = Exists(sent.filter(body__icontains=OuterRef("payout__address")))
    entered = said.filter(author__isnull=False, body__icontains=OuterRef("payout__address"))
    return dict(
        TicketPayout.objects.filter(payout__in=payout_ids)
        .exclude(exactly)
        .exclude(in_any_case, payout__method__address_format=PayoutMethod.AddressFormat.EVM)
        .values_list(
            "payout",
            Coalesce(Subquery(entered.order_by("-pk").values("author__username")[:1]), Value("")),
        )
    )


def storefront_ticket(storefront_id: int, ticket_id: int) -> Ticket | None:
    """A storefront's ticket with its customer, or None (also when it is another's)."""
    return (
        Ticket.objects.select_related("customer")
        .filter(pk=ticket_id, customer__storefront=storefront_id)
        .first()
    )


def orders_of(customer_id: int, order_ids: Collection[int]) -> set[int]:
    """Which of these orders are the customer's."""
    return set(
        Order.objects.filter(pk__in=order_ids, customer=customer_id).values_list("pk", flat=True)
    )
