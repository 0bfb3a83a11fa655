"""What one worker process does: serve until told to stop, then let go gently."""

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import uvloop

from dockyard.http.messages import Receive, Scope, Send
from dockyard.server.acceptor import Acceptor
from dockyard.server.limits import ConnectionLimits


class Service(Protocol):
    """The application with its life: what a worker serves."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None:
        """Serve one request."""
        ...

    async def start(self) -> None:
        """Begin background work."""
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
    """

    build: Callable[[], Service]
    sockets: Sequence[socket.socket]
    limits: ConnectionLimits


def run_worker(
    doors: Sequence[Door], drain_seconds: float, lifeline: int, ready: Callable[[], None]
) -> None:
    """Serve at all `doors` until a signal or the parent's death.

    SIGTERM drains: no connection is accepted any more, requests in flight finish within
    `drain_seconds`. SIGQUIT stops at once. SIGINT and SIGHUP are the parent's business (a terminal
    sends them to all of us).

    Args:
        doors: what to serve.
        drain_seconds: how long requests in flight may take once the worker is told to stop.
        lifeline: descriptor that reads as ended when the parent is gone; then we drain too.
        ready: called once connections are accepted.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(doors, drain_seconds, lifeline, ready))


async def _serve(
    doors: Sequence[Door], drain_seconds: float, lifeline: int, ready: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    ending, at_once = asyncio.Event(), asyncio.Event()

    def end(*, now: bool = False) -> None:
        if now:
            at_once.set()
        loop.remove_reader(lifeline)
        ending.set()

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGQUIT, lambda: end(now=True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD))
    loop.add_reader(lifeline, end)
    services, acceptors = [door.build() for door in doors], []
    for door, service in zip(doors, services, strict=True):
        await service.start()
        acceptor = Acceptor(service, door.limits)
        await acceptor.start(door.sockets)
        acceptors.append(acceptor)
    ready()
    await ending.wait()
    await asyncio.gather(*(acceptor.stop(drain_seconds, at_once) for acceptor in acceptors))
    for service in services:
        await service.stop()


def share_of(limits: ConnectionLimits, workers: int, descriptors: int) -> ConnectionLimits:
    """Return `limits` for one of `workers` processes that may open `descriptors` files.

    A connection may need a second descriptor, for the blob it transfers; 64 are for the rest.
    """
    share = -(-limits.connections // workers)
    return replace(limits, connections=max(1, min(share, (descriptors - 64) // 2)))
