"""Call reports: the record of every ended call."""
