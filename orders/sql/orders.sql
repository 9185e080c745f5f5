-- What an order cost, whose it is and what paid for it are facts: they are never changed, and an
-- order is never deleted. Looks at the statement alone, so it costs nothing.
CREATE FUNCTION order_terms_are_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: its customer, price and purchase are fixed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER order_terms_are_fixed
    BEFORE UPDATE OF id, customer_id, price, purchase_id OR DELETE OR TRUNCATE ON orders_order
    FOR EACH STATEMENT EXECUTE FUNCTION order_terms_are_fixed();

-- An order is born with the transfer that moved its price from its customer to escrow.
CREATE FUNCTION order_agrees_with_its_purchase() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT bought.id INTO wrong
    FROM placed AS bought
    LEFT JOIN wallet_transfer AS paid
        ON paid.id = bought.purchase_id
        AND paid.kind = 'purchase'
        AND paid.debit_account = bought.customer_id
        AND paid.amount = bought.price
    WHERE paid.id IS NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'order % does not agree with its purchase', wrong
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER order_agrees_with_its_purchase
    AFTER INSERT ON orders_order
    REFERENCING NEW TABLE AS placed
    FOR EACH STATEMENT EXECUTE FUNCTION order_agrees_with_its_purchase();

-- An order is settled once, by the transfer that its end calls for: its price, out of escrow, to sales
-- when it was delivered, and to its own customer's wallet when it was refunded.
CREATE FUNCTION order_agrees_with_its_settlement() RETURNS trigger LANGUAGE plpgsql
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

CREATE TRIGGER order_agrees_with_its_settlement
    AFTER UPDATE ON orders_order
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION order_agrees_with_its_settlement();

CREATE TRIGGER order_is_born_with_its_settlement
    AFTER INSERT ON orders_order
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION order_agrees_with_its_settlement();

-- What was is never changed: history, and the SMS as they came.
CREATE TRIGGER order_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON orders_historicalorder
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE TRIGGER sms_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON orders_sms
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
