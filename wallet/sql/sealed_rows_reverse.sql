DROP TRIGGER sealed_rows_follow_each_other ON wallet_sealedrows;
DROP FUNCTION sealed_rows_follow_each_other();
DROP TRIGGER sealed_rows_is_append_only ON wallet_sealedrows;
