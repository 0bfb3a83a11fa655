"""A request as handlers see it, and what they answer."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qsl

from dockyard.core.blobs import Blob
from dockyard.errors import InvalidError
from dockyard.protocol.location import base_url
from dockyard.storage.interface import Piece


if TYPE_CHECKING:
    from dockyard.auth.asker import Asker
    from dockyard.auth.principal import Principal


Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
"""The types of ASGI. Source: ASGI specification 3.0; its values have no narrower type."""

PIECES: Final = "dockyard.pieces"
"""The key of an ASGI scope by which the application says that it takes a body in pieces, and of a
message that has them: then ``body`` is empty. A server that does not know it sends ``body``."""

QUERY_FIELDS: Final = 512
"""Fields of a query, at most: far more than the tags one request may name."""

_LENGTH: Final = re.compile(r"[0-9]{1,18}")

Headers: TypeAlias = list[tuple[bytes, bytes]]


def client_name(addresses: str, agent: str) -> str:
    """Return what `Request.client` is for who asks from the first of `addresses`, by `agent`."""
    return f"{addresses.split(',', 1)[0].strip()} {agent}"


class ClientGoneError(Exception):
    """The client went away before its request was complete; nobody is left to answer."""


class QueryInvalidError(InvalidError):
    """The query has more fields than any request needs."""


class Request:
    """One request. Header names are in lower case.

    Attributes:
        method: ``GET`` and so on, in capitals.
        path: decoded, as it came.
        parameters: what the route's placeholders matched.
        asker: who asks, once that is known; `None` where everybody may everything.
        principal: who logged in at the token service, which has no asker.
    """

    __slots__ = (
        "_headers",
        "_query",
        "_receive",
        "_scope",
        "asker",
        "method",
        "parameters",
        "path",
        "principal",
    )

    def __init__(self, scope: Scope, receive: Receive, parameters: Mapping[str, str]) -> None:
        self._scope: Final = scope
        self._receive: Final = receive
        self._headers: Final[Sequence[tuple[bytes, bytes]]] = scope["headers"]
        self._query: list[tuple[str, str]] | None = None
        self.method: Final[str] = scope["method"]
        self.path: Final[str] = scope["path"]
        self.parameters: Final = parameters
        self.asker: Asker | None = None
        self.principal: Principal | None = None

    def header(self, name: str) -> str | None:
        """Return the first header called `name`, or `None`."""
        wanted = name.encode("latin-1")
        for key, value in self._headers:
            if key == wanted:
                return value.decode("latin-1")
        return None

    def headers(self, name: str) -> list[str]:
        """Return every header called `name`."""
        wanted = name.encode("latin-1")
        return [value.decode("latin-1") for key, value in self._headers if key == wanted]

    @property
    def field_names(self) -> frozenset[bytes]:
        """The names of all headers."""
        return frozenset(name for name, _ in self._headers)

    @property
    def has_query(self) -> bool:
        """Whether there is a query."""
        return bool(self._scope["query_string"])

    def listed(self, name: str) -> str | None:
        """Return the list in all headers called `name`, or `None`. Source: RFC 9110, 5.3."""
        lines = self.headers(name)
        return ", ".join(lines) if lines else None

    def query(self, name: str) -> str | None:
        """Return the first value of the query's field `name`, or `None`."""
        values = self.queries(name)
        return values[0] if values else None

    def queries(self, name: str) -> list[str]:
        """Return every value of the query's field `name`.

        Raises:
            QueryInvalidError: the query has more than `QUERY_FIELDS` fields.
        """
        if self._query is None:
            text = self._scope["query_string"].decode("latin-1")
            try:
                self._query = parse_qsl(
                    text, keep_blank_values=True, max_num_fields=QUERY_FIELDS, errors="replace"
                )
            except ValueError as error:
                raise QueryInvalidError(f"more than {QUERY_FIELDS} fields in the query") from error
        return [value for key, value in self._query if key == name]

    @property
    def content_length(self) -> int | None:
        """Bytes the body will have, if the client says; the server has checked the syntax."""
        text = self.header("content-length")
        return int(text) if text is not None and _LENGTH.fullmatch(text) else None

    @property
    def client(self) -> str:
        """Who is asking, as far as that can be told: an address and the name of a program.

        Good for telling clients apart, not for trusting them.
        """
        return client_name(self.forwarded or self.address, self.agent)

    @property
    def forwarded(self) -> str:
        """The address, or several, for which the peer says that it asks; empty if it says none."""
        return self.header("x-forwarded-for") or self.header("x-real-ip") or ""

    @property
    def agent(self) -> str:
        """The name of the program that asks, as it says."""
        return self.header("user-agent") or ""

    @property
    def address(self) -> str:
        """The address of the peer, as the connection says; empty on a unix socket."""
        peer = self._scope.get("client")
        return str(peer[0]) if peer else ""

    @property
    def certificate(self) -> str | None:
        """The certificate that the client showed, in PEM form, once TLS has verified it."""
        chain = self._scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
        return str(chain[0]) if chain else None

    @property
    def base_url(self) -> str:
        """``scheme://host`` under which the client reaches us; empty if it gave no host."""
        return base_url(self.header, self._scope.get("scheme", "http"))

    async def chunks(self) -> AsyncIterator[Sequence[Piece]]:
        """Yield the body as it arrives: what has come since, in the pieces in which it came.

        Raises:
            ClientGoneError: the client went away before its end.
        """
        self._scope[PIECES] = True
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            more = message.get("more_body", False)
            pieces = message.get(PIECES) or ((body,) if (body := message.get("body")) else ())
            if pieces:
                yield pieces

    async def content(self, limit: int) -> bytes:
        """Return the body as a whole.

        Raises:
            InvalidError: it has more than `limit` bytes.
            ClientGoneError: the client went away before its end.
        """
        body = bytearray()
        async for pieces in self.chunks():
            for piece in pieces:
                body += piece
            if len(body) > limit:
                raise InvalidError(f"the body may have at most {limit} bytes")
        return bytes(body)


@dataclass(frozen=True, slots=True)
class Response:
    """What a handler answers.

    Attributes:
        status: the status.
        headers: names are spelled as Go spells them, since scripts match them so.
        body: the body; it is not sent in answer to HEAD, but its length is.
        stream: a blob and the half-open range of it to send instead of `body`.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    stream: tuple[Blob, range] | None = None


def plain(status: int, text: str, headers: Headers | None = None) -> Response:
    """Return a response of plain text, of the form Go's net/http gives its own."""
    return Response(
        status,
        [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"X-Content-Type-Options", b"nosniff"),
            *(headers or []),
        ],
        text.encode(),
    )


def as_json(body: Mapping[str, object]) -> Response:
    """Return a response of `body` as JSON, with a newline at its end as Go's encoder has it."""
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    headers: Headers = [(b"Content-Type", b"application/json")]
    return Response(200, headers, content.encode("utf-8", "replace") + b"\n")
