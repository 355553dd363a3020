"""Calls as values: their legs and states, and how they change."""
