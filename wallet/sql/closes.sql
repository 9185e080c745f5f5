-- A close is written once, with all its figures, in one transaction; it continues the one before it of
-- its kind, adds up, comes to what the ledger says, and carries the digest of what it says. Under which
-- figure each transfer is counted is for wallet.closes.verify to prove.
CREATE TRIGGER close_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_close
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER close_figure_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_closefigure
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER holding_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_holding
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER liability_check_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_liabilitycheck
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Its last day is sealed, and so is every day before it, since seals have no gaps.
CREATE FUNCTION close_continues_the_chain() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    last record;
    begins date;
BEGIN
    IF NOT EXISTS (SELECT FROM wallet_seal WHERE id = NEW.seal_id AND day = NEW.last) THEN
        RAISE EXCEPTION 'the close of % does not name the seal of its last day', NEW.first
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.kind = 'month' AND NEW.last <> (NEW.first + interval '1 month')::date - 1 THEN
        RAISE EXCEPTION 'the close of % is not of a calendar month', NEW.first
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT * INTO last FROM wallet_close WHERE kind = NEW.kind ORDER BY wallet_close.last DESC LIMIT 1;
    IF FOUND THEN
        IF NEW.first <> last.last + 1 OR NEW.previous <> last.digest
            OR (NEW.opening_wallets, NEW.opening_escrow, NEW.opening_payouts)
                IS DISTINCT FROM (last.closing_wallets, last.closing_escrow, last.closing_payouts) THEN
            RAISE EXCEPTION 'the close of % does not continue the close before it', NEW.first
                USING ERRCODE = 'check_violation';
        END IF;
    ELSE
        SELECT CASE WHEN NEW.kind = 'day' THEN min(day) ELSE date_trunc('month', min(day))::date END
        INTO begins FROM wallet_seal;
        IF NEW.first IS DISTINCT FROM begins OR NEW.previous <> '' THEN
            RAISE EXCEPTION 'the close of % does not begin where the books begin', NEW.first
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER close_continues_the_chain
    BEFORE INSERT ON wallet_close
    FOR EACH ROW EXECUTE FUNCTION close_continues_the_chain();

-- The same as wallet.closes.moved: how many transfers there are from one moment on and before another,
-- and what they did to what is owed in wallets, in escrow and in payouts that are pending.
CREATE FUNCTION ledger_moved(
    since timestamptz, until timestamptz,
    OUT transfers bigint, OUT wallets numeric, OUT escrow numeric, OUT payouts numeric
) LANGUAGE sql STABLE
SET search_path = public, pg_temp AS $$
    SELECT count(*),
        coalesce(sum(CASE WHEN credit_account >= 1000 THEN amount
            WHEN debit_account >= 1000 THEN -amount END), 0),
        coalesce(sum(CASE WHEN credit_account = 2 THEN amount WHEN debit_account = 2 THEN -amount END), 0),
        coalesce(sum(CASE WHEN credit_account = 10 THEN amount WHEN debit_account = 10 THEN -amount END), 0)
    FROM wallet_transfer WHERE posted_at >= since AND posted_at < until
$$;

-- The first moment of a UTC day.
CREATE FUNCTION utc_day_begins(day date) RETURNS timestamptz LANGUAGE sql STABLE
SET search_path = public, pg_temp AS $$ SELECT day::timestamp AT TIME ZONE 'UTC' $$;

-- The same as wallet.closes.digest_of, which says what it is.
CREATE FUNCTION close_digest(closed bigint) RETURNS text LANGUAGE sql STABLE
SET search_path = public, pg_temp AS $$
    SELECT encode(sha256(convert_to(
        concat_ws('|', made.previous, made.kind,
            to_char(made.first, 'YYYY-MM-DD'), to_char(made.last, 'YYYY-MM-DD'),
            seal.digest, made.transfers,
            made.opening_wallets, made.opening_escrow, made.opening_payouts,
            made.closing_wallets, made.closing_escrow, made.closing_payouts) || E'\n'
        || coalesce(string_agg(
            concat_ws('|', row.number, row.figure, row.part, row.count, row.amount,
                row.wallets, row.escrow, row.payouts, CASE WHEN row.apart THEN 'apart' ELSE '' END,
                encode(convert_to(row.section, 'UTF8'), 'hex'),
                encode(convert_to(row.label, 'UTF8'), 'hex'),
                encode(convert_to(row.part_label, 'UTF8'), 'hex')) || E'\n',
            '' ORDER BY row.number) FILTER (WHERE row.id IS NOT NULL), ''),
        'UTF8')), 'hex')
    FROM wallet_close AS made
    JOIN wallet_seal AS seal ON seal.id = made.seal_id
    LEFT JOIN wallet_closefigure AS row ON row.close_id = made.id
    WHERE made.id = closed
    GROUP BY made.id, seal.digest
$$;

-- On commit: all its figures are there, what was owed before and they come to what is owed after; a day
-- has the transfers of its day and comes to what they come to, and a month says what its days say.
CREATE FUNCTION close_adds_up() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    total record;
    edge record;
    moved record;
BEGIN
    SELECT count(*) AS lines, coalesce(sum(count) FILTER (WHERE NOT apart), 0) AS transfers,
        coalesce(sum(wallets * amount), 0) AS wallets, coalesce(sum(escrow * amount), 0) AS escrow,
        coalesce(sum(payouts * amount), 0) AS payouts
    INTO total FROM wallet_closefigure WHERE close_id = NEW.id;
    IF total.lines <> NEW.lines OR total.transfers <> NEW.transfers
        OR NEW.closing_wallets <> NEW.opening_wallets + total.wallets
        OR NEW.closing_escrow <> NEW.opening_escrow + total.escrow
        OR NEW.closing_payouts <> NEW.opening_payouts + total.payouts THEN
        RAISE EXCEPTION 'the close of % does not add up', NEW.first USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.digest <> close_digest(NEW.id) THEN
        RAISE EXCEPTION 'the close of % does not carry its own digest', NEW.first
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.kind = 'day' THEN
        -- The day is sealed, so nothing is added to it; what was owed before is the ledger's for the
        -- first close, and the one before's for all others.
        moved := ledger_moved(utc_day_begins(NEW.first), utc_day_begins(NEW.first + 1));
        IF NEW.transfers <> moved.transfers
            OR NEW.closing_wallets <> NEW.opening_wallets + moved.wallets
            OR NEW.closing_escrow <> NEW.opening_escrow + moved.escrow
            OR NEW.closing_payouts <> NEW.opening_payouts + moved.payouts THEN
            RAISE EXCEPTION 'the close of % is not what the ledger says', NEW.first
                USING ERRCODE = 'check_violation';
        END IF;
        IF NEW.previous = '' THEN
            moved := ledger_moved('-infinity', utc_day_begins(NEW.first));
            IF (NEW.opening_wallets, NEW.opening_escrow, NEW.opening_payouts)
                IS DISTINCT FROM (moved.wallets, moved.escrow, moved.payouts) THEN
                RAISE EXCEPTION 'the close of % does not begin with what was owed before it', NEW.first
                    USING ERRCODE = 'check_violation';
            END IF;
        END IF;
    END IF;
    IF NEW.kind = 'month' THEN
        SELECT count(*) AS days, min(first) AS first, max(last) AS last INTO edge
        FROM wallet_close WHERE kind = 'day' AND first >= NEW.first AND last <= NEW.last;
        IF edge.last IS DISTINCT FROM NEW.last OR edge.days <> edge.last - edge.first + 1
            OR (edge.first <> NEW.first AND EXISTS (
                SELECT FROM wallet_close WHERE kind = 'day' AND last < NEW.first))
            OR NOT EXISTS (
                SELECT FROM wallet_close WHERE kind = 'day' AND first = edge.first
                    AND opening_wallets = NEW.opening_wallets AND opening_escrow = NEW.opening_escrow
                    AND opening_payouts = NEW.opening_payouts)
            OR EXISTS (
                SELECT FROM (
                    SELECT figure, part, wallets, escrow, payouts, apart,
                        sum(row.count) AS count, sum(amount) AS amount
                    FROM wallet_closefigure AS row
                    JOIN wallet_close AS made ON made.id = row.close_id
                    WHERE made.kind = 'day' AND made.first >= NEW.first AND made.last <= NEW.last
                    GROUP BY figure, part, wallets, escrow, payouts, apart
                ) AS days
                FULL JOIN (
                    SELECT figure, part, wallets, escrow, payouts, apart, count, amount
                    FROM wallet_closefigure WHERE close_id = NEW.id
                ) AS month USING (figure, part, wallets, escrow, payouts, apart)
                WHERE coalesce(days.count, 0) <> coalesce(month.count, 0)
                    OR coalesce(days.amount, 0) <> coalesce(month.amount, 0)) THEN
            RAISE EXCEPTION 'the close of % is not what its days say', NEW.first
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER close_adds_up
    AFTER INSERT ON wallet_close
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION close_adds_up();

-- No figure is added to a close that is there already.
CREATE FUNCTION close_figures_are_all_there() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT made.id INTO wrong
    FROM wallet_close AS made
    WHERE made.id IN (SELECT close_id FROM added)
        AND made.lines < (SELECT count(*) FROM wallet_closefigure WHERE close_id = made.id)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'close % has all its figures', wrong USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER close_figures_are_all_there
    AFTER INSERT ON wallet_closefigure
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION close_figures_are_all_there();

-- Nothing is entered or checked before its time, by the database's own clock; a machine's may be a little
-- ahead. The CHECKs of both tables hold what is said of a moment to the moment at which it is said.
CREATE FUNCTION holding_is_of_the_past() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.entered_at > clock_timestamp() + interval '1 minute' THEN
        RAISE EXCEPTION 'holding %: it is entered at a moment to come', NEW.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER holding_is_of_the_past
    BEFORE INSERT ON wallet_holding
    FOR EACH ROW EXECUTE FUNCTION holding_is_of_the_past();

-- A check compares the newest entry of each place, all of them, with what the ledger says was owed, and
-- sums what they say. An entry that comes later for an earlier moment changes no check that was made.
CREATE FUNCTION liability_check_sums_both_sides() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    known record;
    closed record;
    moved record;
BEGIN
    IF NEW.checked_at > clock_timestamp() + interval '1 minute' THEN
        RAISE EXCEPTION 'the check at % is made at a moment to come', NEW.at
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT array_agg(id ORDER BY id) AS ids, coalesce(sum(amount), 0) AS held, min(as_of) AS oldest
    INTO known
    FROM (
        SELECT DISTINCT ON (lower(name)) id, amount, as_of FROM wallet_holding
        WHERE as_of <= NEW.at ORDER BY lower(name), as_of DESC, id DESC
    ) AS newest;
    IF known.ids IS DISTINCT FROM (SELECT array_agg(id ORDER BY id) FROM unnest(NEW.holdings) AS id)
        OR known.held <> NEW.held OR known.oldest IS DISTINCT FROM NEW.oldest THEN
        RAISE EXCEPTION 'the check at % does not sum what is held', NEW.at
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT last, closing_wallets, closing_escrow, closing_payouts INTO closed FROM wallet_close
    WHERE kind = 'day' AND last < (NEW.at AT TIME ZONE 'UTC')::date ORDER BY last DESC LIMIT 1;
    moved := ledger_moved(coalesce(utc_day_begins(closed.last + 1), '-infinity'), NEW.at);
    IF (NEW.wallets, NEW.escrow, NEW.payouts) IS DISTINCT FROM (
        coalesce(closed.closing_wallets, 0) + moved.wallets,
        coalesce(closed.closing_escrow, 0) + moved.escrow,
        coalesce(closed.closing_payouts, 0) + moved.payouts) THEN
        RAISE EXCEPTION 'the check at % does not sum what is owed', NEW.at
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER liability_check_sums_both_sides
    AFTER INSERT ON wallet_liabilitycheck
    FOR EACH ROW EXECUTE FUNCTION liability_check_sums_both_sides();
