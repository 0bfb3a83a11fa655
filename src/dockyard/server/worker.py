"""What one worker process does: serve until told to stop, then let go gently."""

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import uvloop

from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.request_log import AtOnce
from dockyard.server.acceptor import Acceptor
from dockyard.server.certificates import Certificates
from dockyard.server.clear import HTTP2
from dockyard.server.limits import ConnectionLimits
from dockyard.telemetry import logger


HANDLED: Final = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)
"""Signals that a worker handles once it runs; until then they wait."""


class Service(Protocol):
    """The application with its life: what a worker serves."""

    @property
    def answer_at_once(self) -> AtOnce | None:
        """What answers requests again, without ASGI; `None`: nothing does."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None:
        """Serve one request."""
        ...

    async def start(self) -> None:
        """Begin background work."""
        ...

    async def reload(self) -> None:
        """Read anew what may change while serving; called on SIGHUP, once at a time.

        What can't be used leaves things as they are, and a line in the log.
        """
        ...

    async def stop(self) -> None:
        """End background work."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A service and where it is reached.

    Attributes:
        build: makes the service; called in the worker.
        sockets: those to accept connections from.
        limits: bounds of connections; `ConnectionLimits.connections` is for this worker.
        certificates: those to speak TLS with; without them it is plain HTTP.
        http2: makes connections that speak HTTP/2; without it, it is not spoken.
        worker: the number of this worker; certificates are told, so that only the first one logs.
    """

    build: Callable[[], Service]
    sockets: Sequence[socket.socket]
    limits: ConnectionLimits
    certificates: Certificates | None = None
    http2: HTTP2 | None = None
    worker: int = 0


def run_worker(
    doors: Sequence[Door], drain_seconds: float, lifeline: int, ready: Callable[[], None]
) -> None:
    """Serve at all `doors` until a signal or the parent's death.

    SIGTERM drains: no connection is accepted any more, requests in flight finish within
    `drain_seconds`. SIGQUIT stops at once. SIGHUP reads anew what may change: see
    `Service.reload`. SIGINT is the parent's business (a terminal sends it to all of us).

    Args:
        doors: what to serve.
        drain_seconds: how long requests in flight may take once the worker is told to stop.
        lifeline: descriptor that reads as ended when the parent is gone; then we drain too.
        ready: called once connections are accepted.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(doors, drain_seconds, lifeline, ready))


async def _serve(
    doors: Sequence[Door], drain_seconds: float, lifeline: int, ready: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    ending, at_once, reloading = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def end(*, now: bool = False) -> None:
        if now:
            at_once.set()
        loop.remove_reader(lifeline)
        ending.set()

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGQUIT, lambda: end(now=True))
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    loop.add_reader(lifeline, end)
    services, acceptors = [door.build() for door in doors], []
    certificates = [door.certificates for door in doors if door.certificates is not None]
    for door, service in zip(doors, services, strict=True):
        await service.start()
        if door.certificates is not None:
            await door.certificates.start(door.worker)
        acceptor = Acceptor(
            service, door.limits, door.certificates, door.http2, service.answer_at_once
        )
        await acceptor.start(door.sockets)
        acceptors.append(acceptor)
    ready()
    reloader = loop.create_task(_reload([*services, *certificates], reloading))
    await ending.wait()
    await asyncio.gather(*(acceptor.stop(drain_seconds, at_once) for acceptor in acceptors))
    reloader.cancel()
    for service in services:
        await service.stop()
    for each in certificates:
        await each.stop()


async def _reload(what: Sequence[Service | Certificates], asked: asyncio.Event) -> None:
    """Reload all of `what`, one after the other, each time that it is asked for."""
    while True:
        await asked.wait()
        asked.clear()
        for each in what:
            try:
                await each.reload()
            except Exception:  # noqa: BLE001 -- what one can't read must not keep the others old
                logger().exception("reloading failed")


def share_of(limits: ConnectionLimits, workers: int, descriptors: int) -> ConnectionLimits:
    """Return `limits` for one of `workers` processes that may open `descriptors` files.

    A connection may need a second descriptor, for the blob it transfers; 64 are for the rest.
    """
    share = -(-limits.connections // workers)
    return replace(limits, connections=max(1, min(share, (descriptors - 64) // 2)))
