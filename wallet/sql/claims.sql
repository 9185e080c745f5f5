-- A claim's state follows its account's: what is not dismissed ends with the account, and is to be
-- decided again when the customer is let in again.

CREATE OR REPLACE FUNCTION claim_is_final() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    changing text[] := '{state,decided_by_id,decided_at,decision_reason}';
BEGIN
    -- The wallet that comes back is frozen by what is open again, and by nobody.
    IF OLD.state = 'terminated' AND NEW.state = 'open' AND NEW.froze THEN
        changing := array_append(changing, 'froze');
    END IF;
    IF to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing OR OLD.state = 'dismissed' THEN
        RAISE EXCEPTION 'claim %: what was recorded is fixed, and a dismissal is final', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> OLD.state AND NOT (CASE OLD.state
        WHEN 'open' THEN NEW.state IN ('dismissed', 'upheld', 'terminated')
        WHEN 'upheld' THEN NEW.state IN ('open', 'terminated')
        WHEN 'terminated' THEN NEW.state = 'open'
        ELSE false
    END) THEN
        RAISE EXCEPTION 'claim %: from % it does not go to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

-- Looked at on commit, as the account and its claims change in one transaction.
CREATE FUNCTION claims_follow_their_account() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    wallets bigint[];
    wrong record;
BEGIN
    IF TG_TABLE_NAME = 'wallet_wallet' THEN
        wallets := ARRAY[NEW.customer_id];
    ELSE
        SELECT array_agg(paid.wallet_id) INTO wallets
        FROM wallet_deposit AS deposit JOIN wallet_transfer AS paid ON paid.id = deposit.transfer_id
        WHERE deposit.id = NEW.deposit_id;
    END IF;
    SELECT claim.id, claim.state, wallet.state AS account INTO wrong
    FROM wallet_wallet AS wallet
    JOIN wallet_transfer AS paid ON paid.wallet_id = wallet.customer_id AND paid.kind = 'deposit'
    JOIN wallet_deposit AS deposit ON deposit.transfer_id = paid.id
    JOIN wallet_claim AS claim ON claim.deposit_id = deposit.id
    WHERE wallet.customer_id = ANY(wallets) AND claim.state <> 'dismissed'
        AND (claim.state = 'terminated') <> (wallet.state = 'forfeited')
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'claim % is %, and the wallet is %', wrong.id, wrong.state, wrong.account
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER claims_follow_their_account
    AFTER INSERT OR UPDATE ON wallet_claim
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION claims_follow_their_account();
CREATE CONSTRAINT TRIGGER claims_follow_their_account
    AFTER UPDATE OF state ON wallet_wallet
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state <> OLD.state)
    EXECUTE FUNCTION claims_follow_their_account();

-- The files that show a claim, and who took them.
ALTER TABLE wallet_claimfile ADD CONSTRAINT claim_file_hash_is_its_content
    CHECK (sha256 = encode(sha256(content), 'hex') AND size = octet_length(content));
CREATE TRIGGER claim_file_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_claimfile
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER claim_file_reading_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_claimfilereading
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- What became of an account is written when it became of it, told once, and then fixed.
CREATE FUNCTION account_outcome_is_told_once() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.told_at IS NOT NULL OR NOT EXISTS (
            SELECT FROM wallet_wallet WHERE customer_id = NEW.customer_id AND state = CASE NEW.what
                WHEN 'frozen' THEN 'frozen' WHEN 'terminated' THEN 'forfeited' ELSE 'active' END
        ) THEN
            RAISE EXCEPTION 'account outcome %: account % is not %, or nobody was told', NEW.id, NEW.customer_id, NEW.what
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF to_jsonb(NEW) - 'told_at' <> to_jsonb(OLD) - 'told_at' OR OLD.told_at IS NOT NULL THEN
        RAISE EXCEPTION 'account outcome %: it is fixed, and told once', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER account_outcome_is_told_once
    BEFORE INSERT OR UPDATE ON wallet_accountoutcome
    FOR EACH ROW EXECUTE FUNCTION account_outcome_is_told_once();
CREATE TRIGGER account_outcome_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_accountoutcome
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
