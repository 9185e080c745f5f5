"""The storefront API of tickets: what customers say, and what they are told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from django.db.models import Prefetch
from ninja import Field, Router, Schema, Status

from refunds import policy
from refunds.models import RefundRequest
from smsactivator.common.api import (
    LARGEST_PAGE,
    AmountOut,
    Body,
    ExternalId,
    Id,
    Key,
    Limit,
    PathId,
    Problem,
)
from support import inbound, queries, uploads
from support.inbound import MOST_ORDERS
from support.locking import TicketUnknown
from support.models import LONGEST_BODY, LONGEST_SUBJECT, Attachment, Message, Ticket, TicketRefund
from wallet import customers
from wallet.api import StorefrontRequest, actor_of

router = Router(tags=["Support"])

PAGE = 50
Orders = Annotated[
    list[Id],
    Field(default_factory=list, max_length=MOST_ORDERS, description="What it is about, by number."),
]

_State = RefundRequest.State
# What a customer needs to know of a refund's state; the rest is our own business.
TOLD = {
    _State.REQUESTED: "in_review",
    _State.ESCALATED: "in_review",
    _State.APPROVED: "credited",
    _State.DENIED: "denied",
    _State.DISPUTED: "in_dispute",
    _State.UPHELD: "denied",
    _State.OVERTURNED: "credited",
    _State.DISMISSED: "denied",
}
FINAL = {_State.APPROVED, _State.UPHELD, _State.OVERTURNED, _State.DISMISSED}


class MessageIn(Body):
    body: str = Field(max_length=LONGEST_BODY, description="May be empty when files come with it.")
    orders: Orders


class TicketIn(MessageIn):
    subject: str = Field(min_length=1, max_length=LONGEST_SUBJECT, description="One line.")


class FileOut(Schema):
    name: str
    size: int
    content_type: str = Field(description="As its content shows.")
    sha256: str

    @staticmethod
    def resolve_size(attachment: Attachment) -> int:
        return attachment.blob.size

    @staticmethod
    def resolve_sha256(attachment: Attachment) -> str:
        return attachment.blob_id


class MessageOut(Schema):
    id: int
    ticket: int = Field(description="Another one than was written to, when that was closed.")
    by: Literal["customer", "support"]
    entered: bool = Field(
        description="Whether support wrote down what the customer said elsewhere."
    )
    body: str
    created_at: datetime
    files: list[FileOut]

    @staticmethod
    def resolve_ticket(message: Message) -> int:
        return message.ticket_id

    @staticmethod
    def resolve_by(message: Message) -> str:
        return "customer" if message.kind == Message.Kind.CUSTOMER else "support"

    @staticmethod
    def resolve_files(message: Message) -> list[Attachment]:
        return sorted(message.attachments.all(), key=lambda file: file.pk)


class RefundOut(Schema):
    order: int
    state: Literal["in_review", "credited", "denied", "in_dispute"]
    amount: AmountOut | None = Field(description="USD, of what was credited.")
    clause: str | None = Field(description="The clause of the policy, once it is decided.")
    clause_text: str | None
    goodwill: bool
    final: bool = Field(
        description="It cannot be disputed any more. Only new evidence can have it looked at again."
    )


class TicketLine(Schema):
    id: int
    subject: str
    state: Literal["new", "open", "waiting", "resolved", "closed"]
    opened_at: datetime
    follows: int | None = Field(description="The closed ticket that it goes on from.")


class TicketPage(Schema):
    items: list[TicketLine]
    next: int | None = Field(None, description="Pass as `before` for the next, older page.")


class ThreadOut(TicketLine):
    customer: str
    followed_by: int | None = Field(description="The ticket on which it went on.")
    orders: list[int]
    messages: list[MessageOut]
    next: int | None = Field(None, description="Pass as `after` for the next, newer messages.")
    refunds: list[RefundOut]


@router.post(
    "/customers/{external_id}/tickets",
    response={200: MessageOut, 201: MessageOut, 404: Problem, 409: Problem, 422: Problem},
    summary="Open a ticket",
    openapi_extra=uploads.document(TicketIn),
)
def post_ticket(
    request: StorefrontRequest, external_id: ExternalId, idempotency_key: Key
) -> Status[Message]:
    """Open a ticket with a customer's message and its files.

    The same Idempotency-Key of the customer gives the same ticket (200). An answer is due within
    one business day.
    """
    customer = customers.find(request.auth.storefront_id, external_id)
    said, files = uploads.read(request, TicketIn)
    message, created = inbound.receive_once(
        customer,
        subject=said.subject,
        body=said.body,
        order_ids=said.orders,
        files=files,
        key=idempotency_key,
        via=actor_of(request),
        channel=Ticket.Channel.API,
    )
    return Status(201 if created else 200, _with_files(message))


@router.post(
    "/tickets/{ticket_id}/messages",
    response={200: MessageOut, 201: MessageOut, 404: Problem, 409: Problem, 422: Problem},
    summary="Write on a ticket",
    openapi_extra=uploads.document(MessageIn),
)
def post_message(
    request: StorefrontRequest, ticket_id: PathId, idempotency_key: Key
) -> Status[Message]:
    """Add a customer's message and its files, once for its Idempotency-Key (again answers 200).

    It reopens a resolved ticket; after that one is closed it opens another, which the answer names.
    After a denied refund it disputes the denial, and its files are the evidence.
    """
    ticket = own_ticket(request, ticket_id)
    said, files = uploads.read(request, MessageIn)
    message, created = inbound.receive_once(
        ticket.customer,
        ticket_id=ticket.pk,
        body=said.body,
        order_ids=said.orders,
        files=files,
        key=idempotency_key,
        via=actor_of(request),
        channel=Ticket.Channel.API,
    )
    return Status(201 if created else 200, _with_files(message))


@router.get(
    "/tickets/{ticket_id}",
    response={200: ThreadOut, 404: Problem},
    summary="Read a ticket",
)
def get_ticket(
    request: StorefrontRequest,
    ticket_id: PathId,
    after: PathId | None = None,
    limit: Limit = LARGEST_PAGE,
) -> dict[str, Any]:
    """The thread as its customer sees it, the oldest message first, and what became of refunds."""
    ticket = own_ticket(request, ticket_id)
    messages = _files_of(
        ticket.messages.filter(queries.for_the_customer(), pk__gt=after or 0).order_by("pk")
    )
    found = list(messages[: limit + 1])
    more = len(found) > limit
    cases = TicketRefund.objects.select_related("request").filter(queries.told_on(ticket))
    return {
        **_line(ticket),
        "followed_by": Ticket.objects.filter(follows=ticket).values_list("pk", flat=True).first(),
        "customer": ticket.customer.external_id,
        "orders": list(ticket.orders.order_by("pk").values_list("pk", flat=True)),
        "messages": found[:limit],
        "next": found[limit - 1].pk if more else None,
        "refunds": list(_refunds(case.request for case in cases.order_by("request"))),
    }


@router.get(
    "/customers/{external_id}/tickets",
    response={200: TicketPage, 404: Problem},
    summary="List a customer's tickets",
)
def get_tickets(
    request: StorefrontRequest,
    external_id: ExternalId,
    before: PathId | None = None,
    limit: Limit = PAGE,
) -> dict[str, Any]:
    """The customer's tickets, the newest first."""
    customer = customers.find(request.auth.storefront_id, external_id)
    tickets = Ticket.objects.filter(customer=customer).order_by("-pk")
    if before is not None:
        tickets = tickets.filter(pk__lt=before)
    found = list(tickets[: limit + 1])
    return {
        "items": [_line(ticket) for ticket in found[:limit]],
        "next": found[limit - 1].pk if len(found) > limit else None,
    }


def own_ticket(request: StorefrontRequest, ticket_id: int) -> Ticket:
    """The storefront's own ticket. Raises TicketUnknown for anybody else's too."""
    ticket = queries.storefront_ticket(request.auth.storefront_id, ticket_id)
    if ticket is None:
        raise TicketUnknown(f"There is no ticket {ticket_id}.")
    return ticket


def _line(ticket: Ticket) -> dict[str, Any]:
    return {
        "id": ticket.pk,
        "subject": ticket.subject,
        "state": ticket.state,
        "opened_at": ticket.opened_at,
        "follows": ticket.follows_id,
    }


def _refunds(requests: Iterable[RefundRequest]) -> Iterable[dict[str, Any]]:
    for asked in requests:
        state = TOLD[_State(asked.state)]
        decided = state != "in_review"
        credited = state == "credited"
        amount: Decimal | None = asked.amount if credited else None
        yield {
            "order": asked.order_id,
            "state": state,
            "amount": amount,
            "clause": asked.clause if decided else None,
            "clause_text": policy.text(asked.clause, asked.policy_version) if decided else None,
            "goodwill": asked.goodwill_id is not None,
            "final": asked.state in FINAL,
        }


def _files_of(messages: Any) -> Any:
    """The messages with their files, without the bytes."""
    files = Attachment.objects.select_related("blob").defer("blob__content")
    return messages.prefetch_related(Prefetch("attachments", files))


def _with_files(message: Message) -> Message:
    found: Message = _files_of(Message.objects.filter(pk=message.pk)).get()
    return found
