"""The recordings of calls: listed, fetched and deleted."""
