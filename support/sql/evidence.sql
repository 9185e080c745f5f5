-- A further request to a final decision names, on its ticket, what its customer sent after it: nobody of
-- ours entered it. Other requests name none.
CREATE FUNCTION further_request_names_its_evidence() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'the evidence of refund request % is fixed', OLD.request_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NOT EXISTS (
        SELECT FROM refunds_refundrequest AS asked
        JOIN orders_order AS bought ON bought.id = asked.order_id
        LEFT JOIN support_message AS said ON said.id = NEW.evidence_id
        LEFT JOIN support_ticket AS home ON home.id = said.ticket_id
        WHERE asked.id = NEW.request_id AND (
            asked.further_to_id IS NULL AND NEW.evidence_id IS NULL
            OR asked.further_to_id IS NOT NULL AND home.customer_id = bought.customer_id
                AND said.kind = 'customer' AND said.author_id IS NULL
                AND said.created_at = asked.evidence_at
        )
    ) THEN
        RAISE EXCEPTION 'refund request %: its evidence is not what its customer sent', NEW.request_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER further_request_names_its_evidence
    AFTER INSERT ON support_ticketrefund
    FOR EACH ROW EXECUTE FUNCTION further_request_names_its_evidence();
CREATE TRIGGER evidence_is_fixed
    AFTER UPDATE ON support_ticketrefund
    FOR EACH ROW WHEN (NEW.evidence_id IS DISTINCT FROM OLD.evidence_id)
    EXECUTE FUNCTION further_request_names_its_evidence();
