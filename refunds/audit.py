"""The audit of refunds: each is one order's money, and each refunded order has its refund."""

from __future__ import annotations

from wallet.audit import Check

REFUNDED = "('allocation_failed', 'expired', 'cancelled', 'number_broken')"
DELIVERED = "('sms_received', 'completed', 'ended')"

GRANTED = "('approved', 'overturned')"

# What an order got back by people: its refunds, and goodwill that stands for one.
ABOVE = """
    bought.price < coalesce((SELECT sum(amount) FROM refunds_refund WHERE order_id = bought.id), 0)
        + coalesce((SELECT sum(amount) FROM refunds_refundrequest
            WHERE order_id = bought.id AND goodwill_id IS NOT NULL), 0)
"""
# The goodwill that a request names is not what was granted.
OTHER_GOODWILL = f"""
    given.kind IS DISTINCT FROM 'goodwill' OR given.state <> 'confirmed'
    OR given.amount <> asked.amount OR given.customer_id <> bought.customer_id
    OR given.requested_by_id <> asked.requested_by_id
    OR given.decided_by_id <> coalesce(asked.resolved_by_id, asked.decided_by_id)
    OR asked.state NOT IN {GRANTED} OR {ABOVE}
"""
REQUEST = """
    'refund request ' || asked.id,
    format('%%s for order %%s is %%s, refund %%s, goodwill %%s of %%s',
        asked.amount, asked.order_id, asked.state, refund.id, given.id, given.amount)
"""

# A request that was granted and not paid, or paid and not granted, or paid by other goodwill.
UNPAID = f"""
    ((asked.state IN {GRANTED}) IS DISTINCT FROM
        (asked.goodwill_id IS NOT NULL OR refund.id IS NOT NULL)
    OR (asked.goodwill_id IS NOT NULL AND (refund.id IS NOT NULL OR {OTHER_GOODWILL})))
"""

CHECKS: tuple[Check, ...] = (
    Check(
        "each refund agrees with its order and its transfer",
        f"""
        SELECT 'refund ' || refund.id,
            format('%%s for order %%s at price %%s, transfer %%s of %%s',
                refund.amount, bought.id, bought.price, transfer.id, transfer.amount)
        FROM refunds_refund AS refund
        JOIN orders_order AS bought ON bought.id = refund.order_id
        JOIN wallet_transfer AS transfer ON transfer.id = refund.transfer_id
        WHERE refund.transfer_id > %(after)s
            AND (
                refund.amount <> transfer.amount
                OR transfer.credit_account <> bought.customer_id
                OR NOT CASE WHEN refund.part = 0
                    THEN transfer.kind = 'auto_refund'
                        AND bought.settlement_id IS NOT DISTINCT FROM transfer.id
                    ELSE transfer.kind = 'decided_refund' AND bought.state IN {DELIVERED}
                END
            )
        """,
    ),
    Check(
        "refunds stay within the price of their order",
        """
        SELECT 'order ' || bought.id,
            format('price %%s, refunded %%s', bought.price, sum(refund.amount))
        FROM orders_order AS bought
        JOIN refunds_refund AS refund ON refund.order_id = bought.id
        WHERE bought.id IN (SELECT order_id FROM refunds_refund WHERE transfer_id > %(after)s)
        GROUP BY bought.id
        HAVING sum(refund.amount) > bought.price
        """,
        full="""
        SELECT 'order ' || bought.id,
            format('price %%s, refunded %%s', bought.price, refunded.amount)
        FROM (
            SELECT order_id, sum(amount) AS amount FROM refunds_refund GROUP BY order_id
        ) AS refunded
        JOIN orders_order AS bought ON bought.id = refunded.order_id
        WHERE refunded.amount > bought.price
        """,
    ),
    Check(
        "each refunded order has its refund, and no other order has one",
        f"""
        SELECT 'order ' || bought.id, format('is %%s, refund %%s', bought.state, refund.id)
        FROM orders_order AS bought
        LEFT JOIN refunds_refund AS refund ON refund.order_id = bought.id AND refund.part = 0
        WHERE bought.settlement_id > %(after)s
            AND (bought.state IN {REFUNDED}) IS DISTINCT FROM (refund.id IS NOT NULL)
        """,
        full=f"""
        SELECT 'order ' || bought.id, format('is %%s, refund %%s', bought.state, refund.id)
        FROM orders_order AS bought
        FULL JOIN (SELECT id, order_id FROM refunds_refund WHERE part = 0) AS refund
            ON refund.order_id = bought.id
        WHERE (bought.state IN {REFUNDED}) IS DISTINCT FROM (refund.id IS NOT NULL)
        """,
    ),
    Check(
        "no decided refund moved without its decision",
        """
        SELECT 'transfer ' || line.id, format('decided refund of %%s belongs to no refund',
            line.amount)
        FROM wallet_transfer AS line
        WHERE line.id > %(after)s AND line.kind = 'decided_refund'
            AND NOT EXISTS (SELECT FROM refunds_refund WHERE transfer_id = line.id)
        """,
    ),
    Check(
        "each granted refund request has its money, and no other has any",
        f"""
        SELECT {REQUEST}
        FROM (
            SELECT posted_at - interval '1 hour' AS since FROM wallet_transfer
            WHERE id <= %(after)s ORDER BY id DESC LIMIT 1
        ) AS checkpoint
        JOIN refunds_refundrequest AS asked
            ON asked.decided_at >= checkpoint.since OR asked.resolved_at >= checkpoint.since
        JOIN orders_order AS bought ON bought.id = asked.order_id
        LEFT JOIN wallet_correction AS given ON given.id = asked.goodwill_id
        LEFT JOIN refunds_refund AS refund ON refund.request_id = asked.id
        WHERE {UNPAID}
        """,
        full=f"""
        SELECT {REQUEST}
        FROM refunds_refundrequest AS asked
        JOIN orders_order AS bought ON bought.id = asked.order_id
        LEFT JOIN wallet_correction AS given ON given.id = asked.goodwill_id
        LEFT JOIN refunds_refund AS refund ON refund.request_id = asked.id
        WHERE {UNPAID}
        """,
    ),
    # Those that one person decided, before requests were, name none: the database takes no more.
    Check(
        "each decided refund is what its request granted",
        f"""
        SELECT 'refund ' || refund.id,
            format('%%s for order %%s under %%s, request %%s is %%s: %%s for order %%s under %%s',
                refund.amount, refund.order_id, refund.clause, refund.request_id, asked.state,
                asked.amount, asked.order_id, asked.clause)
        FROM refunds_refund AS refund
        JOIN orders_order AS bought ON bought.id = refund.order_id
        LEFT JOIN refunds_refundrequest AS asked ON asked.id = refund.request_id
        WHERE refund.transfer_id > %(after)s AND refund.request_id IS NOT NULL
            AND (
                asked.id IS NULL OR asked.state NOT IN {GRANTED}
                OR asked.order_id <> refund.order_id OR asked.amount <> refund.amount
                OR asked.clause <> refund.clause
                OR refund.decided_by_id <> coalesce(asked.resolved_by_id, asked.decided_by_id)
                OR refund.decided_by_id = asked.requested_by_id
                OR {ABOVE}
            )
        """,
    ),
)
