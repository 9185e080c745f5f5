DROP TRIGGER refund_is_append_only ON refunds_refund;
DROP TRIGGER refund_agrees_with_its_money ON refunds_refund;
DROP FUNCTION refund_agrees_with_its_money();
