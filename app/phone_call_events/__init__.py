"""The UAPI's PhoneCallEvents: the URLs that Ringback notifies of the calls of an extension."""
