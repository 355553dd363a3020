"""Exercises of a fleet of switches: python -m bench.fleet."""
