"""The errors of the event socket."""

from greenswitch.esl import NotConnectedError


class EventSocketError(Exception):
    """The parent of the errors of this package's event socket."""


class NotConnected(EventSocketError, NotConnectedError):  # type: ignore[misc]
    """No connection stands, or it ended before the reply: the switch may have run the command."""


class ConnectFailed(EventSocketError):
    """No login: nothing listens, it is no event socket, it rejects us, or it takes too long."""


class AuthenticationFailed(ConnectFailed):
    """The switch rejects the user or the password."""


class CommandTimeout(EventSocketError):
    """No reply came within the time limit: the switch may have run the command, or may run it
    later."""


class CommandRefused(EventSocketError):
    """The switch replied and did not run the command; the text is its reply."""
