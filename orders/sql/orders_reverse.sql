DROP TRIGGER sms_is_append_only ON orders_sms;
DROP TRIGGER order_history_is_append_only ON orders_historicalorder;
DROP TRIGGER order_is_born_with_its_settlement ON orders_order;
DROP TRIGGER order_agrees_with_its_settlement ON orders_order;
DROP FUNCTION order_agrees_with_its_settlement();
DROP TRIGGER order_agrees_with_its_purchase ON orders_order;
DROP FUNCTION order_agrees_with_its_purchase();
DROP TRIGGER order_terms_are_fixed ON orders_order;
DROP FUNCTION order_terms_are_fixed();
