"""The two lines about a request: in the log, and in the access log (Apache's combined format)."""

import ipaddress
import re
import time
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from dockyard.http.messages import Scope
from dockyard.telemetry import RequestFacts


Header: TypeAlias = tuple[bytes, bytes]

_VERSIONS: Final = {"1.0": "1.0", "1.1": "1.1", "2": "2.0"}
"""Versions of HTTP as ASGI and as Go writes them."""

_COMBINED_LIMIT: Final = 512
"""Most characters of a value in the access log, so that lines of workers don't interleave."""

_SAFE: Final = re.compile(rf"[\x20-\x21\x23-\x5b\x5d-\x7e]{{0,{_COMBINED_LIMIT}}}")

_REQUEST_FIELDS: Final = (
    ("http.request.contenttype", b"content-type"),
    ("http.request.host", b"host"),
    ("http.request.referer", b"referer"),
    ("http.request.useragent", b"user-agent"),
)

_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
"""Not by `strftime`, which follows the locale."""


class Account:
    """What is told about one request.

    Args:
        scope: the request.
        facts: what else is known about it.
        status: that of the answer.
        written: bytes of its body.
        headers: those of the answer.
    """

    __slots__ = ("_facts", "_fields", "_headers", "_scope", "_status", "_written", "remote")

    def __init__(
        self,
        scope: Scope,
        facts: RequestFacts,
        status: int,
        written: int,
        headers: Iterable[Header],
    ) -> None:
        self._scope: Final = scope
        self._facts: Final = facts
        self._status: Final = status
        self._written: Final = written
        self._headers: Final = headers
        self._fields: Final[dict[bytes, bytes]] = dict(scope["headers"])
        self.remote: Final = (
            client_address(scope["headers"], scope.get("client"))
            if self.is_forwarded
            else peer_address(scope.get("client"))
        )

    @property
    def is_forwarded(self) -> bool:
        """Whether somebody else may have asked than who is at the other end."""
        return b"x-forwarded-for" in self._fields or b"x-real-ip" in self._fields

    def completion(self, duration: int) -> dict[str, Any]:
        """Return distribution's fields of a completed response; none is without a value.

        Args:
            duration: nanoseconds that it took.
        """
        facts = self._facts
        completion: dict[str, Any] = {"http.request.id": facts.id}
        if self.remote:
            completion["http.request.remoteaddr"] = self.remote
        completion |= {
            "http.request.method": self._scope["method"],
            "http.request.uri": _uri(self._scope),
            "http.response.duration": render_duration(duration),
            "http.response.status": self._status,
            "http.response.written": self._written,
        }
        for key, name in _REQUEST_FIELDS:
            if value := self._fields.get(name):
                completion[key] = value.decode("latin-1")
        others = (
            ("auth.key.name", facts.key),
            ("auth.user.name", facts.user),
            ("http.response.contenttype", _content_type(self._headers)),
            ("vars.digest", facts.digest),
            ("vars.name", facts.name),
            ("vars.reference", facts.reference),
            ("vars.uuid", facts.uuid),
        )
        for key, text in others:
            if text:
                completion[key] = text
        return completion

    def access(self) -> tuple[str, str, str]:
        """Return host and user as the access log's line has them, and what follows the time."""
        scope = self._scope
        values = [
            self._facts.user or "-",
            _uri(scope),
            _latin(self._fields.get(b"referer")),
            _latin(self._fields.get(b"user-agent")),
        ]
        if _SAFE.fullmatch("".join(values)) is None:
            values = [_escape(value) for value in values]
        user, uri, referer, agent = values
        rest = (
            f'"{scope["method"]} {uri} HTTP/{_VERSIONS[scope["http_version"]]}" '
            f'{self._status} {self._written} "{referer}" "{agent}"'
        )
        return host_of(self.remote, scope.get("client")), user, rest


class Stamp:
    """Renders the present as Apache does, once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def render(self) -> str:
        """Return the present, such as ``02/Jan/2026:03:04:05 +0000``."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            moment = time.gmtime(second)
            month = _MONTHS[moment.tm_mon - 1]
            self._text = time.strftime(f"%d/{month}/%Y:%H:%M:%S +0000", moment)
        return self._text


def client_address(headers: Iterable[Header], peer: tuple[str, int] | None) -> str:
    """Return who asks: first of ``X-Forwarded-For``, else ``X-Real-Ip``, else the peer.

    What is no address is passed over. Nothing here is proof: whoever reaches us directly can
    claim any address, as with distribution. It is for logs and events, never for access.
    """
    forwarded = real = b""
    for name, value in headers:
        if name == b"x-forwarded-for":
            forwarded = forwarded or value
        elif name == b"x-real-ip":
            real = real or value
    for claim in (forwarded.split(b",", 1)[0], real):
        if claim and (address := _parse_address(claim)):
            return address
    return peer_address(peer)


def peer_address(peer: tuple[str, int] | None) -> str:
    """Return who is at the other end, address and port; empty for a unix socket."""
    if peer is None:
        return ""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def host_of(remote: str, peer: tuple[str, int] | None) -> str:
    """Return who asks as the access log has it: without the port, if it is the peer."""
    return (peer[0] if peer and remote.endswith(f":{peer[1]}") else remote) or "-"


def render_duration(nanoseconds: int) -> str:
    """Return a duration as Go writes it in logs, such as ``1.234567ms``."""
    for limit, unit in ((1_000, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")):
        if nanoseconds < limit:
            return f"{nanoseconds / (limit / 1_000):g}{unit}"
    return f"{nanoseconds / 1e9:.9g}s"


def _parse_address(claim: bytes) -> str | None:
    try:
        return str(ipaddress.ip_address(claim.strip().decode("ascii")))
    except ValueError:
        return None


def _content_type(headers: Iterable[Header]) -> str | None:
    for name, value in headers:
        if len(name) == len(b"content-type") and name.lower() == b"content-type":
            return value.decode("latin-1")
    return None


def _uri(scope: Scope) -> str:
    query = scope["query_string"]
    path: bytes = scope["raw_path"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _latin(value: bytes | None) -> str:
    return value.decode("latin-1") if value else ""


def _escape(value: str) -> str:
    r"""Return `value` with everything that is not plain text in Apache's ``\\xhh`` form."""
    value = value[:_COMBINED_LIMIT]
    return "".join(
        character if _SAFE.fullmatch(character) else f"\\x{ord(character):02x}"
        for character in value
    )
