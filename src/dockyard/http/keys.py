"""API keys, below ``/v2/_dockyard/``: making, listing and revoking them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from dockyard.auth.errors import KeyInvalidError, KeyOfKeyError
from dockyard.core.keys import Keys, KeyWish
from dockyard.http.messages import Headers, Request, Response, as_json
from dockyard.http.services import Services
from dockyard.protocol.pagination import parse_size, render_next
from dockyard.state.interface import KeyRecord


PAGE: Final = 100
"""Keys in a page whose size the client leaves open, and at most."""

WISH_LIMIT: Final = 64 << 10
"""Bytes of a wish for a key, at most: a name and its patterns."""

_FIELDS: Final = frozenset({"name", "owner", "actions", "repositories", "expires"})


async def list_keys(services: Services, request: Request) -> Response:
    """List the keys by name, without their secrets."""
    size, last = parse_size(request.query("n")), request.query("last") or ""
    limit = PAGE if size is None else min(size, PAGE)
    after = [key for key in await services.keys.list() if key.name > last]
    page = after[:limit]
    response = as_json({"keys": [describe(services.keys, key) for key in page]})
    if len(after) > len(page) > 0:
        fields = [("last", page[-1].name), ("n", str(limit))]
        address = render_next(f"{services.settings.prefix}v2/_dockyard/keys", fields)
        response.headers.append((b"Link", address.encode("latin-1")))
    return response


async def create(services: Services, request: Request) -> Response:
    """Make a key; the answer is the only one that ever has its secret."""
    asker = request.asker
    if asker is not None and asker.principal.scope is not None:
        raise KeyOfKeyError(asker.principal.scope.name)
    wish = parse_wish(await request.content(WISH_LIMIT))
    secret, key = await services.keys.create(wish)
    body = as_json({**describe(services.keys, key), "secret": secret}).body
    headers: Headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")]
    return Response(201, headers, body)


async def revoke(services: Services, request: Request) -> Response:
    """Revoke a key."""
    await services.keys.revoke(request.parameters["item"])
    return Response(202)


def describe(keys: Keys, key: KeyRecord) -> dict[str, object]:
    """Return what may be told of a key, for JSON."""
    return {
        "name": key.name,
        "owner": key.owner,
        "actions": list(key.actions),
        "repositories": list(key.repositories),
        "created": _told(key.created),
        "expires": _told(key.expires),
        "used": _told(key.used),
        "useless": keys.why_useless(key) or None,
    }


def parse_wish(content: bytes) -> KeyWish:
    """Return the key that the JSON object `content` asks for.

    Raises:
        KeyInvalidError: it is none; the message says why.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise KeyInvalidError("the body must be a JSON object") from error
    if not isinstance(document, dict):
        raise KeyInvalidError("the body must be a JSON object")
    for field in document:
        if field not in _FIELDS:
            raise KeyInvalidError(f"{field!r} is none of {', '.join(sorted(_FIELDS))}")
    return KeyWish(
        name=_text(document, "name"),
        owner=_text(document, "owner"),
        actions=_texts(document, "actions", "*"),
        repositories=_texts(document, "repositories", "**"),
        expires=_moment(document),
    )


def _text(document: Mapping[str, object], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not value:
        raise KeyInvalidError(f"{field}: a text is needed")
    return value


def _texts(document: Mapping[str, object], field: str, default: str) -> list[str]:
    value = document.get(field, [default])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise KeyInvalidError(f"{field}: a list of texts is needed")
    return value


def _moment(document: Mapping[str, object]) -> datetime | None:
    value = document.get("expires")
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise KeyInvalidError(
            f"expires: {str(value)[:40]!r} is no time such as 2027-01-31T12:00:00Z"
        ) from error


def _told(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
