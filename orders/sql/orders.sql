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
CREATE FUNCTION order_agrees_with_its_purchase() RETURNS trigger LANGUAGE plpgsql AS $$
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
