DROP TRIGGER transfer_has_its_decision ON wallet_transfer;
DROP FUNCTION transfer_has_its_decision();
DROP TRIGGER reinstatement_agrees_with_its_termination ON wallet_reinstatement;
DROP FUNCTION reinstatement_agrees_with_its_termination();
DROP TRIGGER termination_agrees_with_its_transfer ON wallet_termination;
DROP FUNCTION termination_agrees_with_its_transfer();
DROP TRIGGER correction_agrees_with_its_transfer ON wallet_correction;
DROP FUNCTION correction_agrees_with_its_transfer();
DROP TRIGGER role_limit_history_is_append_only ON wallet_historicalrolelimit;
DROP TRIGGER reinstatement_history_is_append_only ON wallet_historicalreinstatement;
DROP TRIGGER termination_history_is_append_only ON wallet_historicaltermination;
DROP TRIGGER claim_history_is_append_only ON wallet_historicalclaim;
DROP TRIGGER correction_history_is_append_only ON wallet_historicalcorrection;
DROP TRIGGER wallet_history_is_append_only ON wallet_historicalwallet;
DROP TRIGGER seal_is_append_only ON wallet_seal;
DROP TRIGGER claim_is_kept ON wallet_claim;
DROP TRIGGER reinstatement_is_kept ON wallet_reinstatement;
DROP TRIGGER termination_is_kept ON wallet_termination;
DROP TRIGGER correction_is_kept ON wallet_correction;
DROP TRIGGER claim_is_final ON wallet_claim;
DROP FUNCTION claim_is_final();
DROP TRIGGER reinstatement_is_final ON wallet_reinstatement;
DROP TRIGGER termination_is_final ON wallet_termination;
DROP TRIGGER correction_is_final ON wallet_correction;
DROP FUNCTION decision_is_final();
DROP TRIGGER wallet_is_kept ON wallet_wallet;

-- As they were.
CREATE OR REPLACE FUNCTION wallet_shows_its_last_transfer() RETURNS trigger LANGUAGE plpgsql
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

CREATE OR REPLACE FUNCTION ledger_apply_transfers() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER
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
