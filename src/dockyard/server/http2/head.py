"""The head of a request on a stream: the strict grammar of HTTP/1.1, and what HTTP/2 adds. No I/O.

What a proxy in front of us, or one that speaks HTTP/1.1 behind a proxy, could read differently is
refused: see `dockyard.server.head`. Source: RFC 9113, section 8.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from dockyard.server.head import HOST, BodyForm, Field, Framing, RefusedError
from dockyard.server.limits import ConnectionLimits


_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(
    rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
)
_METHOD: Final = re.compile(rb"[A-Z][A-Z\-]{0,23}")
_PATH: Final = re.compile(rb"/[\x21-\x22\x24-\x7e]*")
_LENGTH: Final = re.compile(rb"\d{1,18}")
_SCHEMES: Final = frozenset((b"http", b"https"))

_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_OF_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields that speak of a connection of HTTP/1.1. Source: RFC 9113, section 8.2.2."""

_ONCE: Final = frozenset((b"host", b"content-length", b"expect"))

_REQUEST_LINE: Final = len(b"  HTTP/1.1\r\n")
_FIELD_LINE: Final = len(b": \r\n")


class MalformedError(Exception):
    """The fields are no head; the stream is reset. The message says why, for the log."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a head asks for.

    Attributes:
        path: as sent, still percent-encoded.
        query: what follows the first question mark, which is not in it.
        fields: without the pseudo-fields; the authority is ``host``, and comes first.
        framing: the body that follows. Where no length is said, `BodyForm.CHUNKED` means that
            only the stream's end tells it.
    """

    method: str
    path: bytes
    query: bytes
    fields: Sequence[Field]
    framing: Framing


def read_head(fields: Iterable[Field], limits: ConnectionLimits, *, ended: bool) -> RequestHead:
    """Return the request in the fields of a stream's first head.

    Args:
        fields: as they were unpacked.
        limits: those of HTTP/1.1.
        ended: no body follows.

    Raises:
        MalformedError: they break a rule of HTTP/2.
        RefusedError: they are over a limit, or ask for what we don't do.
    """
    pseudo, plain = _split(fields)
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    _check_size(method, path, plain, limits)
    if _METHOD.fullmatch(method) is None:
        raise MalformedError(":method is malformed")
    if pseudo.get(b":scheme") not in _SCHEMES:
        raise MalformedError(":scheme is missing or not ours")
    if _PATH.fullmatch(path) is None:
        raise MalformedError(":path is missing or no path")
    single = _single(plain)
    host = _authority(pseudo.get(b":authority"), single.get(b"host"))
    target, _, query = path.partition(b"?")
    others = [field for field in plain if field[0] != b"host"]
    framing = _framing(single, ended=ended)
    return RequestHead(method.decode(), target, query, [(b"host", host), *others], framing)


def check_trailer(fields: Iterable[Field], limits: ConnectionLimits) -> None:
    """Check the fields behind a body, which are dropped.

    Raises:
        MalformedError: they break a rule of HTTP/2, or are over a limit.
    """
    pseudo, plain = _split(fields)
    if pseudo:
        raise MalformedError("a pseudo-field in a trailer")
    if sum(len(name) + len(value) + _FIELD_LINE for name, value in plain) > limits.trailer_bytes:
        raise MalformedError("the trailer fields are too large")


def _split(fields: Iterable[Field]) -> tuple[Mapping[bytes, bytes], Sequence[Field]]:
    """Return the pseudo-fields and the others, each of which is well-formed."""
    pseudo: dict[bytes, bytes] = {}
    plain: list[Field] = []
    for name, value in fields:
        if _VALUE.fullmatch(value) is None:
            raise MalformedError("the value of a field is malformed")
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or plain:
                raise MalformedError("a pseudo-field is unknown, repeated or late")
            pseudo[name] = value
        elif _NAME.fullmatch(name) is None:
            raise MalformedError("the name of a field is malformed")
        elif name in _OF_CONNECTIONS or (name == b"te" and value.lower() != b"trailers"):
            raise MalformedError("a field of HTTP/1.1's connections")
        else:
            plain.append((name, value))
    return pseudo, plain


def _check_size(
    method: bytes, path: bytes, fields: Sequence[Field], limits: ConnectionLimits
) -> None:
    line = len(method) + len(path) + _REQUEST_LINE
    if line > limits.target_bytes:
        raise RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "the path is too long")
    size = line + sum(len(name) + len(value) + _FIELD_LINE for name, value in fields)
    if size > limits.head_bytes:
        reason = "the request's header fields are too large"
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    if len(fields) > limits.head_fields:
        reason = "the request has too many header fields"
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)


def _single(fields: Sequence[Field]) -> Mapping[bytes, bytes]:
    """Return the fields that may occur once."""
    found = [field for field in fields if field[0] in _ONCE]
    single = dict(found)
    if len(single) != len(found):
        raise MalformedError("a field that may occur once is repeated")
    return single


def _authority(authority: bytes | None, host: bytes | None) -> bytes:
    """Return whom the request is for."""
    if authority is not None and host is not None and authority.lower() != host.lower():
        raise MalformedError(":authority and host contradict each other")
    found = host if authority is None else authority
    if found is None or HOST.fullmatch(found) is None:
        raise MalformedError(":authority is missing or malformed")
    return found


def _framing(single: Mapping[bytes, bytes], *, ended: bool) -> Framing:
    length, expect = single.get(b"content-length"), single.get(b"expect")
    if length is not None and _LENGTH.fullmatch(length) is None:
        raise MalformedError("content-length is no number")
    octets = int(length) if length is not None else None
    if ended:
        if octets:
            raise MalformedError("content-length promises a body, and there is none")
        return Framing()
    if expect is not None and expect.lower() != b"100-continue":
        raise RefusedError(HTTPStatus.EXPECTATION_FAILED, "only 100-continue can be expected")
    if octets is None:
        return Framing(BodyForm.CHUNKED, expects_continue=expect is not None)
    return Framing(BodyForm.LENGTH, octets, expect is not None)
