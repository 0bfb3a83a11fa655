"""Frames: cut out of what arrives, judged before anything is unpacked, and written. No I/O.

The library that knows HTTP/2 looks at a frame when it is there whole, and has no opinion on how
many of them there are. So each is looked at here before, by its nine first bytes.

Source: RFC 9113, sections 4 to 6.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from dockyard.server.limits import HTTP2Limits


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first. Source: RFC 9113, section 3.4."""

_HEADER_BYTES: Final = 9
"""Bytes of a frame before its payload."""

LARGEST_WINDOW: Final = (1 << 31) - 1
"""Most bytes of a window, and the highest number of a stream."""

_INCREMENT_BYTES: Final = 4
_END_STREAM: Final = 0x1
_END_HEADERS: Final = 0x4
_WHOLE: Final = _END_STREAM | _END_HEADERS
_PADDED: Final = 0x8
_HEADER: Final = Struct(">HBBBL")
_TWO_NUMBERS: Final = Struct(">LL")


class Kind(IntEnum):
    """The kinds of frames that are told apart here."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11


class EndedError(Exception):
    """What the client does ends the connection.

    Attributes:
        code: told to the client.
        reason: one sentence for the log.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Frame(NamedTuple):
    """A frame, whole.

    Attributes:
        payload: padding included.
    """

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def raw(self) -> bytes:
        """All of it, as it came."""
        return _header(len(self.payload), self.kind, self.flags, self.stream) + self.payload

    @property
    def ends(self) -> bool:
        """Whether it is the last of its stream. Only of DATA and HEADERS."""
        return self.flags & _END_STREAM != 0

    @property
    def is_whole(self) -> bool:
        """Whether a HEADERS frame is all of a request: without a rest, padding, or a priority."""
        return self.flags == _WHOLE

    @property
    def body(self) -> bytes | None:
        """What a DATA frame has of a body; `None` if its padding is longer than itself."""
        if not self.flags & _PADDED:
            return self.payload
        if not self.payload or self.payload[0] >= len(self.payload):
            return None
        return self.payload[1 : len(self.payload) - self.payload[0]]


class FrameReader:
    """Cuts frames out of what arrives. Holds less than one frame.

    Attributes:
        complete: how many have arrived; a head in several counts once it is whole.
        opened: by how much each window was opened, not yet taken from here.
        updates: how many frames opened windows.
    """

    def __init__(self, limits: HTTP2Limits) -> None:
        self._limits = limits
        self._held = bytearray()
        self._wanted = _HEADER_BYTES  # as many bytes make the next frame, as far as is known
        self._block: int | None = None  # the stream whose head is being continued
        self._block_bytes = 0
        self._block_frames = 0
        self.complete = 0
        self.opened: dict[int, int] = {}
        self.updates = 0

    @property
    def in_head(self) -> bool:
        """Whether a head is being continued, into which no other frame may come."""
        return self._block is not None

    @property
    def awaits_head(self) -> bool:
        """Whether the rest of a head, or of a frame that should come in one piece, is missing."""
        data_frame = len(self._held) >= _HEADER_BYTES and self._held[3] == Kind.DATA
        return self._block is not None or (bool(self._held) and not data_frame)

    @property
    def arriving(self) -> tuple[int, int]:
        """The stream of a DATA frame that is not whole yet, and how many bytes of it are here."""
        if len(self._held) < _HEADER_BYTES or self._held[3] != Kind.DATA:
            return 0, 0
        return _HEADER.unpack_from(self._held)[4] & LARGEST_WINDOW, len(self._held)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield each frame that is complete now.

        Those that open windows are not among them, unless in error. Go sends two for each 8 KiB
        that it receives, so they are only added up.

        Raises:
            EndedError: a frame or a head is over a limit.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._wanted:
                return
            data = bytes(self._held)
            self._held.clear()
        position, end, self._wanted = 0, len(data), _HEADER_BYTES
        while end - position >= _HEADER_BYTES:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, position)
            stream &= LARGEST_WINDOW
            behind = position + _HEADER_BYTES + (high << 8 | low)
            self._judge(kind, behind - position - _HEADER_BYTES)
            if behind > end:
                self._wanted = behind - position
                break
            if kind == Kind.WINDOW_UPDATE and self._open(data, position, behind, stream):
                position = behind
                continue
            frame = Frame(kind, flags, stream, data[position + _HEADER_BYTES : behind])
            self._note(frame)
            position = behind
            yield frame
        self._held += data[position:]

    def _open(self, data: bytes, position: int, behind: int, stream: int) -> bool:
        """Note by how much a frame opens a window; return whether it does."""
        if behind - position != _HEADER_BYTES + _INCREMENT_BYTES or self._block is not None:
            return False
        more = int.from_bytes(data[position + _HEADER_BYTES : behind]) & LARGEST_WINDOW
        if more:
            self.complete += 1
            self.updates += 1
            self.opened[stream] = self.opened.get(stream, 0) + more
        return more > 0

    def _judge(self, kind: int, length: int) -> None:
        """Refuse a frame that is too long, before it has arrived."""
        limits = self._limits
        if length > limits.frame_bytes:
            raise EndedError(Code.FRAME_SIZE_ERROR, "a frame is too long")
        of_head = kind in {Kind.HEADERS, Kind.CONTINUATION}
        if of_head and self._block_bytes + length > limits.block_bytes:
            raise EndedError(Code.ENHANCE_YOUR_CALM, "a head is too long")

    def _note(self, frame: Frame) -> None:
        """Note where a head begins, goes on and ends."""
        if frame.kind == Kind.HEADERS and self._block is None:
            self._block = frame.stream
        elif frame.kind != Kind.CONTINUATION:
            self.complete += self._block is None
            return
        self._block_frames += 1
        self._block_bytes += len(frame.payload)
        if self._block_frames > 1 + self._limits.continuations:
            raise EndedError(Code.ENHANCE_YOUR_CALM, "a head has too many continuations")
        if frame.flags & _END_HEADERS:
            self._block, self._block_bytes, self._block_frames = None, 0, 0
            self.complete += 1


class Allowance:
    """How many of something a client may still send: a number that grows with time.

    Args:
        most: what it begins with, and never exceeds.
        per_second: by how much it grows.
        now: seconds of the loop's clock.
    """

    def __init__(self, most: int, per_second: int, now: float) -> None:
        self._most = most
        self._per_second = per_second
        self._left: float = most
        self._since = now

    def take(self, now: float, share: float = 1) -> bool:
        """Take one, or a `share` of one; return whether there was that much."""
        if self._left < share:
            self._left = min(self._most, self._left + (now - self._since) * self._per_second)
            self._since = now
        self._left -= share
        return self._left >= 0


def data_frames(stream: int, body: memoryview, longest: int) -> list[bytes | memoryview]:
    """Return the parts of DATA frames that carry `body`, none of them the stream's last."""
    parts: list[bytes | memoryview] = []
    for start in range(0, len(body), longest):
        piece = body[start : start + longest]
        parts += (_header(len(piece), Kind.DATA, 0, stream), piece)
    return parts


def answer_frames(stream: int, head: bytes, body: bytes, longest: int) -> list[bytes]:
    """Return the parts of the frames of a whole answer; its packed `head` must fit into one."""
    parts = [_header(len(head), Kind.HEADERS, _END_HEADERS if body else _WHOLE, stream), head]
    for start in range(0, len(body), longest):
        piece = body[start : start + longest]
        flags = 0 if start + longest < len(body) else _END_STREAM
        parts += (_header(len(piece), Kind.DATA, flags, stream), piece)
    return parts


def last_frame(stream: int) -> bytes:
    """Return an empty DATA frame that ends a stream."""
    return _header(0, Kind.DATA, _END_STREAM, stream)


def goaway(last: int, code: Code) -> bytes:
    """Return a frame that ends the connection, streams up to `last` not included."""
    return _header(8, Kind.GOAWAY, 0, 0) + _TWO_NUMBERS.pack(last, code)


def window_update(stream: int, more: int) -> bytes:
    """Return a frame that opens a window; stream 0 is the connection's."""
    return _header(_INCREMENT_BYTES, Kind.WINDOW_UPDATE, 0, stream) + more.to_bytes(4)


def _header(length: int, kind: int, flags: int, stream: int) -> bytes:
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)
