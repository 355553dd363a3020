"""Exercises of a fleet: what a failure costs, held against the switches' own records."""
