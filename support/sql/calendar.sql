-- The rules of the business calendar that constraints cannot say.

-- The one calendar stays: without it no answer would ever be due.
CREATE TRIGGER calendar_is_kept
    BEFORE DELETE OR TRUNCATE ON support_calendar
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Who changed the hours, and why, is what a complaint about a late answer is judged by.
CREATE TRIGGER calendar_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_historicalcalendar
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER exception_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_historicalcalendarexception
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
