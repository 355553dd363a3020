"""Whether an extension is on a call."""
