-- A run that counts as answered was ended by a reply that had reached the customer.

-- Its name is after that of wait_is_ended_by_a_reply, which looks first whether it is one.
CREATE FUNCTION wait_is_ended_by_what_arrived() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM support_outbound WHERE message_id = NEW.reply_id AND state = 'sent'
    ) THEN
        RAISE EXCEPTION 'wait %: message % has not reached the customer', NEW.id, NEW.reply_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

-- A later bounce opens the run again, so only what says how it ended is looked at.
CREATE TRIGGER wait_is_ended_by_what_arrived
    AFTER INSERT OR UPDATE OF outcome, reply_id ON support_wait
    FOR EACH ROW WHEN (NEW.outcome = 'answered' AND NEW.clock = 'answer')
    EXECUTE FUNCTION wait_is_ended_by_what_arrived();
