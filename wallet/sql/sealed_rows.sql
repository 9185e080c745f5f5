-- What is sealed of a table's rows follows what was sealed of it before, without a gap, and is of a day
-- that has no seal yet: the seal says all that there is of its day.
CREATE TRIGGER sealed_rows_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_sealedrows
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE FUNCTION sealed_rows_follow_each_other() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM wallet_seal WHERE day >= NEW.day) THEN
        RAISE EXCEPTION 'the day % is sealed: no rows of % are added to it', NEW.day, NEW.name
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.after <> coalesce(
        (SELECT through FROM wallet_sealedrows WHERE name = NEW.name ORDER BY through DESC LIMIT 1), 0)
    THEN
        RAISE EXCEPTION 'the sealed rows of % after % do not follow those before', NEW.name, NEW.after
            USING ERRCODE = 'check_violation';
    END IF;
    IF octet_length(NEW.hashes) <> NEW.rows * 40 THEN
        RAISE EXCEPTION 'the sealed rows of % after % have not a hash each', NEW.name, NEW.after
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER sealed_rows_follow_each_other
    BEFORE INSERT ON wallet_sealedrows
    FOR EACH ROW EXECUTE FUNCTION sealed_rows_follow_each_other();
