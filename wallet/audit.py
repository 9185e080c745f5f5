"""The audit of the ledger: each check proves one truth again from the rows.

A check is one SQL statement that returns the rows that break the truth, so that a failure names
them. Upper floors add checks of their own (``orders.audit``, ``refunds.audit``).

A passed audit is a checkpoint. The next one begins after it: it looks at the transfers with higher
numbers, at what they touched, and at the totals that the checkpoint kept, so it costs what is new.
A full audit begins with the first transfer and also finds what was tampered with since.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from wallet.horizon import settled_through
from wallet.models import FIRST_WALLET, Account, AuditRun, Transfer

SHOWN = 20  # differences that are named; the count is always whole
PATIENCE = 2.0  # seconds to wait for transactions at work, so that the checkpoint may advance

Progress = Callable[["Result"], None]
Totals = defaultdict[int, Decimal]  # by account


@dataclass(frozen=True, slots=True)
class Check:
    """``sql`` returns the rows that break the truth: first what they are, then what differs.

    Its parameters: ``after``, the number of the last transfer that is proved already (0 in a full
    audit), and ``account_<number>``, the balance of each of the shop's accounts, USD. ``full``
    takes its place in a full audit where that is another statement. ``figures`` returns one row of
    named amounts that the check compared, USD.
    """

    name: str
    sql: str
    full: str = ""
    figures: str = ""


@dataclass(slots=True)
class Result:
    """What one check found."""

    name: str
    seconds: float
    count: int
    differences: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)


# What a transfer did to its wallet.
CHANGE = "CASE WHEN line.credit_account = line.wallet_id THEN line.amount ELSE -line.amount END"

# Payouts: those that are open, which are few, and those whose money moved since. What was tampered
# with elsewhere shows in the totals, and a full audit names it.
OPEN = "('requested', 'first_approved', 'approved', 'exported', 'submitted', 'failed')"
TOUCHED_PAYOUTS = f"""
    id IN (
        SELECT id FROM wallet_payout WHERE state IN {OPEN}
        UNION ALL
        SELECT payout_id FROM wallet_payoutmove WHERE transfer_id > %(after)s
    )
"""
PAYOUT_MONEY = f"""
    SELECT 'payout ' || payout.id,
        format('%%s is %%s, its transfers leave %%s pending, %%s paid, %%s forfeited',
            payout.amount, payout.state, coalesce(money.pending, 0), coalesce(money.paid, 0),
            coalesce(money.forfeited, 0))
    FROM (SELECT id, amount, state FROM wallet_payout WHERE {{touched}}) AS payout
    LEFT JOIN (
        SELECT move.payout_id,
            sum(CASE WHEN line.credit_account = {Account.PAYOUTS_PENDING} THEN line.amount
                WHEN line.debit_account = {Account.PAYOUTS_PENDING} THEN -line.amount
                ELSE 0 END) AS pending,
            sum(CASE WHEN line.credit_account = {Account.PAYOUTS_PAID} THEN line.amount
                WHEN line.debit_account = {Account.PAYOUTS_PAID} THEN -line.amount
                ELSE 0 END) AS paid,
            sum(CASE WHEN line.credit_account = {Account.FORFEITURES} THEN line.amount
                ELSE 0 END) AS forfeited
        FROM wallet_payoutmove AS move
        JOIN wallet_transfer AS line ON line.id = move.transfer_id
        WHERE move.payout_id IN (SELECT id FROM wallet_payout WHERE {{touched}})
        GROUP BY move.payout_id
    ) AS money ON money.payout_id = payout.id
    WHERE coalesce(money.pending, 0) <> CASE WHEN state IN {OPEN} THEN amount ELSE 0 END
        OR coalesce(money.paid, 0) <> CASE WHEN state = 'paid' THEN amount ELSE 0 END
        OR coalesce(money.forfeited, 0) <> CASE WHEN state = 'forfeited' THEN amount ELSE 0 END
"""
PAYOUT_TOTALS = f"""
    SELECT %(account_{Account.PAYOUTS_PENDING.value})s::numeric AS payouts_pending,
        coalesce(sum(amount) FILTER (WHERE state IN {OPEN}), 0) AS open_payouts,
        %(account_{Account.PAYOUTS_PAID.value})s::numeric AS payouts_paid,
        coalesce(sum(amount) FILTER (WHERE state = 'paid'), 0) AS paid_payouts
    FROM wallet_payout
"""
PAYOUT_APPROVALS = """
    SELECT 'payout ' || payout.id,
        format('%%s is %%s, requested by %%s, sent again by %%s, approved by %%s and %%s,'
            ' failed by %%s, ended by %%s', amount, state, requested_by_id, sent_again_by_id,
            approved_by_id, second_by_id, failed_by_id, decided_by_id)
    FROM (SELECT * FROM wallet_payout WHERE {touched}) AS payout
    WHERE approved_by_id IN (requested_by_id, sent_again_by_id)
        OR second_by_id IN (requested_by_id, sent_again_by_id, approved_by_id)
        OR approved_at < not_before
        OR decided_by_id = failed_by_id
        OR EXISTS (
            SELECT FROM wallet_resultline AS line
            JOIN wallet_resultfile AS file ON file.id = line.file_id
            WHERE line.payout_id = payout.id AND line.attempt = payout.attempt
                AND line.outcome = 'failed' AND file.uploaded_by_id = payout.decided_by_id)
        OR (state = 'rejected' AND decided_by_id = sent_again_by_id)
        OR (state NOT IN ('requested', 'first_approved', 'rejected', 'withdrawn')
            AND (approved_by_id IS NULL OR (amount > second_from AND second_by_id IS NULL)))
"""
BATCHES = """
    SELECT 'payout ' || payout.id,
        format('%%s is %%s at attempt %%s, its live line says %%s at attempt %%s, in batch %%s,'
            ' which is %%s', payout.amount, payout.state, payout.attempt, line.amount, line.attempt,
            batch.id, batch.state)
    FROM (SELECT * FROM wallet_payout WHERE {touched}) AS payout
    JOIN wallet_payoutmethod AS method ON method.id = payout.method_id
    LEFT JOIN wallet_batchline AS line ON line.payout_id = payout.id AND line.live
    LEFT JOIN wallet_payoutbatch AS batch ON batch.id = line.batch_id
    WHERE CASE
        WHEN line.id IS NOT NULL THEN
            (line.attempt, line.amount, line.address, line.memo, line.currency, line.network)
                IS DISTINCT FROM (payout.attempt, payout.amount, payout.address, payout.memo,
                    method.currency, method.network)
            OR (batch.state, payout.state) NOT IN (
                ('gathered', 'approved'),
                ('exported', 'exported'), ('exported', 'paid'), ('exported', 'failed'),
                ('submitted', 'submitted'), ('submitted', 'paid'), ('submitted', 'failed'))
        -- What had failed when its batch was voided is in none, nor if it is found paid since.
        WHEN payout.state IN ('paid', 'failed') THEN NOT EXISTS (
            SELECT FROM wallet_batchline AS gone
            JOIN wallet_payoutbatch AS given_up ON given_up.id = gone.batch_id
            WHERE gone.payout_id = payout.id AND gone.attempt = payout.attempt
                AND given_up.state = 'voided')
        ELSE payout.state IN ('exported', 'submitted')
    END
    UNION ALL
    SELECT 'batch ' || batch.id,
        format('is %%s of %%s USD, its lines are %%s of %%s, its %%s files %%s of %%s', batch.count,
            batch.total, lines.count, lines.total, form.name, files.count, files.total)
    FROM (SELECT * FROM wallet_payoutbatch WHERE {batches}) AS batch
    CROSS JOIN (VALUES ('csv'), ('xlsx')) AS form (name)
    CROSS JOIN LATERAL (
        SELECT count(*) AS count, coalesce(sum(amount), 0) AS total
        FROM wallet_batchline WHERE batch_id = batch.id
    ) AS lines
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(rows), 0) AS count, coalesce(sum(total), 0) AS total
        FROM wallet_payoutfile WHERE batch_id = batch.id AND format = form.name
    ) AS files
    WHERE (lines.count, lines.total) <> (batch.count, batch.total)
        OR (files.count, files.total) <> (
            CASE WHEN batch.exported_by_id IS NULL THEN 0 ELSE batch.count END,
            CASE WHEN batch.exported_by_id IS NULL THEN 0 ELSE batch.total END)
    UNION ALL
    SELECT 'payout file ' || file.id,
        format('of batch %%s: its hash is not its content''s', batch.id)
    FROM (SELECT * FROM wallet_payoutbatch WHERE {batches}) AS batch
    JOIN wallet_payoutfile AS file ON file.batch_id = batch.id
    WHERE file.sha256 <> encode(sha256(file.content), 'hex')
        OR file.size <> octet_length(file.content)
"""
TOUCHED_BATCHES = f"""
    id IN (SELECT batch_id FROM wallet_batchline
        WHERE payout_id IN (SELECT id FROM wallet_payout WHERE {TOUCHED_PAYOUTS}))
"""

LEDGER: tuple[Check, ...] = (
    Check(
        "each wallet shows the balance and version of its last transfer",
        """
        SELECT 'wallet ' || wallet.customer_id,
            format('shows %%s at version %%s, its last transfer says %%s at %%s',
                wallet.balance, wallet.version, last.balance_after, last.wallet_version)
        FROM (
            SELECT DISTINCT wallet_id FROM wallet_transfer WHERE id > %(after)s
        ) AS touched
        JOIN wallet_wallet AS wallet ON wallet.customer_id = touched.wallet_id
        LEFT JOIN LATERAL (
            SELECT balance_after, wallet_version FROM wallet_transfer
            WHERE wallet_id = wallet.customer_id ORDER BY wallet_version DESC LIMIT 1
        ) AS last ON true
        WHERE wallet.balance <> coalesce(last.balance_after, 0)
            OR wallet.version <> coalesce(last.wallet_version, 0)
        """,
        full="""
        SELECT 'wallet ' || wallet.customer_id,
            format('shows %%s at version %%s, its last transfer says %%s at %%s',
                wallet.balance, wallet.version, last.balance_after, last.wallet_version)
        FROM wallet_wallet AS wallet
        LEFT JOIN LATERAL (
            SELECT balance_after, wallet_version FROM wallet_transfer
            WHERE wallet_id = wallet.customer_id ORDER BY wallet_version DESC LIMIT 1
        ) AS last ON true
        WHERE wallet.balance <> coalesce(last.balance_after, 0)
            OR wallet.version <> coalesce(last.wallet_version, 0)
        """,
    ),
    Check(
        "each wallet's balance is the sum of its transfers",
        f"""
        SELECT 'wallet ' || moved.wallet_id,
            format('holds %%s, its transfers come to %%s', wallet.balance,
                coalesce(before.balance_after, 0) + moved.total)
        FROM (
            SELECT line.wallet_id, min(line.wallet_version) AS first, sum({CHANGE}) AS total
            FROM wallet_transfer AS line
            WHERE line.id > %(after)s AND line.wallet_id IS NOT NULL
            GROUP BY line.wallet_id
        ) AS moved
        LEFT JOIN wallet_wallet AS wallet ON wallet.customer_id = moved.wallet_id
        LEFT JOIN wallet_transfer AS before
            ON before.wallet_id = moved.wallet_id AND before.wallet_version = moved.first - 1
        WHERE wallet.balance IS DISTINCT FROM coalesce(before.balance_after, 0) + moved.total
        """,
        full=f"""
        SELECT 'wallet ' || coalesce(wallet.customer_id, moved.wallet_id),
            format('holds %%s, its transfers come to %%s',
                wallet.balance, coalesce(moved.total, 0))
        FROM wallet_wallet AS wallet
        FULL JOIN (
            SELECT line.wallet_id, sum({CHANGE}) AS total
            FROM wallet_transfer AS line WHERE line.wallet_id IS NOT NULL GROUP BY line.wallet_id
        ) AS moved ON moved.wallet_id = wallet.customer_id
        WHERE wallet.balance IS DISTINCT FROM coalesce(moved.total, 0)
        """,
    ),
    Check(
        "versions are gapless, and each balance continues the one before",
        f"""
        SELECT 'transfer ' || line.id,
            format('version %%s after %%s, balance %%s after %%s',
                line.wallet_version, before.wallet_version, line.balance_after,
                before.balance_after)
        FROM wallet_transfer AS line
        LEFT JOIN wallet_transfer AS before
            ON before.wallet_id = line.wallet_id
            AND before.wallet_version = line.wallet_version - 1
        WHERE line.id > %(after)s AND line.wallet_id IS NOT NULL
            AND (
                (before.id IS NULL AND line.wallet_version <> 1)
                OR line.balance_after <> coalesce(before.balance_after, 0) + {CHANGE}
            )
        """,
        full="""
        SELECT 'transfer ' || id,
            format('version %%s after %%s, balance %%s after %%s',
                wallet_version, previous_version, balance_after, previous_balance)
        FROM (
            SELECT id, wallet_version, balance_after,
                CASE WHEN credit_account = wallet_id THEN amount ELSE -amount END AS change,
                coalesce(lag(wallet_version) OVER chain, 0) AS previous_version,
                coalesce(lag(balance_after) OVER chain, 0) AS previous_balance
            FROM wallet_transfer WHERE wallet_id IS NOT NULL
            WINDOW chain AS (PARTITION BY wallet_id ORDER BY wallet_version)
        ) AS line
        WHERE wallet_version <> previous_version + 1 OR balance_after <> previous_balance + change
        """,
    ),
    Check(
        "the shop's accounts and all wallets sum to zero",
        f"""
        SELECT 'all accounts',
            format('the shop gave %%s since the last audit, the wallets got %%s', shop, wallets)
        FROM (
            SELECT (
                SELECT coalesce(sum(CASE WHEN debit_account < {FIRST_WALLET} THEN amount END), 0)
                    - coalesce(sum(CASE WHEN credit_account < {FIRST_WALLET} THEN amount END), 0)
                FROM wallet_transfer WHERE id > %(after)s
            ) AS shop, (
                SELECT coalesce(sum(wallet.balance - coalesce(before.balance_after, 0)), 0)
                FROM (
                    SELECT wallet_id, min(wallet_version) AS first FROM wallet_transfer
                    WHERE id > %(after)s AND wallet_id IS NOT NULL GROUP BY wallet_id
                ) AS touched
                JOIN wallet_wallet AS wallet ON wallet.customer_id = touched.wallet_id
                LEFT JOIN wallet_transfer AS before
                    ON before.wallet_id = touched.wallet_id
                    AND before.wallet_version = touched.first - 1
            ) AS wallets
        ) AS totals
        WHERE shop <> wallets
        """,
        full=f"""
        SELECT 'all accounts', format('the shop owes %%s, the wallets hold %%s', shop, wallets)
        FROM (
            SELECT -({" + ".join(f"%(account_{number})s::numeric" for number in Account.values)})
                AS shop, (SELECT coalesce(sum(balance), 0) FROM wallet_wallet) AS wallets
        ) AS totals
        WHERE shop <> wallets
        """,
    ),
    Check(
        "a forfeited or closed wallet is empty",
        """
        SELECT 'wallet ' || customer_id, format('is %%s and holds %%s', state, balance)
        FROM wallet_wallet WHERE state <> 'active' AND state <> 'frozen' AND balance <> 0
        """,
    ),
    Check(
        "a reversal is exactly the other way round, and a transfer is reversed once",
        """
        SELECT 'transfer ' || line.id,
            format('%%s from %%s to %%s reverses transfer %%s, %%s from %%s to %%s',
                line.amount, line.debit_account, line.credit_account, original.id,
                original.amount, original.debit_account, original.credit_account)
        FROM wallet_transfer AS line
        LEFT JOIN wallet_transfer AS original ON original.id = line.reverses_id
        WHERE line.id > %(after)s AND line.kind = 'reversal'
            AND (
                original.id IS NULL OR original.amount <> line.amount
                OR original.debit_account <> line.credit_account
                OR original.credit_account <> line.debit_account
                OR EXISTS (
                    SELECT FROM wallet_transfer AS other
                    WHERE other.reverses_id = line.reverses_id AND other.id <> line.id
                )
            )
        """,
    ),
    Check(
        "each decision of two people agrees with the money that it moved",
        """
        SELECT 'correction ' || made.id,
            format('%%s of %%s for customer %%s, transfer %%s is %%s of %%s', made.kind,
                made.amount, made.customer_id, moved.id, moved.kind, moved.amount)
        FROM wallet_correction AS made
        LEFT JOIN wallet_transfer AS moved ON moved.id = made.transfer_id
        WHERE made.transfer_id > %(after)s
            AND (
                moved.kind IS DISTINCT FROM made.kind OR made.state <> 'confirmed'
                OR moved.wallet_id IS DISTINCT FROM made.customer_id
                OR moved.reverses_id IS DISTINCT FROM made.reverses_id
                OR made.decided_by_id = made.requested_by_id
                OR made.amount <> CASE
                    WHEN moved.debit_account = moved.wallet_id THEN -moved.amount
                    ELSE moved.amount END
            )
        UNION ALL
        SELECT 'termination ' || made.id,
            format('%%s from wallet %%s, transfer %%s is %%s of %%s', made.wallet_amount,
                made.customer_id, moved.id, moved.kind, moved.amount)
        FROM wallet_termination AS made
        LEFT JOIN wallet_transfer AS moved ON moved.id = made.transfer_id
        WHERE made.transfer_id > %(after)s
            AND (
                moved.kind IS DISTINCT FROM 'forfeiture' OR made.state <> 'confirmed'
                OR moved.wallet_id IS DISTINCT FROM made.customer_id
                OR moved.amount <> made.wallet_amount
                OR made.decided_by_id = made.requested_by_id
            )
        UNION ALL
        SELECT 'reinstatement ' || made.id,
            format('%%s, transfer %%s is %%s of %%s',
                made.amount, moved.id, moved.kind, moved.amount)
        FROM wallet_reinstatement AS made
        JOIN wallet_termination AS ended ON ended.id = made.termination_id
        LEFT JOIN wallet_transfer AS moved ON moved.id = made.transfer_id
        WHERE made.transfer_id > %(after)s
            AND (
                moved.kind IS DISTINCT FROM 'reinstatement' OR made.state <> 'confirmed'
                OR moved.wallet_id IS DISTINCT FROM ended.customer_id
                OR moved.amount <> made.amount
                OR made.amount <> ended.wallet_amount + ended.orders_amount
                OR made.decided_by_id = made.requested_by_id
            )
        """,
    ),
    Check(
        "no money that people decide about moved without a decision",
        f"""
        SELECT 'transfer ' || line.id, format('%%s of %%s belongs to no decision',
            line.kind, line.amount)
        FROM wallet_transfer AS line
        WHERE line.id > %(after)s AND (
            (line.kind IN ('adjustment', 'goodwill', 'reversal') AND NOT EXISTS (
                SELECT FROM wallet_correction WHERE transfer_id = line.id))
            OR (line.kind = 'forfeiture' AND line.debit_account >= {FIRST_WALLET} AND NOT EXISTS (
                SELECT FROM wallet_termination WHERE transfer_id = line.id))
            OR (line.kind = 'reinstatement' AND NOT EXISTS (
                SELECT FROM wallet_reinstatement WHERE transfer_id = line.id))
        )
        """,
    ),
    Check(
        "each payout's money is where its state says",
        PAYOUT_MONEY.format(touched=TOUCHED_PAYOUTS),
        full=PAYOUT_MONEY.format(touched="true"),
    ),
    Check(
        "payouts pending and paid are the sums of open and paid payouts",
        f"""
        SELECT 'payouts pending', format('holds %%s, open payouts come to %%s',
            payouts_pending, open_payouts)
        FROM ({PAYOUT_TOTALS}) AS totals WHERE payouts_pending <> open_payouts
        UNION ALL
        SELECT 'payouts paid', format('holds %%s, paid payouts come to %%s',
            payouts_paid, paid_payouts)
        FROM ({PAYOUT_TOTALS}) AS totals WHERE payouts_paid <> paid_payouts
        """,
        figures=PAYOUT_TOTALS,
    ),
    Check(
        "no transfer of payouts without its payout, and kinds and keys agree",
        f"""
        SELECT 'transfer ' || line.id, format('%%s of %%s under %%s, payout %%s of %%s',
            line.kind, line.amount, line.key, payout.id, payout.amount)
        FROM wallet_transfer AS line
        LEFT JOIN wallet_payoutmove AS move ON move.transfer_id = line.id
        LEFT JOIN wallet_payout AS payout ON payout.id = move.payout_id
        WHERE line.id > %(after)s
            AND (
                move.id IS NOT NULL
                OR line.kind IN ('payout', 'payout_return', 'payout_paid', 'payout_unpaid')
                OR line.debit_account IN ({Account.PAYOUTS_PENDING}, {Account.PAYOUTS_PAID})
                OR line.credit_account IN ({Account.PAYOUTS_PENDING}, {Account.PAYOUTS_PAID})
            )
            AND (
                payout.id IS NULL OR line.amount <> payout.amount
                OR coalesce(line.wallet_id, payout.customer_id) <> payout.customer_id
                OR line.key !~ ('^payout:' || payout.id || ':' || CASE line.kind
                    WHEN 'payout' THEN 'request$'
                    WHEN 'payout_return' THEN 'return$'
                    WHEN 'payout_paid' THEN 'paid:[1-9][0-9]*$'
                    WHEN 'payout_unpaid' THEN 'unpaid:[1-9][0-9]*$'
                    WHEN 'forfeiture' THEN 'forfeited$'
                    ELSE 'no key$'
                END)
            )
        """,
    ),
    Check(
        "nobody approved their own payout, and two did above the amount",
        PAYOUT_APPROVALS.format(touched=TOUCHED_PAYOUTS),
        full=PAYOUT_APPROVALS.format(touched="true"),
    ),
    Check(
        "batches and their files are what their payouts say",
        BATCHES.format(touched=TOUCHED_PAYOUTS, batches=TOUCHED_BATCHES),
        full=BATCHES.format(touched="true", batches="true"),
    ),
)

# Apart, because the ledger's own tests credit wallets without a payment.
DEPOSITS: tuple[Check, ...] = (
    Check(
        "each deposit is one payment, for a customer of its own storefront",
        """
        SELECT 'transfer ' || line.id, format('deposit of %%s to wallet %%s, payment %%s',
            line.amount, line.credit_account, paid.reference)
        FROM wallet_transfer AS line
        LEFT JOIN wallet_deposit AS paid ON paid.transfer_id = line.id
        LEFT JOIN wallet_customer AS customer ON customer.id = line.credit_account
        WHERE line.id > %(after)s AND line.kind = 'deposit'
            AND customer.storefront_id IS DISTINCT FROM paid.storefront_id
        UNION ALL
        SELECT 'deposit ' || paid.id, format('is transfer %%s, a %%s', line.id, line.kind)
        FROM wallet_deposit AS paid
        JOIN wallet_transfer AS line ON line.id = paid.transfer_id
        WHERE paid.transfer_id > %(after)s AND line.kind <> 'deposit'
        """,
    ),
)

CHECKS = (*LEDGER, *DEPOSITS)


def audit(
    checks: Iterable[Check], *, full: bool = False, progress: Progress | None = None
) -> AuditRun:
    """Run the checks on one snapshot and keep the result. Changes nothing else, blocks nobody.

    Begins after the newest passed run; ``full`` begins with the first transfer, and so does a run
    without one before it, or after a full one that failed. Tells ``progress`` each result as it
    comes. Inside a caller's transaction the snapshot is the caller's, with its uncommitted rows.
    """
    started_at = timezone.now()
    base = None if full else _checkpoint()
    after = base.through_id if base else 0
    settled = settled_through(PATIENCE)
    through = after if settled is None else settled
    own_transaction = not connection.in_atomic_block
    with transaction.atomic():
        if own_transaction:
            with connection.cursor() as cursor:
                # Money moves while we count: every check must see the same moment.
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        totals, new = _totals(after, through)
        for account, amount in (base.totals if base else {}).items():
            totals[int(account)] += Decimal(amount)
            new[int(account)] += Decimal(amount)
        results = []
        for check in checks:
            results.append(run(check, after, new))
            if progress:
                progress(results[-1])
    return AuditRun.objects.create(
        started_at=started_at,
        finished_at=timezone.now(),
        passed=not any(result.count for result in results),
        after_id=after,
        through_id=through,
        totals={str(account): str(totals[account]) for account in Account.values},
        checks=[asdict(result) for result in results],
    )


def prove(checks: Iterable[Check]) -> list[Result]:
    """What a full audit finds in the caller's transaction; nothing is kept."""
    _, accounts = _totals(0, 0)
    return [run(check, 0, accounts) for check in checks]


def run(check: Check, after: int, accounts: dict[int, Decimal]) -> Result:
    """Run one check on the transfers after ``after``; ``accounts`` are the shop's balances."""
    begun = time.monotonic()
    figures: dict[str, Any] = {}
    parameters: dict[str, Any] = {"after": after}
    parameters |= {f"account_{number}": accounts[number] for number in Account.values}
    with connection.cursor() as cursor:
        # Sorting and hashing a million rows in memory, by several processes: the planner expects
        # most rows to come back, and next to none do. Only for this transaction.
        cursor.execute(
            "SET LOCAL work_mem = '256MB'; SET LOCAL parallel_tuple_cost = 0;"
            " SET LOCAL parallel_setup_cost = 0"
        )
        cursor.execute(check.full if check.full and after == 0 else check.sql, parameters)
        shown = cursor.fetchmany(SHOWN)
        count = max(cursor.rowcount, len(shown))
        if check.figures:
            cursor.execute(check.figures, parameters)
            names = [column.name for column in cursor.description]
            figures = dict(zip(names, map(str, cursor.fetchone()), strict=True))
    return Result(
        name=check.name,
        seconds=round(time.monotonic() - begun, 3),
        count=count,
        differences=[f"{what}: {difference}" for what, difference in shown],
        figures=figures,
    )


def _checkpoint() -> AuditRun | None:
    """The newest passed run that the ledger still reaches; a restored one may not.

    None while the last full audit failed: what it found may lie before every checkpoint, and a run
    that does not look there must not say that the books agree.
    """
    full = AuditRun.objects.filter(after_id=0).order_by("-pk").first()
    if full is not None and not full.passed:
        return None
    base = AuditRun.objects.filter(passed=True, through_id__gt=0).order_by("-pk").first()
    last = Transfer.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return base if base is not None and base.through_id <= last else None


def _totals(after: int, through: int) -> tuple[Totals, Totals]:
    """What each of the shop's accounts got less what it gave since ``after``, USD.

    First by the transfers up to ``through``, then by all of them.
    """
    settled: Totals = defaultdict(Decimal)
    new: Totals = defaultdict(Decimal)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id <= %(through)s, least(debit_account, {FIRST_WALLET}),
                least(credit_account, {FIRST_WALLET}), sum(amount)
            FROM wallet_transfer WHERE id > %(after)s
            GROUP BY 1, 2, 3
            """,
            {"after": after, "through": through},
        )
        for is_settled, debit, credit, amount in cursor.fetchall():
            for totals in (settled, new) if is_settled else (new,):
                totals[debit] -= amount
                totals[credit] += amount
    return settled, new
