"""Whether a process is alive, and whether it is ready to do its work: what is missing, by part."""
