"""A receiver of call events, for tests that send some."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# Seconds after which what was to come is given up.
LIMIT = 60.0


class Receiver:
    """An HTTP server that keeps what it is told, and answers as the test says."""

    def __init__(self, certificate: Path | None = None) -> None:
        """With TLS where a certificate of localhost is given, its key in the same file."""
        self.told: Queue[dict[str, Any]] = Queue()
        self.seen: list[dict[str, Any]] = []
        # The status for a request; it may wait, too.
        self.answer: Callable[[dict[str, Any]], int] = lambda _: 200
        self.body = b"taken"
        # In place of an answer.
        self.first_line = b""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver._handle(self)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        if certificate is not None:
            tls = SSLContext(PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
            self.url = f"https://localhost:{self.server.server_port}"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}).start()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
        path = urlsplit(request.path)
        content = body if request.command == "POST" else path.query
        told = {
            "method": request.command,
            "path": request.path,
            "headers": dict(request.headers),
            "content": content,
            "parameters": dict(parse_qsl(content, keep_blank_values=True)),
            "id": request.headers["webhook-id"],
        }
        self.seen.append(told)
        self.told.put(told)
        try:
            if self.first_line:
                request.wfile.write(self.first_line)
                return
            request.send_response(self.answer(told))
            request.send_header("Location", f"{self.url}/elsewhere")
            request.end_headers()
            request.wfile.write(self.body)
        except OSError:
            # It did not want to hear the whole of it.
            pass

    def next(self) -> dict[str, Any]:
        return self.told.get(timeout=LIMIT)

    def ids(self, count: int) -> list[str]:
        return [self.next()["id"] for _ in range(count)]


@contextmanager
def receiving(certificate: Path | None = None) -> Iterator[Receiver]:
    receiver = Receiver(certificate)
    yield receiver
    receiver.answer = lambda _: 200
    receiver.server.shutdown()
    receiver.server.server_close()


def hanging(until: Event) -> Callable[[dict[str, Any]], int]:
    def answer(_: dict[str, Any]) -> int:
        until.wait(LIMIT)
        return 200

    return answer
