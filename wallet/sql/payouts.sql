-- Payouts: their kinds of transfer, the order of their steps, and that their money is where their state says.

-- What each kind of transfer moves, from where to where: for the CHECK of wallet_transfer. Accounts from
-- 1000 on are wallets; the shop's are 1 crypto deposits, 2 order escrow, 3 sales, 4 upstream cost,
-- 5 upstream prepaid, 6 forfeitures, 7 goodwill, 8 rounding, 9 adjustments, 10 payouts pending,
-- 11 payouts paid (wallet.models.Account).
CREATE OR REPLACE FUNCTION transfer_fits_its_kind(
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
        -- A terminated customer's balance, the prices of open orders, and payouts that failed.
        WHEN 'forfeiture' THEN (debit IN (2, 10) OR debit >= 1000) AND credit = 6
        WHEN 'reinstatement' THEN debit = 6 AND credit >= 1000
        -- What is below a cent when a wallet is closed.
        WHEN 'rounding' THEN debit >= 1000 AND credit = 8 AND amount < 0.01
        WHEN 'payout' THEN debit >= 1000 AND credit = 10
        WHEN 'payout_return' THEN debit = 10 AND credit >= 1000
        WHEN 'payout_paid' THEN debit = 10 AND credit = 11
        WHEN 'payout_unpaid' THEN debit = 11 AND credit = 10
        -- The accounts of the transfer that it reverses, swapped: the trigger compares.
        WHEN 'reversal' THEN reverses IS NOT NULL
        ELSE false
    END;
END $$;

-- What a wallet does not take in its state. Everything but what leaves it still moves on a frozen one:
-- refunds and failed payouts arrive, errors are mended.
CREATE OR REPLACE FUNCTION wallet_takes(state text, kinds text[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT state = 'active'
        OR (state = 'frozen' AND NOT kinds && ARRAY['purchase', 'rounding', 'payout'])
$$;

-- Its terms are fixed, each step leads from the one before it, and what was decided stays.
CREATE FUNCTION payout_takes_its_steps() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    approval text[] := '{approved_by_id,approved_at,second_by_id,second_at}';
    ending text[] := '{decided_by_id,decided_at,decision_reason}';
    result text[] := '{transaction_hash,fee,fee_currency,settled_at,problem,failed_by_id}';
    changing text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'requested' OR NEW.attempt <> 1 OR NEW.transaction_hash <> ''
            OR NEW.problem <> '' OR NEW.settled_at IS NOT NULL OR NEW.fee IS NOT NULL
            OR NEW.failed_by_id IS NOT NULL THEN
            RAISE EXCEPTION 'payout %: it begins by being requested', NEW.id
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state = OLD.state OR NOT (CASE OLD.state
        -- What was sent again is withdrawn no more: finance decided about it.
        WHEN 'requested' THEN NEW.state IN ('first_approved', 'approved', 'rejected')
            OR NEW.state = 'withdrawn' AND OLD.attempt = 1
        WHEN 'first_approved' THEN NEW.state IN ('approved', 'rejected')
            OR NEW.state = 'withdrawn' AND OLD.attempt = 1
        WHEN 'approved' THEN NEW.state IN ('exported', 'rejected', 'forfeited')
        WHEN 'exported' THEN NEW.state IN ('approved', 'submitted', 'paid', 'failed')
        WHEN 'submitted' THEN NEW.state IN ('paid', 'failed')
        WHEN 'paid' THEN NEW.state = 'failed'
        WHEN 'failed' THEN NEW.state IN ('paid', 'requested', 'returned', 'forfeited')
        ELSE false
    END) THEN
        RAISE EXCEPTION 'payout %: from % it does not go to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    changing := '{state}'::text[] || CASE
        WHEN OLD.state = 'requested' AND NEW.state IN ('first_approved', 'approved')
            THEN '{approved_by_id,approved_at}'::text[]
        WHEN OLD.state = 'first_approved' AND NEW.state = 'approved'
            THEN '{second_by_id,second_at}'::text[]
        WHEN NEW.state IN ('rejected', 'withdrawn', 'returned', 'forfeited') THEN ending
        WHEN NEW.state IN ('paid', 'failed') THEN result
        WHEN NEW.state = 'requested' THEN approval || result || '{attempt,sent_again_by_id}'::text[]
        ELSE '{}'::text[]
    END;
    IF to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing
        OR NEW.state = 'requested' AND (NEW.attempt <> OLD.attempt + 1
            OR NEW.transaction_hash <> '' OR NEW.problem <> '' OR NEW.settled_at IS NOT NULL
            OR NEW.fee IS NOT NULL OR NEW.failed_by_id IS NOT NULL) THEN
        RAISE EXCEPTION 'payout %: its terms and what was decided are fixed', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state = 'forfeited' AND NOT EXISTS (
        SELECT FROM wallet_wallet WHERE customer_id = NEW.customer_id AND state = 'forfeited'
    ) THEN
        RAISE EXCEPTION 'payout %: its customer was not terminated', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    -- Who applies a result file trusts whoever uploaded it: both say that it failed. A CHECK compares the one.
    IF OLD.state = 'failed' AND NEW.state IN ('returned', 'forfeited') THEN
        IF EXISTS (
            SELECT FROM wallet_resultline AS line
            JOIN wallet_resultfile AS file ON file.id = line.file_id
            WHERE line.payout_id = OLD.id AND line.attempt = OLD.attempt AND line.outcome = 'failed'
                AND file.uploaded_by_id = NEW.decided_by_id
        ) THEN
            RAISE EXCEPTION 'payout %: whoever uploaded the file by which it failed does not give it back', OLD.id
                USING ERRCODE = 'restrict_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER payout_takes_its_steps
    BEFORE INSERT OR UPDATE ON wallet_payout
    FOR EACH ROW EXECUTE FUNCTION payout_takes_its_steps();
CREATE TRIGGER payout_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_payout
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER payout_method_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_payoutmethod
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER payout_move_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_payoutmove
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER payout_outcome_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_payoutoutcome
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER payout_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalpayout
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER payout_method_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalpayoutmethod
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- What payouts were asked for in stays what it was: another coin or network is another row.
CREATE FUNCTION payout_method_stays() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF (NEW.code, NEW.currency, NEW.network, NEW.address_format)
        IS DISTINCT FROM (OLD.code, OLD.currency, OLD.network, OLD.address_format) THEN
        RAISE EXCEPTION 'payout method %: its coin and network are fixed', OLD.code
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER payout_method_stays
    BEFORE UPDATE ON wallet_payoutmethod
    FOR EACH ROW EXECUTE FUNCTION payout_method_stays();

-- What became of a payout is written when it became of it, told once, and then fixed.
CREATE FUNCTION payout_outcome_is_told_once() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.told_at IS NOT NULL OR NOT EXISTS (
            SELECT FROM wallet_payout WHERE id = NEW.payout_id AND state = NEW.what
        ) THEN
            RAISE EXCEPTION 'payout outcome %: payout % is not %, or nobody was told', NEW.id, NEW.payout_id, NEW.what
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF to_jsonb(NEW) - 'told_at' <> to_jsonb(OLD) - 'told_at' OR OLD.told_at IS NOT NULL THEN
        RAISE EXCEPTION 'payout outcome %: it is fixed, and told once', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER payout_outcome_is_told_once
    BEFORE INSERT OR UPDATE ON wallet_payoutoutcome
    FOR EACH ROW EXECUTE FUNCTION payout_outcome_is_told_once();

-- A transfer that moves a payout's money says so with its kind, amount, wallet and key.
CREATE FUNCTION payout_move_agrees() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM wallet_transfer AS moved
        JOIN wallet_payout AS payout ON payout.id = NEW.payout_id
        WHERE moved.id = NEW.transfer_id
            AND (moved.kind IN ('payout', 'payout_return', 'payout_paid', 'payout_unpaid')
                OR (moved.kind = 'forfeiture' AND moved.debit_account = 10))
            AND moved.amount = payout.amount
            AND coalesce(moved.wallet_id, payout.customer_id) = payout.customer_id
            AND moved.key ~ ('^payout:' || payout.id || CASE moved.kind
                WHEN 'payout' THEN ':request$'
                WHEN 'payout_return' THEN ':return$'
                WHEN 'payout_paid' THEN ':paid:[1-9][0-9]*$'
                WHEN 'payout_unpaid' THEN ':unpaid:[1-9][0-9]*$'
                ELSE ':forfeited$'
            END)
    ) THEN
        RAISE EXCEPTION 'transfer % does not move the money of payout %', NEW.transfer_id, NEW.payout_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER payout_move_agrees
    AFTER INSERT ON wallet_payoutmove
    FOR EACH ROW EXECUTE FUNCTION payout_move_agrees();

CREATE FUNCTION transfer_has_its_payout() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM wallet_payoutmove WHERE transfer_id = NEW.id) THEN
        RAISE EXCEPTION 'transfer %: a % from or to payouts belongs to a payout', NEW.id, NEW.kind
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER transfer_has_its_payout
    AFTER INSERT ON wallet_transfer
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.debit_account IN (10, 11) OR NEW.credit_account IN (10, 11))
    EXECUTE FUNCTION transfer_has_its_payout();

-- An open payout's money is pending, a paid one's is paid, and that of any other is back in the wallet
-- or forfeited: looked at on commit, after each step and after each transfer.
CREATE FUNCTION payout_money_is_where_its_state_says(payout_id bigint) RETURNS void LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT payout.state, payout.amount,
        coalesce(sum(CASE WHEN moved.credit_account = 10 THEN moved.amount
            WHEN moved.debit_account = 10 THEN -moved.amount END), 0) AS pending,
        coalesce(sum(CASE WHEN moved.credit_account = 11 THEN moved.amount
            WHEN moved.debit_account = 11 THEN -moved.amount END), 0) AS paid,
        coalesce(sum(CASE WHEN moved.credit_account = 6 THEN moved.amount END), 0) AS forfeited
    INTO found
    FROM wallet_payout AS payout
    LEFT JOIN wallet_payoutmove AS move ON move.payout_id = payout.id
    LEFT JOIN wallet_transfer AS moved ON moved.id = move.transfer_id
    WHERE payout.id = payout_money_is_where_its_state_says.payout_id
    GROUP BY payout.id;
    IF (found.pending, found.paid, found.forfeited) IS DISTINCT FROM (
        CASE WHEN found.state IN (
            'requested', 'first_approved', 'approved', 'exported', 'submitted', 'failed'
        ) THEN found.amount ELSE 0 END,
        CASE WHEN found.state = 'paid' THEN found.amount ELSE 0 END,
        CASE WHEN found.state = 'forfeited' THEN found.amount ELSE 0 END
    ) THEN
        RAISE EXCEPTION 'payout % is %, and its money is not there: % pending, % paid, % forfeited',
            payout_id, found.state, found.pending, found.paid, found.forfeited
            USING ERRCODE = 'check_violation';
    END IF;
END $$;

CREATE FUNCTION payout_has_its_money() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM payout_money_is_where_its_state_says(NEW.id);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER payout_has_its_money
    AFTER INSERT OR UPDATE ON wallet_payout
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION payout_has_its_money();

CREATE FUNCTION payout_move_leaves_its_money() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM payout_money_is_where_its_state_says(NEW.payout_id);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER payout_move_leaves_its_money
    AFTER INSERT ON wallet_payoutmove
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION payout_move_leaves_its_money();
