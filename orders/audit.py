"""The audit of orders: their money is where their state says."""

from __future__ import annotations

from wallet.audit import Check

# What must hold of how an order ended: the kind and the account that its settlement went to.
SETTLED_RIGHTLY = """
    settled.id IS NOT NULL AND settled.amount = ended.price AND settled.debit_account = 2
    AND CASE
        WHEN ended.state IN ('sms_received', 'completed', 'ended')
            THEN settled.kind = 'delivery' AND settled.credit_account = 3
        WHEN ended.state = 'forfeited'
            THEN settled.kind = 'forfeiture' AND settled.credit_account = 6
        ELSE settled.kind = 'auto_refund' AND settled.credit_account = ended.customer_id
    END
"""
ENDED = """
    SELECT 'order ' || ended.id,
        format('is %%s, price %%s, settled by transfer %%s (%%s of %%s to account %%s)',
            ended.state, ended.price, settled.id, settled.kind, settled.amount,
            settled.credit_account)
    FROM orders_order AS ended
    LEFT JOIN wallet_transfer AS settled ON settled.id = ended.settlement_id
"""
ESCROW = """
    SELECT %(account_2)s::numeric AS escrow, (
        SELECT coalesce(sum(price), 0) FROM orders_order
        WHERE state IN ('placed', 'awaiting_sms', 'active')
    ) AS open_orders
"""

# What the terminations say of open orders that they ended, beside those orders themselves.
FORFEITED = """
    SELECT 'customer ' || customer_id,
        format('terminations name %%s orders of %%s, forfeited are %%s of %%s',
            coalesce(said.orders, 0), coalesce(said.amount, 0),
            coalesce(gone.orders, 0), coalesce(gone.amount, 0))
    FROM (
        SELECT customer_id, count(*) AS orders, sum(price) AS amount
        FROM orders_order WHERE state = 'forfeited' {touched} GROUP BY customer_id
    ) AS gone
    FULL JOIN (
        SELECT customer_id, sum(orders_ended) AS orders, sum(orders_amount) AS amount
        FROM wallet_termination WHERE state = 'confirmed' {touched} GROUP BY customer_id
    ) AS said USING (customer_id)
    WHERE coalesce(said.orders, 0) <> coalesce(gone.orders, 0)
        OR coalesce(said.amount, 0) <> coalesce(gone.amount, 0)
"""
TOUCHED = """
    AND customer_id IN (
        SELECT customer_id FROM orders_order
        WHERE settlement_id > %(after)s AND state = 'forfeited'
        UNION ALL
        SELECT customer_id FROM wallet_termination
        WHERE state = 'confirmed' AND transfer_id > %(after)s
    )
"""

CHECKS: tuple[Check, ...] = (
    Check(
        "escrow equals the prices of open orders",
        f"""
        SELECT 'escrow', format('holds %%s, open orders come to %%s', escrow, open_orders)
        FROM ({ESCROW}) AS totals
        WHERE escrow <> open_orders
        """,
        figures=ESCROW,
    ),
    Check(
        "each order was paid for by its own purchase",
        """
        SELECT 'order ' || bought.id,
            format('price %%s of customer %%s, transfer %%s is %%s of %%s from account %%s',
                bought.price, bought.customer_id, paid.id, paid.kind, paid.amount,
                paid.debit_account)
        FROM orders_order AS bought
        JOIN wallet_transfer AS paid ON paid.id = bought.purchase_id
        WHERE bought.purchase_id > %(after)s
            AND (
                paid.kind <> 'purchase' OR paid.amount <> bought.price
                OR paid.debit_account <> bought.customer_id OR paid.credit_account <> 2
            )
        """,
    ),
    Check(
        "each ended order has exactly one outcome, and its money agrees",
        f"""
        {ENDED}
        WHERE ended.settlement_id > %(after)s
            AND (ended.state IN ('placed', 'awaiting_sms', 'active') OR NOT ({SETTLED_RIGHTLY}))
        """,
        full=f"""
        {ENDED}
        WHERE CASE WHEN ended.state IN ('placed', 'awaiting_sms', 'active')
            THEN ended.settlement_id IS NOT NULL ELSE NOT ({SETTLED_RIGHTLY}) END
        """,
    ),
    Check(
        "no transfer moves an order's money without its order",
        """
        SELECT 'transfer ' || transfer.id, transfer.kind || ' belongs to no order'
        FROM wallet_transfer AS transfer
        WHERE transfer.id > %(after)s AND (
            (transfer.kind = 'purchase' AND NOT EXISTS (
                SELECT FROM orders_order WHERE purchase_id = transfer.id))
            OR ((transfer.kind IN ('delivery', 'auto_refund')
                    OR (transfer.kind = 'forfeiture' AND transfer.debit_account = 2))
                AND NOT EXISTS (SELECT FROM orders_order WHERE settlement_id = transfer.id))
        )
        """,
    ),
    Check(
        "terminations name exactly the orders that were forfeited",
        FORFEITED.format(touched=TOUCHED),
        full=FORFEITED.format(touched=""),
    ),
    Check(
        "a wallet is forfeited exactly while a termination is in force",
        """
        SELECT 'wallet ' || customer_id, 'is forfeited without a termination'
        FROM wallet_wallet AS wallet
        WHERE state <> 'active' AND state = 'forfeited' AND NOT EXISTS (
            SELECT FROM wallet_termination AS ended
            WHERE ended.customer_id = wallet.customer_id
                AND ended.state = 'confirmed' AND NOT ended.reinstated)
        UNION ALL
        SELECT 'wallet ' || wallet.customer_id,
            format('is %%s, termination %%s is in force', wallet.state, ended.id)
        FROM wallet_termination AS ended
        JOIN wallet_wallet AS wallet ON wallet.customer_id = ended.customer_id
        WHERE ended.state = 'confirmed' AND NOT ended.reinstated AND wallet.state <> 'forfeited'
        """,
    ),
)
