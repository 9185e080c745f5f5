-- As it was.
CREATE OR REPLACE FUNCTION order_agrees_with_its_settlement() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT changed.id INTO wrong
    FROM changed
    LEFT JOIN wallet_transfer AS settled
        ON settled.id = changed.settlement_id
        AND settled.amount = changed.price
        AND CASE
            WHEN changed.state IN ('sms_received', 'completed', 'ended')
                THEN settled.kind = 'delivery'
            ELSE settled.kind = 'auto_refund' AND settled.credit_account = changed.customer_id
        END
    WHERE changed.settlement_id IS NOT NULL AND settled.id IS NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'order % does not agree with its settlement', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
