"""The audit of orders: their money is where their state says."""

from __future__ import annotations

from wallet.audit import Check

CHECKS: tuple[Check, ...] = (
    Check(
        "escrow equals the prices of open orders",
        """
        SELECT 'escrow', format('holds %s, open orders come to %s', escrow, open_orders)
        FROM (
            SELECT (
                SELECT coalesce(sum(CASE WHEN credit_account = 2 THEN amount ELSE -amount END), 0)
                FROM wallet_transfer WHERE credit_account = 2 OR debit_account = 2
            ) AS escrow, (
                SELECT coalesce(sum(price), 0) FROM orders_order
                WHERE state IN ('placed', 'awaiting_sms', 'active')
            ) AS open_orders
        ) AS totals
        WHERE escrow <> open_orders
        """,
        figures="""
        SELECT (
            SELECT coalesce(sum(CASE WHEN credit_account = 2 THEN amount ELSE -amount END), 0)
            FROM wallet_transfer WHERE credit_account = 2 OR debit_account = 2
        ) AS escrow, (
            SELECT coalesce(sum(price), 0) FROM orders_order
            WHERE state IN ('placed', 'awaiting_sms', 'active')
        ) AS open_orders
        """,
    ),
    Check(
        "each order was paid for by its own purchase",
        """
        SELECT 'order ' || bought.id,
            format('price %s of customer %s, transfer %s is %s of %s from account %s',
                bought.price, bought.customer_id, paid.id, paid.kind, paid.amount,
                paid.debit_account)
        FROM orders_order AS bought
        JOIN wallet_transfer AS paid ON paid.id = bought.purchase_id
        WHERE paid.kind <> 'purchase' OR paid.amount <> bought.price
            OR paid.debit_account <> bought.customer_id OR paid.credit_account <> 2
        """,
    ),
    Check(
        "each ended order has exactly one outcome, and its money agrees",
        """
        SELECT 'order ' || ended.id,
            format('is %s, price %s, settled by transfer %s (%s of %s to account %s)',
                ended.state, ended.price, settled.id, settled.kind, settled.amount,
                settled.credit_account)
        FROM orders_order AS ended
        LEFT JOIN wallet_transfer AS settled ON settled.id = ended.settlement_id
        WHERE ended.state NOT IN ('placed', 'awaiting_sms', 'active')
            AND (
                settled.id IS NULL
                OR settled.amount <> ended.price
                OR settled.debit_account <> 2
                OR NOT CASE
                    WHEN ended.state IN ('sms_received', 'completed', 'ended')
                        THEN settled.kind = 'delivery' AND settled.credit_account = 3
                    ELSE settled.kind = 'auto_refund'
                        AND settled.credit_account = ended.customer_id
                END
            )
        """,
    ),
    Check(
        "no transfer moves an order's money without its order",
        """
        SELECT 'transfer ' || transfer.id, transfer.kind || ' belongs to no order'
        FROM wallet_transfer AS transfer
        WHERE (transfer.kind = 'purchase' AND NOT EXISTS (
                SELECT FROM orders_order WHERE purchase_id = transfer.id))
            OR (transfer.kind IN ('delivery', 'auto_refund') AND NOT EXISTS (
                SELECT FROM orders_order WHERE settlement_id = transfer.id))
        """,
    ),
)
