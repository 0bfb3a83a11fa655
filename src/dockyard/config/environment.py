"""Environment variables that override the file, by the rules of docker-distribution.

``REGISTRY_HTTP_ADDR`` is ``http.addr``. Its value is YAML and takes the place of what was there.
Variables are taken in the order of their names, so that ``REGISTRY_STORAGE`` comes before
``REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY``.

Source: `configuration/parser.go`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from dockyard.config import choices, document
from dockyard.config.nodes import MappingNode, Node, Origin, ScalarNode, SequenceNode, is_null
from dockyard.config.problems import ConfigurationError, Finding, FindingKind, Problem
from dockyard.config.schema import (
    FreeShape,
    LeafShape,
    SectionShape,
    SeriesShape,
    Shape,
    TableShape,
    join,
    schema,
)


PREFIX: Final = "REGISTRY_"
PATH_VARIABLE: Final = "REGISTRY_CONFIGURATION_PATH"
_LONGEST_VALUE: Final = 1 << 17
"""Characters a value may have: what Linux allows a variable."""


class _UnrecognisedError(Exception):
    """No key is called as a variable says."""


class _IndexError(Exception):
    """A variable names an element that a list can't have."""


def override(root: MappingNode, environ: Mapping[str, str]) -> tuple[list[Finding], list[Problem]]:
    """Put the values of the environment into `root`; return what is odd and what is wrong."""
    findings: list[Finding] = []
    problems: list[Problem] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == PATH_VARIABLE:
            continue
        variable = name.encode(errors="backslashreplace").decode()  # as it can be printed
        if variable == "REGISTRY_VERSION":
            message = f"{variable} has no effect: the version is the file's"
            findings.append(Finding(FindingKind.IGNORED, variable, None, message))
            continue
        try:
            _Assignment(variable, environ[name]).apply(root)
        except _UnrecognisedError:
            message = f"Ignoring unrecognized environment variable {variable}"
            findings.append(Finding(FindingKind.UNKNOWN, variable, None, message))
        except _IndexError as error:
            problems.append(Problem("", str(error), variable=variable))
        except ConfigurationError as error:
            problems += error.problems
    return findings, problems


class _Assignment:
    """One variable, on its way to its key."""

    def __init__(self, variable: str, text: str) -> None:
        self._variable = variable
        self._text = text

    def apply(self, root: MappingNode) -> None:
        """Put the value where the variable's name says.

        Raises:
            _UnrecognisedError: there is no such key. `root` is as it was.
            _IndexError: there is no such element. `root` is as it was.
            ConfigurationError: the value is not YAML. `root` is as it was.
        """
        segments = self._variable.removeprefix(PREFIX).split("_")
        self._section(root, schema(), segments, "")

    def _placed(  # noqa: PLR0911 -- one for each shape
        self, node: Node | None, shape: Shape, segments: Sequence[str], path: str
    ) -> Node:
        """Return `node` with the value at `segments` below it."""
        if not segments:
            return self._value(shape, path)
        match shape:
            case LeafShape():
                raise _UnrecognisedError
            case SectionShape():
                return self._section(node, shape, segments, path)
            case SeriesShape(element=element):
                return self._series(node, element, segments, path)
            case TableShape(value=value):
                return self._table(node, value, segments, path)
            case FreeShape():
                if isinstance(node, SequenceNode):
                    return self._series(node, shape, segments, path)
                return self._table(node, shape, segments, path)

    def _value(self, shape: Shape, path: str) -> Node:
        secret = isinstance(shape, LeafShape) and shape.secret
        if len(self._text) > _LONGEST_VALUE:
            message = f"the value has more than {_LONGEST_VALUE} characters"
            raise ConfigurationError([Problem(path, message, variable=self._variable)])
        try:
            root = document.parse(self._text, variable=self._variable).root
        except ConfigurationError as error:
            message = (
                "not valid YAML; put quotes around it" if secret else error.problems[0].message
            )
            problem = Problem(path, message, variable=self._variable)
            raise ConfigurationError([problem]) from None
        if root is None:
            return ScalarNode("", plain=True, origin=Origin(variable=self._variable))
        return choices.normalise(root) if _is_choice(shape) else root

    def _section(
        self, node: Node | None, shape: SectionShape, segments: Sequence[str], path: str
    ) -> Node:
        mapping = self._mapping(node)
        if mapping is None:
            return node or self._empty()
        name = _child(shape, segments[0])
        child: Shape = shape.children.get(name) or FreeShape()
        at = join(path, name)
        mapping.items[name] = self._placed(mapping.items.get(name), child, segments[1:], at)
        return mapping

    def _table(self, node: Node | None, value: Shape, segments: Sequence[str], path: str) -> Node:
        mapping = self._mapping(node)
        if mapping is None:
            return node or self._empty()
        there = [key for key in mapping.items if key.upper() == segments[0]]
        name = there[0] if there else segments[0].lower()
        at = join(path, name)
        mapping.items[name] = self._placed(mapping.items.get(name), value, segments[1:], at)
        return mapping

    def _series(
        self, node: Node | None, element: Shape, segments: Sequence[str], path: str
    ) -> Node:
        if node is None or is_null(node):
            node = SequenceNode([], Origin(variable=self._variable))
        if not isinstance(node, SequenceNode):
            return node  # not a list, which is reported for the file
        index, count = segments[0], len(node.items)
        if not (index.isascii() and index.isdigit()):
            raise _IndexError(f"non-numeric index: {index}")
        if len(index) > len(str(count)) or int(index) > count:
            raise _IndexError(f"undefined index: {index}; the next of this list is {count}")
        position = int(index)
        there = node.items[position] if position < count else None
        placed = self._placed(there, element, segments[1:], f"{path}[{position}]")
        node.items[position:] = [placed, *node.items[position + 1 :]]
        return node

    def _mapping(self, node: Node | None) -> MappingNode | None:
        """Return `node` as a mapping, a new one if there is nothing, or `None` if it is none."""
        if node is None or is_null(node):
            return self._empty()
        return node if isinstance(node, MappingNode) else None

    def _empty(self) -> MappingNode:
        return MappingNode({}, Origin(variable=self._variable))


def _child(shape: SectionShape, segment: str) -> str:
    """Return the key that a part of a variable's name means.

    A choice takes any name, as distribution does: it is refused later, as no kind there is.

    Raises:
        _UnrecognisedError: there is none.
    """
    names = {name.upper(): name for name in shape.children} | shape.variables
    if segment in names:
        return names[segment]
    if shape.choice and segment:
        return segment.lower()
    raise _UnrecognisedError


def _is_choice(shape: Shape) -> bool:
    return isinstance(shape, SectionShape) and bool(shape.choice)
