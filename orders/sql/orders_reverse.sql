DROP TRIGGER order_agrees_with_its_purchase ON orders_order;
DROP FUNCTION order_agrees_with_its_purchase();
DROP TRIGGER order_terms_are_fixed ON orders_order;
DROP FUNCTION order_terms_are_fixed();
