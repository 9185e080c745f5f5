-- A payout is asked for on one ticket, of its own customer, for good.

CREATE TRIGGER ticket_payout_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON support_ticketpayout
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE FUNCTION ticket_payout_is_its_customers() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM support_ticket AS ticket
        JOIN wallet_payout AS payout ON payout.customer_id = ticket.customer_id
        WHERE ticket.id = NEW.ticket_id AND payout.id = NEW.payout_id
    ) THEN
        RAISE EXCEPTION 'payout % is not of the customer of ticket %', NEW.payout_id, NEW.ticket_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER ticket_payout_is_its_customers
    AFTER INSERT ON support_ticketpayout
    FOR EACH ROW EXECUTE FUNCTION ticket_payout_is_its_customers();
