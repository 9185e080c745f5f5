"""The storefront API of offers, orders and statements."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from ninja import Field, Query, Router, Schema, Status

from orders import placing
from orders.locking import OrderUnknown
from orders.models import REFUNDED, Offer, Order
from orders.queries import storefront_order
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
    SignedAmountOut,
)
from wallet import customers
from wallet.api import StorefrontRequest, actor_of
from wallet.models import Transfer

router = Router(tags=["Orders"])

PAGE = 50


class OfferOut(Schema):
    id: int
    title: str
    service: str
    country: str
    kind: Literal["activation", "rental"]
    rental_hours: int | None
    price: AmountOut


class OfferPage(Schema):
    items: list[OfferOut]
    next: int | None = Field(None, description="Pass as `after` for the next page.")


class OrderIn(Body):
    customer: ExternalId
    offer: Id


class SmsOut(Schema):
    code: str
    text: str
    sender: str
    received_at: datetime


class OrderOut(Schema):
    id: int
    customer: str
    offer: int
    kind: str
    service: str
    country: str
    price: AmountOut
    state: str
    refunded: bool
    phone: str
    placed_at: datetime
    deadline: datetime | None
    rental_ends_at: datetime | None
    ended_at: datetime | None
    sms: list[SmsOut]

    @staticmethod
    def resolve_customer(order: Order) -> str:
        return order.customer.external_id

    @staticmethod
    def resolve_offer(order: Order) -> int:
        return order.offer_id

    @staticmethod
    def resolve_refunded(order: Order) -> bool:
        return order.state in REFUNDED

    @staticmethod
    def resolve_sms(order: Order) -> list[Any]:
        """Never a late one: it came after the money went back."""
        return sorted((sms for sms in order.messages.all() if not sms.late), key=lambda sms: sms.pk)


class LineOut(Schema):
    version: int
    posted_at: datetime
    kind: str
    amount: SignedAmountOut = Field(
        description="USD, signed: negative when the wallet was debited."
    )
    balance_after: AmountOut
    order: int | None


class StatementPage(Schema):
    items: list[LineOut]
    next: int | None = Field(None, description="Pass as `before` for the next, older page.")


@router.get("/offers", response={200: OfferPage}, summary="List what can be ordered")
def get_offers(
    request: StorefrontRequest,
    service: Annotated[str | None, Query(max_length=32, pattern=r"^[\x21-\x7e]+$")] = None,
    country: Annotated[str | None, Query(max_length=16, pattern=r"^[\x21-\x7e]+$")] = None,
    after: PathId | None = None,
    limit: Limit = LARGEST_PAGE,
) -> dict[str, Any]:
    offers = Offer.objects.filter(active=True, pk__gt=after or 0).order_by("pk")
    if service:
        offers = offers.filter(service=service)
    if country:
        offers = offers.filter(country=country)
    items, more = _page(offers, limit)
    return {"items": items, "next": items[-1].pk if more else None}


@router.post(
    "/orders",
    response={
        200: OrderOut,
        201: OrderOut,
        402: Problem,
        403: Problem,
        404: Problem,
        409: Problem,
        422: Problem,
    },
    summary="Place an order",
)
def post_order(
    request: StorefrontRequest,
    body: OrderIn,
    idempotency_key: Key,
) -> Status[Order]:
    """Charge the wallet and order a number. The same Idempotency-Key gives the same order (200)."""
    customer = customers.find(request.auth.storefront_id, body.customer)
    order, created = placing.place(
        customer,
        offer_id=body.offer,
        idempotency_key=idempotency_key,
        actor=actor_of(request),
    )
    return Status(201 if created else 200, order)


@router.get(
    "/orders/{order_id}", response={200: OrderOut, 404: Problem}, summary="Read an order, its SMS"
)
def get_order(request: StorefrontRequest, order_id: PathId) -> Order:
    return own_order(request, order_id)


@router.get(
    "/customers/{external_id}/statement",
    response={200: StatementPage, 404: Problem},
    summary="Read a wallet's statement",
)
def get_statement(
    request: StorefrontRequest,
    external_id: ExternalId,
    before: PathId | None = None,
    limit: Limit = PAGE,
) -> dict[str, Any]:
    """The wallet's lines, the newest first, each with the balance after it."""
    customer = customers.find(request.auth.storefront_id, external_id)
    lines = (
        Transfer.objects.filter(wallet=customer.pk)
        .select_related("purchased_order", "settled_order")
        .order_by("-wallet_version")
    )
    if before is not None:
        lines = lines.filter(wallet_version__lt=before)
    transfers, more = _page(lines, limit)
    return {
        "items": [_line(transfer) for transfer in transfers],
        "next": transfers[-1].wallet_version if more else None,
    }


def own_order(request: StorefrontRequest, order_id: int) -> Order:
    """The storefront's own order. Raises OrderUnknown for anybody else's too."""
    order = storefront_order(request.auth.storefront_id, order_id)
    if order is None:
        raise OrderUnknown(f"There is no order {order_id}.")
    return order


def _line(transfer: Transfer) -> dict[str, Any]:
    order = getattr(transfer, "purchased_order", None) or getattr(transfer, "settled_order", None)
    signed: Decimal = transfer.change
    return {
        "version": transfer.wallet_version,
        "posted_at": transfer.posted_at,
        "kind": transfer.kind,
        "amount": signed,
        "balance_after": transfer.balance_after,
        "order": order.pk if order else None,
    }


def _page(rows: Any, limit: int) -> tuple[list[Any], bool]:
    """Up to ``limit`` rows, and whether there are more."""
    found = list(rows[: limit + 1])
    return found[:limit], len(found) > limit
