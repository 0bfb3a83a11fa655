"""The distribution API as an ASGI application."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import structlog

from dockyard.errors import RegistryError, StorageError
from dockyard.http.failures import MESSAGES, failure_of, render
from dockyard.http.messages import (
    ClientGoneError,
    Headers,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    plain,
)
from dockyard.http.routes import ROUTES, Action, Match, Route, Table
from dockyard.http.services import Services
from dockyard.telemetry import RequestFacts


_BODILESS: Final = frozenset({204, 304})
_API_VERSION: Final = (b"docker-distribution-api-version", b"registry/2.0")


class RegistryApp:
    """Routes requests to handlers and failures to responses."""

    def __init__(self, services: Services, routes: Sequence[Route] = ROUTES) -> None:
        settings = services.settings
        if settings.read_only:
            routes = [route for route in routes if route.needs not in {Action.PUSH, Action.DELETE}]
        self._services: Final = services
        self._table: Final = Table(routes)
        self._below: Final = f"{settings.prefix}v2/"
        self._common: Final[Headers] = [_API_VERSION, *_configured(settings.headers)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. A client that went away gets no answer."""
        facts: RequestFacts = scope["dockyard.facts"]
        try:
            response = await self._answer(scope, receive, facts)
        except ClientGoneError:
            return
        await _send(response, scope["method"], send)

    async def _answer(self, scope: Scope, receive: Receive, facts: RequestFacts) -> Response:
        path: str = scope["path"]
        if path == "/":
            return Response(200, [(b"cache-control", b"no-cache")])
        if not path.startswith(self._below):
            if f"{path}/" == self._below:
                return _moved(scope, f"{path}/")
            return plain(404, "404 page not found\n")
        response = await self._dispatch(scope, receive, path[len(self._below) :], facts)
        response.headers.extend(self._common)
        return response

    async def _dispatch(
        self, scope: Scope, receive: Receive, path: str, facts: RequestFacts
    ) -> Response:
        match, method = self._table.find(path), scope["method"]
        if match is None:
            return self._elsewhere(scope, path)
        if path == "":
            method = "GET"  # the base answers any method the same way, as distribution does
        route = match.methods.get(method)
        if route is None:
            return _not_allowed(match, method)
        _note(facts, match.parameters)
        try:
            return await route.handler(self._services, Request(scope, receive, match.parameters))
        except RegistryError as error:
            return _failed(error, facts)

    def _elsewhere(self, scope: Scope, path: str) -> Response:
        """Answer for a path that no route has, but perhaps with or without a slash at its end."""
        other = path[:-1] if path.endswith("/") else f"{path}/"
        if self._table.find(other) is None:
            return plain(404, "404 page not found\n")
        return _moved(scope, f"{self._below}{other}")


def _configured(headers: Mapping[str, Sequence[str]]) -> Headers:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, values in headers.items()
        for value in values
    ]


def _moved(scope: Scope, path: str) -> Response:
    query = scope["query_string"]
    location = quote(path).encode() + (b"?" + query if query else b"")
    # 308 keeps the method, which 301 lets a client change; both are followed alike for GET.
    status = 301 if scope["method"] in {"GET", "HEAD"} else 308
    return Response(status, [(b"location", location)])


def _not_allowed(match: Match, method: str) -> Response:
    allow: Headers = [(b"allow", ", ".join(sorted(match.methods)).encode())]
    if method == "OPTIONS":
        return Response(200, allow)
    return plain(405, "Method not allowed\n", allow)


def _note(facts: RequestFacts, parameters: Mapping[str, str]) -> None:
    facts.name = parameters.get("name")
    facts.reference = parameters.get("reference")
    facts.digest = parameters.get("digest")
    facts.uuid = parameters.get("upload")


def _failed(error: RegistryError, facts: RequestFacts) -> Response:
    response, code = render(error), failure_of(error).code
    facts.code, facts.message, facts.detail = code, MESSAGES[code], str(error)
    if isinstance(error, StorageError):
        structlog.get_logger().error(
            "storage failed", err=str(error), cause=repr(error.__cause__), request=facts.id
        )
    return response


async def _send(response: Response, method: str, send: Send) -> None:
    headers = response.headers
    if response.stream is None:
        body = b"" if method == "HEAD" else response.body
        if response.status not in _BODILESS and not _has_length(headers):
            headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    blob, wanted = response.stream
    try:
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        left = len(wanted)
        if not left:
            await send({"type": "http.response.body", "body": b""})
        async for chunk in blob.read(wanted.start, wanted.stop):
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
    finally:
        blob.close()


def _has_length(headers: Headers) -> bool:
    return any(name == b"content-length" for name, _ in headers)
