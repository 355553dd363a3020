"""Certificates of an authority of the tests' own, and a proxy that ends TLS with one."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate of a server, its key, and the authority that signed it."""

    cert: str
    key: str
    ca: str


def certificate(folder: Path, *names: str, expired: bool = False) -> Certificate:
    """A certificate for these names and addresses, by an authority of its own."""
    authority = trustme.CA()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    leaf = authority.issue_cert(*names, not_after=yesterday if expired else None)
    folder.mkdir()
    cert, key, ca = (folder / f"{name}.pem" for name in ("cert", "key", "ca"))
    for n, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(cert, append=n > 0)
    leaf.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    return Certificate(str(cert), str(key), str(ca))


@contextmanager
def tls_proxy(shown: Certificate, port: int) -> Iterator[int]:
    """A proxy on 127.0.0.1, and its port: it ends TLS and hands on plain text, as stunnel does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.cert, shown.key)

    async def forward(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection("127.0.0.1", port)
        # Python 3.11 logs a task that ends as cancelled.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_pump(near, to_far), _pump(far, to_near))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(forward, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
    except asyncio.CancelledError:
        sink.transport.abort()
        raise
    # The other direction ends with it: nobody here closes one alone.
    sink.close()
