"""The audit of refunds: each is one order's money, and each refunded order has its refund."""

from __future__ import annotations

from wallet.audit import Check

CHECKS: tuple[Check, ...] = (
    Check(
        "each refund agrees with its order and its transfer",
        """
        SELECT 'refund ' || refund.id,
            format('%s for order %s at price %s, transfer %s of %s',
                refund.amount, bought.id, bought.price, transfer.id, transfer.amount)
        FROM refunds_refund AS refund
        JOIN orders_order AS bought ON bought.id = refund.order_id
        JOIN wallet_transfer AS transfer ON transfer.id = refund.transfer_id
        WHERE refund.amount <> transfer.amount
            OR transfer.kind <> 'auto_refund'
            OR transfer.credit_account <> bought.customer_id
            OR bought.settlement_id IS DISTINCT FROM transfer.id
        """,
    ),
    Check(
        "refunds stay within the price of their order",
        """
        SELECT 'order ' || bought.id,
            format('price %s, refunded %s', bought.price, sum(refund.amount))
        FROM orders_order AS bought
        JOIN refunds_refund AS refund ON refund.order_id = bought.id
        GROUP BY bought.id
        HAVING sum(refund.amount) > bought.price
        """,
    ),
    Check(
        "each refunded order has its refund, and no other order has one",
        """
        SELECT 'order ' || bought.id, format('is %s, refund %s', bought.state, refund.id)
        FROM orders_order AS bought
        FULL JOIN refunds_refund AS refund ON refund.order_id = bought.id
        WHERE (bought.state IN ('allocation_failed', 'expired', 'cancelled', 'number_broken'))
            IS DISTINCT FROM (refund.id IS NOT NULL)
        """,
    ),
)
