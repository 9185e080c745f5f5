DROP TRIGGER order_is_settled_once ON orders_order;
DROP FUNCTION order_is_settled_once();
