"""Where a request's body ends: strict framing. No I/O.

A decoder is fed what arrives after the head and yields the body's bytes. It takes not one byte
more than the body has, so that what follows is read as the next head by the strict grammar of
`dockyard.server.head`. Source: RFC 9112 sections 6 and 7.
"""

import re
from http import HTTPStatus
from typing import Final, Protocol

from dockyard.server.head import RefusedError
from dockyard.server.limits import ConnectionLimits
from dockyard.storage.interface import Piece


_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?")
_NEXT_CHUNK: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


_VIEWED: Final = 4 << 10
"""Up to this size a copy is cheaper than a view: a chunk of one byte would cost 180 in memory."""


class BodyDecoder(Protocol):
    """Finds the bytes of one body."""

    @property
    def complete(self) -> bool:
        """Whether the body's last byte was seen."""
        ...

    @property
    def remaining(self) -> int | None:
        """Bytes of the body still to come, or None if that is unknown."""
        ...

    def feed(self, data: bytes) -> tuple[list[Piece], bytes]:
        """Return the pieces of the body in `data`, and what of `data` lies behind its end.

        Raises:
            RefusedError: the framing is broken; nothing after it can be trusted.
        """
        ...


class LengthDecoder:
    """A body of a known number of bytes."""

    def __init__(self, length: int) -> None:
        self._remaining = length

    @property
    def complete(self) -> bool:
        """Whether the body's last byte was seen."""
        return self._remaining == 0

    @property
    def remaining(self) -> int | None:
        """Bytes of the body still to come."""
        return self._remaining

    def feed(self, data: bytes) -> tuple[list[Piece], bytes]:
        """Return the pieces of the body in `data`, and what of `data` lies behind its end."""
        if len(data) <= self._remaining:
            self._remaining -= len(data)
            return [data], b""
        end, self._remaining = self._remaining, 0
        return [data[:end]], data[end:]


class ChunkedDecoder:
    """A body in chunks. Extensions are skipped and trailer fields dropped, both within bounds."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._line_limit = limits.chunk_line_bytes
        self._trailer_left = limits.trailer_bytes
        self._line = b""  # the beginning of a line whose end has not arrived
        self._chunk = 0  # bytes of the present chunk still to come
        self._chunk_end = False  # the CR LF after a chunk's bytes is still to come
        self._in_trailer = False
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether the body's last byte was seen."""
        return self._complete

    @property
    def remaining(self) -> int | None:
        """Return None: a chunked body does not say."""
        return None

    @property
    def remembered(self) -> int:
        """Bytes kept from one packet to the next: at most the longest line's."""
        return len(self._line)

    def feed(self, data: bytes) -> tuple[list[Piece], bytes]:
        """Return the pieces of the body in `data`, and what of `data` lies behind its end.

        Raises:
            RefusedError: the framing is broken; nothing after it can be trusted.
        """
        pieces: list[Piece] = []
        position = 0
        view = memoryview(data)
        while position < len(data) and not self._complete:
            if self._chunk:
                end = min(position + self._chunk, len(data))
                source = view if end - position >= _VIEWED else data
                pieces.append(source[position:end])
                self._chunk -= end - position
                self._chunk_end = self._chunk == 0
                position = end
            elif self._chunk_end and (match := _NEXT_CHUNK.match(data, position)):
                position = self._begin_chunk(match)
            else:
                position = self._take_line(data, position)
        return pieces, data[position:]

    def _begin_chunk(self, match: re.Match[bytes]) -> int:
        """Begin a chunk as most begin, in a step instead of four; return the position behind."""
        size = int(match[1], 16)
        if not size:  # the last one; its size is read with what follows
            self._chunk_end = False
            return match.start(1)
        self._chunk = size
        return match.end()

    def _take_line(self, data: bytes, start: int) -> int:
        """Take a line, or the part of one that has arrived; return the position behind it."""
        limit = self._trailer_left if self._in_trailer else self._line_limit
        room = limit + 2 - len(self._line)
        newline = data.find(b"\n", start, start + room)
        if newline < 0:
            if len(data) - start >= room:
                raise _broken("a line of the chunked body is too long")
            self._line += data[start:]
            return len(data)
        line = self._line + data[start : newline + 1]
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise _broken("lines end with CR and LF")
        self._read_line(line[:-2])
        return newline + 1

    def _read_line(self, line: bytes) -> None:
        if self._chunk_end:
            if line:
                raise _broken("a chunk is longer than its size")
            self._chunk_end = False
        elif self._in_trailer:
            self._read_trailer(line)
        else:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise _broken("a chunk's size is malformed")
            self._chunk = int(match[1], 16)
            self._in_trailer = self._chunk == 0

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self._complete = True
        elif _TRAILER.fullmatch(line) is None:
            raise _broken("a trailer field is malformed")
        self._trailer_left -= len(line) + 2
        if self._trailer_left < 0:
            raise _broken("the trailer fields are too large")


def _broken(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, reason)
