"""Call reports: the records of ended calls."""
