"""The figures of a close that orders bring: purchases, sales, and what the upstreams charge."""

from __future__ import annotations

from wallet.figures import COST, ORDERS, PERIOD, Figure, Later

FIGURES: tuple[Figure, ...] = (
    Figure(
        "purchases",
        "Orders placed",
        ORDERS,
        "line.kind = 'purchase'",
        wallets=-1,
        escrow=1,
    ),
    Figure("sales", "Sales (delivered)", ORDERS, "line.kind = 'delivery'", escrow=-1),
    Figure("upstream_cost", "Upstream cost", COST, "line.kind = 'upstream_cost'"),
)

# A reinstatement gives back in one transfer what a termination forfeited in several: it is set
# beside the wallet's, or else the first of the open orders that ended with it.
LATER: tuple[Later, ...] = (
    Later(
        "reinstatements",
        "Given back to reinstated customers later",
        f"""
        SELECT made.transfer_id AS later, line.id AS earlier
        FROM wallet_reinstatement AS made
        JOIN wallet_transfer AS moved ON moved.id = made.transfer_id
        JOIN wallet_termination AS ended ON ended.id = made.termination_id
        JOIN wallet_transfer AS line ON line.id = coalesce(ended.transfer_id, (
            SELECT forfeited.settlement_id FROM orders_order AS forfeited
            WHERE forfeited.customer_id = ended.customer_id AND forfeited.state = 'forfeited'
                AND forfeited.ended_at >= ended.decided_at
            ORDER BY forfeited.ended_at, forfeited.id LIMIT 1
        ))
        WHERE moved.posted_at >= %(until)s AND {PERIOD}
        """,
    ),
)
