"""The figures of a close that refunds bring: what went back by clause, goodwill, and losses."""

from __future__ import annotations

from refunds import policy
from wallet.figures import COST, GOODWILL, PERIOD, REFUNDS, Figure, Later

CLAUSE = "(SELECT given.clause FROM refunds_refund AS given WHERE given.transfer_id = line.id)"
ASKED_CLAUSE = """(
    SELECT asked.clause FROM wallet_correction AS made
    JOIN refunds_refundrequest AS asked ON asked.goodwill_id = made.id
    WHERE made.transfer_id = line.id
)"""

# The cost of an order is a loss from the moment at which both have happened: the upstream charged
# us, and the customer got money back, all of it or a part. So the days of a month add up to it, and
# no later refund changes a day that is closed.
LOST = """
    line.id IN (
        SELECT cost.id
        FROM wallet_transfer AS back
        JOIN refunds_refund AS given ON given.transfer_id = back.id
        JOIN wallet_transfer AS cost ON cost.key = 'cost:' || given.order_id
        WHERE back.posted_at >= %(since)s AND back.posted_at < %(until)s
            AND back.kind IN ('auto_refund', 'decided_refund')
            AND cost.kind = 'upstream_cost' AND cost.posted_at < %(until)s
            AND (cost.posted_at >= %(since)s OR NOT EXISTS (
                SELECT FROM refunds_refund AS before
                JOIN wallet_transfer AS earlier ON earlier.id = before.transfer_id
                WHERE before.order_id = given.order_id AND earlier.posted_at < %(since)s
            ))
        UNION
        SELECT cost.id
        FROM wallet_transfer AS cost
        JOIN refunds_refund AS given ON given.order_id = CASE
            WHEN cost.key ~ '^cost:[0-9]{1,18}$' THEN substr(cost.key, 6)::bigint END
        JOIN wallet_transfer AS back ON back.id = given.transfer_id
        WHERE cost.kind = 'upstream_cost'
            AND cost.posted_at >= %(since)s AND cost.posted_at < %(until)s
            AND back.posted_at < %(since)s
    )
"""


def _clause(name: str) -> str:
    return policy.title(name) if name else "Without a refund"


def _goodwill(name: str) -> str:
    return policy.title(name) if name else "Not for a refund request"


FIGURES: tuple[Figure, ...] = (
    Figure(
        "automatic_refunds",
        "Automatic refunds",
        REFUNDS,
        "line.kind = 'auto_refund'",
        wallets=1,
        escrow=-1,
        part=CLAUSE,
        words=_clause,
    ),
    Figure(
        "decided_refunds",
        "Decided refunds",
        REFUNDS,
        "line.kind = 'decided_refund'",
        wallets=1,
        part=CLAUSE,
        words=_clause,
    ),
    Figure(
        "goodwill",
        "Goodwill",
        GOODWILL,
        "line.kind = 'goodwill'",
        wallets=1,
        part=ASKED_CLAUSE,
        words=_goodwill,
    ),
    Figure(
        "losses",
        "Of it lost: cost of orders whose money went back",
        COST,
        LOST,
        apart=True,
    ),
)

# An order is of the period in which it was delivered.
SOLD = f"""
    SELECT moved.id AS later, line.id AS earlier
    FROM {{source}}
    JOIN orders_order AS bought ON bought.id = given.order_id
    JOIN wallet_transfer AS line ON line.id = bought.settlement_id
    WHERE moved.posted_at >= %(until)s AND line.kind = 'delivery' AND {PERIOD}
"""

LATER: tuple[Later, ...] = (
    Later(
        "decided_refunds",
        "Refunded by a decision later",
        SOLD.format(
            source="""refunds_refund AS given
            JOIN wallet_transfer AS moved
                ON moved.id = given.transfer_id AND given.decided_by_id IS NOT NULL"""
        ),
    ),
    Later(
        "goodwill",
        "Given goodwill for it later",
        SOLD.format(
            source="""refunds_refundrequest AS given
            JOIN wallet_correction AS made ON made.id = given.goodwill_id
            JOIN wallet_transfer AS moved ON moved.id = made.transfer_id"""
        ),
    ),
)
