"""Accepts connections for one application, in one process, until told to let go."""

import asyncio
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.config import Config

from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.request_log import AtOnce
from dockyard.server.certificates import Certificates
from dockyard.server.clear import HTTP2, ClearConnection
from dockyard.server.connection import Connection
from dockyard.server.limits import ConnectionLimits
from dockyard.server.listeners import BACKLOG
from dockyard.server.sharing import WorkerState


if TYPE_CHECKING:
    from dockyard.server.secured import TLSLayer


DRAIN_SWEEP_SECONDS: Final = 0.05
"""How often an acceptor that drains looks whether it is done."""

ABANDON_SECONDS: Final = 2.0
"""How long requests that were cut off have for their own cleaning up."""


class Acceptor:
    """The listening sockets of a process and the connections they brought.

    Args:
        application: an ASGI application.
        limits: bounds of the connections.
        certificates: those to speak TLS with; without them it is plain HTTP.
        http2: makes connections that speak HTTP/2; without it, it is not spoken.
        at_once: answers requests again; without it, all go to the application.
    """

    def __init__(
        self,
        application: Callable[[Scope, Receive, Send], Any],
        limits: ConnectionLimits,
        certificates: Certificates | None = None,
        http2: HTTP2 | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        self._limits = limits
        self._certificates = certificates
        self._http2 = http2
        self._state = WorkerState(limits, at_once)
        self._config = Config(
            cast("Any", application),
            http=Connection,
            ws="none",
            lifespan="off",
            loop="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        self._servers: list[asyncio.Server] = []
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def connections(self) -> Collection[Connection]:
        """The connections that are open now."""
        return cast("Collection[Connection]", tuple(self._state.connections))

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections from `sockets`, which are ours from now on."""
        self._config.load()
        loop = asyncio.get_running_loop()
        connect = self._connect if self._certificates is None else self._connect_securely
        self._tick(loop.time())
        for listening in sockets:
            create: Callable[..., Any] = (
                loop.create_unix_server
                if listening.family == socket.AF_UNIX
                else loop.create_server
            )
            self._servers.append(await create(connect, sock=listening, backlog=BACKLOG))
        self._sweeping = loop.create_task(self._sweep())

    def _connect(self) -> Connection:
        if self._http2 is not None:
            return ClearConnection(self._config, self._state, self._http2)
        return Connection(self._config, self._state, {})

    def _connect_securely(self) -> "TLSLayer":
        from dockyard.server.secured import TLSLayer  # noqa: PLC0415 -- only TLS needs it

        assert self._certificates is not None
        return TLSLayer(self._config, self._state, self._certificates, self._http2)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.sweep_seconds)
            self._tick(loop.time())

    def _tick(self, now: float) -> None:
        """Do what is due for all connections."""
        self._state.date_line = b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in self.connections:
            connection.sweep(now)

    async def stop(self, seconds: float, at_once: asyncio.Event) -> None:
        """Accept nothing more; let requests in flight finish, then end what is left.

        Args:
            seconds: how long they may take.
            at_once: when set, they may not take longer.
        """
        loop, state = asyncio.get_running_loop(), self._state
        if self._sweeping is not None:
            self._sweeping.cancel()
        for server in self._servers:
            server.close()
        state.draining = True
        deadline = loop.time() + seconds
        while True:
            for connection in self.connections:
                connection.shutdown()
            with suppress(TimeoutError):
                await asyncio.wait_for(at_once.wait(), DRAIN_SWEEP_SECONDS)
            self._tick(loop.time())
            if not state.connections or at_once.is_set() or loop.time() >= deadline:
                break
        await self._abandon()

    async def _abandon(self) -> None:
        """End what is left. Requests are cancelled, so that they clean up behind themselves."""
        for connection in self.connections:
            connection.transport.abort()
        for task in tuple(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=ABANDON_SECONDS)
