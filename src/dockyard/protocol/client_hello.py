"""The first message of a TLS client, as far as it says what the client wants. No I/O.

Read before the handshake begins, so that the certificate can be chosen by it. OpenSSL reads the
same bytes afterwards; only what both understand leads to a connection.

Source: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3, RFC 7301 section 3.1.
"""

from dataclasses import dataclass
from typing import Final


HANDSHAKE: Final = 0x16
"""The first byte of every TLS connection: the type of a record with handshake messages."""

HELLO_LIMIT: Final = 32 << 10
"""Bytes of a first message that are looked at. Browsers send under 2 KiB, most of it keys that
resist quantum computers."""

RECORDS: Final = 16
"""Records that a first message may come in. Clients use one or two; each look at a message that is
not whole begins anew, so thousands of tiny ones would be costly."""

_RECORD_HEAD: Final = 5
_MESSAGE_HEAD: Final = 4
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_HOST_NAME: Final = 0


class HelloInvalidError(Exception):
    """The bytes are not the first message of a TLS client, or it is over the limit."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client wants.

    Attributes:
        server_name: the host it believes to reach, in lower case; empty if it does not say.
        protocols: those it offers to speak, in its order.
    """

    server_name: str = ""
    protocols: tuple[bytes, ...] = ()


class _Reader:
    """Takes values off the front of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise HelloInvalidError("a length leads beyond the end")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """Return what is behind its own length, which has `width` bytes."""
        return self.take(self.number(width))


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Return what a client wants that has sent `data` so far; `None` if its end is missing.

    Raises:
        HelloInvalidError: these bytes don't become a first message, whatever follows.
    """
    message = _unwrap(data)
    if message is None:
        if len(data) > HELLO_LIMIT:
            raise HelloInvalidError("the first message is too long")
        return None
    reader = _Reader(message)
    reader.take(2 + 32)  # version, random
    reader.vector(1)  # session
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    extensions = _Reader(reader.vector(2) if reader else b"")
    name, protocols = "", tuple[bytes, ...]()
    while extensions:
        kind, value = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            name = _server_name(value)
        elif kind == _ALPN:
            protocols = _protocols(value)
    return ClientHello(name, protocols)


def _unwrap(data: bytes) -> bytes | None:
    """Return the first message in the records `data` begins with; `None` if its end is missing."""
    message = b""
    at = records = 0
    while (end := _end_of(message)) is None or len(message) < end:
        head = data[at : at + _RECORD_HEAD]
        if head and head[0] != HANDSHAKE:
            raise HelloInvalidError("the first message is none of TLS")
        if len(head) < _RECORD_HEAD:
            return None
        at += _RECORD_HEAD
        length = int.from_bytes(head[3:], "big")
        records += 1
        if not length or records > RECORDS:
            raise HelloInvalidError("the first message is in tiny records")
        message += data[at : at + length]
        at += length
    return message[_MESSAGE_HEAD:end]


def _end_of(message: bytes) -> int | None:
    """Return how long `message` becomes; `None` if it does not say yet."""
    if len(message) < _MESSAGE_HEAD:
        return None
    if message[0] != _CLIENT_HELLO:
        raise HelloInvalidError("the first message is another one")
    end = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD], "big")
    if end > HELLO_LIMIT:
        raise HelloInvalidError("the first message is too long")
    return end


def _server_name(value: bytes) -> str:
    names = _Reader(_Reader(value).vector(2))
    while names:
        kind, name = names.number(1), names.vector(2)
        if kind == _HOST_NAME:
            return name.decode("ascii", "replace").lower().rstrip(".")
    return ""


def _protocols(value: bytes) -> tuple[bytes, ...]:
    names = _Reader(_Reader(value).vector(2))
    found: list[bytes] = []
    while names:
        found.append(names.vector(1))
    return tuple(found)
