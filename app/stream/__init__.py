"""Server-sent events: every change of the calls that an app may see."""
