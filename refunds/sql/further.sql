-- What was decided for good after a dispute is looked at again only by a further request: it names that
-- decision and evidence that came after it, and nobody who took part in an earlier one has a part in it,
-- nor in resolving any other dispute of the order.
CREATE FUNCTION refund_request_keeps_what_is_final() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    ruling record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT id, resolved_at INTO ruling FROM refunds_refundrequest
        WHERE order_id = NEW.order_id AND resolved_at IS NOT NULL
        ORDER BY resolved_at DESC, id DESC LIMIT 1;
        IF NEW.further_to_id IS DISTINCT FROM ruling.id THEN
            RAISE EXCEPTION
                'refund request %: what was decided for good is opened again as a further request to it',
                NEW.id USING ERRCODE = 'restrict_violation';
        END IF;
        IF NEW.evidence_at <= ruling.resolved_at THEN
            RAISE EXCEPTION 'refund request %: its evidence came before the decision', NEW.id
                USING ERRCODE = 'restrict_violation';
        END IF;
    ELSIF NEW.state IN ('approved', 'overturned') AND EXISTS (
        SELECT FROM refunds_refundrequest AS other
        WHERE other.order_id = NEW.order_id AND other.state IN ('upheld', 'dismissed')
            AND other.resolved_at > NEW.requested_at
            -- What was disputed before that ruling goes on.
            AND (NEW.disputed_at IS NULL OR other.resolved_at < NEW.disputed_at)
    ) THEN
        RAISE EXCEPTION 'refund request %: its order was decided for good since it was asked for', NEW.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.further_to_id IS NOT NULL OR NEW.resolved_at IS NOT NULL) AND EXISTS (
        SELECT FROM refunds_refundrequest AS earlier
        WHERE earlier.order_id = NEW.order_id AND earlier.id <> NEW.id
            AND earlier.resolved_at IS NOT NULL
            AND ARRAY[earlier.requested_by_id, earlier.decided_by_id, earlier.resolved_by_id]
                && CASE WHEN NEW.further_to_id IS NULL THEN ARRAY[NEW.resolved_by_id]
                    ELSE ARRAY[NEW.requested_by_id, NEW.decided_by_id, NEW.resolved_by_id] END
    ) THEN
        RAISE EXCEPTION 'refund request %: somebody took part in an earlier decision on its order',
            NEW.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER refund_request_keeps_what_is_final
    AFTER INSERT OR UPDATE ON refunds_refundrequest
    FOR EACH ROW EXECUTE FUNCTION refund_request_keeps_what_is_final();
