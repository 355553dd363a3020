"""The errors of the event socket."""

from greenswitch.esl import NotConnectedError


class EventSocketError(Exception):
    """The parent of the errors of this package's event socket."""


class NotConnected(EventSocketError, NotConnectedError):  # type: ignore[misc]
    """There is no connection, or it ended before the reply: the switch may have run the command."""


class ConnectFailed(EventSocketError):
    """The login failed: nothing listens, it is no event socket, it rejects us, or it takes too
    long."""


class AuthenticationFailed(ConnectFailed):
    """The switch rejects the user or the password."""


class CommandTimeout(EventSocketError):
    """The switch did not reply in time. It may have run the command, or may run it later."""


class CommandRefused(EventSocketError):
    """The switch replied and did not run the command; the text is its reply."""
