"""YAML text in, a tree that knows its lines out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import yaml
from yaml import events

from dockyard.config.nodes import MappingNode, Node, Origin, ScalarNode, SequenceNode
from dockyard.config.problems import ConfigurationError, Problem


_MOST_NODES: Final = 20_000
"""Values a document may have, aliases written out: a hundred times the longest known
configuration, and read in about a second."""
_DEEPEST: Final = 64
"""Levels of nesting: far more than the keys have, far less than Python's stack."""
_NUMERIC_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int"))
_QUOTATION: Final = re.compile(r" ?'[^']{2,}'")
"""A piece of the text in a message of the YAML reader: it could be part of a secret."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
"""What escapes can write and no output can."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a text says.

    Attributes:
        root: the value, or `None` if there is none.
        further: the line where a second document begins, which nobody reads.
    """

    root: Node | None
    further: int | None


@dataclass(slots=True)
class _Frame:
    """A mapping or sequence not yet closed."""

    node: MappingNode | SequenceNode
    anchor: str | None
    key: str | None = None
    merging: bool = False
    merged: list[MappingNode] = field(default_factory=list)


def parse(text: str, *, variable: str | None = None) -> Document:
    """Return what `text` says; values keep their text, keys are unique, aliases are written out.

    Args:
        text: a YAML stream, of which the first document is read, as distribution does.
        variable: the environment variable it is the value of; otherwise it is a file's.

    Raises:
        ConfigurationError: it is not YAML, or goes beyond the limits of size and depth.
    """
    with _syntax(variable):
        return _Builder(variable).document(yaml.parse(text, yaml.SafeLoader))


@contextmanager
def _syntax(variable: str | None) -> Iterator[None]:
    """Turn the YAML reader's errors into problems that name line and column."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        where = f" at column {column}" if variable else f" at line {line}, column {column}"
        reason = _QUOTATION.sub("", error.problem or error.context or "it ends too early")
        raise _error(f"not valid YAML{where}: {reason}", Origin(line, variable)) from None
    except yaml.reader.ReaderError as error:
        raise _error(
            f"not valid YAML: character number {error.position + 1} is not allowed",
            Origin(variable=variable),
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # The reader meets an escape such as "\Uffffffff", or a version number without end.
        raise _error("not valid YAML", Origin(variable=variable)) from None


def _error(message: str, origin: Origin, key: str = "") -> ConfigurationError:
    line = None if origin.variable else origin.line
    return ConfigurationError(
        [Problem(key=key, message=message, line=line, variable=origin.variable)]
    )


def _line(event: events.Event) -> int:
    assert event.start_mark is not None  # there is none only on events made by hand
    return event.start_mark.line + 1


class _Builder:
    """Builds the tree of one document from the events of the YAML reader, without recursion."""

    def __init__(self, variable: str | None) -> None:
        self._variable = variable
        self._frames: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0
        self._root: Node | None = None

    def document(self, stream: Iterator[events.Event]) -> Document:
        for event in stream:
            if isinstance(event, events.DocumentEndEvent):
                break
            self._take(event)
        following = next(stream, None)
        further = _line(following) if isinstance(following, events.DocumentStartEvent) else None
        return Document(self._root, further)

    def _take(self, event: events.Event) -> None:
        origin = self._origin(event)
        match event:
            case events.ScalarEvent():
                if _SURROGATE.search(event.value):
                    raise _error("an escape stands for half a character", origin, self._path())
                plain = event.implicit[0] or event.tag in _NUMERIC_TAGS
                self._add(ScalarNode(event.value, plain, origin), event.anchor)
            case events.AliasEvent():
                if event.anchor not in self._anchors:
                    raise _error("not valid YAML: an alias stands for nothing", origin)
                self._add(self._copy(self._anchors[event.anchor], len(self._frames)), None)
            case events.MappingStartEvent():
                self._open(_Frame(MappingNode({}, origin), event.anchor))
            case events.SequenceStartEvent():
                self._open(_Frame(SequenceNode([], origin), event.anchor))
            case events.CollectionEndEvent():
                self._close()
            case _:
                pass  # the stream and the document begin

    def _origin(self, event: events.Event) -> Origin:
        if self._variable:
            return Origin(variable=self._variable)
        return Origin(line=_line(event))

    def _open(self, frame: _Frame) -> None:
        self._expect_room(frame.node.origin, len(self._frames) + 1)
        self._frames.append(frame)

    def _close(self) -> None:
        frame = self._frames.pop()
        if isinstance(frame.node, MappingNode):
            for merged in frame.merged:
                frame.node.items = merged.items | frame.node.items
        self._add(frame.node, frame.anchor)

    def _add(self, node: Node, anchor: str | None) -> None:
        """Put a finished node where it belongs."""
        self._expect_room(node.origin, len(self._frames))
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._frames:
            self._root = node
            return
        frame = self._frames[-1]
        if isinstance(frame.node, SequenceNode):
            frame.node.items.append(node)
        elif frame.key is None:
            frame.key = self._key(frame.node, node)
            frame.merging = isinstance(node, ScalarNode) and node.plain and node.text == "<<"
        else:
            self._set(frame, frame.key, node)
            frame.key = None

    def _set(self, frame: _Frame, key: str, node: Node) -> None:
        assert isinstance(frame.node, MappingNode)
        if not frame.merging:
            frame.node.items[key] = node
            return
        sources = node.items if isinstance(node, SequenceNode) else [node]
        mappings = [source for source in sources if isinstance(source, MappingNode)]
        if len(mappings) != len(sources):
            raise _error("'<<' takes a mapping, or a list of them", node.origin, self._path())
        frame.merged.extend(mappings)

    def _key(self, mapping: MappingNode, node: Node) -> str:
        if not isinstance(node, ScalarNode) or node.is_null:
            raise _error("a key must be text", node.origin, self._path())
        if node.text in mapping.items:
            first = mapping.lines.get(node.text)
            where = f"; the first time in line {first}" if first else ""
            raise _error(f"is set twice{where}", node.origin, self._path(node.text))
        if node.origin.line is not None:
            mapping.lines[node.text] = node.origin.line
        return node.text

    def _path(self, *last: str) -> str:
        return ".".join([*(frame.key for frame in self._frames if frame.key is not None), *last])

    def _copy(self, node: Node, depth: int) -> Node:
        """Return `node` written out once more, so that the environment can change one of them."""
        self._expect_room(node.origin, depth)
        match node:
            case ScalarNode():
                return node
            case SequenceNode():
                return replace(node, items=[self._copy(item, depth + 1) for item in node.items])
            case MappingNode():
                items = {key: self._copy(item, depth + 1) for key, item in node.items.items()}
                return replace(node, items=items)

    def _expect_room(self, origin: Origin, depth: int) -> None:
        self._count += 1
        if self._count > _MOST_NODES:
            raise _error(f"more than {_MOST_NODES} values, aliases written out", origin)
        if depth > _DEEPEST:
            raise _error(f"nested more than {_DEEPEST} levels deep", origin)
