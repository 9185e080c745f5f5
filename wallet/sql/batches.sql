-- Batches of payouts: the order of their steps, frozen lines and files, and that a payout's state and its
-- batch's agree. Exported never means paid: nothing here moves money.

-- Whether this person voided an exported batch that had a payout of this one, at the same attempt: who
-- says that the first files were not sent does not have the second.
CREATE FUNCTION payout_batch_was_given_up_by(person bigint, batch bigint) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = public, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM wallet_batchline AS line
        JOIN wallet_batchline AS other ON other.payout_id = line.payout_id AND other.attempt = line.attempt
        JOIN wallet_payoutbatch AS voided ON voided.id = other.batch_id
        WHERE line.batch_id = batch AND voided.voided_by_id = person AND voided.exported_by_id IS NOT NULL
    );
END $$;

CREATE FUNCTION file_is_not_taken_by_who_gave_up_another() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF payout_batch_was_given_up_by(
        NEW.person_id, (SELECT batch_id FROM wallet_payoutfile WHERE id = NEW.file_id)
    ) THEN
        RAISE EXCEPTION 'file %: whoever voided the batch before does not take it', NEW.file_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER file_is_not_taken_by_who_gave_up_another
    BEFORE INSERT ON wallet_filedownload
    FOR EACH ROW EXECUTE FUNCTION file_is_not_taken_by_who_gave_up_another();

-- Who made it and what is in it are fixed; each step leads from the one before it.
CREATE FUNCTION payout_batch_takes_its_steps() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    changing text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'gathered' THEN
            RAISE EXCEPTION 'batch %: it begins by being gathered', NEW.id
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NOT (CASE OLD.state
        WHEN 'gathered' THEN NEW.state IN ('exported', 'voided')
        WHEN 'exported' THEN NEW.state IN ('submitted', 'voided')
        ELSE false
    END) THEN
        RAISE EXCEPTION 'batch %: from % it does not go to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    -- Void says that nobody has sent it, which whoever had its files does not say alone.
    IF OLD.state = 'exported' AND NEW.state = 'voided' AND EXISTS (
        SELECT FROM wallet_filedownload AS taken
        JOIN wallet_payoutfile AS file ON file.id = taken.file_id
        WHERE file.batch_id = OLD.id AND taken.person_id = NEW.voided_by_id
    ) THEN
        RAISE EXCEPTION 'batch %: whoever has taken a file of it does not void it', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state = 'exported' AND payout_batch_was_given_up_by(NEW.exported_by_id, NEW.id) THEN
        RAISE EXCEPTION 'batch %: whoever voided the one before does not export it', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    changing := '{state}'::text[] || CASE NEW.state
        WHEN 'exported' THEN '{exported_by_id,exported_at}'::text[]
        WHEN 'submitted' THEN '{submitted_by_id,submitted_at}'::text[]
        ELSE '{voided_by_id,voided_at,void_reason}'::text[]
    END;
    IF to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing THEN
        RAISE EXCEPTION 'batch %: what is in it and who made it are fixed', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER payout_batch_takes_its_steps
    BEFORE INSERT OR UPDATE ON wallet_payoutbatch
    FOR EACH ROW EXECUTE FUNCTION payout_batch_takes_its_steps();
CREATE TRIGGER payout_batch_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_payoutbatch
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER payout_batch_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalpayoutbatch
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER batch_line_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_batchline
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER payout_file_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_payoutfile
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER file_download_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_filedownload
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER result_file_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_resultfile
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER result_line_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_resultline
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Size and hash are those of the bytes.
ALTER TABLE wallet_payoutfile ADD CONSTRAINT payout_file_hash_is_its_content
    CHECK (sha256 = encode(sha256(content), 'hex') AND size = octet_length(content));
ALTER TABLE wallet_resultfile ADD CONSTRAINT result_file_hash_is_its_content
    CHECK (sha256 = encode(sha256(content), 'hex') AND size = octet_length(content));

-- A line is frozen: it is let go once, and never comes back.
CREATE FUNCTION batch_line_is_frozen() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF to_jsonb(NEW) - 'live' <> to_jsonb(OLD) - 'live' OR NEW.live OR NOT OLD.live THEN
        RAISE EXCEPTION 'batch line %: it is frozen, and let go once', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER batch_line_is_frozen
    BEFORE UPDATE ON wallet_batchline
    FOR EACH ROW EXECUTE FUNCTION batch_line_is_frozen();

-- A line says what its approved payout says, in a place of its batch. The payout is held, so that it is
-- not rejected at the same time.
CREATE FUNCTION batch_line_agrees() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM wallet_payout WHERE id = NEW.payout_id FOR SHARE;
    IF NOT EXISTS (
        SELECT FROM wallet_payout AS payout
        JOIN wallet_payoutmethod AS method ON method.id = payout.method_id
        JOIN wallet_payoutbatch AS batch ON batch.id = NEW.batch_id
        WHERE payout.id = NEW.payout_id AND payout.state = 'approved' AND batch.state = 'gathered'
            AND NEW.live AND NEW.position BETWEEN 1 AND batch.count
            AND NEW.note = NEW.reference
            -- By whichever of its names: that of the house, or of a provider.
            AND NEW.code IN (
                SELECT value FROM jsonb_each_text(to_jsonb(method)) WHERE key = 'code' OR key LIKE '%\_code'
            )
            AND NEW.reference = 'PO-' || lpad(payout.id::text, greatest(6, length(payout.id::text)), '0')
            AND (NEW.attempt, NEW.address, NEW.memo, NEW.amount, NEW.currency, NEW.network)
                = (payout.attempt, payout.address, payout.memo, payout.amount, method.currency, method.network)
    ) THEN
        RAISE EXCEPTION 'batch line %: it does not agree with its payout and its batch', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER batch_line_agrees
    AFTER INSERT ON wallet_batchline
    FOR EACH ROW EXECUTE FUNCTION batch_line_agrees();

-- A batch has the lines that it counts. Every place of it is taken from its commit on, so no line can be
-- added later.
CREATE FUNCTION payout_batch_has_its_lines() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT count(*) AS lines, coalesce(sum(amount), 0) AS total INTO found
    FROM wallet_batchline WHERE batch_id = NEW.id;
    IF found.lines <> NEW.count OR found.total <> NEW.total THEN
        RAISE EXCEPTION 'batch %: it counts % payouts of % USD, and has % of %',
            NEW.id, NEW.count, NEW.total, found.lines, found.total
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER payout_batch_has_its_lines
    AFTER INSERT ON wallet_payoutbatch
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION payout_batch_has_its_lines();

-- What has been exported has all its files, in each format; nothing else has any.
CREATE FUNCTION payout_batch_files_are_whole(batch_id bigint) RETURNS void LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    wrong text;
BEGIN
    SELECT form.name INTO wrong
    FROM wallet_payoutbatch AS batch
    CROSS JOIN (VALUES ('csv'), ('xlsx')) AS form (name)
    LEFT JOIN wallet_payoutfile AS file ON file.batch_id = batch.id AND file.format = form.name
    WHERE batch.id = payout_batch_files_are_whole.batch_id
    GROUP BY batch.id, form.name
    HAVING (count(file.id), coalesce(max(file.number), 0), coalesce(sum(file.rows), 0), coalesce(sum(file.total), 0))
        IS DISTINCT FROM (
            count(file.id), count(file.id)::integer,
            CASE WHEN batch.exported_by_id IS NULL THEN 0 ELSE batch.count END,
            CASE WHEN batch.exported_by_id IS NULL THEN 0 ELSE batch.total END
        )
    LIMIT 1;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'batch %: its % files are not those of all its payouts', batch_id, wrong
            USING ERRCODE = 'check_violation';
    END IF;
END $$;

CREATE FUNCTION payout_batch_has_its_files() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM payout_batch_files_are_whole(NEW.id);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER payout_batch_has_its_files
    AFTER UPDATE ON wallet_payoutbatch
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION payout_batch_has_its_files();

CREATE FUNCTION payout_file_is_of_an_export() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM payout_batch_files_are_whole(NEW.batch_id);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER payout_file_is_of_an_export
    AFTER INSERT ON wallet_payoutfile
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION payout_file_is_of_an_export();

-- Which states of a payout go with which of the batch that it has a live line in.
CREATE FUNCTION payout_fits_its_batch(payout_state text, batch_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE batch_state
        WHEN 'gathered' THEN payout_state = 'approved'
        WHEN 'exported' THEN payout_state IN ('exported', 'paid', 'failed')
        WHEN 'submitted' THEN payout_state IN ('submitted', 'paid', 'failed')
        -- Given up: nothing of it is live.
        WHEN 'voided' THEN false
        -- In no batch. What had failed when its batch was voided is looked at beside this.
        ELSE payout_state NOT IN ('exported', 'submitted', 'paid', 'failed')
    END
$$;

-- Looked at on commit, after each step of a payout, of its line and of its batch.
CREATE FUNCTION payout_and_its_batch_agree(payout_id bigint) RETURNS void LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT payout.state, payout.attempt, batch.id AS batch_id, batch.state AS batch_state INTO found
    FROM wallet_payout AS payout
    LEFT JOIN wallet_batchline AS line ON line.payout_id = payout.id AND line.live
    LEFT JOIN wallet_payoutbatch AS batch ON batch.id = line.batch_id
    WHERE payout.id = payout_and_its_batch_agree.payout_id;
    IF NOT payout_fits_its_batch(found.state, found.batch_state) AND NOT (
        -- It had failed when its batch was voided, or is found paid after all since.
        found.batch_id IS NULL AND found.state IN ('failed', 'paid') AND EXISTS (
            SELECT FROM wallet_batchline AS line
            JOIN wallet_payoutbatch AS batch ON batch.id = line.batch_id
            WHERE line.payout_id = payout_and_its_batch_agree.payout_id
                AND line.attempt = found.attempt
                AND batch.state = 'voided' AND batch.exported_by_id IS NOT NULL
        )
    ) THEN
        RAISE EXCEPTION 'payout % is %, and its live line is in %', payout_id, found.state,
            coalesce('batch ' || found.batch_id || ', which is ' || found.batch_state, 'no batch')
            USING ERRCODE = 'check_violation';
    END IF;
END $$;

CREATE FUNCTION payout_agrees_with_its_batch() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM payout_and_its_batch_agree(NEW.id);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER payout_agrees_with_its_batch
    AFTER INSERT OR UPDATE ON wallet_payout
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION payout_agrees_with_its_batch();

CREATE FUNCTION batch_line_leaves_its_payout_right() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    -- It lets go with its batch, or, once that was handed over, with its attempt.
    IF NOT NEW.live AND NOT EXISTS (
        SELECT FROM wallet_payoutbatch AS batch
        JOIN wallet_payout AS payout ON payout.id = NEW.payout_id
        WHERE batch.id = NEW.batch_id AND (batch.state = 'voided' OR batch.state = 'submitted'
            AND (payout.attempt > NEW.attempt OR payout.state IN ('returned', 'forfeited')))
    ) THEN
        RAISE EXCEPTION 'batch line %: neither its batch nor its attempt is over', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    PERFORM payout_and_its_batch_agree(NEW.payout_id);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER batch_line_leaves_its_payout_right
    AFTER INSERT OR UPDATE ON wallet_batchline
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION batch_line_leaves_its_payout_right();

CREATE FUNCTION payout_batch_agrees_with_its_payouts() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    wrong record;
BEGIN
    SELECT payout.id, payout.state INTO wrong
    FROM wallet_payoutbatch AS batch
    JOIN wallet_batchline AS line ON line.batch_id = batch.id AND line.live
    JOIN wallet_payout AS payout ON payout.id = line.payout_id
    WHERE batch.id = NEW.id AND NOT payout_fits_its_batch(payout.state, batch.state)
    ORDER BY payout.id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'batch % is %, and its payout % is %', NEW.id, NEW.state, wrong.id, wrong.state
            USING ERRCODE = 'check_violation';
    END IF;
    -- What was paid, even if it came back, was sent: its batch is not given up from under it.
    SELECT payout.id INTO wrong
    FROM wallet_batchline AS line
    JOIN wallet_payout AS payout ON payout.id = line.payout_id AND payout.attempt = line.attempt
    WHERE line.batch_id = NEW.id AND NEW.state = 'voided' AND payout.transaction_hash <> ''
    ORDER BY payout.id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'batch % is voided, and its payout % was paid', NEW.id, wrong.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER payout_batch_agrees_with_its_payouts
    AFTER UPDATE ON wallet_payoutbatch
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION payout_batch_agrees_with_its_payouts();

-- A result that was applied is what the payout says.
CREATE FUNCTION result_line_agrees() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM wallet_payout AS payout
        WHERE payout.id = NEW.payout_id AND payout.attempt = NEW.attempt AND CASE NEW.outcome
            WHEN 'paid' THEN payout.state = 'paid' AND payout.transaction_hash = NEW.detail
            WHEN 'failed' THEN payout.state = 'failed'
            ELSE payout.state IN ('paid', 'failed')
        END
    ) THEN
        RAISE EXCEPTION 'row % of result file %: payout % does not say so',
            NEW.row, NEW.file_id, NEW.payout_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER result_line_agrees
    AFTER INSERT ON wallet_resultline
    FOR EACH ROW EXECUTE FUNCTION result_line_agrees();
