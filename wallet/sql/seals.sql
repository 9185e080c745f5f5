-- A seal is of a day that is over, by the database's own clock, and continues the one before it. A seal
-- of a day to come would refuse every transfer until then, and it cannot be taken back.
CREATE FUNCTION seal_continues_the_chain() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    last record;
BEGIN
    IF NEW.day >= (clock_timestamp() AT TIME ZONE 'UTC')::date THEN
        RAISE EXCEPTION 'the day % is not over: it is not sealed', NEW.day
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT day, digest INTO last FROM wallet_seal ORDER BY day DESC LIMIT 1;
    IF (FOUND AND (NEW.day <> last.day + 1 OR NEW.previous <> last.digest))
        OR (NOT FOUND AND NEW.previous <> '') THEN
        RAISE EXCEPTION 'the seal of % does not continue the seal before it', NEW.day
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER seal_continues_the_chain
    BEFORE INSERT ON wallet_seal
    FOR EACH ROW EXECUTE FUNCTION seal_continues_the_chain();
