-- Who read SMS in full, and why, is never changed and never deleted.
CREATE TRIGGER sms_reading_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON orders_smsreading
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- A reading names SMS of its own order.
CREATE FUNCTION sms_reading_names_its_orders_sms() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT made.id INTO wrong
    FROM made
    CROSS JOIN LATERAL unnest(made.shown) AS named(sms_id)
    LEFT JOIN orders_sms AS sms ON sms.id = named.sms_id AND sms.order_id = made.order_id
    WHERE sms.id IS NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'SMS reading % does not name SMS of its order', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER sms_reading_names_its_orders_sms
    AFTER INSERT ON orders_smsreading
    REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION sms_reading_names_its_orders_sms();
