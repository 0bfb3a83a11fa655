"""Requests whose answers are given again: seen and answered before the library knows of them.

The library takes 0.4 ms for a request and its answer, ten times what it takes to give the answer
again. So of a request that comes in one frame, without a body, only the head is unpacked before
`dockyard.http.replays` is asked. The answer's head is packed without what was sent before, so that
it is the same each time: 200 bytes more than the library would send.
"""

import secrets
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from dockyard.http.replays import Head
from dockyard.server.head import Field
from dockyard.server.http2.frames import Frame
from dockyard.server.http2.output import Output
from dockyard.server.http2.stream import OF_CONNECTIONS
from dockyard.server.limits import HTTP2Limits
from dockyard.server.sharing import WorkerState


_MARK: Final = secrets.token_bytes(16)
"""Begins what heads are known by, so that nothing that comes by HTTP/1.1 is taken for it."""

_OK: Final = b"\x88"
"""The packed field ``:status: 200``. Source: RFC 7541, appendix A."""

_ALONE: Final = b"\0"
"""Begins a packed field that is not remembered, with its name. Source: RFC 7541, section 6.2.2."""

_SHORT: Final = 127
"""Bytes of a text from which on its length takes several bytes. Source: RFC 7541, section 5.2."""


class Again:
    """What answers requests of one connection again.

    Args:
        state: what all connections of the worker share.
        limits: bounds of what HTTP/2 adds.
        client: who is at the other end.
        output: where answers are written.
    """

    def __init__(
        self,
        state: WorkerState,
        limits: HTTP2Limits,
        client: tuple[str, int] | None,
        output: Output,
    ) -> None:
        self._state: Final = state
        self._limits: Final = limits
        self._client: Final = client
        self._output: Final = output
        self._number = 0  # of the stream that is answered
        self._left = 0

    def begin(self) -> None:
        """Note that more was read.

        In what is read at once no client that heeds our settings has more requests than streams.
        Of others the rest goes the ordinary way, where it is refused: they must not keep those who
        wait from their turn.
        """
        self._left = self._limits.streams

    def answer(self, frame: Frame) -> bool:
        """Answer the request in a HEADERS frame, if it was answered before; return whether it was.

        If not, the library is to take the frame next.

        Raises:
            ProtocolError: no request may come any more.
        """
        state, h2, number = self._state, self._output.h2, frame.stream
        if (
            state.at_once is None
            or state.draining
            or self._left <= 0
            or not frame.is_whole
            or number % 2 == 0
            or number <= h2.highest_inbound_stream_id
        ):
            return False
        fields = h2.unpacker.look(frame.payload)
        octets = None if fields is None else octets_of(fields)
        if octets is None:
            return False
        self._number = number
        if not state.at_once(octets, self._client, self._send):
            return False
        h2.unpacker.forget()
        self._left -= 1
        state.total_requests += 1
        return True

    def _send(self, fields: bytes, last: bytes, body: bytes) -> bool:
        date = _pack(b"date", self._state.date)
        head = b"".join((_OK, date, fields, _length_of(last), last))
        return self._output.send_again(self._number, head, body)


def head_of(fields: Sequence[Field]) -> Head | None:
    """Return what a request without a body is known by, if it has one meaning only.

    Args:
        fields: as they were unpacked.
    """
    octets = octets_of(fields)
    return None if octets is None else Head(octets, pack_fields)


def octets_of(fields: Sequence[Field]) -> bytes | None:
    """Return bytes that no other fields have; `None`: there are none, since these are malformed."""
    octets = b"\n".join(chain((_MARK,), *fields))
    # A mark has line feeds too, but always as many.
    return octets if octets.count(b"\n") == 2 * len(fields) + _MARK.count(b"\n") else None


def pack_fields(fields: Iterable[Field]) -> bytes:
    """Return `fields` as a part of a head, but for the value of the last one."""
    *before, (name, _) = fields
    kept = [(each.lower(), value) for each, value in before]
    packed = [_pack(each, value) for each, value in kept if each not in OF_CONNECTIONS]
    return b"".join((*packed, _ALONE, _length_of(name), name.lower()))


def _pack(name: bytes, value: bytes) -> bytes:
    return b"".join((_ALONE, _length_of(name), name, _length_of(value), value))


def _length_of(text: bytes) -> bytes:
    """Return the length of a text as it stands before it. Source: RFC 7541, section 5.1."""
    rest = len(text) - _SHORT
    if rest < 0:
        return bytes((len(text),))
    octets = [_SHORT]
    while rest >= 1 << 7:
        octets.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*octets, rest))
