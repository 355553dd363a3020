"""The calls in Redis, and the scripts that write them."""
