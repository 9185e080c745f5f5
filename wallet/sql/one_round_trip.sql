-- A posting in one round trip: the rules of posting are a function beside the rows that they are about,
-- and the proof of a wallet's chain is one statement.
--
-- The functions below keep the plan of each statement for the session (force_generic_plan) and look each
-- row up by its index (enable_…), whatever rows came along first.

-- What each kind of transfer moves, from where to where: for the CHECK of wallet_transfer. Accounts from
-- 1000 on are wallets; the shop's are 1 crypto deposits, 2 order escrow, 3 sales, 4 upstream cost,
-- 5 upstream prepaid, 6 forfeitures, 7 goodwill, 8 rounding, 9 adjustments (wallet.models.Account).
CREATE FUNCTION transfer_fits_its_kind(
    kind text, debit bigint, credit bigint, amount numeric, reverses bigint
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE kind
        WHEN 'deposit' THEN debit = 1 AND credit >= 1000
        WHEN 'purchase' THEN debit >= 1000 AND credit = 2
        WHEN 'delivery' THEN debit = 2 AND credit = 3
        WHEN 'auto_refund' THEN debit = 2 AND credit >= 1000
        WHEN 'decided_refund' THEN debit = 3 AND credit >= 1000
        WHEN 'upstream_cost' THEN debit = 4 AND credit = 5
        WHEN 'adjustment' THEN (debit = 9 AND credit >= 1000) OR (debit >= 1000 AND credit = 9)
        WHEN 'goodwill' THEN debit = 7 AND credit >= 1000
        -- A terminated customer's balance, and the prices of open orders.
        WHEN 'forfeiture' THEN (debit = 2 OR debit >= 1000) AND credit = 6
        WHEN 'reinstatement' THEN debit = 6 AND credit >= 1000
        -- What is below a cent when a wallet is closed.
        WHEN 'rounding' THEN debit >= 1000 AND credit = 8 AND amount < 0.01
        -- The accounts of the transfer that it reverses, swapped: the trigger compares.
        WHEN 'reversal' THEN reverses IS NOT NULL
        ELSE false
    END;
END $$;

-- What a wallet does not take in its state. Everything but spending still moves on a frozen one: refunds
-- arrive, errors are mended.
CREATE FUNCTION wallet_takes(state text, kinds text[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT state = 'active' OR (state = 'frozen' AND NOT kinds && ARRAY['purchase', 'rounding'])
$$;

-- Posts a batch, all or nothing, for wallet.ledger.post, which says what is guaranteed. ``postings`` is
-- [[kind, debit, credit, amount, key, reverses], …], amounts as text. Returns the transfers' ids in the
-- order of the postings; or what refuses the batch, and then nothing was written.
-- It runs with the rights of whoever calls it, and proves nothing: the triggers below do that of every
-- INSERT.
CREATE FUNCTION ledger_post(postings jsonb, clock timestamptz, OUT ids bigint[], OUT refusal jsonb)
LANGUAGE plpgsql
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wanted bigint[];
    locked bigint;
    last_posted_at timestamptz;
    is_replay boolean;
    made bigint[];
BEGIN
    wanted := ARRAY(
        SELECT DISTINCT account
        FROM jsonb_array_elements(postings) AS given,
            LATERAL (VALUES ((given ->> 1)::bigint), ((given ->> 2)::bigint)) AS side (account)
        WHERE account >= 1000
    );
    SELECT count(*), max(posted_at) INTO locked, last_posted_at
    FROM (
        SELECT posted_at FROM wallet_wallet WHERE customer_id = ANY (wanted)
        ORDER BY customer_id FOR NO KEY UPDATE
    ) AS wallet;
    IF locked < cardinality(wanted) THEN
        SELECT jsonb_build_object('missing', min(id)) INTO refusal
        FROM unnest(wanted) AS id
        WHERE NOT EXISTS (SELECT FROM wallet_wallet WHERE customer_id = id);
        RETURN;
    END IF;

    -- Under the locks, so that what another session posted meanwhile is seen.
    ids := ARRAY(
        SELECT first.id
        FROM jsonb_array_elements(postings) WITH ORDINALITY AS posting (given, nth)
        LEFT JOIN wallet_transfer AS first ON first.key = given ->> 4
        ORDER BY nth
    );
    is_replay := num_nonnulls(VARIADIC ids) > 0;
    IF is_replay THEN
        SELECT jsonb_build_object('posting', nth - 1, 'first', jsonb_build_array(first.kind,
            first.debit_account, first.credit_account, first.amount::text, first.reverses_id))
        INTO refusal
        FROM ROWS FROM (jsonb_array_elements(postings), unnest(ids)) WITH ORDINALITY
            AS posting (given, id, nth)
        JOIN wallet_transfer AS first ON first.id = posting.id
        WHERE first.kind <> given ->> 0
            OR first.debit_account <> (given ->> 1)::bigint
            OR first.credit_account <> (given ->> 2)::bigint
            OR first.amount <> (given ->> 3)::numeric
            OR first.reverses_id IS DISTINCT FROM (given ->> 5)::bigint
        ORDER BY nth
        LIMIT 1;
        IF FOUND THEN
            ids := NULL;
            RETURN;
        ELSIF num_nulls(VARIADIC ids) = 0 THEN
            RETURN;
        END IF;
    END IF;

    WITH posting AS (
        SELECT nth, given ->> 0 AS kind, (given ->> 1)::bigint AS debit,
            (given ->> 2)::bigint AS credit, (given ->> 3)::numeric AS amount, given ->> 4 AS key,
            (given ->> 5)::bigint AS reverses
        FROM ROWS FROM (jsonb_array_elements(postings), unnest(ids)) WITH ORDINALITY
            AS posting (given, id, nth)
        WHERE id IS NULL
    ), line AS (
        -- In the order given: what comes in first may be spent by what follows.
        SELECT posting.*, wallet.customer_id AS wallet_id, wallet.state,
            wallet.version + count(*) OVER chain AS version,
            wallet.balance + sum(CASE WHEN credit >= 1000 THEN amount ELSE -amount END) OVER chain
                AS balance
        FROM posting
        LEFT JOIN wallet_wallet AS wallet ON wallet.customer_id
            = CASE WHEN debit >= 1000 THEN debit WHEN credit >= 1000 THEN credit END
        WINDOW chain AS (PARTITION BY wallet.customer_id ORDER BY nth)
    ), refused AS (
        SELECT jsonb_build_object('posting', nth - 1, 'wallet', wallet_id) || CASE
            WHEN wallet_takes(state, ARRAY[kind])
            THEN jsonb_build_object('balance', (balance + amount)::text)
            ELSE jsonb_build_object('state', state) END AS refusal
        FROM line
        WHERE balance < 0 OR NOT wallet_takes(state, ARRAY[kind])
        ORDER BY nth
        LIMIT 1
    ), inserted AS (
        INSERT INTO wallet_transfer (
            kind, debit_account, credit_account, amount, key, reverses_id,
            wallet_id, wallet_version, balance_after, posted_at
        )
        SELECT kind, debit, credit, amount, key, reverses, wallet_id, version, balance,
            greatest(coalesce(clock, clock_timestamp()), last_posted_at)
        FROM line
        WHERE NOT EXISTS (SELECT FROM refused)
        ORDER BY nth
        RETURNING id
    )
    SELECT array_agg(id), (SELECT refused.refusal FROM refused) INTO made, refusal FROM inserted;
    ids := CASE
        WHEN NOT is_replay OR refusal IS NOT NULL THEN made
        -- Old and new, each where it stands in the batch.
        ELSE ARRAY(
            SELECT coalesce(id, made[count(*) FILTER (WHERE id IS NULL) OVER (ORDER BY nth)])
            FROM unnest(ids) WITH ORDINALITY AS posting (id, nth)
            ORDER BY nth
        )
    END;
END $$;

-- A wallet's transfers form a chain: version 1, 2, 3 … without a gap, each balance the one before
-- it plus or minus the amount, none earlier than the one before it. The wallet goes on by its new lines,
-- where they continue what it shows and its state takes them: nothing else writes its balance, version
-- and time, so neither can exist without the other. No transfer without its wallet comes through here
-- either, which is why wallet_id needs no foreign key; and wallets are kept (wallet_is_kept).
-- It runs as the owner of the tables: the application's role may not write those columns.
CREATE OR REPLACE FUNCTION ledger_apply_transfers() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    told record;
    wrong record;
BEGIN
    WITH line AS (
        -- What the wallet must have shown before, if this line and those before it are right.
        SELECT wallet_id, kind, posted_at, change,
            wallet_version - row_number() OVER chain AS version,
            balance_after - sum(change) OVER chain AS balance,
            posted_at < max(posted_at) OVER chain AS is_early
        FROM (
            SELECT *, CASE WHEN credit_account = wallet_id THEN amount ELSE -amount END AS change
            FROM posted WHERE wallet_id IS NOT NULL
        ) AS posted
        WINDOW chain AS (PARTITION BY wallet_id ORDER BY wallet_version)
    ), chain AS (
        SELECT wallet_id, count(*) AS lines, sum(change) AS change,
            min(version) AS version, max(version) AS also_version,
            min(balance) AS balance, max(balance) AS also_balance,
            min(posted_at) AS since, max(posted_at) AS until, bool_or(is_early) AS is_early,
            array_agg(kind::text) AS kinds
        FROM line GROUP BY wallet_id
    ), continued AS (
        -- It locks: from here on no other session changes the states of these wallets.
        UPDATE wallet_wallet AS wallet
        SET balance = wallet.balance + chain.change, version = wallet.version + chain.lines,
            posted_at = chain.until
        FROM chain
        WHERE wallet.customer_id = chain.wallet_id
            AND wallet.version = chain.version AND wallet.version = chain.also_version
            AND wallet.balance = chain.balance AND wallet.balance = chain.also_balance
            AND NOT chain.is_early AND (wallet.posted_at <= chain.since) IS NOT FALSE
            AND wallet_takes(wallet.state, chain.kinds)
        RETURNING customer_id
    )
    SELECT (SELECT count(*) FROM continued) = (SELECT count(*) FROM chain) AS continue,
        bool_or(kind = 'reversal') AS reverse, min(posted_at) AS since,
        (SELECT max(day) FROM wallet_seal) AS sealed
    INTO told FROM posted;

    IF NOT told.continue THEN
        SELECT line.id, line.kind, line.wallet_id, wallet.state,
            line.balance_after <> coalesce(previous.balance_after, 0)
                + CASE WHEN line.credit_account = line.wallet_id THEN line.amount ELSE -line.amount END
            OR (previous.id IS NULL AND line.wallet_version <> 1) AS is_broken,
            line.posted_at < previous.posted_at AS is_early,
            wallet_takes(wallet.state, ARRAY[line.kind::text]) AS is_taken
        INTO wrong
        FROM posted AS line
        LEFT JOIN wallet_wallet AS wallet ON wallet.customer_id = line.wallet_id
        LEFT JOIN wallet_transfer AS previous
            ON previous.wallet_id = line.wallet_id
            AND previous.wallet_version = line.wallet_version - 1
        WHERE line.wallet_id IS NOT NULL
        ORDER BY wallet.state IS NULL DESC, 5 DESC, 6 DESC NULLS LAST, 7, line.id
        LIMIT 1;
        IF wrong.state IS NULL THEN
            RAISE EXCEPTION 'transfer % has a wallet_id that is no wallet: %', wrong.id, wrong.wallet_id
                USING ERRCODE = 'foreign_key_violation';
        ELSIF wrong.is_early AND NOT wrong.is_broken THEN
            RAISE EXCEPTION 'transfer % is earlier than the one before it in its wallet', wrong.id
                USING ERRCODE = 'check_violation';
        ELSIF wrong.is_broken OR wrong.is_taken THEN
            RAISE EXCEPTION 'transfer % does not continue its wallet''s chain of versions and balances', wrong.id
                USING ERRCODE = 'check_violation';
        END IF;
        RAISE EXCEPTION 'wallet % is %: it takes no %', wrong.wallet_id, wrong.state, wrong.kind
            USING ERRCODE = 'check_violation';
    END IF;

    -- Exactly what was done, the other way round; and only where nothing else rests on it.
    IF told.reverse THEN
        SELECT line.id INTO wrong
        FROM posted AS line
        LEFT JOIN wallet_transfer AS original
            ON original.id = line.reverses_id
            AND original.amount = line.amount
            AND original.debit_account = line.credit_account
            AND original.credit_account = line.debit_account
            AND original.kind IN ('deposit', 'adjustment', 'goodwill', 'upstream_cost')
        WHERE line.kind = 'reversal' AND original.id IS NULL
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'transfer % is not the exact reversal of a transfer that can be reversed', wrong.id
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;

    IF told.since < (told.sealed + 1)::timestamp AT TIME ZONE 'UTC' THEN
        SELECT id INTO wrong FROM posted ORDER BY posted_at LIMIT 1;
        RAISE EXCEPTION 'transfer % is of a sealed day: the books are sealed to the end of %', wrong.id, told.sealed
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

-- A wallet begins empty, and then always shows its last transfer.
CREATE OR REPLACE FUNCTION wallet_shows_its_last_transfer() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT wallet.customer_id INTO wrong
    FROM changed AS wallet
    LEFT JOIN LATERAL (
        SELECT wallet_version, balance_after, posted_at FROM wallet_transfer
        WHERE wallet_id = wallet.customer_id ORDER BY wallet_version DESC LIMIT 1
    ) AS last ON true
    WHERE wallet.version <> coalesce(last.wallet_version, 0)
        OR wallet.balance <> coalesce(last.balance_after, 0)
        OR wallet.posted_at IS DISTINCT FROM last.posted_at
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'wallet % would not show the balance and version of its last transfer', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
