-- A refund is written once, for the money that really went to the order's own customer: its settlement,
-- which is its price and no more (orders/sql/orders.sql).
CREATE FUNCTION refund_agrees_with_its_money() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT refund.id INTO wrong
    FROM refunded AS refund
    JOIN orders_order AS bought ON bought.id = refund.order_id
    JOIN wallet_transfer AS transfer ON transfer.id = refund.transfer_id
    WHERE transfer.amount <> refund.amount
        OR transfer.kind <> 'auto_refund'
        OR transfer.credit_account <> bought.customer_id
        OR bought.settlement_id IS DISTINCT FROM transfer.id
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'refund % does not agree with its transfer', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER refund_agrees_with_its_money
    AFTER INSERT ON refunds_refund
    REFERENCING NEW TABLE AS refunded
    FOR EACH STATEMENT EXECUTE FUNCTION refund_agrees_with_its_money();

CREATE TRIGGER refund_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON refunds_refund
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
