DROP FUNCTION ledger_post(jsonb, timestamptz);

-- As they were.
CREATE OR REPLACE FUNCTION ledger_apply_transfers() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong record;
BEGIN
    -- First, because it locks: from here on no other session changes the states of these wallets.
    UPDATE wallet_wallet AS wallet
    SET balance = last.balance_after, version = last.wallet_version, posted_at = last.posted_at
    FROM (
        SELECT DISTINCT ON (wallet_id) wallet_id, wallet_version, balance_after, posted_at
        FROM posted
        WHERE wallet_id IS NOT NULL
        ORDER BY wallet_id, wallet_version DESC
    ) AS last
    WHERE wallet.customer_id = last.wallet_id;

    SELECT line.id, line.kind, line.wallet_id, wallet.state,
        line.balance_after <> coalesce(previous.balance_after, 0)
            + CASE WHEN line.credit_account = line.wallet_id THEN line.amount ELSE -line.amount END
        OR (previous.id IS NULL AND line.wallet_version <> 1) AS is_broken,
        line.posted_at < previous.posted_at AS is_early
    INTO wrong
    FROM posted AS line
    JOIN wallet_wallet AS wallet ON wallet.customer_id = line.wallet_id
    LEFT JOIN wallet_transfer AS previous
        ON previous.wallet_id = line.wallet_id
        AND previous.wallet_version = line.wallet_version - 1
    WHERE line.balance_after <> coalesce(previous.balance_after, 0)
            + CASE WHEN line.credit_account = line.wallet_id THEN line.amount ELSE -line.amount END
        OR (previous.id IS NULL AND line.wallet_version <> 1)
        OR line.posted_at < previous.posted_at
        OR wallet.state IN ('forfeited', 'closed')
        OR (wallet.state = 'frozen' AND line.kind IN ('purchase', 'rounding'))
    LIMIT 1;
    IF FOUND THEN
        IF wrong.is_broken THEN
            RAISE EXCEPTION 'transfer % does not continue its wallet''s chain of versions and balances', wrong.id
                USING ERRCODE = 'check_violation';
        ELSIF wrong.is_early THEN
            RAISE EXCEPTION 'transfer % is earlier than the one before it in its wallet', wrong.id
                USING ERRCODE = 'check_violation';
        END IF;
        RAISE EXCEPTION 'wallet % is %: it takes no %', wrong.wallet_id, wrong.state, wrong.kind
            USING ERRCODE = 'check_violation';
    END IF;

    -- Exactly what was done, the other way round; and only where nothing else rests on it.
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

    SELECT line.id, seal.day INTO wrong
    FROM posted AS line,
        (SELECT max(day) AS day FROM wallet_seal) AS seal
    WHERE line.posted_at < (seal.day + 1)::timestamp AT TIME ZONE 'UTC'
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transfer % is of a sealed day: the books are sealed to the end of %', wrong.id, wrong.day
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION wallet_shows_its_last_transfer() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT wallet.customer_id INTO wrong
    FROM changed AS wallet
    LEFT JOIN wallet_transfer AS last
        ON last.wallet_id = wallet.customer_id AND last.wallet_version = wallet.version
    WHERE wallet.balance <> coalesce(last.balance_after, 0)
        OR wallet.posted_at IS DISTINCT FROM last.posted_at
        OR (last.id IS NULL AND wallet.version <> 0)
        OR EXISTS (
            SELECT FROM wallet_transfer AS later
            WHERE later.wallet_id = wallet.customer_id AND later.wallet_version = wallet.version + 1
        )
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'wallet % would not show the balance and version of its last transfer', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

DROP FUNCTION wallet_takes(text, text[]);
DROP FUNCTION transfer_fits_its_kind(text, bigint, bigint, numeric, bigint);
