"""What the orders' floor offers for export: no SMS, and no phone number."""

from __future__ import annotations

from smsactivator.common.exports import Dataset, register

ORDERS = Dataset(
    name="orders",
    label="Orders",
    explains="Every order that was placed in these days, as it stands when the file is written.",
    permission="orders.view_order",
    columns=(
        *("order", "placed_at", "storefront", "customer", "wallet", "kind", "service", "country"),
        *("rental_hours", "price", "currency", "state", "allocated_at", "deadline"),
        *("rental_ends_at", "first_sms_at", "ended_at", "refused_at", "refusal_code"),
        *("broken_at", "upstream", "upstream_reference", "upstream_side", "upstream_cost"),
        *("purchase_transfer", "settlement_transfer", "settled_at"),
    ),
    sql="""
        SELECT placed.id, placed.placed_at, storefront.name, customer.external_id,
            placed.customer_id, placed.kind, placed.service, placed.country, placed.rental_hours,
            placed.price, bought.currency, placed.state, placed.allocated_at, placed.deadline,
            placed.rental_ends_at, placed.first_sms_at, placed.ended_at, placed.refused_at,
            placed.refusal_code, placed.broken_at, upstream.code, placed.upstream_ref,
            placed.upstream_side, placed.upstream_cost, placed.purchase_id, placed.settlement_id,
            settled.posted_at
        FROM orders_order AS placed
        JOIN wallet_customer AS customer ON customer.id = placed.customer_id
        JOIN wallet_storefront AS storefront ON storefront.id = customer.storefront_id
        JOIN orders_upstream AS upstream ON upstream.id = placed.upstream_id
        JOIN wallet_transfer AS bought ON bought.id = placed.purchase_id
        LEFT JOIN wallet_transfer AS settled ON settled.id = placed.settlement_id
        WHERE placed.placed_at >= %(since)s AND placed.placed_at < %(until)s
        ORDER BY placed.placed_at, placed.id
    """,
)

register(ORDERS)
