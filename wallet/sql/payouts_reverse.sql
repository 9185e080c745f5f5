DROP TRIGGER payout_move_leaves_its_money ON wallet_payoutmove;
DROP TRIGGER payout_has_its_money ON wallet_payout;
DROP TRIGGER transfer_has_its_payout ON wallet_transfer;
DROP TRIGGER payout_move_agrees ON wallet_payoutmove;
DROP TRIGGER payout_outcome_is_told_once ON wallet_payoutoutcome;
DROP TRIGGER payout_method_stays ON wallet_payoutmethod;
DROP TRIGGER payout_method_history_is_append_only ON wallet_historicalpayoutmethod;
DROP TRIGGER payout_history_is_append_only ON wallet_historicalpayout;
DROP TRIGGER payout_outcome_is_kept ON wallet_payoutoutcome;
DROP TRIGGER payout_move_is_append_only ON wallet_payoutmove;
DROP TRIGGER payout_method_is_kept ON wallet_payoutmethod;
DROP TRIGGER payout_is_kept ON wallet_payout;
DROP TRIGGER payout_takes_its_steps ON wallet_payout;
DROP FUNCTION payout_move_leaves_its_money();
DROP FUNCTION payout_has_its_money();
DROP FUNCTION payout_money_is_where_its_state_says(bigint);
DROP FUNCTION transfer_has_its_payout();
DROP FUNCTION payout_move_agrees();
DROP FUNCTION payout_outcome_is_told_once();
DROP FUNCTION payout_method_stays();
DROP FUNCTION payout_takes_its_steps();

-- What each kind of transfer moves, from where to where: for the CHECK of wallet_transfer. Accounts from
-- 1000 on are wallets; the shop's are 1 crypto deposits, 2 order escrow, 3 sales, 4 upstream cost,
-- 5 upstream prepaid, 6 forfeitures, 7 goodwill, 8 rounding, 9 adjustments (wallet.models.Account).
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
CREATE OR REPLACE FUNCTION wallet_takes(state text, kinds text[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT state = 'active' OR (state = 'frozen' AND NOT kinds && ARRAY['purchase', 'rounding'])
$$;

