"""One client's connection: uvicorn's protocol, hardened.

uvicorn's own protocol has no time-out for heads, no limit on them, and leaves the bytes to llhttp,
which is lenient in places. Here a head reaches llhttp only when it has arrived whole and its text
passed `dockyard.server.head`; bodies are framed by `dockyard.server.body`; one request is worked on
at a time, and what a client pipelines behind it waits in a bounded buffer.

A connection has one deadline. Nothing is armed or cancelled for each request: the worker calls
`Connection.sweep` on all of its connections once in `ConnectionLimits.sweep_seconds`.
"""

import asyncio
import math
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dockyard.http.replays import HEAD, Head
from dockyard.server import head as grammar
from dockyard.server.body import BodyDecoder, ChunkedDecoder, LengthDecoder
from dockyard.server.exchange import Exchange, pack_fields
from dockyard.server.head import BodyForm, Field, Framing, RefusedError
from dockyard.server.sharing import MAPPED, WorkerState
from dockyard.telemetry import logger


if TYPE_CHECKING:
    from uvicorn.config import Config


_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
_OK: Final = STATUS_LINE[HTTPStatus.OK]


class Phase(Enum):
    """What a connection is waiting for."""

    IDLE = "idle"  # the first byte of a request
    HEAD = "head"  # the rest of a head
    EXCHANGE = "exchange"  # the rest of a body, or the application
    REMAINDER = "remainder"  # the rest of a body that the application did not want
    LINGER = "linger"  # the client to close, after our last answer


class Connection(HttpToolsProtocol):
    """A connection and the request being worked on."""

    def __init__(
        self,
        config: "Config",
        server_state: WorkerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._state = server_state
        self._limits = server_state.limits
        self._phase = Phase.IDLE
        self._deadline = math.inf
        self._pending = b""  # received and not yet looked at
        self._ended = False  # the client will send nothing more
        self._framing_fields: list[Field] = []
        self._keep_alive = False
        self._exchange: Exchange | None = None
        self._decoder: BodyDecoder | None = None
        self._counted = 0  # bytes received in this window of a body, or while lingering
        self._excused = False  # we did not read for a part of this window
        self._unsent = 0  # bytes in the write buffer at the last sweep
        self._progress = 0.0  # when the client last took a byte

    @property
    def date_line(self) -> bytes:
        """The ``Date`` field of this second, with its line end."""
        return self._state.date_line

    @property
    def pending(self) -> int:
        """Bytes received and not yet looked at."""
        return len(self._pending)

    # What the transport calls.

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None and self.client[0].startswith(MAPPED):
            self.client = (self.client[0].removeprefix(MAPPED), self.client[1])
        self._progress = self.loop.time()
        self._deadline = self._progress + self._limits.head_seconds
        if len(self.connections) > 2 * self._limits.connections:
            transport.abort()  # not even room to say so
        elif len(self.connections) > self._limits.connections:
            self._refuse(RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"))
            self._deadline = self._progress + self._limits.overload_seconds

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        if self._exchange is not None:
            self._exchange.disconnect()
        self.flow.resume_writing()  # whoever waits to write learns that there is no use

    @override
    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the way back open while whole requests await their answers (``nc -N``)."""
        self._ended = True
        if self._phase is Phase.EXCHANGE and self._exchange is not None:
            if not self._exchange.body_complete:
                self._exchange.disconnect()
                return False
            return True
        return self._phase is Phase.IDLE and bool(self._pending)

    @override
    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.LINGER:
            self._counted += len(data)
            if self._counted > self._limits.linger_bytes:
                self.transport.abort()
            return
        if self._phase is Phase.IDLE and not self._pending and self._answer_at_once(data):
            return
        try:
            if self._decoder is not None:
                data = self._take_body(self._decoder, data)
            if data:
                self._take_head(data)
        except RefusedError as refused:
            self._refuse(refused)

    @override
    def resume_writing(self) -> None:
        self._progress = self.loop.time()
        super().resume_writing()

    # What llhttp calls while it is fed a head. It never sees a body.

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._framing_fields.clear()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        field = (name.lower(), value.rstrip(b" \t"))
        self.headers.append(field)
        if field[0] in grammar.FRAMING:
            self._framing_fields.append(field)

    @override
    def on_headers_complete(self) -> None:
        scope = self.scope
        scope["asgi"] = _ASGI  # type: ignore[typeddict-item]
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version = self.parser.get_http_version()
        self._keep_alive = version != "1.0" and self.parser.should_keep_alive()

    @override
    def on_message_complete(self) -> None:
        """Do nothing: the end of the body is found by the decoder."""

    # From bytes to exchanges.

    def _answer_at_once(self, data: bytes) -> bool:
        """Answer `data`, if it is a request that was answered before; return whether it was."""
        state = self._state
        if (
            state.at_once is None
            or state.draining
            or self.flow.write_paused
            or not state.at_once(data, self.client, self._send_again)
        ):
            return False
        state.total_requests += 1
        self._deadline = self.loop.time() + self._limits.idle_seconds
        return True

    def _send_again(self, fields: bytes, last: bytes, body: bytes) -> bool:
        self.transport.write(
            b"".join((_OK, self._state.date_line, fields, last, grammar.END, body))
        )
        return True

    def _take_head(self, data: bytes) -> None:
        """Take `data` as a head or a part of one; begin the request once it is whole."""
        if self._phase is Phase.EXCHANGE:
            self._pending += data
            if len(self._pending) > self._limits.head_bytes:
                self.flow.pause_reading()  # until this response is complete
            return
        data = self._pending + data
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 section 2.2: an empty line from clients of the nineties
        end = data.find(grammar.END)
        if end >= 0:
            end += len(grammar.END)
            self._pending = data[end:]
            self._begin(data[:end])
            return
        if refusal := grammar.refusal_of_incomplete(data, self._limits):
            raise refusal
        self._pending = data
        if self._ended:
            self.transport.close()
        elif self._phase is Phase.IDLE:
            self._phase = Phase.HEAD
            self._deadline = self.loop.time() + self._limits.head_seconds

    def _begin(self, head: bytes) -> None:
        """Begin the request that `head` asks for."""
        grammar.check_text(head, self._limits)
        if self._parse(head):
            self._keep_alive = False  # we stay with HTTP/1.1; the client may not
        scope = self.scope
        framing = grammar.framing_of(self._framing_fields, scope["http_version"])
        target = grammar.parse_target(self.url)
        if target.authority is not None:
            self._keep_alive = False  # what a proxy keeps of this connection is unknown
            self.headers[:] = [field for field in self.headers if field[0] != b"host"]
            self.headers.append((b"host", target.authority))
        path = target.path.decode("ascii")
        scope["raw_path"] = target.path
        scope["path"] = unquote(path) if "%" in path else path
        scope["query_string"] = target.query
        if self._keep_alive and framing.body is BodyForm.NONE and self._state.at_once is not None:
            scope[HEAD] = Head(head, pack_fields)  # type: ignore[typeddict-unknown-key]
        self._start(framing)

    def _parse(self, head: bytes) -> bool:
        """Let llhttp read the head; return whether the client asks for another protocol."""
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            return True
        except httptools.HttpParserInvalidMethodError:
            raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, "there is no such method") from None
        except httptools.HttpParserError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the request is malformed") from None
        return False

    def _start(self, framing: Framing) -> None:
        if framing.body is not BodyForm.NONE:
            self._decoder = (
                LengthDecoder(framing.length)
                if framing.body is BodyForm.LENGTH
                else ChunkedDecoder(self._limits)
            )
            self._open_window(self.loop.time())
        else:
            self._deadline = math.inf
        if framing.body is not BodyForm.NONE or not self._keep_alive:
            self.parser = httptools.HttpRequestParser(self)  # the old one awaits a body
        self._phase = Phase.EXCHANGE
        self._exchange = exchange = Exchange(
            self,
            self.scope,
            self._decoder,
            keep_alive=self._keep_alive and not self._state.draining,
            expects_continue=framing.expects_continue,
        )
        task = self.loop.create_task(exchange.run(self.app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if self._pending and self._decoder is not None:
            data, self._pending = self._pending, b""
            self.data_received(data)

    def _take_body(self, decoder: BodyDecoder, data: bytes) -> bytes:
        """Hand on what `data` has of the body; return what lies behind the body's end."""
        pieces, rest = decoder.feed(data)
        self._counted += len(data)
        if decoder.complete:
            self._decoder = None
            self._deadline = math.inf
        if self._exchange is not None:
            self._exchange.take_body(pieces)
            if self._decoder and self._exchange.buffered > self._limits.body_buffer_bytes:
                self._excused = True
                self.flow.pause_reading()  # until the application has taken what is there
        elif self._decoder is None:
            self._await_request()
        return rest

    def response_completed(self, exchange: Exchange) -> None:
        """Go on with the connection, the response being written."""
        self._state.total_requests += 1
        if self._exchange is not exchange or self.transport.is_closing():
            return
        self._exchange = None
        self.flow.resume_reading()
        if not exchange.keep_alive:
            self._linger()
        elif self._decoder is not None:
            self._phase = Phase.REMAINDER
            self._deadline = self.loop.time() + self._limits.linger_seconds
        else:
            self._await_request()

    def _await_request(self) -> None:
        self._phase = Phase.IDLE
        self._deadline = self.loop.time() + self._limits.idle_seconds
        if self._ended and not self._pending:
            self.transport.close()
        elif self._pending:
            # Not at once: a client that pipelines must not starve the others, nor the stack.
            self.loop.call_soon(self._take_pending)

    def _take_pending(self) -> None:
        if self._pending and self._phase is Phase.IDLE:
            data, self._pending = self._pending, b""
            self.data_received(data)

    # How it ends.

    def _refuse(self, refused: RefusedError) -> None:
        """Answer in one sentence, if no response has begun, and end the connection."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()
        logger().info(
            "request refused",
            **{
                "http.request.remoteaddr": "{}:{}".format(*self.client) if self.client else "",
                "http.response.status": refused.status.value,
                "err.detail": refused.reason,
            },
        )
        if exchange is not None and exchange.started:
            exchange.cut_off()
            return
        text = refused.reason.encode("ascii") + b"\n"
        self.transport.write(
            STATUS_LINE[refused.status]
            + self.date_line
            + b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(text), text)
        )
        self._linger()

    def _linger(self) -> None:
        """End our side, and let the client read the answer before its own sending fails."""
        self._phase = Phase.LINGER
        self._deadline = self.loop.time() + self._limits.linger_seconds
        self._counted = 0
        self._pending = b""
        self._decoder = None
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def sweep(self, now: float) -> None:
        """Act on what is overdue at `now`, in seconds of the loop's clock."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            if now >= self._deadline:
                self._expire(now)
        elif unsent < self._unsent:
            self._progress = now
        elif now - max(self._progress, 0) > self._limits.stall_seconds:
            self.transport.abort()
        if not unsent:
            self._progress = now
        self._unsent = unsent

    def _expire(self, now: float) -> None:
        match self._phase:
            case Phase.HEAD:
                self._refuse(RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the head came too slowly"))
            case Phase.EXCHANGE:
                self._judge_window(now)
            case Phase.IDLE | Phase.REMAINDER | Phase.LINGER:
                self._deadline = math.inf
                self.transport.close()

    def _open_window(self, now: float) -> None:
        self._counted = 0
        self._excused = False
        self._deadline = now + self._limits.body_window_seconds

    def _judge_window(self, now: float) -> None:
        waits_for_us = self._exchange is not None and self._exchange.waiting_for_continue
        excused = self._excused or self.flow.read_paused or waits_for_us
        if excused or self._counted >= self._limits.body_window_bytes:
            self._open_window(now)
        else:
            self._refuse(RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the body came too slowly"))

    @override
    def shutdown(self) -> None:
        """End the connection as soon as no request is under way; the worker is about to end."""
        if self._exchange is not None:
            self._exchange.keep_alive = self._exchange.keep_alive and self._exchange.started
        elif self._phase is not Phase.HEAD:
            self._deadline = 0.0  # at the next sweep, so that a request already here is read
