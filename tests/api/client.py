"""An ASGI client in process, which hides nothing, and checks what is true of every answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias
from urllib.parse import unquote, urlencode, urlsplit

from dockyard.http.app import RegistryApp
from dockyard.http.messages import Message, Scope
from dockyard.telemetry import FACTS, RequestFacts
from tests.parts.images import ACCEPT_ALL, Image, digest_of


HOST: Final = "registry.example:5000"
BASE: Final = f"http://{HOST}"

Body: TypeAlias = bytes | Sequence[bytes] | AsyncIterator[bytes]
"""Whole, with a ``Content-Length``; or in pieces, without."""

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]


class HangUpError(Exception):
    """Raised by a body that is an iterator: the client closes the connection here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the application answered.

    Attributes:
        status: the status.
        headers: as sent, in their order and spelling.
        body: the body's bytes.
        facts: what the request's line in the log will say.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    facts: RequestFacts

    def all(self, name: str) -> list[str]:
        """Return every header called `name`."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the header called `name`, of which there must not be two."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def location(self) -> str:
        """The ``Location``."""
        location = self.header("Location")
        assert location is not None
        return location

    @property
    def next_page(self) -> str | None:
        """The target of the ``Link`` to the next page."""
        link = self.header("Link")
        if link is None:
            return None
        target, _, relation = link.partition("; ")
        assert relation == 'rel="next"'
        return target.removeprefix("<").removesuffix(">")

    def json(self) -> Any:  # noqa: ANN401 -- JSON is whatever it is
        """Return the body, read as JSON."""
        return json.loads(self.body)

    def errors(self) -> list[dict[str, Any]]:
        """Return the errors in the envelope."""
        assert self.header("Content-Type") == "application/json"
        document = self.json()
        assert list(document) == ["errors"]
        assert document["errors"]
        assert all(error["code"] and error["message"] for error in document["errors"])
        return list(document["errors"])

    def expect(self, *statuses: int) -> Self:
        """Return this answer, whose status is one of `statuses`."""
        assert self.status in statuses, f"{self.status}: {self.body[:2000]!r}"
        return self

    def refused(self, status: int, code: str) -> dict[str, Any]:
        """Return the only error of this answer, which has this status and code."""
        self.expect(status)
        (error,) = self.errors()
        assert error["code"] == code
        assert self.facts.code == code
        return error


class Client:
    """Sends requests to one application."""

    def __init__(self, app: RegistryApp, *, prefix: str = "/") -> None:
        self._app = app
        self._prefix = prefix

    async def send(
        self, method: str, target: str, body: Body | None = None, headers: Headers = ()
    ) -> Answer:
        """Send one request; return the answer.

        `target` is a path below the prefix, such as ``v2/_catalog?n=1``, or a ``Location``.
        """
        answer = await self._exchange(method, target, body, headers)
        assert answer is not None, "the application did not answer"
        return answer

    async def hang_up(self, method: str, target: str, *pieces: bytes) -> None:
        """Send a request of which only `pieces` arrive before the client goes away."""

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece
            raise HangUpError

        answer = await self._exchange(method, target, body(), ())
        assert answer is None, "an answer that nobody reads"

    async def cut_off(self, target: str) -> tuple[int, bytes, RequestFacts]:
        """Ask for what can't be sent to its end; return the length promised and what arrived."""
        sent: list[Message] = []
        scope = self._scope("GET", target, None, ())
        await self._run(scope, _messages(None), sent)
        start, *bodies = sent
        assert all(message["more_body"] for message in bodies), "the response looks whole"
        promised = int(dict(start["headers"])[b"Content-Length"])
        return promised, b"".join(message["body"] for message in bodies), scope[FACTS]

    async def _exchange(
        self, method: str, target: str, body: Body | None, headers: Headers
    ) -> Answer | None:
        scope = self._scope(method, target, body, headers)
        sent: list[Message] = []
        await self._run(scope, _messages(body), sent)
        if not sent:
            return None
        answer = _answer(sent, scope[FACTS])
        _check(answer, method)
        return answer

    async def _run(
        self, scope: Scope, incoming: AsyncIterator[Message], sent: list[Message]
    ) -> None:

        async def receive() -> Message:
            return await anext(incoming)

        async def send(message: Message) -> None:
            await asyncio.sleep(0)
            sent.append(message)

        await self._app(scope, receive, send)

    def _scope(self, method: str, target: str, body: Body | None, headers: Headers) -> Scope:
        parts = urlsplit(target if target.startswith(("/", "http")) else f"{self._prefix}{target}")
        fields = [("host", HOST)]
        if isinstance(body, bytes):
            fields.append(("content-length", str(len(body))))
        elif body is not None:
            fields.append(("transfer-encoding", "chunked"))
        given = list(headers.items() if isinstance(headers, Mapping) else headers)
        own = {name.lower() for name, _ in given}
        fields = [pair for pair in fields if pair[0] not in own]
        fields += [(name.lower(), value) for name, value in given]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in fields],
            "client": ("192.0.2.1", 40000),
            "server": ("192.0.2.2", 5000),
            FACTS: RequestFacts("r1"),
        }

    # What tests do over and over.

    async def begin(self, name: str, **query: str) -> Answer:
        """Begin an upload."""
        return (await self.send("POST", f"v2/{name}/blobs/uploads/{_query(query)}")).expect(202)

    async def finish(
        self, location: str, content: bytes, body: Body = b"", headers: Headers = ()
    ) -> Answer:
        """Close the upload at `location`, all of which is `content`; `body` is its last chunk."""
        target = with_query(location, digest=digest_of(content))
        return await self.send("PUT", target, body, headers)

    async def push_blob(self, name: str, content: bytes, algorithm: str = "sha256") -> str:
        """Push a blob by one POST; return its digest."""
        digest = digest_of(content, algorithm)
        target = f"v2/{name}/blobs/uploads/{_query({'digest': digest})}"
        (await self.send("POST", target, content)).expect(201)
        return digest

    async def blob(
        self, name: str, digest: str, method: str = "GET", headers: Headers = ()
    ) -> Answer:
        """Ask for a blob."""
        return await self.send(method, f"v2/{name}/blobs/{digest}", headers=headers)

    async def put_manifest(
        self, name: str, reference: str, content: Body, media_type: str = "", **more: str
    ) -> Answer:
        """Push a manifest; `more` are headers."""
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        if media_type:
            headers["content-type"] = media_type
        return await self.send("PUT", f"v2/{name}/manifests/{reference}", content, headers)

    async def manifest(
        self,
        name: str,
        reference: str,
        method: str = "GET",
        accept: Sequence[str] = ACCEPT_ALL,
        **more: str,
    ) -> Answer:
        """Ask for a manifest; each of `accept` is a header of its own, `more` are others."""
        headers = [("accept", line) for line in accept]
        headers += [(key.replace("_", "-"), value) for key, value in more.items()]
        return await self.send(method, f"v2/{name}/manifests/{reference}", headers=headers)

    async def push(self, name: str, top: Image, *tags: str) -> str:
        """Push an image or index with all it refers to; return its digest."""
        for each in top.everything():
            for content in each.blobs:
                await self.push_blob(name, content.body)
            references = tags if each is top and tags else (each.digest,)
            for reference in references:
                manifest = each.manifest
                answer = await self.put_manifest(
                    name, reference, manifest.body, manifest.media_type
                )
                answer.expect(201)
        return top.digest

    async def pages(self, target: str) -> list[Answer]:
        """Return the page at `target` and all that follow."""
        pages = [(await self.send("GET", target)).expect(200)]
        while (following := pages[-1].next_page) is not None:
            pages.append((await self.send("GET", following)).expect(200))
            assert len(pages) < 1000, "the pages have no end"
        return pages


def with_query(target: str, **parameters: str) -> str:
    """Return `target` with `parameters` added to its query."""
    return f"{target}{'&' if '?' in target else '?'}{urlencode(parameters)}"


def _query(parameters: Mapping[str, str]) -> str:
    given = {name.replace("_", "-"): value for name, value in parameters.items()}
    return f"?{urlencode(given)}" if given else ""


async def _messages(body: Body | None) -> AsyncIterator[Message]:
    if body is None or isinstance(body, bytes):
        yield {"type": "http.request", "body": body or b"", "more_body": False}
    elif isinstance(body, Sequence):
        for piece in body:
            yield {"type": "http.request", "body": piece, "more_body": True}
        yield {"type": "http.request"}
    else:
        try:
            async for piece in body:
                yield {"type": "http.request", "body": piece, "more_body": True}
            yield {"type": "http.request", "body": b"", "more_body": False}
        except HangUpError:
            pass
    while True:
        yield {"type": "http.disconnect"}


def _answer(sent: Sequence[Message], facts: RequestFacts) -> Answer:
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert bodies
    assert all(message["type"] == "http.response.body" for message in bodies)
    more = [message.get("more_body", False) for message in bodies]
    assert more == [True] * (len(more) - 1) + [False], "the response has no end, or two"
    return Answer(
        status=start["status"],
        headers=tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in start["headers"]),
        body=b"".join(message.get("body", b"") for message in bodies),
        facts=facts,
    )


def _check(answer: Answer, method: str) -> None:
    """Check what is true of every answer."""
    for name, value in answer.headers:
        assert name
        assert not set("\r\n\0") & set(name + value), (name, value)
    length = answer.header("Content-Length")
    if answer.status in {204, 304}:
        assert length is None
        assert answer.body == b""
    elif method == "HEAD":
        assert length is not None
        assert answer.body == b""
    else:
        assert length == str(len(answer.body))
    if answer.status >= 400 and answer.facts.code is not None and method != "HEAD":
        assert answer.errors()[0]["code"] == answer.facts.code
