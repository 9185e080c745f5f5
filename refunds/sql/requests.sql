-- Refunds that people decide: one asks, another approves or denies, a third resolves a dispute.
-- The checks of the table hold who may be whom; what follows holds the order of the steps.

-- Its terms are fixed, each step leads from the one before it, and what was decided stays.
CREATE FUNCTION refund_request_takes_its_steps() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    decision text[] := '{decided_by_id,decided_at,decision_reason}';
    dispute text[] := '{disputed_at}';
    resolution text[] := '{resolved_by_id,resolved_at,resolution_reason}';
    granted text[] := '{goodwill_id,against_verdict}';
    changing text[] := '{state}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'requested' THEN
            RAISE EXCEPTION 'refund request %: it begins by being requested', NEW.id
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state = OLD.state OR NOT (CASE OLD.state
        WHEN 'requested' THEN NEW.state IN ('escalated', 'withdrawn', 'approved', 'denied')
        WHEN 'escalated' THEN NEW.state IN ('withdrawn', 'approved', 'denied')
        WHEN 'denied' THEN NEW.state = 'disputed'
        WHEN 'disputed' THEN NEW.state IN ('upheld', 'overturned', 'dismissed')
        ELSE false
    END) THEN
        RAISE EXCEPTION 'refund request %: from % it does not go to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    changing := changing || CASE
        WHEN NEW.state IN ('withdrawn', 'approved', 'denied') THEN decision || granted
        WHEN NEW.state = 'disputed' THEN dispute
        WHEN NEW.state IN ('upheld', 'overturned', 'dismissed') THEN resolution || granted
        ELSE '{}'::text[]
    END;
    IF to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing THEN
        RAISE EXCEPTION 'refund request %: its terms and what was decided are fixed', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER refund_request_takes_its_steps
    BEFORE INSERT OR UPDATE ON refunds_refundrequest
    FOR EACH ROW EXECUTE FUNCTION refund_request_takes_its_steps();

CREATE TRIGGER refund_request_is_kept
    BEFORE DELETE OR TRUNCATE ON refunds_refundrequest
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER refund_request_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON refunds_historicalrefundrequest
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Granted and not paid, or paid and not granted, does not exist: looked at on commit. Goodwill counts
-- with the refunds of an order: together they never come to more than its price, and an order that was
-- not delivered gets neither. That sum is right under concurrency because the order's row is locked.
CREATE FUNCTION refund_request_has_its_money() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    granted record;
BEGIN
    PERFORM FROM orders_order WHERE id = NEW.order_id FOR NO KEY UPDATE;
    SELECT asked.*, bought.customer_id, bought.price, bought.state AS order_state INTO granted
    FROM refunds_refundrequest AS asked
    JOIN orders_order AS bought ON bought.id = asked.order_id
    WHERE asked.id = NEW.id;
    IF granted.state NOT IN ('approved', 'overturned') THEN
        RETURN NULL;
    END IF;
    IF granted.goodwill_id IS NULL AND NOT EXISTS (
        SELECT FROM refunds_refund WHERE request_id = granted.id
    ) OR granted.goodwill_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM wallet_correction AS given
        WHERE given.id = granted.goodwill_id AND given.kind = 'goodwill'
            AND given.state = 'confirmed' AND given.amount = granted.amount
            AND given.customer_id = granted.customer_id
            AND given.requested_by_id = granted.requested_by_id
            AND given.decided_by_id = coalesce(granted.resolved_by_id, granted.decided_by_id)
    ) THEN
        RAISE EXCEPTION 'refund request % is granted and its money has not moved', granted.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF granted.order_state NOT IN ('sms_received', 'completed', 'ended') OR granted.price < (
        SELECT coalesce(sum(amount), 0) FROM refunds_refund WHERE order_id = granted.order_id
    ) + (
        SELECT coalesce(sum(amount), 0) FROM refunds_refundrequest
        WHERE order_id = granted.order_id AND goodwill_id IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'refund request %: its order was not delivered, or would get back more than its price',
            granted.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER refund_request_has_its_money
    AFTER INSERT OR UPDATE ON refunds_refundrequest
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state IN ('approved', 'overturned'))
    EXECUTE FUNCTION refund_request_has_its_money();

-- A decided refund is what was granted: its order, clause and amount, by the one who granted it.
CREATE FUNCTION refund_agrees_with_its_request() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM refunds_refundrequest AS asked
        WHERE asked.id = NEW.request_id AND asked.state IN ('approved', 'overturned')
            AND asked.order_id = NEW.order_id AND asked.amount = NEW.amount
            AND asked.clause = NEW.clause AND asked.policy_version = NEW.policy_version
            AND NEW.decided_by_id = coalesce(asked.resolved_by_id, asked.decided_by_id)
    ) THEN
        RAISE EXCEPTION 'refund % does not agree with its request', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER refund_agrees_with_its_request
    AFTER INSERT ON refunds_refund
    FOR EACH ROW WHEN (NEW.part > 0)
    EXECUTE FUNCTION refund_agrees_with_its_request();
