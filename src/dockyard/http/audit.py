"""What the audit log says of a request: who did what from where, and whether they were let.

An event is a line of JSON. No value can end it, or begin a field: what is not plain ASCII is
written as an escape.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from dockyard.auth.actions import Action
from dockyard.auth.errors import LoginRefusedError, TokenRefusedError
from dockyard.auth.principal import ANONYMOUS, Principal
from dockyard.clock import Clock
from dockyard.errors import RegistryError
from dockyard.http.messages import QueryInvalidError, Request, Response
from dockyard.protocol.challenge import Basic, parse_authorization


TEXT_LIMIT: Final = 512
"""Characters of a value, at most: a name has 255, a digest of sha512 135."""

EVENTS: Final[Mapping[tuple[str, str], str]] = {
    ("end-3", "GET"): "pull",
    ("end-7", "PUT"): "push",
    ("end-9", "DELETE"): "delete",
    ("end-10", "DELETE"): "delete-blob",
    ("rollback", "POST"): "rollback",
    ("remove", "DELETE"): "delete-repository",
    ("restore", "POST"): "restore",
    ("destroy", "DELETE"): "destroy",
    ("create-key", "POST"): "create-key",
    ("revoke-key", "DELETE"): "revoke-key",
}
"""What is always told, by endpoint and method. A pull is if it is asked for; a mount, a login and a
token are told apart by what else the request has."""

_REFUSED: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
)
_TOKEN: Final = "token"  # noqa: S105 -- the name of an endpoint
_UPLOAD: Final = "end-4"
_LOGIN: Final = "login"


COLLECT: Final = "collect"
"""What the audit log calls a collection."""


class Journal(Protocol):
    """Where the lines go."""

    def write(self, line: str) -> None:
        """Write `line`, if that is possible: no failure gets out, and nothing is waited for."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        endpoint: where it went, as the table of routes calls it.
        needs: the action that this needs.
        request: the request.
        response: what is answered.
        identifier: of the request, as in the log.
        error: why it failed, if it did.
    """

    endpoint: str
    needs: Action
    request: Request
    response: Response
    identifier: str
    error: RegistryError | None = None


class Audit:
    """Tells a journal of the requests that matter.

    Args:
        journal: where the lines go.
        clock: tells the time.
        pulls: whether pulls of manifests matter.
    """

    def __init__(self, journal: Journal, clock: Clock, *, pulls: bool = False) -> None:
        self._journal: Final = journal
        self._clock: Final = clock
        self._pulls: Final = pulls

    @property
    def tells_pulls(self) -> bool:
        """Whether pulls matter."""
        return self._pulls

    def note(self, outcome: Outcome) -> None:
        """Write a line about a request, if it matters."""
        action = self._action(outcome)
        if action is None:
            return
        event = {"action": action, **_result(outcome), **_fields(outcome)}
        self._journal.write(render(self._clock, event))

    def _action(self, outcome: Outcome) -> str | None:
        """Return what a request does, or `None` if it is not told."""
        if outcome.response.status in _REFUSED:
            return _refused_action(outcome)
        request, found = outcome.request, EVENTS.get((outcome.endpoint, outcome.request.method))
        if outcome.endpoint == _TOKEN:
            found = None if _principal(request).is_anonymous else _TOKEN
        elif outcome.needs is Action.BASE:
            found = None if _basic(request) is None else _LOGIN
        elif outcome.endpoint == _UPLOAD:
            mounts = outcome.response.status == HTTPStatus.CREATED and _query(request, "mount")
            found = "mount" if mounts else None
        return None if found == "pull" and not self._pulls else found


def render(clock: Clock, event: Mapping[str, object]) -> str:
    """Return the line that tells of `event`, with the time; fields without a value are left out."""
    moment = clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {key: value for key, value in event.items() if value}
    return json.dumps({"time": moment, **told}, separators=(",", ":"))


def _refused_action(outcome: Outcome) -> str | None:
    """Return what somebody was refused; `None` if they had not yet said who they are."""
    is_token, request = outcome.endpoint == _TOKEN, outcome.request
    tried = is_token or parse_authorization(request.header("authorization")) is not None
    if outcome.response.status != HTTPStatus.FORBIDDEN and not tried:
        return None
    if is_token or outcome.needs is Action.BASE or isinstance(_cause(outcome), LoginRefusedError):
        return _LOGIN
    return EVENTS.get((outcome.endpoint, request.method), str(outcome.needs.value))


def _result(outcome: Outcome) -> dict[str, object]:
    status = outcome.response.status
    if status in _REFUSED:
        return {"result": "denied", "status": int(status)}
    failed = status >= HTTPStatus.BAD_REQUEST
    return {"result": "failed" if failed else "allowed", "status": int(status)}


def _fields(outcome: Outcome) -> dict[str, object]:
    """Return what else is told."""
    request, parameters = outcome.request, outcome.request.parameters
    principal = _principal(request)
    answered, cause = _answered(outcome), _cause(outcome)
    reference = parameters.get("reference") or parameters.get("tag")
    made = answered.get("name", "") if outcome.endpoint == "create-key" else ""
    return {
        "kind": principal.kind.value,
        "name": _cut(principal.name),
        "groups": sorted(map(_cut, principal.groups)),
        "claimed": _cut(_claimed(outcome)),
        "reason": str(cause) if isinstance(cause, TokenRefusedError) else "",
        "address": request.address,
        "forwarded": _cut(request.header("x-forwarded-for") or ""),
        "repository": _cut(parameters.get("name") or answered.get("repository", "")),
        "reference": _cut(reference or ""),
        "digest": _cut(_digest(outcome) or answered.get("digest", "")),
        "tags": [value.decode("latin-1") for name, value in _headers(outcome) if name == "oci-tag"],
        "source": _cut(_query(request, "from")) if outcome.endpoint == _UPLOAD else "",
        "item": _cut(parameters.get("item") or made),
        "request": outcome.identifier,
        "agent": _cut(request.header("user-agent") or ""),
    }


def _principal(request: Request) -> Principal:
    return request.principal or (ANONYMOUS if request.asker is None else request.asker.principal)


def _basic(request: Request) -> Basic | None:
    credentials = parse_authorization(request.header("authorization"))
    return credentials if isinstance(credentials, Basic) else None


def _query(request: Request, name: str) -> str:
    with suppress(QueryInvalidError):
        return request.query(name) or ""
    return ""


def _cause(outcome: Outcome) -> BaseException | None:
    return None if outcome.error is None else outcome.error.__cause__


def _claimed(outcome: Outcome) -> str:
    """Return the name with which somebody tried to log in, and could not."""
    cause, basic = _cause(outcome), _basic(outcome.request)
    if isinstance(cause, LoginRefusedError):
        return cause.login
    refused = outcome.response.status in _REFUSED and _principal(outcome.request).is_anonymous
    return basic.login if basic is not None and refused else ""


def _digest(outcome: Outcome) -> str:
    parameters = outcome.request.parameters
    for name, value in _headers(outcome):
        if name == "docker-content-digest":
            return value.decode("latin-1")
    reference = parameters.get("reference", "")
    return parameters.get("digest") or (reference if ":" in reference else "")


def _headers(outcome: Outcome) -> list[tuple[str, bytes]]:
    return [(name.decode("latin-1").lower(), value) for name, value in outcome.response.headers]


def _answered(outcome: Outcome) -> Mapping[str, Any]:
    """Return what the answer says of what was brought back, or made."""
    known = outcome.endpoint in {"rollback", "restore", "create-key"}
    done = outcome.response.status in {HTTPStatus.OK, HTTPStatus.CREATED}
    if not known or not done or outcome.request.method != "POST":
        return {}
    found: Mapping[str, Any] = json.loads(outcome.response.body or b"{}")
    return found


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"
