"""One request and its response on a stream, as ASGI sees them."""

import asyncio
import math
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from dockyard.server.exchange import KEEP_REMAINDER, ClientDisconnectedError
from dockyard.server.head import BodyForm, Field, Framing
from dockyard.server.http2.frames import Code
from dockyard.telemetry import logger


if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPScope


_BODILESS: Final = frozenset((HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED))

OF_CONNECTIONS: Final = frozenset((b"connection", b"keep-alive"))
"""Fields of a response that HTTP/2 does not have."""

RELIEF_BYTES: Final = 64 << 10
"""So many bytes of a body waited for the application: the client may have had to wait too."""

_MOST_PIECES: Final = 16
"""Pieces of a body that wait separately; see `dockyard.server.exchange`."""


class Output(Protocol):
    """Where responses are written; see `dockyard.server.http2.output`."""

    def room(self, stream: "Stream") -> int:
        """Return how many bytes of a body can be written now."""
        ...

    async def wait_for_room(self, stream: "Stream", *, body: bool) -> None:
        """Return once there is room for the head, or some of the `body`, or none is needed."""
        ...

    def send_head(self, stream: "Stream", fields: Iterable[Field], *, ends: bool) -> None:
        """Compose a head, to be written with what follows."""
        ...

    def send_data(self, stream: "Stream", body: memoryview, *, ends: bool) -> None:
        """Write a part of a body that there is room for."""
        ...

    def reset(self, stream: "Stream", code: Code) -> None:
        """End a stream at once."""
        ...

    def flush(self) -> None:
        """Write what was composed."""
        ...


class Owner(Protocol):
    """The connection, as a stream needs it."""

    @property
    def output(self) -> Output:
        """Where the response is written."""
        ...

    @property
    def date(self) -> bytes:
        """The value of the ``date`` field of this second."""
        ...

    def give_back(self, stream: "Stream", octets: int) -> None:
        """Let the client send so many bytes more of the body."""
        ...

    def forget(self, stream: "Stream") -> None:
        """Go on without `stream`: the application is done with it."""
        ...


class Stream:
    """The receive and send channels of one request.

    Attributes:
        received: bytes of the body that have arrived.
        body_complete: the whole body has arrived.
        disconnected: the client is gone, or has given the request up.
        started: something of the response is written.
        complete: the response is written, or never will be.
        waits_since: when the response began to wait for the client; infinite when it does not.
        window: bytes of the body that the client may send.
        owed: bytes by which that will be opened.
        judged_at: when it is looked at next whether the body comes fast enough.
    """

    def __init__(self, owner: Owner, number: int, scope: "HTTPScope", framing: Framing) -> None:
        self.number: Final = number
        self._owner: Final = owner
        self._output: Final = owner.output
        self._scope: Final = scope
        self.received = 0
        self._promised = framing.length if framing.body is BodyForm.LENGTH else None
        self.body_complete = framing.body is BodyForm.NONE
        self.waiting_for_continue = framing.expects_continue
        self._pieces: list[bytes] = []
        self.buffered = 0
        self._arrived: asyncio.Event | None = None
        self._final_sent = False
        self.disconnected = False
        self.started = False
        self.complete = False
        self.waits_since = math.inf
        self.window = 0
        self.owed = 0
        self.judged_at = math.inf
        self._judged = 0  # bytes of the body at the last look
        self._relieved = False  # since then the client had to wait for the application
        self._head: list[Field] | None = None
        self._bodiless = False
        self._unsent: int | None = None  # bytes content-length still promises

    # The request.

    def fits(self, octets: int, *, ends: bool) -> bool:
        """Return whether so many more bytes of the body are what its length promised."""
        if self._promised is None:
            return True
        total = self.received + octets
        return total == self._promised if ends else total <= self._promised

    def take_body(self, piece: bytes) -> None:
        """Hand what arrived of the body to the application. Given back once it has answered."""
        self.received += len(piece)
        if self.complete or self.disconnected:
            self._owner.give_back(self, len(piece))
            return
        self._pieces.append(piece)
        self.buffered += len(piece)
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = [b"".join(self._pieces)]
        self._wake()

    def keeps_up(self, received: int, octets: int) -> bool:
        """Return whether the body comes fast enough.

        Args:
            received: bytes that have come, in frames or in a part of one.
            octets: as many must have come since the last call, unless the client had to wait.
        """
        excused = self._relieved or self.buffered or self.waiting_for_continue
        enough = received - self._judged >= octets
        self._judged, self._relieved = received, False
        return enough or bool(excused)

    def end_body(self) -> None:
        """Tell the application that the body is complete."""
        self.body_complete = True
        self._wake()

    def disconnect(self) -> None:
        """Tell the application that the client is gone, or has given this request up."""
        self.disconnected = True
        self._drop()
        self._wake()

    @property
    def awaits_much(self) -> bool:
        """Whether more of the body is still to come than is worth taking for nothing."""
        if self.body_complete:
            return False
        return self._promised is None or self._promised - self.received > KEEP_REMAINDER

    def _drop(self) -> None:
        if self.buffered:
            octets, self._pieces, self.buffered = self.buffered, [], 0
            self._owner.give_back(self, octets)

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    async def receive(self) -> "ASGIReceiveEvent":
        """Return the next piece of the request's body, or that the client is gone."""
        if self.waiting_for_continue and not (self.disconnected or self.complete):
            self.waiting_for_continue = False
            if not self.received:
                self._output.send_head(self, [(b":status", b"100")], ends=False)
                self._output.flush()
        while not (self._pieces or self.disconnected or self.complete):
            if self.body_complete and not self._final_sent:
                break
            self._arrived = event = asyncio.Event()
            await event.wait()
            self._arrived = None
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        pieces, self._pieces = self._pieces, []
        octets, self.buffered = self.buffered, 0
        self._final_sent = self.body_complete
        if octets:
            self._relieved = self._relieved or octets >= RELIEF_BYTES
            self._owner.give_back(self, octets)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": body, "more_body": not self._final_sent}

    # The response.

    async def run(self, app: "ASGI3Application") -> None:
        """Let `app` answer. Whatever it does, the stream is in a defined state afterwards."""
        try:
            await app(self._scope, self.receive, self.send)
        except ClientDisconnectedError:
            pass  # nobody is left to tell; the request log has noted it
        except Exception:  # noqa: BLE001 -- the last line: the server must outlive every application
            logger().exception("the application failed")
        finally:
            if not self.complete:
                self._fail()
            self._owner.forget(self)

    def _fail(self) -> None:
        """End a stream that the application left unfinished, so that the client notices."""
        if self.started and not self.disconnected:
            self._output.reset(self, Code.INTERNAL_ERROR)
        elif not self.disconnected:
            self.answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error\n")
        self._complete()

    def answer(self, status: HTTPStatus, text: bytes) -> None:
        """Write a whole short response in place of the application's."""
        self.started = True
        head = [
            (b":status", b"%d" % status),
            (b"date", self._owner.date),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
        ]
        self._output.send_head(self, head, ends=False)
        if self._output.room(self) >= len(text):
            self._output.send_data(self, memoryview(text), ends=True)
        else:  # a client without room for a sentence: nothing waits for it
            self._output.reset(self, Code.INTERNAL_ERROR)
        self._complete()

    async def send(self, message: "ASGISendEvent") -> None:
        """Write the next part of the response; return once the client keeps up.

        Raises:
            ClientDisconnectedError: it is gone, or has given the request up.
            RuntimeError: the application broke the rules of ASGI or of HTTP.
        """
        if self.disconnected:
            raise ClientDisconnectedError("the client gave the request up")
        if message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif message["type"] == "http.response.start" and self._head is None:
            self._start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{message['type']} is out of turn")

    def _start(self, status: int, headers: Iterable[Field]) -> None:
        """Compose the head. It is written with the first piece of the body, in one packet."""
        head = [(b":status", b"%d" % status), (b"date", self._owner.date)]
        length: int | None = None
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length":
                length = int(value)
                if status == HTTPStatus.NO_CONTENT:
                    continue  # RFC 9110 section 8.6: never in a 204
            elif lower == b"transfer-encoding":
                raise RuntimeError("the transfer coding is the server's business")
            elif lower in OF_CONNECTIONS:
                continue
            if b"\n" in value or b"\r" in value or b"\0" in value:
                raise RuntimeError("a header field of the response contains a line break or NUL")
            head.append((lower, value))
        self._bodiless = self._scope["method"] == "HEAD" or status in _BODILESS
        self._unsent = 0 if self._bodiless else length
        self._head = head

    async def _send_body(self, body: bytes, *, more: bool) -> None:
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
        await self._write(memoryview(body), more=more)
        if not more:
            self._complete()

    async def _write(self, body: memoryview, *, more: bool) -> None:
        """Write `body`, in turn with the other streams."""
        output = self._output
        empty = not body
        ends_with_head = empty and not (self.started or more)
        if not self.started:
            await self._wait(body=False)
            self.started, self.waiting_for_continue = True, False
            assert self._head is not None
            output.send_head(self, self._head, ends=ends_with_head)
        while body:
            if (room := output.room(self)) > 0:
                part, body = body[:room], body[room:]
                output.send_data(self, part, ends=not (more or body))
            else:
                await self._wait(body=True)
        if empty and not (more or ends_with_head):
            output.send_data(self, body, ends=True)
        output.flush()

    async def _wait(self, *, body: bool) -> None:
        await self._output.wait_for_room(self, body=body)
        if self.disconnected:
            raise ClientDisconnectedError("the client gave the request up")

    def _complete(self) -> None:
        self.complete = True
        self._drop()
        self._wake()
