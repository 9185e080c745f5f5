"""What the refunds' floor offers for export: the money that went back, and what was asked for."""

from __future__ import annotations

from smsactivator.common.exports import Dataset, register

REFUNDS = Dataset(
    name="refunds",
    label="Refunds",
    explains="Every refund whose transfer was posted in these days, automatic and decided.",
    permission="refunds.view_refund",
    columns=(
        *("refund", "posted_at", "order", "storefront", "customer", "wallet", "clause"),
        *("policy_version", "amount", "currency", "part", "transfer", "request"),
        *("decided_by", "reason"),
    ),
    sql="""
        SELECT refund.id, moved.posted_at, refund.order_id, storefront.name, customer.external_id,
            moved.wallet_id, refund.clause, refund.policy_version, refund.amount, moved.currency,
            refund.part, refund.transfer_id, refund.request_id, person.username, refund.reason
        FROM wallet_transfer AS moved
        JOIN refunds_refund AS refund ON refund.transfer_id = moved.id
        JOIN wallet_customer AS customer ON customer.id = moved.wallet_id
        JOIN wallet_storefront AS storefront ON storefront.id = customer.storefront_id
        LEFT JOIN auth_user AS person ON person.id = refund.decided_by_id
        WHERE moved.posted_at >= %(since)s AND moved.posted_at < %(until)s
        ORDER BY moved.posted_at, refund.id
    """,
)

REQUESTS = Dataset(
    name="refund_requests",
    label="Refund requests",
    explains=(
        "Every refund that was asked for in these days, with what became of it until the file is "
        "written."
    ),
    permission="refunds.view_refundrequest",
    columns=(
        *("request", "requested_at", "order", "storefront", "customer", "wallet", "clause"),
        *("amount", "currency", "state", "verdict", "against_verdict", "policy_version"),
        *("requested_by", "reason", "decided_by", "decided_at", "decision_reason"),
        *("disputed_at", "resolved_by", "resolved_at", "resolution_reason"),
        *("refund", "goodwill_correction", "further_to", "evidence"),
    ),
    sql="""
        SELECT asked.id, asked.requested_at, asked.order_id, storefront.name, customer.external_id,
            customer.id, asked.clause, asked.amount, wallet.currency, asked.state, asked.verdict,
            asked.against_verdict, asked.policy_version, asker.username, asked.reason,
            decider.username, asked.decided_at, asked.decision_reason, asked.disputed_at,
            resolver.username, asked.resolved_at, asked.resolution_reason, refund.id,
            asked.goodwill_id, asked.further_to_id, asked.evidence
        FROM refunds_refundrequest AS asked
        JOIN orders_order AS placed ON placed.id = asked.order_id
        JOIN wallet_customer AS customer ON customer.id = placed.customer_id
        JOIN wallet_wallet AS wallet ON wallet.customer_id = customer.id
        JOIN wallet_storefront AS storefront ON storefront.id = customer.storefront_id
        JOIN auth_user AS asker ON asker.id = asked.requested_by_id
        LEFT JOIN auth_user AS decider ON decider.id = asked.decided_by_id
        LEFT JOIN auth_user AS resolver ON resolver.id = asked.resolved_by_id
        LEFT JOIN refunds_refund AS refund ON refund.request_id = asked.id
        WHERE asked.requested_at >= %(since)s AND asked.requested_at < %(until)s
        ORDER BY asked.requested_at, asked.id
    """,
)

register(REFUNDS, REQUESTS)
