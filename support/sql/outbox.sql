-- What leaves the house: only what is said to the customer, and nothing twice without a person.

CREATE FUNCTION outbound_is_public() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM support_message WHERE id = NEW.message_id AND kind IN ('reply', 'notice')
    ) THEN
        RAISE EXCEPTION 'message % is not for the customer', NEW.message_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER outbound_is_public
    BEFORE INSERT OR UPDATE ON support_outbound
    FOR EACH ROW EXECUTE FUNCTION outbound_is_public();

-- What was sent is not queued again: a bounce fails it first. An attempt is counted when it begins.
CREATE FUNCTION outbound_follows_its_states() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF (NEW.message_id, NEW.way, NEW.key, NEW.queued_at)
        IS DISTINCT FROM (OLD.message_id, OLD.way, OLD.key, OLD.queued_at)
        OR NEW.attempts <> OLD.attempts
            + (CASE WHEN OLD.state = 'queued' AND NEW.state IN ('sending', 'sent') THEN 1 ELSE 0 END)
    THEN
        RAISE EXCEPTION 'delivery %: what it delivers and how often it was tried is fixed', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('queued', 'sending'), ('queued', 'failed'),
        ('sending', 'sent'), ('sending', 'queued'), ('sending', 'failed'), ('sending', 'unknown'),
        ('unknown', 'sent'), ('unknown', 'queued'), ('unknown', 'failed'),
        ('failed', 'queued'),
        ('sent', 'failed')
    ) AND NOT (NEW.way = 'api' AND (OLD.state, NEW.state) = ('queued', 'sent')) THEN
        RAISE EXCEPTION 'delivery %: % does not follow %', OLD.id, NEW.state, OLD.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER outbound_follows_its_states
    BEFORE UPDATE ON support_outbound
    FOR EACH ROW EXECUTE FUNCTION outbound_follows_its_states();

CREATE TRIGGER outbound_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_historicaloutbound
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
