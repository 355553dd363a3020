"""TLS to the event socket of a switch, which a stunnel or a proxy beside the switch ends."""

import ssl
from dataclasses import dataclass
from typing import Any

import gevent.ssl

# How OpenSSL calls an answer that is no TLS, in its versions.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


@dataclass(frozen=True, slots=True)
class Tls:
    """Which certificate the far end must show.

    `name` is the host name or IP address that the certificate must be for. `ca` is the path of a
    PEM file with the certification authorities to trust; None trusts those of the system.
    """

    name: str
    ca: str | None = None

    def context(self) -> Any:  # gevent has no types
        """The TLS 1.2 or 1.3 context that checks the certificate. Raises OSError, whose text is a
        sentence, if the file of `ca` cannot be used.

        It is made for each connection, so that a renewed file counts without a restart.
        """
        # The class of gevent, since the process may have no monkey patches. It checks name and
        # chain by default.
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is None:
            context.load_default_certs()
            return context
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError:
            raise OSError(f"the file of `ca`, {self.ca}, holds no certificate in PEM") from None
        except OSError as error:
            why = error.strerror or error
            raise OSError(f"the file of `ca`, {self.ca}, cannot be read: {why}") from None
        return context

    def wrap(self, sock: Any) -> Any:
        """The socket with TLS, before the handshake. Raises OSError as `context` does."""
        return self.context().wrap_socket(
            sock, server_hostname=self.name, do_handshake_on_connect=False
        )

    def shake_hands(self, sock: Any) -> None:
        """Check the certificate of the far end of a wrapped socket.

        Raises OSError, whose text is a sentence, if it is not the right one, or if the far end
        speaks no TLS.
        """
        try:
            sock.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise OSError(
                f"the certificate is not trusted for {self.name}: {error.verify_message}"
            ) from error
        except ssl.SSLEOFError as error:
            raise OSError("the far end closed the connection in the TLS handshake") from error
        except ssl.SSLError as error:
            if error.reason in _NO_TLS:
                raise OSError(
                    "the far end speaks no TLS: give the port of the stunnel or proxy beside the"
                    " switch, or write esl:// for plain text"
                ) from error
            raise OSError(f"the TLS handshake failed: {error.reason or error}") from error
