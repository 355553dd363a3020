"""Log lines, traces and metrics of a process."""
