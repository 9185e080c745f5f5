DROP TRIGGER account_outcome_is_kept ON wallet_accountoutcome;
DROP TRIGGER account_outcome_is_told_once ON wallet_accountoutcome;
DROP FUNCTION account_outcome_is_told_once();
DROP TRIGGER claim_file_reading_is_append_only ON wallet_claimfilereading;
DROP TRIGGER claim_file_is_append_only ON wallet_claimfile;
ALTER TABLE wallet_claimfile DROP CONSTRAINT claim_file_hash_is_its_content;
DROP TRIGGER claims_follow_their_account ON wallet_wallet;
DROP TRIGGER claims_follow_their_account ON wallet_claim;
DROP FUNCTION claims_follow_their_account();

CREATE OR REPLACE FUNCTION claim_is_final() RETURNS trigger LANGUAGE plpgsql
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
