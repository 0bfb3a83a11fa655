"""A client of HTTP/2 that can also misbehave: `h2` for what is proper, raw frames for the rest."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import h2.config
import h2.connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from hpack import Encoder
from hyperframe.frame import Frame, HeadersFrame
from typing_extensions import override

from dockyard.server.http2.connection import HTTP2Connection
from dockyard.server.http2.frames import Frame as RawFrame, FrameReader, Kind
from dockyard.server.limits import ConnectionLimits, HTTP2Limits
from tests.serving.probe import QUICK, SECONDS, Served, serve


E = TypeVar("E", bound=Event)

Field = tuple[str, str]


def get(path: str = "/", *more: Field, method: str = "GET") -> list[Field]:
    """Return the head of a request."""
    pseudo = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)]
    return [*pseudo, *more]


class _EveryFrame(FrameReader):
    """Cuts all frames, those that open windows too."""

    @override
    def _open(self, data: bytes, position: int, behind: int, stream: int) -> bool:
        return False


class Client:
    """One connection.

    Attributes:
        events: all that the server did, but for what is here:
        goaways: the codes with which it ended the connection.
        ended: the server has closed its side.
        allow: whether windows are given back for what is received.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Nothing is checked on our side, so that all that is wrong can be sent.
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.events: list[Event] = []
        self.goaways: list[int] = []
        self._frames = _EveryFrame(HTTP2Limits())
        self.ended = False
        self.allow = True
        self._reader = reader
        self._writer = writer
        self._changed = asyncio.Event()
        self._receiving: asyncio.Task[None] | None = None

    def start(self, *, greet: bool = True) -> None:
        if greet:
            self.h2.initiate_connection()
            self.flush()
        self._receiving = asyncio.get_running_loop().create_task(self._receive())

    async def close(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
        self._writer.close()

    async def _receive(self) -> None:
        try:
            while data := await self._reader.read(1 << 16):
                for frame in self._frames.feed(data):
                    self._take(frame)
                self.flush()
                self._changed.set()
        except ConnectionResetError:
            pass
        self.ended = True
        self._changed.set()

    def _take(self, frame: RawFrame) -> None:
        if frame.kind == Kind.GOAWAY:  # after one our `h2` would take no responses
            self.goaways.append(int.from_bytes(frame.payload[4:8]))
            return
        for event in self.h2.receive_data(frame.raw):
            self.events.append(event)
            if isinstance(event, DataReceived) and self.allow:
                self._give_back(event)

    def _give_back(self, event: DataReceived) -> None:
        if event.flow_controlled_length:
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self._writer.write(data)

    def send(self, *frames: Frame | bytes) -> None:
        """Send raw frames, whatever they are, past our own `h2`."""
        for frame in frames:
            self._writer.write(frame if isinstance(frame, bytes) else frame.serialize())

    async def drain(self) -> None:
        await self._writer.drain()

    def ask(self, *head: Field, ends: bool = True) -> int:
        """Send a head; return the number of its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, head, end_stream=ends)
        self.flush()
        return stream

    async def upload(self, stream: int, body: bytes, *, ends: bool = True) -> None:
        """Send a body as the windows allow it."""
        while body:
            await self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            room = self.h2.local_flow_control_window(stream)
            part = body[: min(room, self.h2.max_outbound_frame_size)]
            body = body[len(part) :]
            self.h2.send_data(stream, part, end_stream=ends and not body)
            self.flush()
            await self.drain()

    async def until(self, claim: Callable[[], object]) -> None:
        """Wait until `claim` returns something true."""

        async def look() -> None:
            while not claim():
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(look(), SECONDS)

    def of(self, kind: type[E], stream: int | None = None) -> list[E]:
        """Return the events of a kind, of all streams or of one."""
        found = [event for event in self.events if isinstance(event, kind)]
        if stream is None:
            return found
        return [event for event in found if getattr(event, "stream_id", None) == stream]

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """Return the status and the body that came on `stream`, once it is complete."""
        await self.until(lambda: self.of(StreamEnded, stream) or self.ended)
        (response,) = self.of(ResponseReceived, stream)
        body = b"".join(event.data for event in self.of(DataReceived, stream))
        return int(fields_of(response)[":status"]), body

    async def reset(self, stream: int) -> int:
        """Return the code with which the server resets `stream`."""
        await self.until(lambda: self.of(StreamReset, stream) or self.ended)
        return int(self.of(StreamReset, stream)[0].error_code or 0)

    async def goaway(self) -> int:
        """Return the code with which the server ends the connection."""
        await self.until(lambda: self.goaways or self.ended)
        return self.goaways[-1]

    async def end(self) -> None:
        """Wait until the server has closed its side."""
        await self.until(lambda: self.ended)

    async def works(self) -> bool:
        """Return whether a request is still answered on this connection."""
        return (await self.answer(self.ask(*get())))[0] == 200

    def continues(self, stream: int) -> bool:
        return bool(self.of(InformationalResponseReceived, stream))


def fields_of(response: ResponseReceived) -> dict[str, str]:
    return {str(name): str(value) for name, value in response.headers}


def block(fields: Sequence[Field]) -> bytes:
    """Return a head, packed without regard to what was sent before."""
    return Encoder().encode(fields)


def headers_frame(stream: int, data: bytes, *flags: str) -> HeadersFrame:
    frame = HeadersFrame(stream, data)
    for flag in flags:
        frame.flags.add(flag)
    return frame


@asynccontextmanager
async def served_http2(
    limits: ConnectionLimits = QUICK, own: HTTP2Limits | None = None, *, bare: bool = False
) -> AsyncIterator[Served]:
    """Serve a probe without TLS to clients of HTTP/2."""
    http2 = partial(HTTP2Connection, limits=own)
    async with serve(limits, bare=bare, http2=http2) as served:
        yield served


@asynccontextmanager
async def connected(served: Served, *, receive_buffer: int | None = None) -> AsyncIterator[Client]:
    """Yield a client with a connection of its own, greeted."""
    client = Client(*await served.connect(receive_buffer=receive_buffer))
    client.start()
    try:
        yield client
    finally:
        await client.close()
