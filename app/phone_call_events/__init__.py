"""The UAPI's PhoneCallEvents: which URLs are told of the calls of an extension."""
