-- Exports: what was asked for is fixed, a file that is done stays as it is until it expires, and who
-- took it is never forgotten.

CREATE FUNCTION export_begins_queued() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.state <> 'queued' OR NEW.attempt <> 0 THEN
        RAISE EXCEPTION 'export %: an export begins queued', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER export_begins_queued
    BEFORE INSERT ON wallet_export
    FOR EACH ROW EXECUTE FUNCTION export_begins_queued();

CREATE FUNCTION export_follows_its_states() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    kept record;
BEGIN
    IF (NEW.id, NEW.dataset, NEW.since, NEW.until, NEW.requested_by_id, NEW.requested_at, NEW.request_key)
        IS DISTINCT FROM
        (OLD.id, OLD.dataset, OLD.since, OLD.until, OLD.requested_by_id, OLD.requested_at, OLD.request_key)
    THEN
        RAISE EXCEPTION 'export %: what was asked for is fixed', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('queued', 'running'), ('queued', 'cancelled'),
        ('running', 'queued'), ('running', 'done'), ('running', 'failed'), ('running', 'cancelled'),
        ('done', 'expired')
    ) THEN
        RAISE EXCEPTION 'export %: % does not follow %', OLD.id, NEW.state, OLD.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.state NOT IN ('queued', 'running')
        AND to_jsonb(NEW) - 'state' <> to_jsonb(OLD) - 'state'
    THEN
        RAISE EXCEPTION 'export % is %: it does not change any more', OLD.id, OLD.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.attempt <> OLD.attempt
        + (CASE WHEN OLD.state = 'queued' AND NEW.state = 'running' THEN 1 ELSE 0 END)
    THEN
        RAISE EXCEPTION 'export %: an attempt is counted when it begins', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> OLD.state AND NEW.state IN ('running', 'done') THEN
        SELECT count(*) AS parts, coalesce(max(number) + 1, 0) AS numbered, coalesce(sum(rows), 0) AS rows
        INTO kept FROM wallet_exportpart WHERE export_id = NEW.id;
        IF NEW.state = 'running' AND kept.parts > 0 THEN
            RAISE EXCEPTION 'export % begins from nothing, and has parts', OLD.id
                USING ERRCODE = 'check_violation';
        ELSIF NEW.state = 'done'
            AND (kept.parts = 0 OR kept.parts <> kept.numbered OR kept.rows <> NEW.rows_done)
        THEN
            RAISE EXCEPTION 'export % is not whole: % parts with % rows', OLD.id, kept.parts, kept.rows
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER export_follows_its_states
    BEFORE UPDATE ON wallet_export
    FOR EACH ROW EXECUTE FUNCTION export_follows_its_states();

CREATE TRIGGER export_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_export
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Parts come while the export is written, and go when there is no file of it any more. The lock makes
-- it one after the other with whoever changes the export's state.
CREATE FUNCTION export_part_comes_and_goes() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    found text;
BEGIN
    SELECT state INTO found FROM wallet_export
    WHERE id = (CASE TG_OP WHEN 'INSERT' THEN NEW.export_id ELSE OLD.export_id END)
    FOR NO KEY UPDATE;
    IF TG_OP = 'INSERT' THEN
        IF found IS DISTINCT FROM 'running' THEN
            RAISE EXCEPTION 'export % is %: it takes no part', NEW.export_id, found
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF found = 'done' THEN
        RAISE EXCEPTION 'export % is done: its parts are kept', OLD.export_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER export_part_comes_and_goes
    BEFORE INSERT OR DELETE ON wallet_exportpart
    FOR EACH ROW EXECUTE FUNCTION export_part_comes_and_goes();

CREATE TRIGGER export_part_is_never_changed
    BEFORE UPDATE OR TRUNCATE ON wallet_exportpart
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Only what is done can be taken.
CREATE FUNCTION export_download_is_of_a_file() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM wallet_export WHERE id = NEW.export_id AND state = 'done') THEN
        RAISE EXCEPTION 'export % has no file', NEW.export_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER export_download_is_of_a_file
    BEFORE INSERT ON wallet_exportdownload
    FOR EACH ROW EXECUTE FUNCTION export_download_is_of_a_file();

CREATE TRIGGER export_download_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_exportdownload
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE TRIGGER export_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalexport
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
