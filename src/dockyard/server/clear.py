"""HTTP/2 without TLS: by its first bytes, or by an upgrade from HTTP/1.1.

Both as docker-distribution takes them. Source: Go's x/net, http2/h2c; RFC 7540, section 3.2.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from typing_extensions import override

from dockyard.server.connection import Connection, Phase
from dockyard.server.head import BodyForm, Framing, RefusedError
from dockyard.server.http2.frames import PREFACE
from dockyard.server.sharing import WorkerState


if TYPE_CHECKING:
    from uvicorn._types import HTTPScope
    from uvicorn.config import Config


_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
)
_OF_THE_UPGRADE: Final = frozenset((b"connection", b"upgrade", b"http2-settings"))
_SETTING_BYTES: Final = 6


class Successor(Protocol):
    """A connection that speaks HTTP/2; see `dockyard.server.http2.connection`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        ...

    def upgrade(self, transport: asyncio.Transport, scope: "HTTPScope", settings: bytes) -> None:
        """Begin with a request of HTTP/1.1."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take what the client said."""
        ...

    def eof_received(self) -> bool:
        """Note that the client says no more; return whether our side stays open."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        ...

    def pause_writing(self) -> None:
        """Note that the client takes nothing."""
        ...

    def resume_writing(self) -> None:
        """Note that it does again."""
        ...


HTTP2: TypeAlias = Callable[["Config", WorkerState, Mapping[str, object] | None], Successor]
"""Makes a connection that speaks HTTP/2, with the facts of its TLS. The library behind it is
imported only where HTTP/2 is spoken."""


class ClearConnection(Connection):
    """A connection without TLS whose client may choose HTTP/2."""

    def __init__(self, config: "Config", state: WorkerState, http2: HTTP2) -> None:
        super().__init__(config, state, {})
        self._http2: Final = http2
        self._first: bytes | None = b""  # what may become a preface; `None` once it can't

    @override
    def data_received(self, data: bytes) -> None:
        if self._first is None or self._phase is Phase.LINGER:
            super().data_received(data)
            return
        self._first += data
        start = self._first[: len(PREFACE)]
        if start == PREFACE:
            successor = self._succeed()
            successor.connection_made(self.transport)
            successor.data_received(self._first)
        elif not PREFACE.startswith(start):
            first, self._first = self._first, None
            super().data_received(first)

    @override
    def _start(self, framing: Framing) -> None:
        settings = self._offered() if framing.body is BodyForm.NONE else None
        if settings is None:
            super()._start(framing)  # with a body it is answered as it came, which a server may
            return
        self.transport.write(_SWITCHING)
        scope, rest = self.scope, self._pending
        scope["headers"] = [field for field in self.headers if field[0] not in _OF_THE_UPGRADE]
        successor = self._succeed()
        successor.upgrade(self.transport, scope, settings)
        if rest:
            successor.data_received(rest)

    def _offered(self) -> bytes | None:
        """Return the settings for HTTP/2 in this request's head, or `None` if it does not ask.

        Raises:
            RefusedError: they are malformed.
        """
        fields = self.headers
        offers = b"h2c" in _tokens(fields, b"upgrade")
        if not offers or b"http2-settings" not in _tokens(fields, b"connection"):
            return None
        given = [value for name, value in fields if name == b"http2-settings"]
        try:
            (text,) = given
            padded = text + b"=" * (-len(text) % 4)
            decoded = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            decoded = b"?"
        if len(decoded) % _SETTING_BYTES:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the HTTP2-Settings field is malformed")
        return base64.urlsafe_b64encode(decoded)

    def _succeed(self) -> Successor:
        """Return the connection that takes over; this one is done."""
        connections: set[Any] = self.connections
        connections.discard(self)
        successor = self._http2(self.config, self._state, None)
        self.transport.set_protocol(successor)  # type: ignore[arg-type]
        return successor


def _tokens(fields: list[tuple[bytes, bytes]], wanted: bytes) -> set[bytes]:
    """Return the members of the lists in all fields called `wanted`, in lower case."""
    values = [value for name, value in fields if name == wanted]
    return {token.strip().lower() for value in values for token in value.split(b",")}
