"""The `ringback` command, and what `ringback up` and `ringback demo` run."""
