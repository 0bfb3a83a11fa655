"""Keys whose feature this version does not have. With one of them the registry does not start.

Nothing is silently left out: someone whose registry asked for passwords must not find it open
because a key was skipped. A feature that arrives takes its row out of the table.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from dockyard.config.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    descend,
    is_null,
)
from dockyard.config.problems import Problem
from dockyard.config.scalars import parse_flag


def _given(_node: Node) -> bool:
    return True


def _set(node: Node) -> bool:
    """Return whether anything is said in `node`."""
    match node:
        case ScalarNode():
            return node.text != "" and not node.is_null
        case SequenceNode():
            return any(_set(item) for item in node.items)
        case MappingNode():
            return any(_set(item) for item in node.items.values())


def _on(node: Node) -> bool:
    return isinstance(node, ScalarNode) and parse_flag(node) is True


def _enabled(node: Node) -> bool:
    """Return whether `node` is a mapping without ``disabled: true``."""
    return isinstance(node, MappingNode) and not _on_at(node, "disabled")


def _on_at(node: MappingNode, name: str) -> bool:
    return name in node.items and _on(node.items[name])


def _redis(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.text == "redis"


def _unverified(node: Node) -> bool:
    """Return whether `node` asks for client certificates that nobody verifies.

    Python's ``ssl`` can't: a certificate that it is given and can't verify ends the handshake.
    """
    return isinstance(node, ScalarNode) and node.text in {
        "request-client-cert",
        "require-any-client-cert",
    }


_MISSING: Final = "not available in this version of Dockyard"
UNAVAILABLE: Final[tuple[tuple[str, Callable[[Node], bool]], ...]] = (
    ("http.tls.clientauth", _unverified),
    ("log.hooks[]", _enabled),
    ("middleware.registry[]", _enabled),
    ("middleware.repository[]", _enabled),
    ("middleware.storage[]", _enabled),
    ("notifications.endpoints[]", _enabled),
    ("proxy.remoteurl", _set),
    ("storage.azure", _given),
    ("storage.gcs", _given),
    ("storage.oss", _given),
    ("storage.s3", _given),
    ("storage.s3aws", _given),
    ("storage.swift", _given),
    ("storage.cache.blobdescriptor", _redis),
)
"""Each key with what makes its value ask for the feature."""

_UNVERIFIED: Final = (
    "not available in Dockyard: a certificate that a client shows is always verified; say "
    "verify-client-cert-if-given or require-and-verify-client-cert, with http.tls.clientcas, or "
    "end TLS in a proxy"
)
_MESSAGES: Final[Mapping[str, str]] = {"http.tls.clientauth": _UNVERIFIED}
"""What is said of keys whose value can be another; of the rest, that it is not there."""


def unavailable(root: MappingNode) -> Iterator[Problem]:
    """Yield a problem for each key that asks for what this version does not have."""
    for key, asks in UNAVAILABLE:
        *parents, name = key.removesuffix("[]").split(".")
        parent = descend(root, parents)
        node = parent.items.get(name) if isinstance(parent, MappingNode) else None
        if not isinstance(parent, MappingNode) or node is None or is_null(node):
            continue
        if key.endswith("[]"):
            asking = next((item for item in _elements(node) if asks(item)), None)
            remedy = "disable or remove it"
        else:
            asking = node if asks(node) else None
            remedy = "remove the key"
        if asking is not None:
            variable = asking.origin.variable
            line = None if variable else parent.lines.get(name, asking.origin.line)
            message = _MESSAGES.get(
                key, f"{_MISSING}; {remedy}, or keep docker-distribution for it"
            )
            written = asking.origin.key or key.removesuffix("[]")
            yield Problem(written, message, line=line, variable=variable)


def _elements(node: Node) -> list[Node]:
    return node.items if isinstance(node, SequenceNode) else []
