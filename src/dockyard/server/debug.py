"""The debug listener: health, a few variables, metrics. Served by one worker for the service."""

import json
import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.request_log import AtOnce
from dockyard.server.health import Checks
from dockyard.server.metrics import Metrics


_JSON: Final = b"application/json; charset=utf-8"
_TEXT: Final = b"text/plain; charset=utf-8"
_PROMETHEUS: Final = b"text/plain; version=0.0.4; charset=utf-8"


class Debug:
    """The application behind ``http.debug.addr``, and the checks whose results it tells.

    Args:
        checks: run from `start` to `stop`.
        metrics: what is counted.
        metrics_path: where to serve the metrics, or None.
        identity: what else ``/debug/vars`` tells.
    """

    answer_at_once: AtOnce | None = None

    def __init__(
        self,
        checks: Checks,
        metrics: Metrics,
        metrics_path: str | None,
        identity: Mapping[str, str],
    ) -> None:
        self._checks = checks
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._identity = identity

    async def start(self) -> None:
        """Begin the checks."""
        self._checks.start()

    async def reload(self) -> None:
        """Do nothing: the checks are part of the configuration."""

    async def stop(self) -> None:
        """End the checks."""
        await self._checks.stop()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        status, kind, body = self._answer(scope["method"], scope["path"])
        headers = [(b"Content-Type", kind), (b"Content-Length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, method: str, path: str) -> tuple[int, bytes, bytes]:
        if method not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"Method not allowed\n"
        if path == "/debug/health":
            failures = self._checks.failures
            status = HTTPStatus.SERVICE_UNAVAILABLE if failures else HTTPStatus.OK
            return status, _JSON, json.dumps(failures).encode()
        if path == "/debug/vars":
            variables = {
                "cmdline": sys.argv,
                "registry": {**self._identity, "requests": self._metrics.requests},
            }
            return HTTPStatus.OK, _JSON, json.dumps(variables).encode() + b"\n"
        if path == self._metrics_path:
            return HTTPStatus.OK, _PROMETHEUS, self._metrics.render().encode()
        return HTTPStatus.NOT_FOUND, _TEXT, b"404 page not found\n"
