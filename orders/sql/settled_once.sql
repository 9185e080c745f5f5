-- An order is settled once: what its end moved is never exchanged for another transfer.
CREATE FUNCTION order_is_settled_once() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'order % is settled by transfer %: an order is settled once', OLD.id, OLD.settlement_id
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER order_is_settled_once
    BEFORE UPDATE OF settlement_id ON orders_order
    FOR EACH ROW
    WHEN (NEW.settlement_id <> OLD.settlement_id)
    EXECUTE FUNCTION order_is_settled_once();
