"""Keys whose feature this version does not have. With one of them the registry does not start.

Nothing is silently left out: someone whose registry asked for passwords must not find it open
because a key was skipped. A feature that arrives takes its row out of the table.
"""

from collections.abc import Callable, Iterator
from typing import Final

from dockyard.config.nodes import MappingNode, Node, ScalarNode, SequenceNode, is_null
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


UNAVAILABLE: Final[tuple[tuple[str, Callable[[Node], bool]], ...]] = (
    ("auth.silly", _given),
    ("auth.token", _given),
    ("auth.htpasswd", _given),
    ("http.tls", _set),
    ("http.h2c.enabled", _on),
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


def unavailable(root: MappingNode) -> Iterator[Problem]:
    """Yield a problem for each key that asks for what this version does not have."""
    for key, asks in UNAVAILABLE:
        for node in _nodes(root, key):
            if asks(node):
                yield _problem(key, node)
                break


def _nodes(root: MappingNode, key: str) -> Iterator[Node]:
    """Yield what is at `key`, or the elements if it ends in ``[]``."""
    node: Node | None = root
    for name in key.removesuffix("[]").split("."):
        if not isinstance(node, MappingNode):
            return
        node = node.items.get(name)
    if key.endswith("[]"):
        yield from node.items if isinstance(node, SequenceNode) else ()
    elif node is not None and not is_null(node):
        yield node


def _problem(key: str, node: Node) -> Problem:
    written = node.origin.key or key.removesuffix("[]")
    line = None if node.origin.variable else node.origin.line
    return Problem(
        written,
        "not available in this version of Dockyard; "
        f"{'disable or remove it' if key.endswith('[]') else 'remove the key'}, "
        "or keep docker-distribution for it",
        line=line,
        variable=node.origin.variable,
    )
