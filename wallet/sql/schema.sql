-- The rule of deposits looks at the tables of the schema "public" alone, as those of movements.sql do:
-- a session may make temporary tables, and one named like ours must not stand in for it.
ALTER FUNCTION deposit_agrees_with_its_transfer() SET search_path = public, pg_temp;
