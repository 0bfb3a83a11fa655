"""The requests of one connection: from frames to streams that the application works on."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from dockyard.http.replays import HEAD
from dockyard.server.head import BodyForm, Framing, RefusedError
from dockyard.server.http2.again import Again, head_of
from dockyard.server.http2.frames import (
    LARGEST_WINDOW,
    Allowance,
    Code,
    EndedError,
    Frame,
    last_frame,
    window_update,
)
from dockyard.server.http2.head import MalformedError, RequestHead, check_trailer, read_head
from dockyard.server.http2.output import Output
from dockyard.server.http2.stream import Stream
from dockyard.server.limits import HTTP2Limits
from dockyard.server.sharing import WorkerState
from dockyard.telemetry import logger


if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, HTTPScope


class Requests:
    """The streams of a connection.

    Args:
        app: the application.
        state: what all connections of the worker share.
        limits: bounds of what HTTP/2 adds.
        scope: what is the same in the scope of each request.
    """

    def __init__(
        self,
        app: "ASGI3Application",
        state: WorkerState,
        limits: HTTP2Limits,
        scope: Mapping[str, Any],
        output: Output,
    ) -> None:
        self.output: Final = output
        self._app: Final = app
        self._state: Final = state
        self._limits: Final = state.limits
        self._own: Final = limits
        self._scope: Final = scope
        self._h2: Final = output.h2
        self._again: Final = Again(state, limits, scope["client"], output)
        self._loop: Final = asyncio.get_running_loop()
        self._resets: Final = Allowance(limits.resets, limits.resets_per_second, self._loop.time())
        self._streams: dict[int, Stream] = {}
        self._window = limits.connection_window_bytes  # bytes that the client may send
        self._owed = 0  # bytes by which it will be opened
        self.last = LARGEST_WINDOW  # the highest that is taken
        self.idle_since = self._loop.time()

    @property
    def active(self) -> bool:
        """Whether the application works on any."""
        return bool(self._streams)

    @property
    def date(self) -> bytes:
        """The value of the ``date`` field of this second."""
        return self._state.date

    # What streams call.

    def give_back(self, stream: Stream, octets: int) -> None:
        """Let the client send so many bytes more of the body; it is told in large steps."""
        own = self._own
        stream.owed += octets
        if stream.owed >= own.stream_window_bytes // 2 and not stream.body_complete:
            self.output.send_raw(window_update(stream.number, stream.owed))
            stream.window += stream.owed
            stream.owed = 0
        self._owed += octets
        if self._owed >= own.connection_window_bytes // 4:
            self.output.send_raw(window_update(0, self._owed))
            self._window += self._owed
            self._owed = 0

    def forget(self, stream: Stream) -> None:
        """Go on without `stream`: the application is done with it."""
        self._state.total_requests += 1
        del self._streams[stream.number]
        self.idle_since = self._loop.time()

    # What the connection calls.

    def knows(self, number: int) -> bool:
        """Return whether the application works on that stream."""
        return number in self._streams

    def nudge(self, number: int) -> None:
        """Let a stream go on whose window was opened."""
        if stream := self._streams.get(number):
            self.output.nudge(stream)

    def disconnect(self) -> None:
        """Tell all requests that the client is gone."""
        for stream in self._streams.values():
            stream.disconnect()
        self.output.wake_all()

    def begin_read(self) -> None:
        """Note that more was read."""
        self._again.begin()

    def answer_again(self, frame: Frame) -> bool:
        """Answer the request in a HEADERS frame again, if that can be; return whether it was.

        Raises:
            ProtocolError: no request may come any more.
        """
        answered = self._again.answer(frame)
        if answered:
            self.idle_since = self._loop.time()
        return answered

    def take_data(self, frame: Frame) -> bool:
        """Take a DATA frame; return whether that is done, or is left to h2 since it is in error.

        h2 is told only of a body's end: it writes each frame down in hexadecimal for a log that
        it does not keep, which costs more than all the rest of a push.

        Raises:
            EndedError: it is one too many, or longer than the client was allowed to send.
        """
        stream, body, octets = self._streams.get(frame.stream), frame.body, len(frame.payload)
        if stream is None or stream.body_complete or body is None:
            return False
        self._window -= octets
        stream.window -= octets
        if self._window < 0 or stream.window < 0:
            raise EndedError(Code.FLOW_CONTROL_ERROR, "a body is longer than its window")
        if not stream.fits(len(body), ends=frame.ends):
            self.give_back(stream, octets)
            self._malformed(frame.stream, "the body is not as long as content-length says")
            return True
        if octets > len(body):
            self.give_back(stream, octets - len(body))
        stream.take_body(body)
        if frame.ends:
            for event in self._h2.receive_data(last_frame(frame.stream)):
                self.handle(event)
        return True

    def handle(self, event: Event) -> None:
        """Do what an event of h2 asks for.

        Raises:
            EndedError: it is one too many.
        """
        match event:
            case RequestReceived():
                self._on_request(event)
            case DataReceived():  # the rest of a body that nobody wants any more
                octets = event.flow_controlled_length
                self._h2.acknowledge_received_data(octets, event.stream_id)
            case StreamEnded():
                if stream := self._streams.get(event.stream_id):
                    stream.end_body()
            case TrailersReceived():
                self._on_trailer(event)
            case StreamReset():
                self._on_reset(event)
            case RemoteSettingsChanged():
                self.output.bound_table(self._own.table_bytes)
                self.output.wake_all()  # the windows may be larger
            case _:
                pass

    def sweep(self, now: float, arriving: tuple[int, int]) -> None:
        """Act on what is overdue at `now`.

        Args:
            now: seconds of the loop's clock.
            arriving: a stream and how many bytes of a DATA frame for it have come, if one is cut.
        """
        limits = self._limits
        for stream in tuple(self._streams.values()):
            if now - stream.waits_since > limits.stall_seconds:
                self.output.reset(stream, Code.CANCEL)
                stream.disconnect()
                self.output.wake(stream)
            elif not (stream.body_complete or stream.complete) and now >= stream.judged_at:
                received = stream.received + (arriving[1] if arriving[0] == stream.number else 0)
                if stream.keeps_up(received, limits.body_window_bytes):
                    stream.judged_at = now + limits.body_window_seconds
                else:
                    reason = "the body came too slowly"
                    self._refuse(stream, RefusedError(HTTPStatus.REQUEST_TIMEOUT, reason))

    # What the client asks for.

    def _on_request(self, event: RequestReceived) -> None:
        number = event.stream_id
        if number > self.last:
            return  # the client was told that it is not answered
        if self._full():
            self.output.reset_number(number, Code.REFUSED_STREAM)
            self._count_reset()
            return
        ended = event.stream_ended is not None
        try:
            head = read_head(event.headers, self._limits, ended=ended)
        except MalformedError as error:
            self._malformed(number, str(error))
        except RefusedError as refused:
            framing = Framing() if ended else Framing(BodyForm.CHUNKED)
            scope = cast("HTTPScope", {"method": "GET"})
            self._refuse(Stream(self, number, scope, framing), refused)
        else:
            scope = self._scope_of(head)
            if ended and self._state.at_once is not None and (known := head_of(event.headers)):
                scope[HEAD] = known  # type: ignore[typeddict-unknown-key]
            self.begin(number, scope, head.framing)

    def _full(self) -> bool:
        """Return whether this is one request too many for the connection, or for the worker."""
        own, most = self._own.streams, self._limits.connections
        return len(self._streams) >= own or len(self._state.tasks) >= most

    def begin(self, number: int, scope: "HTTPScope", framing: Framing) -> None:
        """Let the application work on a request."""
        stream = self._streams[number] = Stream(self, number, scope, framing)
        stream.window = self._own.stream_window_bytes
        # We count; h2 does not see the body.
        self._h2.streams[number]._expected_content_length = None  # noqa: SLF001 -- see `take_data`
        stream.judged_at = self._loop.time() + self._limits.body_window_seconds
        task = self._loop.create_task(stream.run(self._app))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _scope_of(self, head: RequestHead) -> "HTTPScope":
        path = head.path.decode("ascii")
        scope = {
            **self._scope,
            "method": head.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": head.path,
            "query_string": head.query,
            "headers": head.fields,
            "state": {},
        }
        return cast("HTTPScope", scope)

    def _on_trailer(self, event: TrailersReceived) -> None:
        try:
            check_trailer(event.headers, self._limits)
        except MalformedError as error:
            self._malformed(event.stream_id, str(error))
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.fits(0, ends=True):
            self._malformed(event.stream_id, "the body is shorter than content-length says")

    def _on_reset(self, event: StreamReset) -> None:
        if stream := self._streams.get(event.stream_id):
            stream.disconnect()
            self.output.wake(stream)
        self._count_reset()

    def _malformed(self, number: int, reason: str) -> None:
        self._log(HTTPStatus.BAD_REQUEST, reason)
        self.output.reset_number(number, Code.PROTOCOL_ERROR)
        if stream := self._streams.get(number):
            stream.disconnect()
            self.output.wake(stream)
        self._count_reset()

    def _refuse(self, stream: Stream, refused: RefusedError) -> None:
        """Answer in one sentence, if no response has begun, and end the stream."""
        self._log(refused.status, refused.reason)
        if stream.started:
            self.output.reset(stream, Code.CANCEL)
        else:
            stream.answer(refused.status, refused.reason.encode("ascii") + b"\n")
        stream.disconnect()
        self.output.wake(stream)

    def _count_reset(self) -> None:
        """Take one of the requests that the client may give up, or send malformed."""
        if not self._resets.take(self._loop.time()):
            raise EndedError(Code.ENHANCE_YOUR_CALM, "too many requests were reset")

    def _log(self, status: HTTPStatus, reason: str) -> None:
        client = self._scope["client"]
        logger().info(
            "request refused",
            **{
                "http.request.remoteaddr": "{}:{}".format(*client) if client else "",
                "http.response.status": status.value,
                "err.detail": reason,
            },
        )
