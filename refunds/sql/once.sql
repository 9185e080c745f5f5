-- Money that comes out of escrow as an automatic refund is the price of an open order, on its way to its
-- own customer. The key says of which order; a key is used once, so a second refund has none.
CREATE FUNCTION automatic_refund_is_of_its_order() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT line.id INTO wrong
    FROM posted AS line
    LEFT JOIN orders_order AS bought
        -- Without a regular expression, which would take longer than all the rest.
        ON bought.id = CASE
            WHEN length(line.key) BETWEEN 13 AND 30
                AND translate(substr(line.key, 13), '0123456789', '') = ''
            THEN substr(line.key, 13)::bigint END
        AND line.key = 'refund:auto:' || bought.id
        AND bought.customer_id = line.credit_account
        AND bought.price = line.amount
        AND (bought.settlement_id IS NULL OR bought.settlement_id = line.id)
    WHERE line.kind = 'auto_refund' AND bought.id IS NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transfer % is not the refund of an order that is open', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER transfers_refund_their_own_orders
    AFTER INSERT ON wallet_transfer
    REFERENCING NEW TABLE AS posted
    FOR EACH STATEMENT EXECUTE FUNCTION automatic_refund_is_of_its_order();
