"""One request and its response, as ASGI sees them."""

import asyncio
import socket
import struct
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from dockyard.http.messages import PIECES
from dockyard.server.body import BodyDecoder
from dockyard.storage.interface import Piece
from dockyard.telemetry import logger


if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPScope
    from uvicorn.protocols.http.flow_control import FlowControl


KEEP_REMAINDER: Final = 64 << 10
"""Bytes of a body the application did not want that we take to save the connection.

More costs more than a new connection: then the response says ``Connection: close``.
"""

_MOST_PIECES: Final = 16
_SMALL_PIECE: Final = 8 << 10
"""More pieces of a body than that wait separately only if they have as many bytes on the average. A
chunk of one byte would else cost forty in memory."""

_JOIN_BYTES: Final = 16 << 10
"""Up to this size one copy is cheaper than one more entry in the kernel's vector."""

_RESET: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: on, no seconds. Closing then resets. Source: socket(7)."""

_BODILESS: Final = frozenset((HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED))

_HEAD_END: Final = {
    (chunked, keep_alive): (b"Transfer-Encoding: chunked\r\n" if chunked else b"")
    + (b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
    for chunked in (False, True)
    for keep_alive in (False, True)
}


class ClientDisconnectedError(OSError):
    """The client went away before the response was sent. ASGI 2.4 wants an OSError."""


class Owner(Protocol):
    """The connection, as an exchange needs it."""

    @property
    def transport(self) -> asyncio.Transport:
        """Where the response is written."""
        ...

    @property
    def flow(self) -> "FlowControl":
        """Pauses and resumes both directions."""
        ...

    @property
    def date_line(self) -> bytes:
        """The ``Date`` field of this second, with its line end."""
        ...

    def response_completed(self, exchange: "Exchange") -> None:
        """Go on with the connection, the response being written."""
        ...


class Exchange:
    """The receive and send channels of one request."""

    def __init__(
        self,
        owner: Owner,
        scope: "HTTPScope",
        decoder: BodyDecoder | None,
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self._owner = owner
        self._scope = scope
        self._is_head = scope["method"] == "HEAD"
        self._decoder = decoder
        self.keep_alive = keep_alive
        self.waiting_for_continue = expects_continue
        self._pieces: list[Piece] = []
        self.buffered = 0
        self._arrived: asyncio.Event | None = None
        self._final_sent = False
        self.disconnected = False
        self._head: bytes | None = None
        self.started = False
        self.complete = False
        self._chunked = False
        self._bodiless = False
        self._unsent: int | None = None  # bytes Content-Length still promises

    @property
    def body_complete(self) -> bool:
        """Whether the whole request body has arrived."""
        return self._decoder is None or self._decoder.complete

    def cut_off(self) -> None:
        """End the connection within the response, so that the client notices.

        Where the client can only tell the response's end from the connection's end, that end
        must not look like an orderly one: the connection is reset.
        """
        transport = self._owner.transport
        if not self._chunked and self._unsent is None:
            held = transport.get_extra_info("socket")
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()

    def take_body(self, pieces: list[Piece]) -> None:
        """Hand what arrived of the body to the application. Dropped once it has answered."""
        if not self.complete:
            self._pieces += pieces
            self.buffered += sum(map(len, pieces))
            most = max(_MOST_PIECES, self.buffered // _SMALL_PIECE)
            if len(self._pieces) > most:
                self._pieces = [b"".join(self._pieces)]
        self._wake()

    def disconnect(self) -> None:
        """Tell the application that the client is gone."""
        self.disconnected = True
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    async def run(self, app: "ASGI3Application") -> None:
        """Let `app` answer. Whatever it does, the connection is in a defined state afterwards."""
        try:
            await app(self._scope, self.receive, self.send)
        except ClientDisconnectedError:
            pass  # nobody is left to tell; the request log has noted it
        except Exception:  # noqa: BLE001 -- the last line: the server must outlive every application
            logger().exception("the application failed")
        finally:
            if not self.complete:
                self._fail()

    def _fail(self) -> None:
        """End an exchange that the application left unfinished, so that the client notices."""
        owner = self._owner
        self.keep_alive = False
        if self.disconnected:
            self.complete = True  # the connection is ended by who noticed it
            return
        if self.started:
            self.complete = True
            self.cut_off()
            return
        text = b"Internal Server Error\n"
        owner.transport.write(
            STATUS_LINE[500] + owner.date_line + b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(text) + text
        )
        self._complete()

    async def receive(self) -> "ASGIReceiveEvent":
        """Return the next piece of the request's body, or that the client is gone.

        Several reads are handed over together, as `PIECES` of what came, not copies, to an
        application that has said that it takes them.
        """
        if self.waiting_for_continue and not self.disconnected:
            self.waiting_for_continue = False
            self._owner.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._pieces or self.disconnected or self.complete):
            if self.body_complete and not self._final_sent:
                break
            if not self.body_complete:
                self._owner.flow.resume_reading()
            self._arrived = event = asyncio.Event()
            await event.wait()
            self._arrived = None
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        pieces, self._pieces, self.buffered = self._pieces, [], 0
        self._final_sent = self.body_complete
        more = not self._final_sent
        if PIECES not in self._scope:
            return {"type": "http.request", "body": b"".join(pieces), "more_body": more}
        message = {"type": "http.request", "body": b"", PIECES: pieces, "more_body": more}
        return cast("ASGIReceiveEvent", message)

    async def send(self, message: "ASGISendEvent") -> None:
        """Write the next part of the response; return once the client keeps up.

        Raises:
            ClientDisconnectedError: it is gone.
            RuntimeError: the application broke the rules of ASGI or of HTTP.
        """
        owner = self._owner
        if owner.flow.write_paused and not self.disconnected:
            await owner.flow.drain()
        if self.disconnected:
            raise ClientDisconnectedError("the client closed the connection")
        if message["type"] == "http.response.body":
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif message["type"] == "http.response.start" and self._head is None:
            self._start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{message['type']} is out of turn")

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Compose the head. It is written with the first piece of the body, in one packet."""
        parts = [STATUS_LINE[status], self._owner.date_line]
        keep_alive = self.keep_alive and self._keeps_remainder()
        length: int | None = None
        for name, value in headers:
            match name.lower():
                case b"content-length":
                    length = int(value)
                    if status == HTTPStatus.NO_CONTENT:
                        continue  # RFC 9110 section 8.6: never in a 204
                case b"connection":
                    keep_alive = keep_alive and value.lower() != b"close"
                    continue
                case b"transfer-encoding":
                    raise RuntimeError("the transfer coding is the server's business")
                case _:
                    pass
            parts.append(b"%b: %b\r\n" % (name, value))
        head = b"".join(parts)
        _check_lines(head, len(parts))
        bodiless = self._is_head or status in _BODILESS
        self._chunked = length is None and not bodiless and self._scope["http_version"] != "1.0"
        self._unsent = 0 if bodiless else length
        self._bodiless = bodiless
        self.keep_alive = keep_alive and (self._chunked or self._unsent is not None)
        self._head = head + _HEAD_END[self._chunked, self.keep_alive]

    def _keeps_remainder(self) -> bool:
        """Return whether what the client has still to send is worth taking."""
        if self._decoder is None or self._decoder.complete:
            return True
        remaining = self._decoder.remaining
        if self.waiting_for_continue or remaining is None:
            return False
        return remaining <= KEEP_REMAINDER

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.complete or self._head is None:
            raise RuntimeError("http.response.body is out of turn")
        if self._bodiless:
            body = b""
        elif self._unsent is not None:
            if len(body) > self._unsent:
                raise RuntimeError("the response is longer than its Content-Length")
            if not more and len(body) < self._unsent:
                raise RuntimeError("the response is shorter than its Content-Length")
            self._unsent -= len(body)
        self._write(self._framed(body, more=more))
        if not more:
            self._complete()

    def _framed(self, body: bytes, *, more: bool) -> tuple[bytes, ...]:
        if not self._chunked:
            return (body,)
        chunk = (b"%x\r\n" % len(body), body, b"\r\n") if body else ()
        return chunk if more else (*chunk, b"0\r\n\r\n")

    def _write(self, parts: tuple[bytes, ...]) -> None:
        transport = self._owner.transport
        if not self.started:
            self.started = True
            self.waiting_for_continue = False
            assert self._head is not None
            parts = (self._head, *parts)
        if sum(map(len, parts)) <= _JOIN_BYTES:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)

    def _complete(self) -> None:
        self.complete = True
        self._pieces = []
        self.buffered = 0
        self._wake()
        self._owner.response_completed(self)


def pack_fields(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the lines of `fields`, up to the value of the last one."""
    lines = [b"%b: %b\r\n" % each for each in fields[:-1]]
    return b"".join(lines) + fields[-1][0] + b": "


def _check_lines(head: bytes, lines: int) -> None:
    """Refuse a head with other lines than ours: a value was smuggling a field into it."""
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise RuntimeError("a header field of the response contains a line break or NUL")
