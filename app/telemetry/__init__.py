"""What a process tells of itself: log lines, traces and metrics."""
