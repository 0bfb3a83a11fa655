"""The head of a request: strict grammar, read in one way only. No I/O.

A proxy in front of us and we must never see two different requests in the same bytes (request
smuggling). So nothing is repaired here: what RFC 9112 does not write is refused, and of what it
leaves to the recipient's tolerance (bare LF, folded lines, space before the colon, lists of equal
lengths) nothing is tolerated. llhttp parses the same bytes afterwards and must agree.

Source: RFC 9112 sections 2 to 6, RFC 9110 sections 5.5, 7.2 and 10.1.1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final

from dockyard.server.limits import ConnectionLimits


END: Final = b"\r\n\r\n"
"""Ends every head."""

Field = tuple[bytes, bytes]

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD: Final = re.compile(
    rb"[A-Z][A-Z\-]{0,23} [\x21-\x22\x24-\x7e]+ HTTP/1\.[01]\r\n"
    rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*+\r\n"
)
_REQUEST_LINE: Final = re.compile(rb"[A-Z][A-Z\-]{0,23} [\x21-\x22\x24-\x7e]+ HTTP/(\d)\.(\d)\r\n")
_LENGTH: Final = re.compile(rb"\d{1,18}")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)([^?]*)(\?.*)?", re.IGNORECASE)

HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9\-._~]+)?\])(?::\d{0,5})?"
)
"""What `Host` names: a name or an address, and perhaps a port."""

FRAMING: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
"""Fields that must not be repeated: two of them could be read in two ways."""


class RefusedError(Exception):
    """The bytes are no request that we read.

    Attributes:
        status: the answer's status. The connection ends with it.
        reason: one sentence for the client. It repeats nothing of what the client sent.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BodyForm(Enum):
    """How a request says where its body ends."""

    NONE = "none"
    LENGTH = "content-length"
    CHUNKED = "chunked"


@dataclass(frozen=True, slots=True)
class Framing:
    """What a head says about the rest of the connection.

    Attributes:
        body: how the body's end is found.
        length: bytes of the body when it is `BodyForm.LENGTH`, else zero.
        expects_continue: the client waits for ``100 Continue`` before it sends the body.
    """

    body: BodyForm = BodyForm.NONE
    length: int = 0
    expects_continue: bool = False


_BODILESS: Final = Framing()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    Attributes:
        path: the path as sent, still percent-encoded.
        query: what follows the first question mark, which is not in it.
        authority: the host of an absolute-form target, which replaces that of ``Host``.
    """

    path: bytes
    query: bytes
    authority: bytes | None = None


def refusal_of_incomplete(start: bytes, limits: ConnectionLimits) -> RefusedError | None:
    """Return why a head that begins with `start` can't become a legal one, or None."""
    line_end = start.find(b"\n", 0, limits.target_bytes + 1)
    if line_end < 0 and len(start) > limits.target_bytes:
        return RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long")
    if len(start) > limits.head_bytes:
        return _fields_too_large("the request's header fields are too large")
    if line_end >= 0 and not start.endswith(b"\r\n", 0, line_end + 1):
        return _bad("lines end with CR and LF")
    return None


def check_text(head: bytes, limits: ConnectionLimits) -> None:
    """Check that `head`, its empty line included, is written as RFC 9112 says.

    Raises:
        RefusedError: it is not, or it is over a limit.
    """
    if refusal := refusal_of_incomplete(head, limits):
        raise refusal
    if head.count(b"\n") - 2 > limits.head_fields:
        raise _fields_too_large("the request has too many header fields")
    if _HEAD.fullmatch(head) is None:
        raise _syntax_refusal(head)


def framing_of(fields: Sequence[Field], version: str) -> Framing:
    """Return how the body that follows a head is framed.

    Args:
        fields: those of the head that are named in `FRAMING`, names in lower case.
        version: ``1.0`` or ``1.1``.

    Raises:
        RefusedError: one of them is repeated, malformed, contradicts another, or is missing.
    """
    single = dict(fields)
    if len(single) != len(fields):
        raise _bad("a header field that may occur once is repeated")
    host = single.get(b"host")
    if host is None and version != "1.0":
        raise _bad("HTTP/1.1 requires a Host header field")
    if host is not None and HOST.fullmatch(host) is None:
        raise _bad("the Host header field is malformed")
    if len(fields) == (host is not None):
        return _BODILESS
    return _framing(single, version)


def _framing(single: dict[bytes, bytes], version: str) -> Framing:
    expect = single.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise RefusedError(HTTPStatus.EXPECTATION_FAILED, "only 100-continue can be expected")
    expects_continue = expect is not None and version != "1.0"
    length, coding = single.get(b"content-length"), single.get(b"transfer-encoding")
    if coding is not None:
        _check_coding(coding, length, version)
        return Framing(BodyForm.CHUNKED, expects_continue=expects_continue)
    if length is None:
        return _BODILESS
    if _LENGTH.fullmatch(length) is None:
        raise _bad("Content-Length is not a number")
    octets = int(length)
    return Framing(BodyForm.LENGTH, octets, expects_continue) if octets else _BODILESS


def _check_coding(coding: bytes, length: bytes | None, version: str) -> None:
    if length is not None:
        raise _bad("Transfer-Encoding and Content-Length exclude each other")
    if version == "1.0":
        raise _bad("HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() != b"chunked":
        raise _bad("the only transfer coding is chunked")


def parse_target(text: bytes) -> Target:
    """Return the target written in `text`, in origin-form or absolute-form.

    Raises:
        RefusedError: it is in another form (``*``, ``host:port``) or its authority is malformed.
    """
    if text.startswith(b"/"):
        path, _, query = text.partition(b"?")
        return Target(path, query)
    match = _ABSOLUTE.fullmatch(text)
    if match is None or HOST.fullmatch(match[1]) is None:
        raise _bad("the request target is no path")
    return Target(match[2] or b"/", (match[3] or b"?")[1:], match[1])


def _syntax_refusal(head: bytes) -> RefusedError:
    line = _REQUEST_LINE.match(head)
    if line is not None and line[1] != b"1":
        return RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1")
    if line is None:
        return _bad("the request line is malformed")
    return _bad("a header field is malformed")


def _bad(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, reason)


def _fields_too_large(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
