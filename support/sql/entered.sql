-- A dispute is resolved by somebody who took no part in it: nor entered what the customer said in it.
CREATE FUNCTION dispute_is_not_resolved_by_who_entered_it() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM support_ticketrefund AS decided
        JOIN support_message AS said ON said.id = decided.disputed_by_id
        WHERE decided.request_id = NEW.id AND said.author_id = NEW.resolved_by_id
    ) THEN
        RAISE EXCEPTION 'refund request %: who resolves it entered the message that disputes it', NEW.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER dispute_is_not_resolved_by_who_entered_it
    AFTER UPDATE ON refunds_refundrequest
    FOR EACH ROW WHEN (NEW.resolved_by_id IS NOT NULL)
    EXECUTE FUNCTION dispute_is_not_resolved_by_who_entered_it();
