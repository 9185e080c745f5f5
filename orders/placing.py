"""Placing an order: the price goes from the wallet to escrow, then a number is bought."""

from __future__ import annotations

from django.db import connection, transaction
from django.utils import timezone

from orders import tasks
from orders.models import Offer, Order
from smsactivator.common import history
from smsactivator.common.errors import NotFound, Refused
from smsactivator.common.history import Actor
from smsactivator.common.queueing import queue
from wallet import ledger
from wallet.models import Account, Customer, Transfer


class OfferUnknown(NotFound):
    """There is no such offer."""

    code = "unknown_offer"


class OfferNotForSale(Refused):
    """The offer is switched off."""

    code = "offer_not_for_sale"


class CustomerSuspended(Refused):
    """The customer may not order."""

    code = "customer_suspended"
    status = 403


def place(
    customer: Customer, *, offer_id: int, idempotency_key: str, actor: Actor
) -> tuple[Order, bool]:
    """Place an order and tell whether this call did it.

    Moves the offer's price, USD, from the customer's wallet to escrow and queues the allocation,
    exactly once per customer and idempotency key: a replay returns the first order. Locks the
    wallet. Raises OfferUnknown, OfferNotForSale, CustomerSuspended, InsufficientFunds, and
    IdempotencyConflict when the key stands for an order of another offer.
    """
    with transaction.atomic():
        # The wallet's lock also stands between two requests with the same key.
        ledger.lock_wallets([customer.pk])
        placed = Order.objects.filter(customer=customer, idempotency_key=idempotency_key).first()
        if placed is not None:
            if placed.offer_id != offer_id:
                raise ledger.IdempotencyConflict(
                    f"The key {idempotency_key} stands for order {placed.pk} of offer "
                    f"{placed.offer_id}; it cannot also be an order of offer {offer_id}."
                )
            return placed, False
        offer = _offer_for_sale(offer_id)
        customer.refresh_from_db(fields=["status"])
        if customer.status != Customer.Status.ACTIVE:
            raise CustomerSuspended(f"Customer {customer.external_id} is suspended.")
        order = _create(customer, offer, idempotency_key, actor)
        # A broker that is down must not undo the order: the beat finds what was never queued.
        transaction.on_commit(lambda: queue(tasks.allocate, order.pk), robust=True)
        return order, True


def _offer_for_sale(offer_id: int) -> Offer:
    offer = Offer.objects.filter(pk=offer_id).first()
    if offer is None:
        raise OfferUnknown(f"There is no offer {offer_id}: see GET /offers.")
    if not offer.active:
        raise OfferNotForSale(f"Offer {offer_id} is not for sale at the moment: see GET /offers.")
    return offer


def _create(customer: Customer, offer: Offer, idempotency_key: str, actor: Actor) -> Order:
    order_id = _next_order_id()
    [purchase_id] = ledger.post(
        [
            ledger.Posting(
                kind=Transfer.Kind.PURCHASE,
                debit=customer.pk,
                credit=Account.ORDER_ESCROW,
                amount=offer.price,
                key=f"purchase:{order_id}",
            )
        ]
    )
    order = Order(
        pk=order_id,
        customer=customer,
        offer=offer,
        upstream_id=offer.upstream_id,
        kind=offer.kind,
        service=offer.service,
        country=offer.country,
        rental_hours=offer.rental_hours,
        price=offer.price,
        idempotency_key=idempotency_key,
        placed_at=timezone.now(),
        purchase_id=purchase_id,
    )
    history.create([order], actor=actor, reason="Placed by the customer")
    return order


def _next_order_id() -> int:
    """The purchase names its order before the order's row exists, so the number is drawn first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('orders_order', 'id'))")
        return int(cursor.fetchone()[0])
