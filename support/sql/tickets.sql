-- What was said and shown is kept as it was, and a ticket is about its own customer's orders.

CREATE TRIGGER message_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_message
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER attachment_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_attachment
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER attachment_reading_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_attachmentreading
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER blob_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_blob
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ticket_is_kept
    BEFORE DELETE OR TRUNCATE ON support_ticket
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ticket_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_historicalticket
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ticket_order_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_ticketorder
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ticket_refund_is_kept
    BEFORE DELETE OR TRUNCATE ON support_ticketrefund
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER wait_is_kept
    BEFORE DELETE OR TRUNCATE ON support_wait
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER outbound_is_kept
    BEFORE DELETE OR TRUNCATE ON support_outbound
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

ALTER TABLE support_blob ADD CONSTRAINT blob_hash_is_its_content
    CHECK (sha256 = encode(sha256(content), 'hex') AND size = octet_length(content));

-- Whose a ticket is and how it began is fixed, its state takes the steps of the model, and what
-- happened to it is counted upwards.
CREATE FUNCTION ticket_takes_its_steps() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.follows_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM support_ticket AS before
            WHERE before.id = NEW.follows_id AND before.customer_id = NEW.customer_id
                AND before.state IN ('resolved', 'closed')
        ) THEN
            RAISE EXCEPTION 'ticket %: it follows a ticket of its customer that has ended', NEW.id
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.customer_id, NEW.subject, NEW.channel, NEW.opened_at, NEW.key, NEW.follows_id)
        IS DISTINCT FROM
        (OLD.customer_id, OLD.subject, OLD.channel, OLD.opened_at, OLD.key, OLD.follows_id)
        OR NEW.version < OLD.version THEN
        RAISE EXCEPTION 'ticket %: whose it is and how it began is fixed', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> OLD.state AND NOT (CASE OLD.state
        WHEN 'new' THEN NEW.state IN ('open', 'waiting', 'resolved')
        WHEN 'open' THEN NEW.state IN ('waiting', 'resolved')
        WHEN 'waiting' THEN NEW.state IN ('open', 'resolved')
        WHEN 'resolved' THEN NEW.state IN ('open', 'closed')
        ELSE false
    END) THEN
        RAISE EXCEPTION 'ticket %: from % it does not go to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER ticket_takes_its_steps
    BEFORE INSERT OR UPDATE ON support_ticket
    FOR EACH ROW EXECUTE FUNCTION ticket_takes_its_steps();

-- A reply answers what the customer said on the same ticket.
CREATE FUNCTION message_answers_its_customer() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM support_message AS asked
        WHERE asked.id = NEW.answers_id AND asked.ticket_id = NEW.ticket_id
            AND asked.kind = 'customer'
    ) THEN
        RAISE EXCEPTION 'message %: it answers no customer of ticket %', NEW.id, NEW.ticket_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER message_answers_its_customer
    AFTER INSERT ON support_message
    FOR EACH ROW WHEN (NEW.answers_id IS NOT NULL)
    EXECUTE FUNCTION message_answers_its_customer();

-- When a run began is fixed, what was recorded of it is recorded once, and once it has ended only a
-- bounce of its answer changes it.
CREATE FUNCTION wait_keeps_its_beginning() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF (NEW.ticket_id, NEW.clock, NEW.since) IS DISTINCT FROM (OLD.ticket_id, OLD.clock, OLD.since)
    THEN
        RAISE EXCEPTION 'wait %: when it began is fixed', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.half_warned_at <> NEW.half_warned_at OR OLD.three_quarters_warned_at <>
        NEW.three_quarters_warned_at OR OLD.breach_recorded_at <> NEW.breach_recorded_at
        OR num_nulls(NEW.half_warned_at) > num_nulls(OLD.half_warned_at)
        OR num_nulls(NEW.three_quarters_warned_at) > num_nulls(OLD.three_quarters_warned_at)
        OR num_nulls(NEW.breach_recorded_at) > num_nulls(OLD.breach_recorded_at) THEN
        RAISE EXCEPTION 'wait %: what was recorded of it is recorded once', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.ended_at IS NOT NULL AND (
        OLD.outcome <> 'answered'
            AND (NEW.ended_at, NEW.outcome, NEW.reply_id)
                IS DISTINCT FROM (OLD.ended_at, OLD.outcome, OLD.reply_id)
        OR OLD.outcome = 'answered' AND NEW.outcome NOT IN ('', 'answered')
        OR NEW.ended_at IS NOT NULL AND NEW.due_at <> OLD.due_at
    ) THEN
        RAISE EXCEPTION 'wait %: it has ended', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER wait_keeps_its_beginning
    BEFORE UPDATE ON support_wait
    FOR EACH ROW EXECUTE FUNCTION wait_keeps_its_beginning();

-- The answer that ended a run is a person's reply on the same ticket.
CREATE FUNCTION wait_is_ended_by_a_reply() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.clock <> 'answer' OR NOT EXISTS (
        SELECT FROM support_message AS reply
        WHERE reply.id = NEW.reply_id AND reply.ticket_id = NEW.ticket_id AND reply.kind = 'reply'
    ) THEN
        RAISE EXCEPTION 'wait %: message % is no reply to it', NEW.id, NEW.reply_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER wait_is_ended_by_a_reply
    AFTER INSERT OR UPDATE ON support_wait
    FOR EACH ROW WHEN (NEW.reply_id IS NOT NULL)
    EXECUTE FUNCTION wait_is_ended_by_a_reply();

CREATE FUNCTION ticket_order_is_its_customers() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM support_ticket AS ticket
        JOIN orders_order AS bought ON bought.customer_id = ticket.customer_id
        WHERE ticket.id = NEW.ticket_id AND bought.id = NEW.order_id
    ) THEN
        RAISE EXCEPTION 'order % is not of the customer of ticket %', NEW.order_id, NEW.ticket_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER ticket_order_is_its_customers
    AFTER INSERT ON support_ticketorder
    FOR EACH ROW EXECUTE FUNCTION ticket_order_is_its_customers();

-- A refund is decided on a ticket of the order's own customer, and what disputed it is said by the
-- customer on that ticket or on one that follows it, once, after the denial.
CREATE FUNCTION ticket_refund_agrees() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (
        (NEW.ticket_id, NEW.request_id) IS DISTINCT FROM (OLD.ticket_id, OLD.request_id)
        OR OLD.disputed_by_id IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'the refund of ticket % is fixed', OLD.ticket_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NOT EXISTS (
        SELECT FROM support_ticket AS ticket
        JOIN refunds_refundrequest AS asked ON asked.id = NEW.request_id
        JOIN orders_order AS bought
            ON bought.id = asked.order_id AND bought.customer_id = ticket.customer_id
        LEFT JOIN support_message AS message ON message.id = NEW.disputed_by_id
        WHERE ticket.id = NEW.ticket_id
            AND (
                NEW.disputed_by_id IS NULL
                OR message.kind = 'customer' AND message.created_at >= asked.decided_at
                    AND asked.disputed_at IS NOT NULL
                    AND message.ticket_id IN (
                        WITH RECURSIVE thread AS (
                            SELECT NEW.ticket_id AS id
                            UNION
                            SELECT next.id FROM support_ticket AS next
                            JOIN thread ON next.follows_id = thread.id
                        )
                        SELECT id FROM thread)
            )
    ) THEN
        RAISE EXCEPTION 'refund request % does not belong on ticket %', NEW.request_id, NEW.ticket_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER ticket_refund_agrees
    BEFORE INSERT OR UPDATE ON support_ticketrefund
    FOR EACH ROW EXECUTE FUNCTION ticket_refund_agrees();
