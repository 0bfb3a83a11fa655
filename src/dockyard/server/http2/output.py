"""What streams write: heads by the library, bodies past it, in turn and within the windows.

The library takes 11 us for a DATA frame, of which a blob of 1 GB has 65 536: as much again as
reading and encrypting it. So the frames of a body are put together here, all but the last one,
which ends the stream and so concerns its state. The windows are counted where the library counts.
"""

import asyncio
import math
from collections.abc import Iterable
from typing import Final

from h2.exceptions import ProtocolError

from dockyard.server.head import Field
from dockyard.server.http2.frames import (
    LARGEST_WINDOW,
    Code,
    EndedError,
    answer_frames,
    data_frames,
)
from dockyard.server.http2.library import Library
from dockyard.server.http2.stream import Stream


TURN_BYTES: Final = 256 << 10
"""Bytes of a body that a stream writes before the others get their turn: what is read at once."""

LEAST_FRAME: Final = 16 << 10
"""Longest DATA frame that is sent. Every client takes it, and longer ones save nothing."""


class Output:
    """The way back to the client of one connection.

    Attributes:
        h2: the library's side of the connection.
        written: bytes of bodies so far.
        ended: nothing more can be written.
    """

    def __init__(self, h2: Library, transport: asyncio.Transport) -> None:
        self.h2: Final = h2
        self._transport: Final = transport
        self._loop = asyncio.get_running_loop()
        self._paused = False
        # Who waits, in the order in which they began to, each with what wakes it.
        self._waiting: dict[Stream, tuple[asyncio.Event, bool]] = {}
        self._held: list[bytes] = []  # written with what follows
        self._held_bytes = 0
        self.written = 0
        self.ended = False

    # What the connection calls.

    def pause(self) -> None:
        """Write no more bodies for now: the client takes nothing."""
        self._paused = True

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._wake()

    def open_window(self, stream: int, more: int) -> bool:
        """Open the window of a stream; return whether it is known and its window not too large.

        Raises:
            EndedError: the window of the connection, which is stream 0, would be too large.
        """
        h2 = self.h2
        if not stream:
            h2.outbound_flow_control_window += more
            if h2.outbound_flow_control_window > LARGEST_WINDOW:
                raise EndedError(Code.FLOW_CONTROL_ERROR, "the window is too large")
            self._wake()
            return True
        known = h2.streams.get(stream)
        if known is None or known.outbound_flow_control_window + more > LARGEST_WINDOW:
            return False
        known.outbound_flow_control_window += more
        return True

    def nudge(self, stream: Stream) -> None:
        """Let `stream` go on if there is room for it."""
        if self.room(stream) > 0:
            self.wake(stream)

    def bound_table(self, octets: int) -> None:
        """Remember no more than so many bytes of heads for packing, whatever the client allows."""
        encoder = self.h2.encoder
        allowed = encoder.header_table_size
        if allowed > octets:  # set to what it is, it would forget that the client is to be told
            encoder.header_table_size = octets

    def wake(self, stream: Stream) -> None:
        """Let `stream` look whether there is room for it, or whether it is at its end."""
        if waiting := self._waiting.pop(stream, None):
            waiting[0].set()

    def wake_all(self) -> None:
        """Let all that wait look likewise."""
        for stream in tuple(self._waiting):
            self.wake(stream)

    def _wake(self) -> None:
        """Wake those for which there is room."""
        for stream, (_, body) in tuple(self._waiting.items()):
            if not (self._paused or body):
                self.wake(stream)
            else:
                self.nudge(stream)

    # What streams call.

    def room(self, stream: Stream) -> int:
        """Return how many bytes of a body can be written now: at most what is due in one turn."""
        known = self.h2.streams.get(stream.number)
        if self._paused or known is None:
            return 0
        return min(
            known.outbound_flow_control_window, self.h2.outbound_flow_control_window, TURN_BYTES
        )

    async def wait_for_room(self, stream: Stream, *, body: bool) -> None:
        """Return once there is room for the head, or some of the `body`, or none is needed.

        It is served after all that wait already.
        """
        self.flush()
        if (
            self.ended
            or stream.disconnected
            or not (self._paused or (body and self.room(stream) <= 0))
        ):
            return
        event = asyncio.Event()
        self._waiting[stream] = event, body
        stream.waits_since = self._loop.time()
        try:
            await event.wait()
        finally:
            stream.waits_since = math.inf
            self._waiting.pop(stream, None)

    def send_head(self, stream: Stream, fields: Iterable[Field], *, ends: bool) -> None:
        """Compose a head, to be written with what follows. Without effect if `stream` is gone."""
        try:
            self.h2.send_headers(stream.number, fields, end_stream=ends)
        except ProtocolError:
            stream.disconnect()
        if ends:
            self._finish(stream)

    def send_data(self, stream: Stream, body: memoryview, *, ends: bool) -> None:
        """Write a part of a body that there is room for. Without effect if `stream` is gone."""
        h2, number = self.h2, stream.number
        known = h2.streams.get(number)
        if known is None or stream.disconnected or self.ended:
            return
        self.written += len(body)
        plain = body
        if ends:
            behind = max(0, len(body) - LEAST_FRAME)
            plain, body = body[:behind], body[behind:]
        if plain:
            h2.outbound_flow_control_window -= len(plain)
            known.outbound_flow_control_window -= len(plain)
            parts = data_frames(number, plain, LEAST_FRAME)
            self._transmit(b"".join((h2.data_to_send(), *parts)))
        if ends:
            try:
                h2.send_data(number, bytes(body), end_stream=True)
            except ProtocolError:
                stream.disconnect()
            self._finish(stream)

    def send_again(self, number: int, head: bytes, body: bytes) -> bool:
        """Compose a whole answer on a new stream, without the library; return whether it may be.

        It may not where it would have to wait. It is written by the next `flush`.

        Args:
            number: that of the stream.
            head: packed, without what was sent before.
            body: what follows.

        Raises:
            ProtocolError: no stream may be opened any more.
        """
        h2 = self.h2
        room = min(h2.outbound_flow_control_window, h2.remote_settings.initial_window_size)
        if self._paused or len(head) > LEAST_FRAME // 2 or len(body) > room:
            return False
        h2.pass_by(number)
        h2.outbound_flow_control_window -= len(body)
        self.written += len(body)
        # Of no field, the library packs what it has to say of its table before the next head.
        block = h2.encoder.encode(()) + head
        self._held.append(h2.data_to_send())
        self._held += answer_frames(number, block, body, LEAST_FRAME)
        self._held_bytes += len(block) + len(body)
        if self._held_bytes >= TURN_BYTES:
            self.flush()
        return True

    def _finish(self, stream: Stream) -> None:
        """End a stream whose response is complete: what the client still sends is not wanted."""
        if stream.awaits_much:
            self.reset(stream, Code.NO_ERROR)
        else:
            self.flush()

    def reset(self, stream: Stream, code: Code) -> None:
        """End a stream at once. Without effect if it is gone."""
        self.reset_number(stream.number, code)

    def reset_number(self, number: int, code: Code) -> None:
        """End the stream of that number at once. Without effect if it is gone."""
        try:
            self.h2.reset_stream(number, code)
        except ProtocolError:
            return
        self.flush()

    def flush(self) -> None:
        """Write what was composed."""
        self._transmit(self.h2.data_to_send())

    def send_raw(self, frame: bytes) -> None:
        """Write a frame that the library is not to know of, after what was composed."""
        self._transmit(self.h2.data_to_send() + frame)

    def _transmit(self, data: bytes) -> None:
        if self._held:
            data = b"".join((*self._held, data))
            self._held.clear()
            self._held_bytes = 0
        if data and not (self.ended or self._transport.is_closing()):
            self._transport.write(data)
