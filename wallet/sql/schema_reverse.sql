ALTER FUNCTION deposit_agrees_with_its_transfer() RESET search_path;
