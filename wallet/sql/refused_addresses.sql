-- Addresses that nothing is paid out to: tokens' contracts, what nobody has the key of, our own.

-- The address however it is written (wallet.addresses.key_of): capitals are a checksum on networks like
-- Ethereum, and an address on TON begins with whether a payment bounces.
CREATE FUNCTION address_key(format text, address text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE format
        WHEN 'evm' THEN lower(address)
        WHEN 'ton' THEN encode(substring(decode(translate(address, '-_', '+/'), 'base64') FROM 2 FOR 33), 'hex')
        ELSE address
    END
$$;

-- Each step towards being sent; a batch that is voided lets its payouts go back, to be rejected.
CREATE FUNCTION payout_goes_to_somebody() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    form text;
BEGIN
    IF NEW.state NOT IN ('requested', 'first_approved', 'approved', 'exported') THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.state = 'exported' THEN
        RETURN NEW;
    END IF;
    SELECT address_format INTO form FROM wallet_payoutmethod WHERE id = NEW.method_id;
    IF form = 'evm' AND NEW.address ~* '^0x0{36}' THEN
        RAISE EXCEPTION 'payout %: nobody has the key of its address', NEW.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF EXISTS (
        SELECT FROM wallet_payoutmethod
        WHERE contract <> '' AND address_format = form
            AND address_key(form, contract) = address_key(form, NEW.address)
    ) THEN
        RAISE EXCEPTION 'payout %: its address is the contract of a token', NEW.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF EXISTS (
        SELECT FROM wallet_refusedaddress
        WHERE active AND address_format = form AND key = address_key(form, NEW.address)
    ) THEN
        RAISE EXCEPTION 'payout %: nothing is paid out to its address', NEW.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

-- After payout_takes_its_steps, as triggers fire by their names.
CREATE TRIGGER payout_to_somebody
    BEFORE INSERT OR UPDATE OF state ON wallet_payout
    FOR EACH ROW EXECUTE FUNCTION payout_goes_to_somebody();

-- A row of the list stays the address that it is, and its key is the address's.
CREATE FUNCTION refused_address_stays() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.key IS DISTINCT FROM address_key(NEW.address_format, NEW.address)
        OR TG_OP = 'UPDATE' AND (NEW.network, NEW.address_format, NEW.address)
            IS DISTINCT FROM (OLD.network, OLD.address_format, OLD.address) THEN
        RAISE EXCEPTION 'refused address %: it stays the address that it is', NEW.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER refused_address_stays
    BEFORE INSERT OR UPDATE ON wallet_refusedaddress
    FOR EACH ROW EXECUTE FUNCTION refused_address_stays();
CREATE TRIGGER refused_address_is_kept
    BEFORE DELETE OR TRUNCATE ON wallet_refusedaddress
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER refused_address_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_historicalrefusedaddress
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
