"""A simulated FreeSWITCH: the event socket, the dialler, and telephones that behave by number.

    with Simulator(speed=20) as simulator:
        ...connect to 127.0.0.1, simulator.port with the password ClueCon...

The last two digits of a number decide how its telephone behaves (`telephones`).
`Simulator.originates` has the originate commands that the switch got, and so has the reply to the
api command `simulator originates`. Other words of that command order faults (`orders`). A record
on disk has everything that the switch did.
"""

import asyncio
import contextlib
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from . import api, applications, channel_commands, orders, recovery
from .channel import Channel
from .conference import Conferences
from .endpoints import Gateway
from .originated import DialledLeg, Originated
from .server import Connection
from .switch import SwitchCore
from .valet import Lots

__all__ = ["GATEWAYS", "DialledLeg", "Gateway", "Originated", "Simulator", "make_switch", "run"]

GATEWAYS: Mapping[str, Gateway] = {"pstn": "up", "pstn2": "dead"}
"""The gateways of the lab."""


class Simulator:
    """A simulated switch in a daemon thread, from the start of the `with` until its end.

    `port` 0 takes a free port. `speed=20` makes every duration of the switch and its telephones 20
    times shorter. Time stamps stay those of the wall clock. With the same `seed`, telephones that
    follow chance repeat what they did. `gateways` maps names to `up`, `dead` (nothing answers SIP
    there) or `down` (the switch knows).

    The switch appends a line of JSON to the file `record` at once for each thing it does. A line
    has `at` (seconds since 1970) and `what`: `start` (core_uuid); `originate` (job_uuid, command)
    and its `result` (job_uuid, result); for a channel that it dials `create` (uuid, number,
    gateway), `ring`, `answer` (uuid), `bridge` (uuid, other), `recording` and `recorded` (uuid,
    file; it writes no file) and `hangup` (uuid, cause).
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        password: str = "ClueCon",
        *,
        speed: float = 1.0,
        seed: int = 0,
        gateways: Mapping[str, Gateway] = GATEWAYS,
        record: Path | None = None,
    ) -> None:
        self.host = host
        self.port = port
        """The TCP port of the event socket, once started."""
        self.core_uuid = ""
        """The Core-UUID, a new one for each start."""
        self.password = password
        self._speed = speed
        self._seed = seed
        self._gateways = gateways
        self._record = record
        self._switch: SwitchCore[Channel] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None

    @property
    def originates(self) -> list[Originated]:
        """The last 100,000 originate commands, oldest first."""
        return list(self._switch.originates) if self._switch else []

    def order(self, words: str) -> str:
        """Carry out an order of the api command `simulator`, in the switch's own thread; return the
        answer."""
        switch, loop = self._switch, self._loop
        if switch is None or loop is None:
            raise RuntimeError("the simulator is not started")

        async def carry_out() -> str:
            return orders.order(switch, words.split(), None)

        return asyncio.run_coroutine_threadsafe(carry_out(), loop).result()

    def start(self) -> None:
        """Start the switch and wait until it listens. Raises OSError if it cannot.

        After a `stop` this is another switch on the same port, without channels and with another
        Core-UUID.
        """
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="freeswitch-simulator", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """End all connections and calls without a message, as a crash would."""
        if self._thread and self._thread.is_alive() and self._loop and self._stop:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        switch = make_switch(
            speed=self._speed, seed=self._seed, gateways=self._gateways, record=self._record
        )
        async with listening(switch, self.host, self.port, self.password) as port:
            self._switch, self.port, self.core_uuid = switch, port, switch.core_uuid
            self._started.set()
            switch.end = self._stop.set
            await self._stop.wait()


def make_switch(
    *, speed: float, seed: int, gateways: Mapping[str, Gateway], record: Path | None = None
) -> SwitchCore[Channel]:
    """A switch with all applications and api commands of the simulator.

    The running event loop owns it. Raises OSError if it cannot open the file `record`.
    """
    conferences, lots = Conferences(), Lots()
    return SwitchCore(
        speed=speed,
        seed=seed,
        gateways=gateways,
        applications={
            **applications.APPLICATIONS,
            "conference": conferences.join,
            "valet_park": lots.park,
        },
        commands={
            **api.COMMANDS,
            **channel_commands.COMMANDS,
            **recovery.COMMANDS,
            "conference": conferences.command,
            "valet_info": lots.info,
        },
        execute_on_answer=applications.execute_on_answer,
        record=record,
    )


@contextlib.asynccontextmanager
async def listening(
    switch: SwitchCore[Channel], host: str, port: int, password: str
) -> AsyncIterator[int]:
    """Serve the event socket of a switch, and yield its port."""
    loop = asyncio.get_running_loop()
    connections: weakref.WeakSet[Connection] = weakref.WeakSet()

    def connect() -> Connection:
        connection = Connection(switch, password)
        connections.add(connection)
        return connection

    server = await loop.create_server(connect, host, port, start_serving=False)
    try:
        switch.note("start", core_uuid=switch.core_uuid)
        await server.start_serving()
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in tuple(connections):
            connection.abort()
        await switch.close()


def run(
    host: str = "127.0.0.1",
    port: int = 8021,
    password: str = "ClueCon",
    speed: float = 1.0,
    seed: int = 0,
    *,
    gateways: Mapping[str, Gateway] = GATEWAYS,
    record: Path | None = None,
    announce: Callable[[str], object] | None = None,
) -> None:
    """Run a simulated switch until SIGTERM or SIGINT. Raises OSError if it cannot listen.

    `announce` gets one line when the switch listens. The other parameters are those of `Simulator`.
    """

    async def serve() -> None:
        stop = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
        switch = make_switch(speed=speed, seed=seed, gateways=gateways, record=record)
        async with listening(switch, host, port, password) as actual_port:
            switch.end = stop.set
            if announce:
                announce(f"simulated switch listening on {host}:{actual_port}")
            await stop.wait()

    asyncio.run(serve())
