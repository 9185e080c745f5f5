DROP TRIGGER seal_continues_the_chain ON wallet_seal;
DROP FUNCTION seal_continues_the_chain();
