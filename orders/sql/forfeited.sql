-- An order is settled once, by the transfer that its end calls for: its price, out of escrow, to sales
-- when it was delivered, to its own customer's wallet when it was refunded, and to forfeitures when
-- its customer was terminated.
CREATE OR REPLACE FUNCTION order_agrees_with_its_settlement() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
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
            WHEN changed.state = 'forfeited'
                THEN settled.kind = 'forfeiture' AND settled.debit_account = 2
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
