"""Ringback as real processes, with faults done to them, and what the switch says of it after."""
