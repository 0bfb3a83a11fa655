"""How a registry says who may come in: challenges, scopes and credentials, as text.

Source: RFC 9110, section 11; RFC 6750, section 3; RFC 7617; the token specification of
distribution, docs/spec/auth/scope.md.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final


SCOPES_LIMIT: Final = 100
"""Scopes of one request for a token, at most: a push that mounts from everywhere names few."""

SCOPE_LIMIT: Final = 512
"""Characters of one scope, at most: a name has 255."""

_SCOPE: Final = re.compile(
    r"(?P<type>[a-z0-9]+)(?:\((?P<class>[a-z0-9]+)\))?:(?P<name>[^\s:\"\\]+(?::[0-9]+/[^\s:\"\\]+)?)"
    r":(?P<actions>[a-z*]+(?:,[a-z*]+)*)?"
)
_UNSPEAKABLE: Final = re.compile(r"[^\x20-\x7e\x80-\xff]")
"""What must not be in a header's value: control characters, line ends above all, and what is not
Latin-1."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one resource.

    Attributes:
        type: ``repository`` or ``registry``, or what others may mean.
        name: the resource's name.
        actions: in the order given.
        cls: the class of a repository, such as ``plugin``; empty if it has none.
    """

    type: str
    name: str
    actions: Sequence[str]
    cls: str = ""

    def render(self) -> str:
        """Return the scope as text: ``repository:a/b:pull,push``."""
        cls = f"({self.cls})" if self.cls else ""
        return f"{self.type}{cls}:{self.name}:{','.join(self.actions)}"


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password, as they came. Not shown by `repr`."""

    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, as it came. Not shown by `repr`."""

    token: str = field(repr=False)


def parse_scope(text: str) -> Scope | None:
    """Return the scope in `text`, or `None` if it is none: who asks for nonsense gets nothing."""
    match = _SCOPE.fullmatch(text) if len(text) <= SCOPE_LIMIT else None
    if match is None:
        return None
    actions = dict.fromkeys((match["actions"] or "").split(","))
    return Scope(
        match["type"], match["name"], tuple(one for one in actions if one), match["class"] or ""
    )


def parse_scopes(texts: Iterable[str]) -> Sequence[Scope]:
    """Return the scopes in `texts`, each of which may have several separated by spaces."""
    found: list[Scope] = []
    for text in texts:
        for part in text.split(" ")[: SCOPES_LIMIT + 1]:
            scope = parse_scope(part)
            if scope is not None and len(found) < SCOPES_LIMIT:
                found.append(scope)
    return found


def group(accesses: Iterable[tuple[str, str, str]]) -> Sequence[Scope]:
    """Return scopes for single accesses (type, name, action), one for each resource."""
    actions: dict[tuple[str, str], dict[str, None]] = {}
    for kind, name, action in accesses:
        actions.setdefault((kind, name), {})[action] = None
    return [Scope(kind, name, tuple(found)) for (kind, name), found in actions.items()]


def render_basic(realm: str) -> str:
    """Return the challenge to send a name and a password."""
    return f"Basic realm={quote(realm)}"


def render_bearer(realm: str, service: str, scopes: Sequence[Scope] = (), error: str = "") -> str:
    """Return the challenge to get a token at `realm`.

    Args:
        realm: the URL.
        service: whom the token is for.
        scopes: what it has to grant.
        error: why the one sent is not enough, a code of RFC 6750; empty if none was sent.
    """
    parts = [f"realm={quote(realm)}", f"service={quote(service)}"]
    if scopes:
        parts.append(f"scope={quote(' '.join(scope.render() for scope in scopes))}")
    if error:
        parts.append(f"error={quote(error)}")
    return "Bearer " + ",".join(parts)


def quote(text: str) -> str:
    """Return `text` as a quoted string of a header (RFC 9110, section 5.6.4).

    What would end the header's line is left out: nothing a client sends can add a header.
    """
    clean = _UNSPEAKABLE.sub("", text)
    escaped = clean.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def parse_authorization(header: str | None) -> Basic | Bearer | None:
    """Return the credentials of a request, or `None` if there are none that are understood.

    An empty name with an empty password is nobody: podman and skopeo send that where they have no
    credentials for a registry that asks for them.
    """
    scheme, _, value = (header or "").partition(" ")
    match scheme.lower():
        case "bearer":
            token = value.strip()
            return Bearer(token) if token else None
        case "basic":
            return _basic(value.strip())
        case _:
            return None


def _basic(value: str) -> Basic | None:
    try:
        decoded = base64.b64decode(value, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return None
    login, colon, password = decoded.partition(":")
    if not colon or not (login or password):
        return None
    return Basic(login, password)
