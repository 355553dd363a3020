"""Erases a person's number from everything that Ringback keeps."""
