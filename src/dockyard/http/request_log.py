"""What is logged about every request, and the answer when the application fails.

One line of the access log (Apache's combined format, standard output) and one of the log
(``response completed``, ``response completed with error``; standard error), both with the field
names of docker-distribution.

Every request gets an identifier of ours, which its lines carry (``http.request.id``) and its answer
too (``X-Request-Id``), so that a user can quote it. A client's own ``X-Request-Id`` is not taken
over: any client could then give two requests one identifier.
"""

import ipaddress
import logging
import re
import secrets
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from itertools import count
from typing import Any, Final, Protocol, TypeAlias

from dockyard.http.messages import Message, Receive, Scope, Send
from dockyard.telemetry import FACTS, Lines, RequestFacts, line_writer, logger


Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]


class Observer(Protocol):
    """Is told of each request."""

    def began(self, scope: Scope) -> None:
        """Note that a request has begun."""
        ...

    def completed(self, scope: Scope, status: int, written: int, nanoseconds: int) -> None:
        """Note that a request has ended, after so many bytes of body and so much time."""
        ...


CLIENT_CLOSED: Final = 499
"""The status logged, never sent, when the client went away first. Source: nginx, distribution."""

UNKNOWN: Final = b'{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}\n'

_VERSIONS: Final = {"1.0": "1.0", "1.1": "1.1", "2": "2.0"}
"""Versions of HTTP as ASGI and as Go writes them."""

_COMBINED_LIMIT: Final = 512
"""Most characters of a value in the access log, so that lines of workers don't interleave."""


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
    if peer is None:
        return ""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def _parse_address(claim: bytes) -> str | None:
    try:
        return str(ipaddress.ip_address(claim.strip().decode("ascii")))
    except ValueError:
        return None


class RequestLog:
    """Wraps an application: measures, logs, and answers 500 for what it does not handle.

    Must be made in the process that serves: its identifiers begin with eight random bytes of
    the instance and go on with a count.
    """

    def __init__(
        self,
        application: Application,
        *,
        access: Lines | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._application = application
        self._access = access
        self._observer = observer
        self._log = logger()
        self._write = line_writer()
        self._logs_completion = self._log.is_enabled_for(logging.INFO)
        self._prefix = secrets.token_hex(8)
        self._count = count(1)
        self._stamp = _Stamp()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        facts = RequestFacts(f"{self._prefix}{next(self._count):012x}")
        scope[FACTS] = facts
        channel = _Channel(facts, receive, send)
        if self._observer is not None:
            self._observer.began(scope)
        try:
            await self._application(scope, channel.receive, channel.send)
            # Without a code: the application did not say itself why its response broke off.
            if not (channel.complete or channel.client_gone or facts.code):
                await self._answer_unknown(channel, RuntimeError("no complete response"))
        except CancelledError:
            facts.code, facts.message = "UNAVAILABLE", "service unavailable"
            facts.detail = "the service stopped before the request was answered"
            raise
        except Exception as error:  # noqa: BLE001 -- the one place that must catch whatever it is
            if not channel.client_gone:
                await self._answer_unknown(channel, error)
        finally:
            self._complete(scope, channel)

    async def _answer_unknown(self, channel: "_Channel", error: Exception) -> None:
        facts = channel.facts
        facts.code, facts.message = "UNKNOWN", "unknown error"
        self._log.error(
            "the request failed unexpectedly", exc_info=error, **{"http.request.id": facts.id}
        )
        if channel.status:
            return  # half an answer is sent: the server cuts it off, so that the client notices
        await channel.send(
            {
                "type": "http.response.start",
                "status": HTTPStatus.INTERNAL_SERVER_ERROR,
                "headers": [
                    (b"docker-distribution-api-version", b"registry/2.0"),
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(UNKNOWN)),
                ],
            }
        )
        await channel.send({"type": "http.response.body", "body": UNKNOWN})

    def _complete(self, scope: Scope, channel: "_Channel") -> None:
        duration = time.monotonic_ns() - channel.began
        status = channel.final_status
        failed = status == CLIENT_CLOSED or channel.facts.code is not None
        if failed or self._logs_completion or self._access is not None:
            fields: dict[bytes, bytes] = dict(scope["headers"])
            remote = _remote_address(scope, fields)
            if failed:
                self._log_failure(_completion(scope, channel, fields, remote, duration), channel)
            elif self._logs_completion:
                completion = _completion(scope, channel, fields, remote, duration)
                completion["event"] = "response completed"
                self._write("info", completion)
            if self._access is not None:
                self._access.write(self._combined(scope, channel, fields, remote))
        if self._observer is not None:
            self._observer.completed(scope, status, channel.written, duration)

    def _log_failure(self, completion: dict[str, Any], channel: "_Channel") -> None:
        facts, status = channel.facts, channel.final_status
        if facts.code is not None:
            # distribution's spelling: "blob unknown"
            completion["err.code"] = facts.code.lower().replace("_", " ")
        completion["err.message"] = facts.message or "the client went away"
        if facts.detail is not None:
            completion["err.detail"] = facts.detail
        # A client that stops, or that has yet to log in, is no fault for anyone to look at.
        level = _QUIET.get(status, logging.ERROR)
        self._log.log(level, "response completed with error", **completion)

    def _combined(
        self, scope: Scope, channel: "_Channel", fields: dict[bytes, bytes], remote: str
    ) -> str:
        peer = scope.get("client")
        host = peer[0] if peer and remote.endswith(f":{peer[1]}") else remote
        values = [
            channel.facts.user or "-",
            _uri(scope),
            _latin(fields.get(b"referer")) or "",
            _latin(fields.get(b"user-agent")) or "",
        ]
        if _SAFE.fullmatch("".join(values)) is None:
            values = [_escape(value) for value in values]
        user, uri, referer, agent = values
        return (
            f"{host or '-'} - {user} [{self._stamp.render()}] "
            f'"{scope["method"]} {uri} HTTP/{_VERSIONS[scope["http_version"]]}" '
            f'{channel.final_status} {channel.written} "{referer}" "{agent}"'
        )


class _Channel:
    """The receive and send of one request, observed."""

    __slots__ = (
        "_receive",
        "_send",
        "began",
        "client_gone",
        "complete",
        "facts",
        "headers",
        "status",
        "written",
    )

    def __init__(self, facts: RequestFacts, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.facts = facts
        self.began = time.monotonic_ns()
        self.status = 0  # until a response has begun
        self.headers: Iterable[Header] = ()
        self.written = 0
        self.complete = False
        self.client_gone = False

    @property
    def final_status(self) -> int:
        """The status to log; without an answer it is because the service stopped."""
        return CLIENT_CLOSED if self.client_gone else self.status or 503

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.complete:
            self.client_gone = True
        return message

    async def send(self, message: Message) -> None:
        try:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"X-Request-Id", self.facts.id.encode())]
                await self._send({**message, "headers": headers})
                self.status = int(message["status"])
                self.headers = headers
            else:
                await self._send(message)
                self.written += len(message.get("body", b""))
                self.complete = not message.get("more_body", False)
        except OSError:
            # ASGI 2.4: nobody reads any more.
            self.client_gone = True
            raise


class _Stamp:
    """Renders the present as Apache does, once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def render(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            moment = time.gmtime(second)
            month = _MONTHS[moment.tm_mon - 1]
            self._text = time.strftime(f"%d/{month}/%Y:%H:%M:%S +0000", moment)
        return self._text


_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
"""Not by `strftime`, which follows the locale."""

_QUIET: Final = {CLIENT_CLOSED: logging.INFO, 401: logging.WARNING}

_SAFE: Final = re.compile(rf"[\x20-\x21\x23-\x5b\x5d-\x7e]{{0,{_COMBINED_LIMIT}}}")


def _remote_address(scope: Scope, fields: dict[bytes, bytes]) -> str:
    if b"x-forwarded-for" in fields or b"x-real-ip" in fields:
        return client_address(scope["headers"], scope.get("client"))
    return client_address((), scope.get("client"))


def _completion(
    scope: Scope, channel: _Channel, fields: dict[bytes, bytes], remote: str, duration: int
) -> dict[str, Any]:
    """Return distribution's fields of a completed response; those without a value are left out."""
    facts = channel.facts
    completion: dict[str, Any] = {
        "http.request.id": facts.id,
        "http.request.method": scope["method"],
        "http.request.uri": _uri(scope),
        "http.response.duration": render_duration(duration),
        "http.response.status": channel.final_status,
        "http.response.written": channel.written,
    }
    for key, name in _REQUEST_FIELDS:
        if value := fields.get(name):
            completion[key] = value.decode("latin-1")
    others = (
        ("auth.key.name", facts.key),
        ("auth.user.name", facts.user),
        ("http.request.remoteaddr", remote),
        ("http.response.contenttype", _content_type(channel.headers)),
        ("vars.digest", facts.digest),
        ("vars.name", facts.name),
        ("vars.reference", facts.reference),
        ("vars.uuid", facts.uuid),
    )
    completion |= {key: text for key, text in others if text}
    return completion


_REQUEST_FIELDS: Final = (
    ("http.request.contenttype", b"content-type"),
    ("http.request.host", b"host"),
    ("http.request.referer", b"referer"),
    ("http.request.useragent", b"user-agent"),
)


def _content_type(headers: Iterable[Header]) -> str | None:
    for name, value in headers:
        if len(name) == len(b"content-type") and name.lower() == b"content-type":
            return value.decode("latin-1")
    return None


def render_duration(nanoseconds: int) -> str:
    """Return a duration as Go writes it in logs, such as ``1.234567ms``."""
    for limit, unit in ((1_000, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")):
        if nanoseconds < limit:
            return f"{nanoseconds / (limit / 1_000):g}{unit}"
    return f"{nanoseconds / 1e9:.9g}s"


def _uri(scope: Scope) -> str:
    query = scope["query_string"]
    path: bytes = scope["raw_path"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _latin(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value else None


def _escape(value: str) -> str:
    r"""Return `value` with everything that is not plain text in Apache's ``\\xhh`` form."""
    value = value[:_COMBINED_LIMIT]
    return "".join(
        character if _SAFE.fullmatch(character) else f"\\x{ord(character):02x}"
        for character in value
    )
