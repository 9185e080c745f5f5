-- The rules of every kind of movement, of wallets' states, of decisions by two people, and of seals.
-- They are for the schema "public", and say so: no table of a session's own can stand in for one of ours.

-- Wallets from before take over the time of their last transfer.
UPDATE wallet_wallet AS wallet
SET posted_at = last.posted_at
FROM wallet_transfer AS last
WHERE last.wallet_id = wallet.customer_id AND last.wallet_version = wallet.version;

ALTER TABLE wallet_wallet ALTER COLUMN state SET DEFAULT 'active';

-- A wallet's transfers form a chain: version 1, 2, 3 … without a gap, each balance the one before
-- it plus or minus the amount, none earlier than the one before it. The wallet takes over the balance,
-- version and time of its last one: nothing else writes them, so neither can exist without the other.
-- It runs as the owner of the tables: the application's role may not write those columns.
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

-- A wallet begins empty, and then always shows its last transfer.
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

CREATE TRIGGER wallet_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_wallet
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- What one person requests and another decides: its terms are fixed, and a decision is final.
-- Names of the columns that may change come with the trigger.
CREATE FUNCTION decision_is_final() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    changing text[] := ARRAY['state', 'decided_by_id', 'decided_at', 'decision_reason'] || TG_ARGV[0]::text[];
BEGIN
    IF to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing THEN
        RAISE EXCEPTION '% %: its terms are fixed', TG_TABLE_NAME, OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.state <> 'requested'
        AND to_jsonb(NEW) - TG_ARGV[1]::text[] <> to_jsonb(OLD) - TG_ARGV[1]::text[] THEN
        RAISE EXCEPTION '% % is decided: a decision is final', TG_TABLE_NAME, OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER correction_is_final
    BEFORE UPDATE ON wallet_correction
    FOR EACH ROW EXECUTE FUNCTION decision_is_final('{transfer_id}', '{}');
CREATE TRIGGER termination_is_final
    BEFORE UPDATE ON wallet_termination
    FOR EACH ROW EXECUTE FUNCTION decision_is_final(
        '{transfer_id,wallet_amount,orders_amount,orders_ended,reinstated}', '{reinstated}');
CREATE TRIGGER reinstatement_is_final
    BEFORE UPDATE ON wallet_reinstatement
    FOR EACH ROW EXECUTE FUNCTION decision_is_final('{transfer_id}', '{}');

CREATE FUNCTION claim_is_final() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    changing text[] := '{state,decided_by_id,decided_at,decision_reason}';
BEGIN
    IF to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing OR OLD.state = 'dismissed' THEN
        RAISE EXCEPTION 'claim %: what was recorded is fixed, and a dismissal is final', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER claim_is_final
    BEFORE UPDATE ON wallet_claim
    FOR EACH ROW EXECUTE FUNCTION claim_is_final();

CREATE TRIGGER correction_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_correction
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER termination_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_termination
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER reinstatement_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_reinstatement
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER claim_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_claim
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER seal_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_seal
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER wallet_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalwallet
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER correction_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalcorrection
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER claim_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalclaim
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER termination_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicaltermination
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER reinstatement_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalreinstatement
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER role_limit_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalrolelimit
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- A confirmed decision moved exactly the money that it names.
CREATE FUNCTION correction_agrees_with_its_transfer() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.transfer_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM wallet_transfer AS moved
        WHERE moved.id = NEW.transfer_id
            AND moved.kind = NEW.kind
            AND moved.wallet_id IS NOT DISTINCT FROM NEW.customer_id
            AND moved.reverses_id IS NOT DISTINCT FROM NEW.reverses_id
            AND NEW.amount = CASE
                WHEN moved.debit_account = moved.wallet_id THEN -moved.amount ELSE moved.amount END
    ) THEN
        RAISE EXCEPTION 'correction % does not agree with its transfer', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER correction_agrees_with_its_transfer
    AFTER INSERT OR UPDATE ON wallet_correction
    FOR EACH ROW EXECUTE FUNCTION correction_agrees_with_its_transfer();

CREATE FUNCTION termination_agrees_with_its_transfer() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.transfer_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM wallet_transfer AS moved
        WHERE moved.id = NEW.transfer_id AND moved.kind = 'forfeiture'
            AND moved.wallet_id = NEW.customer_id AND moved.amount = NEW.wallet_amount
    ) THEN
        RAISE EXCEPTION 'termination % does not agree with its transfer', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER termination_agrees_with_its_transfer
    AFTER INSERT OR UPDATE ON wallet_termination
    FOR EACH ROW EXECUTE FUNCTION termination_agrees_with_its_transfer();

-- What is given back is all that was forfeited, or nothing, and it goes to the same customer.
CREATE FUNCTION reinstatement_agrees_with_its_termination() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM wallet_termination AS ended
        LEFT JOIN wallet_transfer AS moved
            ON moved.id = NEW.transfer_id AND moved.kind = 'reinstatement'
            AND moved.wallet_id = ended.customer_id AND moved.amount = NEW.amount
        WHERE ended.id = NEW.termination_id AND ended.state = 'confirmed'
            AND NEW.amount IN (0, ended.wallet_amount + ended.orders_amount)
            AND (NEW.transfer_id IS NULL OR moved.id IS NOT NULL)
    ) THEN
        RAISE EXCEPTION 'reinstatement % does not agree with its termination', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER reinstatement_agrees_with_its_termination
    AFTER INSERT OR UPDATE ON wallet_reinstatement
    FOR EACH ROW EXECUTE FUNCTION reinstatement_agrees_with_its_termination();

-- Money that people decide about does not move without the decision of two: looked at on commit.
CREATE FUNCTION transfer_has_its_decision() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT (CASE NEW.kind
        WHEN 'forfeiture' THEN EXISTS (
            SELECT FROM wallet_termination WHERE transfer_id = NEW.id AND state = 'confirmed')
        WHEN 'reinstatement' THEN EXISTS (
            SELECT FROM wallet_reinstatement WHERE transfer_id = NEW.id AND state = 'confirmed')
        ELSE EXISTS (
            SELECT FROM wallet_correction WHERE transfer_id = NEW.id AND state = 'confirmed')
    END) THEN
        RAISE EXCEPTION 'transfer %: a % needs the decision of two people', NEW.id, NEW.kind
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER transfer_has_its_decision
    AFTER INSERT ON wallet_transfer
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.kind IN ('adjustment', 'goodwill', 'reversal', 'reinstatement')
        OR (NEW.kind = 'forfeiture' AND NEW.debit_account >= 1000))
    EXECUTE FUNCTION transfer_has_its_decision();
