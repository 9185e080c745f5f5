DROP TRIGGER refused_address_history_is_append_only ON wallet_historicalrefusedaddress;
DROP TRIGGER refused_address_is_kept ON wallet_refusedaddress;
DROP TRIGGER refused_address_stays ON wallet_refusedaddress;
DROP TRIGGER payout_to_somebody ON wallet_payout;
DROP FUNCTION refused_address_stays();
DROP FUNCTION payout_goes_to_somebody();
DROP FUNCTION address_key(text, text);
