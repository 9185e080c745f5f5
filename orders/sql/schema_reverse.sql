ALTER FUNCTION order_agrees_with_its_purchase() RESET search_path;
