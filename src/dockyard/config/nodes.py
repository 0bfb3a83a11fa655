"""The tree of a configuration before it has types: what was written, and where."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias


_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written.

    Attributes:
        line: line of the file, counted from 1.
        variable: the environment variable, for a value that came from there.
        key: the name it was written under, when that is an old one for its present place.
    """

    line: int | None = None
    variable: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A value without parts, its text unchanged: only the key's type says what it means.

    Attributes:
        text: the characters, quotes removed.
        plain: whether it was written without quotes, so that YAML may see a number in it.
        origin: where it was written.
    """

    text: str
    plain: bool
    origin: Origin

    @property
    def is_null(self) -> bool:
        """Whether this is YAML's null."""
        return self.plain and self.text in _NULLS


@dataclass(slots=True)
class SequenceNode:
    """A list of values."""

    items: "list[Node]"
    origin: Origin


@dataclass(slots=True)
class MappingNode:
    """Keys with their values, in the order written.

    Attributes:
        items: the values by key.
        origin: where the mapping begins.
        lines: the line of each key that came from the file.
    """

    items: "dict[str, Node]"
    origin: Origin
    lines: dict[str, int] = field(default_factory=dict)


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def is_null(node: Node | None) -> bool:
    """Return whether `node` says nothing: absent or null."""
    return node is None or (isinstance(node, ScalarNode) and node.is_null)


def descend(node: Node | None, path: Sequence[str]) -> Node | None:
    """Return what lies at `path` below `node`, or `None` if there is nothing."""
    for name in path:
        if not isinstance(node, MappingNode):
            return None
        node = node.items.get(name)
    return node
