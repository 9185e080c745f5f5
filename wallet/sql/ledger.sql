-- The ledger's rules that no CHECK or unique index can say.
--
-- A session plans the statements of a function once, for the first rows that come along, be it one or
-- a hundred thousand, and keeps the plan. So the functions that look at the rows of a statement are told
-- to look each up by its index: their cost follows the statement, never the size of the tables.

-- Transfers are append-only: a correction is a new, reversing transfer.
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: it is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER transfer_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE TRIGGER customer_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalcustomer
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE TRIGGER deposit_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_deposit
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- A deposit stands for the money that arrived for a customer of its own storefront.
CREATE FUNCTION deposit_agrees_with_its_transfer() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT deposit.id INTO wrong
    FROM deposited AS deposit
    LEFT JOIN wallet_transfer AS transfer
        ON transfer.id = deposit.transfer_id AND transfer.kind = 'deposit'
    LEFT JOIN wallet_customer AS customer
        ON customer.id = transfer.credit_account AND customer.storefront_id = deposit.storefront_id
    WHERE customer.id IS NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'deposit % does not agree with its transfer', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER deposit_agrees_with_its_transfer
    AFTER INSERT ON wallet_deposit
    REFERENCING NEW TABLE AS deposited
    FOR EACH STATEMENT EXECUTE FUNCTION deposit_agrees_with_its_transfer();

-- A wallet's transfers form a chain: version 1, 2, 3 … without a gap, each balance the one before
-- it plus or minus the amount. The wallet then takes over the balance and version of its last one:
-- nothing else writes them, so neither can exist without the other.
CREATE FUNCTION ledger_apply_transfers() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT line.id INTO wrong
    FROM posted AS line
    LEFT JOIN wallet_transfer AS previous
        ON previous.wallet_id = line.wallet_id
        AND previous.wallet_version = line.wallet_version - 1
    WHERE line.wallet_id IS NOT NULL
        AND (
            line.balance_after <> coalesce(previous.balance_after, 0)
                + CASE WHEN line.credit_account = line.wallet_id THEN line.amount ELSE -line.amount END
            OR (previous.id IS NULL AND line.wallet_version <> 1)
        )
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transfer % does not continue its wallet''s chain of versions and balances', wrong
            USING ERRCODE = 'check_violation';
    END IF;

    UPDATE wallet_wallet AS wallet
    SET balance = last.balance_after, version = last.wallet_version
    FROM (
        SELECT DISTINCT ON (wallet_id) wallet_id, wallet_version, balance_after
        FROM posted
        WHERE wallet_id IS NOT NULL
        ORDER BY wallet_id, wallet_version DESC
    ) AS last
    WHERE wallet.customer_id = last.wallet_id;
    RETURN NULL;
END $$;

CREATE TRIGGER transfers_apply_to_wallets
    AFTER INSERT ON wallet_transfer
    REFERENCING NEW TABLE AS posted
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_apply_transfers();

-- A wallet begins empty, and then always shows its last transfer.
CREATE FUNCTION wallet_shows_its_last_transfer() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT wallet.customer_id INTO wrong
    FROM changed AS wallet
    LEFT JOIN wallet_transfer AS last
        ON last.wallet_id = wallet.customer_id AND last.wallet_version = wallet.version
    WHERE wallet.balance <> coalesce(last.balance_after, 0)
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

CREATE TRIGGER wallet_begins_empty
    AFTER INSERT ON wallet_wallet
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION wallet_shows_its_last_transfer();

CREATE TRIGGER wallet_follows_the_ledger
    AFTER UPDATE ON wallet_wallet
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION wallet_shows_its_last_transfer();

-- Numbers below 1000 are the shop's accounts.
ALTER TABLE wallet_customer ALTER COLUMN id SET START WITH 1000;
ALTER TABLE wallet_customer ALTER COLUMN id RESTART;
