-- The rule of purchases looks at the tables of the schema "public" alone, as that of settlements does:
-- a session may make temporary tables, and one named like ours must not stand in for it.
ALTER FUNCTION order_agrees_with_its_purchase() SET search_path = public, pg_temp;
