"""The distribution API as an ASGI application."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import structlog

from dockyard.auth.actions import Action
from dockyard.auth.errors import TokenRefusedError
from dockyard.errors import RegistryError, StorageError
from dockyard.http.audit import Outcome
from dockyard.http.failures import MESSAGES, failure_of, render
from dockyard.http.gates import Gate
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
from dockyard.http.replays import HEAD, REPLAY, Replays
from dockyard.http.request_log import CLIENT_CLOSED
from dockyard.http.routes import ROUTES, TOKEN_ROUTES, Match, Route, Table
from dockyard.http.services import Services
from dockyard.telemetry import RequestFacts


_BODILESS: Final = frozenset({204, 304})
_WRITES: Final = frozenset({Action.PUSH, Action.DELETE, Action.ADMIN})
_QUERY_SAFE: Final = "%!$&'()*+,;=:@/?-._~"
"""What a query keeps in a ``Location``; anything else is encoded. Source: RFC 3986, section 3.4."""

_API_VERSION: Final = (b"Docker-Distribution-Api-Version", b"registry/2.0")


class RegistryApp:
    """Routes requests to handlers and failures to responses."""

    def __init__(self, services: Services, routes: Sequence[Route] = ROUTES) -> None:
        settings = services.settings
        self._services: Final = services
        self._gate: Final = services.gate
        self._beside: Final = (
            {} if services.issuer is None else _by_path(settings.prefix, TOKEN_ROUTES)
        )
        self._table: Final = Table(routes, withheld=_WRITES if settings.read_only else ())
        self._below: Final = f"{settings.prefix}v2/"
        self._common: Final[Headers] = [_API_VERSION, *_configured(settings.headers)]
        self.replays: Final = _replays(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. A client that went away gets no answer."""
        facts: RequestFacts = scope["dockyard.facts"]
        try:
            response = await self._answer(scope, receive, facts)
        except ClientGoneError:
            return
        if response.stream is None:
            await _send(response, scope["method"], send)
        else:
            await self._send_blob(response, send, facts)

    async def _answer(self, scope: Scope, receive: Receive, facts: RequestFacts) -> Response:
        path: str = scope["path"]
        if path == "/":
            return Response(200, [(b"Cache-Control", b"no-cache")])
        if not path.startswith(self._below):
            beside = self._beside.get(path)
            if beside is not None:
                return await self._handle_beside(beside, scope, receive, facts)
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
        request = Request(scope, receive, match.parameters)
        response = await self._respond(route, request, facts, self._gate)
        if route.is_repeated and response.status == HTTPStatus.OK and HEAD in scope:
            await self._offer(scope, request, response)
        return response

    async def _offer(self, scope: Scope, request: Request, response: Response) -> None:
        """Let an answer be given again, if it is one of those for which that is worth while."""
        if self.replays is not None:
            scope[REPLAY] = await self.replays.offer(scope[HEAD].octets, request, response)

    async def _respond(
        self, route: Route, request: Request, facts: RequestFacts, gate: Gate | None
    ) -> Response:
        """Answer for a route, and tell the audit log what became of it, whatever it was."""

        def tell(response: Response, error: RegistryError | None = None) -> Response:
            if self._services.audit is not None:
                outcome = Outcome(route.endpoint, route.needs, request, response, facts.id, error)
                self._services.audit.note(outcome)
            return response

        try:
            if gate is not None:
                await self._admit(gate, request, route, facts)
            return tell(await route.handler(self._services, request))
        except RegistryError as error:
            # No name may keep it here: with it would stay what its frames hold, such as a manifest
            # of millions of numbers, until the cycle is found.
            return tell(_failed(error, facts), error)
        except ClientGoneError:
            tell(Response(CLIENT_CLOSED))
            raise
        except BaseException:  # also one that is cut off when the worker ends
            tell(Response(HTTPStatus.INTERNAL_SERVER_ERROR))
            raise

    async def _admit(self, gate: Gate, request: Request, route: Route, facts: RequestFacts) -> None:
        """Let a request in that may do what its route does: the one place where that is checked."""
        try:
            await gate.admit(request, route.needs)
        finally:
            if request.asker is not None:
                principal = request.asker.principal
                facts.user = principal.login or None
                facts.key = None if principal.scope is None else principal.scope.name

    async def _handle_beside(
        self, methods: Mapping[str, Route], scope: Scope, receive: Receive, facts: RequestFacts
    ) -> Response:
        """Answer for a route of the token service, which looks itself who asks."""
        route = methods.get(scope["method"])
        if route is None:
            return _not_allowed(Match(methods, {}), scope["method"])
        return await self._respond(route, Request(scope, receive, {}), facts, None)

    async def _send_blob(self, response: Response, send: Send, facts: RequestFacts) -> None:
        """Send a part of a blob; where it can't be read on, the response breaks off."""
        assert response.stream is not None
        blob, wanted = response.stream
        chunks, left = blob.read(wanted.start, wanted.stop), len(wanted)
        try:
            try:
                chunk = await anext(chunks, b"")  # before the head: this failure can be told
            except StorageError as error:
                failed = _failed(error, facts)
                failed.headers.extend(self._common)
                await _send(failed, "GET", send)
                return
            head = {"status": response.status, "headers": response.headers}
            await send({"type": "http.response.start", **head})
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
            async for chunk in chunks:
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
        except StorageError as error:
            _report(error, facts)
        finally:
            blob.close()

    def _elsewhere(self, scope: Scope, path: str) -> Response:
        """Answer for a path that no route has, but perhaps with or without a slash at its end."""
        other = path[:-1] if path.endswith("/") else f"{path}/"
        if self._table.find(other) is None:
            return plain(404, "404 page not found\n")
        return _moved(scope, f"{self._below}{other}")


def _replays(services: Services) -> Replays | None:
    """Return what keeps answers; `None` where each request has to be looked at by itself."""
    gate, audit = services.gate, services.audit
    if (gate is not None and not gate.reads_only_heads) or (audit and audit.tells_pulls):
        return None
    return Replays(services.standing, services.pulls, guarded=gate is not None)


def _by_path(prefix: str, routes: Sequence[Route]) -> Mapping[str, Mapping[str, Route]]:
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        found.setdefault(f"{prefix}{route.path}", {})[route.method] = route
    return found


def _configured(headers: Mapping[str, Sequence[str]]) -> Headers:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, values in headers.items()
        for value in values
    ]


def _moved(scope: Scope, path: str) -> Response:
    query = quote(scope["query_string"], safe=_QUERY_SAFE)
    location = f"{quote(path, safe='/:')}{'?' if query else ''}{query}".encode()
    # 308 keeps the method, which 301 lets a client change; both are followed alike for GET.
    status = 301 if scope["method"] in {"GET", "HEAD"} else 308
    return Response(status, [(b"Location", location)])


def _not_allowed(match: Match, method: str) -> Response:
    allow: Headers = [(b"Allow", ", ".join(sorted(match.methods)).encode())]
    if method == "OPTIONS":
        return Response(200, allow)
    return plain(405, "Method not allowed\n", allow)


def _note(facts: RequestFacts, parameters: Mapping[str, str]) -> None:
    facts.name = parameters.get("name")
    facts.reference = parameters.get("reference") or parameters.get("tag")
    facts.digest = parameters.get("digest")
    facts.uuid = parameters.get("upload")


def _failed(error: RegistryError, facts: RequestFacts) -> Response:
    _report(error, facts)
    return render(error)


def _report(error: RegistryError, facts: RequestFacts) -> None:
    """Note a failure for the log's line about the request; log at once what is our fault."""
    code = failure_of(error).code
    facts.code, facts.message, facts.detail = code, MESSAGES[code], str(error)
    if isinstance(error.__cause__, TokenRefusedError):  # why it proves nothing; not for the client
        facts.detail += f": {error.__cause__}"
    if isinstance(error, StorageError):
        structlog.get_logger().error(
            "storage failed", err=str(error), cause=repr(error.__cause__), request=facts.id
        )


async def _send(response: Response, method: str, send: Send) -> None:
    headers = response.headers
    body = b"" if method == "HEAD" else response.body
    if response.status not in _BODILESS and not _has_length(headers):
        headers.append((b"Content-Length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _has_length(headers: Headers) -> bool:
    return any(name == b"Content-Length" for name, _ in headers)
