"""The PhoneCalls service of the UAPI: create, list and hang up."""
