DROP TRIGGER decided_refund_has_its_refund ON wallet_transfer;
DROP FUNCTION decided_refund_has_its_refund();

-- As it was.
CREATE OR REPLACE FUNCTION refund_agrees_with_its_money() RETURNS trigger LANGUAGE plpgsql
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
