DROP TRIGGER transfers_refund_their_own_orders ON wallet_transfer;
DROP FUNCTION automatic_refund_is_of_its_order();
