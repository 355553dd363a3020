"""What Redis holds of the calls, and every script that writes it."""
