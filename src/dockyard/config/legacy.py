"""Names of old: where they went, and what has no effect any more."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from dockyard.config.nodes import (
    MappingNode,
    Node,
    Origin,
    ScalarNode,
    SequenceNode,
    descend,
    is_null,
)
from dockyard.config.problems import Finding, FindingKind
from dockyard.config.scalars import parse_flag


def _same(node: Node) -> Node:
    return node


def _in_list(node: Node) -> Node:
    return SequenceNode([node], node.origin)


def _negated(node: Node) -> Node:
    """Return the opposite of a truth value; what is none stays, to be refused under its name."""
    flag = parse_flag(node) if isinstance(node, ScalarNode) else None
    if flag is None or not isinstance(node, ScalarNode):
        return node
    return replace(node, text="false" if flag else "true")


@dataclass(frozen=True, slots=True)
class _Successor:
    """The key that took over from another."""

    key: str
    value: Callable[[Node], Node] = _same


SUCCESSORS: Final[Mapping[str, _Successor]] = {
    "loglevel": _Successor("log.level"),
    "storage.cache.layerinfo": _Successor("storage.cache.blobdescriptor"),
    "validation.enabled": _Successor("validation.disabled", _negated),
    "redis.addr": _Successor("redis.addrs", _in_list),
    "redis.pool.maxidle": _Successor("redis.maxidleconns"),
    "redis.pool.maxactive": _Successor("redis.poolsize"),
    "redis.pool.idletimeout": _Successor("redis.connmaxidletime"),
}
"""Every key in `dockyard.config.schema.LEGACY`, and the key that has its meaning today."""

IGNORED: Final[Mapping[str, str]] = {
    "reporting": "errors are not reported to Bugsnag or New Relic; they are in the log",
    "compatibility.schema1": (
        "manifests of schema 1 are not served; push such an image again with a current client"
    ),
    "http.secret": "not needed: the state of an upload is in the storage",
    "storage.filesystem.maxthreads": "the program limits its threads by itself",
    "storage.tag.concurrencylimit": "the program limits its look-ups by itself",
    "storage.cache.blobdescriptorsize": "the cache has its own limit",
    "redis": "nothing is kept in Redis",
}
"""Keys that are accepted and change nothing, and why."""


def succeed(root: MappingNode) -> Iterator[Finding]:
    """Move every value under an old name to its present one; yield a finding for each.

    A value under the present name wins, as `log.level` does over `loglevel` in distribution.
    """
    for old, successor in SUCCESSORS.items():
        *parents, name = old.split(".")
        parent = descend(root, parents)
        if not isinstance(parent, MappingNode) or is_null(parent.items.get(name)):
            continue
        node = parent.items.pop(name)
        if not parent.items and parents[1:]:
            _remove(root, parents)  # a section of which nothing is left
        used = _place(root, successor, node, old)
        outcome = "whose value is used" if used else "which is given too and wins"
        yield Finding(
            FindingKind.LEGACY,
            old,
            node.origin.line,
            f"{old} is the old name of {successor.key}, {outcome}",
        )


def _remove(root: MappingNode, path: list[str]) -> None:
    parent = descend(root, path[:-1])
    assert isinstance(parent, MappingNode)
    del parent.items[path[-1]]


def _place(root: MappingNode, successor: _Successor, node: Node, old: str) -> bool:
    """Put `node` where it belongs today, unless there is a value; return whether there was none."""
    *parents, name = successor.key.split(".")
    target = root
    for parent in parents:
        child = target.items.get(parent)
        if child is None or is_null(child):
            child = target.items[parent] = MappingNode({}, Origin())
        if not isinstance(child, MappingNode):
            return False  # the section is no mapping, which is reported
        target = child
    if not is_null(target.items.get(name)):
        return False
    node = replace(node, origin=replace(node.origin, key=old))
    target.items[name] = successor.value(node)
    return True


def ignored(root: MappingNode) -> Iterator[Finding]:
    """Yield a finding for every key given that changes nothing."""
    for key, reason in IGNORED.items():
        *parents, name = key.split(".")
        parent = descend(root, parents)
        if not isinstance(parent, MappingNode):
            continue
        node = parent.items.get(name)
        if node is not None and not is_null(node):
            line = parent.lines.get(name, node.origin.line)
            yield Finding(FindingKind.IGNORED, key, line, f"{key} has no effect ({reason})")
