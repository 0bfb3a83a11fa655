"""What all connections of a worker share."""

from typing import Final

from uvicorn.server import ServerState

from dockyard.http.request_log import AtOnce
from dockyard.server.limits import ConnectionLimits


MAPPED: Final = "::ffff:"
"""What a socket for both families puts before the address of an IPv4 client."""


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

    @property
    def date(self) -> bytes:
        """The value of the field ``Date`` of this second."""
        return self.date_line[len(b"Date: ") : -len(b"\r\n")]
