"""What a call is: its legs and states, how it changes, and where it is kept."""
