-- A refund is written once, for the money that really went to the order's own customer. An automatic one
-- is the order's settlement: its price and no more. A decided one takes from the sale of a delivered
-- order, and all of them together never more than the price. That sum is right under concurrency
-- because the order's row is locked first, as the verbs do.
CREATE OR REPLACE FUNCTION refund_agrees_with_its_money() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT refund.id INTO wrong
    FROM refunded AS refund
    JOIN orders_order AS bought ON bought.id = refund.order_id
    JOIN wallet_transfer AS transfer ON transfer.id = refund.transfer_id
    WHERE transfer.amount <> refund.amount
        OR transfer.credit_account <> bought.customer_id
        OR transfer.kind <> CASE WHEN refund.part = 0 THEN 'auto_refund' ELSE 'decided_refund' END
        OR (refund.part = 0 AND bought.settlement_id IS DISTINCT FROM transfer.id)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'refund % does not agree with its transfer', wrong
            USING ERRCODE = 'check_violation';
    END IF;

    IF EXISTS (SELECT FROM refunded WHERE part > 0) THEN
        PERFORM FROM orders_order AS bought
        WHERE bought.id IN (SELECT order_id FROM refunded WHERE part > 0)
        ORDER BY bought.id FOR NO KEY UPDATE;

        SELECT bought.id INTO wrong
        FROM orders_order AS bought
        WHERE bought.id IN (SELECT order_id FROM refunded WHERE part > 0)
            AND (
                bought.state NOT IN ('sms_received', 'completed', 'ended')
                OR bought.price < (
                    SELECT sum(amount) FROM refunds_refund AS refund
                    WHERE refund.order_id = bought.id)
            )
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'order % was not delivered, or would be refunded more than its price', wrong
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- Money that people decide about does not move without its decision: looked at on commit.
CREATE FUNCTION decided_refund_has_its_refund() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM refunds_refund WHERE transfer_id = NEW.id) THEN
        RAISE EXCEPTION 'transfer %: a decided refund needs its decision', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER decided_refund_has_its_refund
    AFTER INSERT ON wallet_transfer
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind = 'decided_refund')
    EXECUTE FUNCTION decided_refund_has_its_refund();
