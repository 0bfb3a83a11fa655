"""What all connections of a worker share."""

from collections.abc import Callable
from typing import TypeAlias

from uvicorn.server import ServerState

from dockyard.server.limits import ConnectionLimits


AtOnce: TypeAlias = Callable[[bytes, tuple[str, int] | None, bytes, Callable[[bytes], None]], bool]
"""See `dockyard.http.request_log.RequestLog.answer_at_once`."""


class WorkerState(ServerState):
    """What all connections of a worker share.

    Attributes:
        limits: the bounds of each; `ConnectionLimits.connections` is this worker's share.
        at_once: answers a request again without the application; `None`: all go there.
        date_line: the ``Date`` field of this second, with its line end; written by the worker.
        draining: the worker is about to end, so responses end their connections.
    """

    def __init__(self, limits: ConnectionLimits, at_once: AtOnce | None = None) -> None:
        super().__init__()
        self.limits = limits
        self.at_once = at_once
        self.date_line = b""
        self.draining = False
