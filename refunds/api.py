"""The storefront API of cancellations."""

from __future__ import annotations

from ninja import Router

from orders.api import OrderOut, own_order
from orders.models import Order
from refunds import automatic
from smsactivator.common.api import PathId, Problem
from wallet.api import StorefrontRequest, actor_of

router = Router(tags=["Orders"])


@router.post(
    "/orders/{order_id}/cancel",
    response={200: OrderOut, 404: Problem, 409: Problem},
    summary="Cancel an order before any SMS",
)
def post_cancel(request: StorefrontRequest, order_id: PathId) -> Order:
    """Cancel and refund at once. Cancelling again answers the same; after an SMS it is a 409."""
    own_order(request, order_id)
    automatic.cancel(order_id, actor=actor_of(request))
    return own_order(request, order_id)
