"""The delivery of call events to the URLs that extensions have given (uapi/spec 7.2)."""
