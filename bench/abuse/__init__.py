"""What a hostile client does to a quiet one: `python -m bench.abuse`."""
