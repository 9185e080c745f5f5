"""What the wallet's floor offers for export."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from smsactivator.common.exports import Dataset, register
from wallet.models import Account

TRANSFERS = Dataset(
    name="transfers",
    label="Transfers",
    explains="Every line of the ledger that was posted in these days, in that order.",
    permission="wallet.view_transfer",
    columns=(
        *("transfer", "posted_at", "kind", "debit_account", "debit", "credit_account", "credit"),
        *("amount", "currency", "storefront", "customer", "line", "balance_after"),
        *("reverses", "key"),
    ),
    sql="""
        SELECT moved.id, moved.posted_at, moved.kind,
            moved.debit_account,
            coalesce(
                %(accounts)s ->> moved.debit_account::text, 'Wallet ' || moved.debit_account
            ),
            moved.credit_account,
            coalesce(
                %(accounts)s ->> moved.credit_account::text, 'Wallet ' || moved.credit_account
            ),
            moved.amount, moved.currency, storefront.name, customer.external_id,
            moved.wallet_version, moved.balance_after, moved.reverses_id, moved.key
        FROM wallet_transfer AS moved
        LEFT JOIN wallet_customer AS customer ON customer.id = moved.wallet_id
        LEFT JOIN wallet_storefront AS storefront ON storefront.id = customer.storefront_id
        WHERE moved.posted_at >= %(since)s AND moved.posted_at < %(until)s
        ORDER BY moved.posted_at, moved.id
    """,
    parameters={"accounts": Jsonb({str(account.value): account.label for account in Account})},
)

# A wallet's lines by version are its lines by time: the database holds it. So the last line before
# a moment is the balance at that moment.
STATEMENTS = Dataset(
    name="statements",
    label="Statements",
    explains=(
        "Of every wallet that held money or had a line in these days: the opening balance, the "
        "lines, the closing balance."
    ),
    permission="wallet.view_wallet",
    columns=(
        *("wallet", "storefront", "customer", "line", "posted_at", "what"),
        *("debit", "credit", "balance", "currency", "transfer", "key"),
    ),
    sql="""
        WITH period AS MATERIALIZED (
            SELECT wallet.customer_id AS wallet, wallet.currency, storefront.name AS storefront,
                customer.external_id AS customer,
                coalesce(before.wallet_version, 0) AS opening_version,
                coalesce(before.balance_after, 0.0000) AS opening,
                after.wallet_version AS closing_version, after.balance_after AS closing
            FROM wallet_wallet AS wallet
            JOIN wallet_customer AS customer ON customer.id = wallet.customer_id
            JOIN wallet_storefront AS storefront ON storefront.id = customer.storefront_id
            CROSS JOIN LATERAL (
                SELECT wallet_version, balance_after FROM wallet_transfer
                WHERE wallet_id = wallet.customer_id AND posted_at < %(until)s
                ORDER BY wallet_version DESC LIMIT 1
            ) AS after
            LEFT JOIN LATERAL (
                SELECT wallet_version, balance_after FROM wallet_transfer
                WHERE wallet_id = wallet.customer_id AND posted_at < %(since)s
                ORDER BY wallet_version DESC LIMIT 1
            ) AS before ON true
            WHERE after.balance_after > 0
                OR after.wallet_version > coalesce(before.wallet_version, 0)
        )
        SELECT wallet, storefront, customer, line, posted_at, what, debit, credit, balance,
            currency, transfer, key
        FROM (
            SELECT wallet, storefront, customer, 0 AS place, NULL::bigint AS line,
                %(since)s::timestamptz AS posted_at, 'opening' AS what,
                NULL::numeric AS debit, NULL::numeric AS credit, opening AS balance, currency,
                NULL::bigint AS transfer, NULL AS key
            FROM period
            UNION ALL
            SELECT wallet, storefront, customer, 1, moved.wallet_version, moved.posted_at,
                moved.kind,
                CASE WHEN moved.debit_account = wallet THEN moved.amount END,
                CASE WHEN moved.credit_account = wallet THEN moved.amount END,
                moved.balance_after, period.currency, moved.id, moved.key
            FROM period
            JOIN wallet_transfer AS moved
                ON moved.wallet_id = wallet
                AND moved.wallet_version BETWEEN opening_version + 1 AND closing_version
            UNION ALL
            SELECT wallet, storefront, customer, 2, NULL, %(until)s::timestamptz, 'closing',
                NULL, NULL, closing, currency, NULL, NULL
            FROM period
        ) AS told
        ORDER BY wallet, place, line
    """,
)

PAYOUTS = Dataset(
    name="payouts",
    label="Payouts",
    explains=(
        "Every payout that was asked for in these days, with what became of it until the file is "
        "written."
    ),
    permission="wallet.view_payout",
    columns=(
        *("payout", "requested_at", "storefront", "customer", "wallet", "state", "attempt"),
        *("amount", "currency", "sent_in", "network", "address", "memo"),
        *("policy_version", "minimum", "requested_by", "reason", "sent_again_by"),
        *("approved_by", "approved_at", "second_by", "second_at", "batch"),
        *("transaction_hash", "fee", "fee_currency", "settled_at", "problem", "failed_by"),
        *("decided_by", "decided_at", "decision_reason"),
    ),
    sql="""
        SELECT 'PO-' || lpad(payout.id::text, greatest(6, length(payout.id::text)), '0'),
            payout.requested_at, storefront.name, customer.external_id, customer.id, payout.state,
            payout.attempt, payout.amount, wallet.currency, method.currency, method.network,
            payout.address, payout.memo, payout.policy_version, payout.minimum, asker.username,
            payout.reason, again.username, approver.username, payout.approved_at,
            second.username, payout.second_at,
            'PB-' || lpad(batch.id::text, greatest(6, length(batch.id::text)), '0'),
            payout.transaction_hash, payout.fee, payout.fee_currency, payout.settled_at,
            payout.problem, failer.username, decider.username, payout.decided_at,
            payout.decision_reason
        FROM wallet_payout AS payout
        JOIN wallet_payoutmethod AS method ON method.id = payout.method_id
        JOIN wallet_customer AS customer ON customer.id = payout.customer_id
        JOIN wallet_wallet AS wallet ON wallet.customer_id = customer.id
        JOIN wallet_storefront AS storefront ON storefront.id = customer.storefront_id
        JOIN auth_user AS asker ON asker.id = payout.requested_by_id
        LEFT JOIN auth_user AS again ON again.id = payout.sent_again_by_id
        LEFT JOIN auth_user AS approver ON approver.id = payout.approved_by_id
        LEFT JOIN auth_user AS second ON second.id = payout.second_by_id
        LEFT JOIN auth_user AS failer ON failer.id = payout.failed_by_id
        LEFT JOIN auth_user AS decider ON decider.id = payout.decided_by_id
        -- Of an attempt at most one line is in a batch that was not given up.
        LEFT JOIN (
            wallet_batchline AS line
            JOIN wallet_payoutbatch AS batch
                ON batch.id = line.batch_id AND batch.state <> 'voided'
        ) ON line.payout_id = payout.id AND line.attempt = payout.attempt
        WHERE payout.requested_at >= %(since)s AND payout.requested_at < %(until)s
        ORDER BY payout.requested_at, payout.id
    """,
)

register(TRANSFERS, STATEMENTS, PAYOUTS)
