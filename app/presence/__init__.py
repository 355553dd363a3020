"""Presence: whether an extension is on a call."""
