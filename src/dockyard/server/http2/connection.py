"""One client's connection that speaks HTTP/2.

`h2` knows the protocol: the states of streams, the packing of heads, the settings. What it leaves
open is decided here: how much there may be of anything (`HTTP2Limits`), which requests are
malformed (a stream is reset, the others go on), and when to wait no longer. Deadlines are looked
at by `sweep`, as those of `dockyard.server.connection`.
"""

import asyncio
import math
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from h2.exceptions import ProtocolError
from typing_extensions import override
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from dockyard.server.head import Framing
from dockyard.server.http2.frames import (
    LARGEST_WINDOW,
    PREFACE,
    Allowance,
    Code,
    EndedError,
    Frame,
    FrameReader,
    Kind,
    goaway,
    window_update,
)
from dockyard.server.http2.library import Library, make_settings
from dockyard.server.http2.output import Output
from dockyard.server.http2.requests import Requests
from dockyard.server.limits import HTTP2Limits
from dockyard.server.sharing import MAPPED, WorkerState
from dockyard.telemetry import logger


if TYPE_CHECKING:
    from uvicorn._types import HTTPScope
    from uvicorn.config import Config


_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}

_FIRST_WINDOW: Final = 65_535
"""Bytes of a connection's window before any update. Source: RFC 9113, section 6.9.2."""


class Phase(Enum):
    """What a connection is at."""

    OPEN = "open"
    NOTICED = "noticed"  # the client was told that we are about to end
    LEAVING = "leaving"  # no new requests are taken
    LINGER = "linger"  # the client is to close, after our last frame


class HTTP2Connection(asyncio.Protocol):
    """A connection and the requests being worked on.

    Args:
        config: has the application.
        state: what all connections of the worker share.
        facts: the ASGI extension ``tls`` of each request; `None` without TLS.
        limits: bounds of what HTTP/2 adds.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: "Config",
        state: WorkerState,
        facts: Mapping[str, object] | None = None,
        limits: HTTP2Limits | None = None,
    ) -> None:
        self._config: Final = config
        self._state: Final = state
        self._limits: Final = state.limits
        self._own: Final = limits or HTTP2Limits()
        self._facts: Final = facts
        self._loop: Final = asyncio.get_running_loop()
        self._h2: Final = Library(self._own, state.limits.head_bytes)
        self._reader: Final = FrameReader(self._own)
        self._phase = Phase.OPEN
        self._preface_left = len(PREFACE)
        self._upgraded: HTTPScope | None = None  # of the request that asked for HTTP/2
        now = self._loop.time()
        self._deadline = math.inf  # of the notice, or of the client to close
        self._head_since = now  # when the head began whose rest is awaited
        own = self._own
        self._idle_frames: Final = Allowance(own.idle_frames, own.idle_frames_per_second, now)
        self._lingered = 0
        self._unsent = 0  # bytes in the write buffer at the last sweep
        self._progress = now  # when the client last took a byte

    # What the transport calls.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._open(cast("asyncio.Transport", transport)):
            self._h2.initiate_connection()
            self._greet()

    def upgrade(self, transport: asyncio.Transport, scope: "HTTPScope", settings: bytes) -> None:
        """Take `transport` over from HTTP/1.1, with a request that asked for it and has no body.

        Args:
            transport: the ``101`` was written to it.
            scope: of the request, which is answered on stream 1.
            settings: the client's, as ``HTTP2-Settings`` has them.
        """
        if not self._open(transport):
            return
        try:
            self._h2.initiate_upgrade_connection(settings)
        except ProtocolError as error:
            self._end(Code.PROTOCOL_ERROR, str(error))
            return
        self._output.bound_table(self._own.table_bytes)
        self._greet()
        scope["http_version"] = "2"
        self._upgraded = scope

    def _open(self, transport: asyncio.Transport) -> bool:
        """Begin on `transport`; return whether there is room for one more connection."""
        self.transport = transport
        self._client = get_remote_addr(transport)
        if self._client is not None and self._client[0].startswith(MAPPED):
            self._client = (self._client[0].removeprefix(MAPPED), self._client[1])
        self._output = Output(self._h2, transport)
        app = cast("Any", self._config.loaded_app)
        self._requests = Requests(app, self._state, self._own, self._scope(), self._output)
        connections: set[Any] = self._state.connections
        connections.add(self)
        if len(connections) > 2 * self._limits.connections:
            transport.abort()
            return False
        if len(connections) > self._limits.connections:
            self._h2.initiate_connection()
            self._end(Code.ENHANCE_YOUR_CALM, "too many connections")
            self._deadline = self._loop.time() + self._limits.overload_seconds
            return False
        return True

    def _scope(self) -> Mapping[str, Any]:
        """Return what is the same in the scope of each request."""
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "2",
            "scheme": "https" if is_ssl(self.transport) else "http",
            "server": get_local_addr(self.transport),
            "client": self._client,
            "root_path": self._config.root_path,
        }
        return scope if self._facts is None else {**scope, "extensions": {"tls": self._facts}}

    def _greet(self) -> None:
        """Open the connection's window, after our settings."""
        # Streams beyond the limit are refused one by one; h2 would end the connection.
        self._h2.local_settings = make_settings(self._own, self._limits.head_bytes, slack=2)
        self._h2.increment_flow_control_window(self._own.connection_window_bytes - _FIRST_WINDOW)
        self._output.flush()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        connections: set[Any] = self._state.connections
        connections.discard(self)
        self._output.ended = True
        self._requests.disconnect()

    @override
    def eof_received(self) -> bool:
        return False  # without frames for windows nothing long can be sent

    @override
    def pause_writing(self) -> None:
        self._output.pause()

    @override
    def resume_writing(self) -> None:
        self._progress = self._loop.time()
        self._output.resume()

    @override
    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.LINGER:
            self._lingered += len(data)
            if self._lingered > self._limits.linger_bytes:
                self.transport.abort()
            return
        awaited, complete = self._reader.awaits_head, self._reader.complete
        try:
            self._take(data)
        except EndedError as error:
            self._end(error.code, error.reason)
        except ProtocolError as error:
            # h2 has composed the frame that says so.
            self._ended(f"{type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001 -- a fault of the library must not leave the client waiting
            logger().exception("HTTP/2 failed")
            self._end(Code.INTERNAL_ERROR, "a fault of ours")
        if self._reader.awaits_head and not (awaited and complete == self._reader.complete):
            self._head_since = self._loop.time()

    def _take(self, data: bytes) -> None:
        if self._preface_left:
            start, data = data[: self._preface_left], data[self._preface_left :]
            self._preface_left -= len(start)
            self._h2.receive_data(start)
            self._requests.idle_since = self._loop.time()
            if not self._preface_left and self._upgraded is not None:
                # Not before: clients have little room for what comes with the answer before it.
                self._requests.begin(1, self._upgraded, Framing())
        self._requests.begin_read()
        for frame in self._reader.feed(data):
            self._take_frame(frame)
        if self._reader.opened:
            self._open_windows()
        self._output.flush()

    def _take_frame(self, frame: Frame) -> None:
        """Take one frame: by ourselves where h2 is slow or too strict, else by h2."""
        kind = frame.kind
        if not self._reader.in_head:
            self._count(frame)
            if kind == Kind.DATA and self._requests.take_data(frame):
                return
            if kind == Kind.GOAWAY:
                # After it h2 would send nothing more; but what was asked for is still answered.
                self._phase = Phase.LEAVING
                return
            if kind == Kind.HEADERS and self._requests.answer_again(frame):
                return
        for event in self._h2.receive_data(frame.raw):
            self._requests.handle(event)

    def _open_windows(self) -> None:
        """Let streams go on whose windows were opened, and count the frames that did so."""
        opened, self._reader.opened = self._reader.opened, {}
        excess = self._reader.updates - self._output.written / self._own.update_bytes
        if excess > self._own.idle_frames:
            raise EndedError(Code.ENHANCE_YOUR_CALM, "too many frames that open windows")
        for stream, more in opened.items():
            if self._output.open_window(stream, more):
                self._requests.nudge(stream)
            elif stream in self._h2.streams or stream > self._h2.highest_inbound_stream_id:
                # h2 knows what to say of a window too large, or of a stream that never was.
                frame = window_update(stream, min(more, LARGEST_WINDOW))
                for event in self._h2.receive_data(frame):
                    self._requests.handle(event)

    def _count(self, frame: Frame) -> None:
        """Take a frame off those that the client may send besides requests."""
        own, share = self._own, 1.0
        if frame.kind in {Kind.HEADERS, Kind.CONTINUATION}:
            return  # bounded as requests
        if frame.kind == Kind.RST_STREAM and self._requests.knows(frame.stream):
            return  # likewise
        if frame.kind == Kind.DATA:
            share = 0 if frame.ends else max(0, 1 - len(frame.payload) / own.small_bytes)
        if share and not self._idle_frames.take(self._loop.time(), share):
            raise EndedError(Code.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    # What the rest of the server calls.

    def sweep(self, now: float) -> None:
        """Act on what is overdue at `now`, in seconds of the loop's clock."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._progress = now
        elif now - self._progress > self._limits.stall_seconds:
            self.transport.abort()
            return
        self._unsent = unsent
        if self._phase is Phase.LINGER:
            if now >= self._deadline and not unsent:
                self.transport.close()
            return
        self._requests.sweep(now, self._reader.arriving)
        if self._reader.awaits_head and now >= self._head_since + self._limits.head_seconds:
            self._end(Code.ENHANCE_YOUR_CALM, "a head came too slowly")
        elif not self._requests.active and now >= self._idle_deadline():
            self._output.send_raw(goaway(self._h2.highest_inbound_stream_id, Code.NO_ERROR))
            self.transport.close()

    def _idle_deadline(self) -> float:
        if self._phase is Phase.LEAVING:
            return -math.inf
        limits = self._limits
        seconds = limits.head_seconds if self._preface_left else limits.idle_seconds
        return self._requests.idle_since + seconds

    def shutdown(self) -> None:
        """End the connection once no request is under way; the worker is about to end.

        The client is given notice first, since it may have sent requests that are not here yet.
        """
        now = self._loop.time()
        if self._phase is Phase.OPEN:
            self._phase = Phase.NOTICED
            self._deadline = now + self._own.notice_seconds
            self._output.send_raw(goaway(LARGEST_WINDOW, Code.NO_ERROR))
        elif self._phase is Phase.NOTICED and now >= self._deadline:
            self._leave()

    # How it ends.

    def _leave(self) -> None:
        """Take no more requests; `sweep` ends the connection when there are none."""
        self._phase = Phase.LEAVING
        self._requests.last = self._h2.highest_inbound_stream_id
        self._output.send_raw(goaway(self._requests.last, Code.NO_ERROR))

    def _end(self, code: Code, reason: str) -> None:
        """Say the last word, and give up what is under way."""
        last = min(self._requests.last, self._h2.highest_inbound_stream_id)
        self._output.send_raw(goaway(last, code))
        self._ended(reason)

    def _ended(self, reason: str) -> None:
        """Note that the last word is said, and let the client read it."""
        self._output.flush()
        self._output.ended = True
        self._requests.disconnect()
        host = "{}:{}".format(*self._client) if self._client else ""
        address = {"http.request.remoteaddr": host}
        logger().info("HTTP/2 connection ended", **address, reason=reason)
        self._phase = Phase.LINGER
        self._deadline = self._loop.time() + self._limits.linger_seconds
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
