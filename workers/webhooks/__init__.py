"""The delivery of call events to the URLs that extensions have given.

See docs/internals/uapi.md#what-a-url-is-told.
"""
