DROP TRIGGER wallet_follows_the_ledger ON wallet_wallet;
DROP TRIGGER wallet_begins_empty ON wallet_wallet;
DROP FUNCTION wallet_shows_its_last_transfer();
DROP TRIGGER transfers_apply_to_wallets ON wallet_transfer;
DROP FUNCTION ledger_apply_transfers();
DROP TRIGGER deposit_is_append_only ON wallet_deposit;
DROP TRIGGER transfer_is_append_only ON wallet_transfer;
DROP FUNCTION ledger_is_append_only();
