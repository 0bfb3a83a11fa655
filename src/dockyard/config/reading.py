"""A tree in, settings out: unknown keys are noticed, wrong values refused."""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dockyard.config.choices import suggestion
from dockyard.config.masking import conceal, is_secret_name
from dockyard.config.nodes import MappingNode, Node, Origin, ScalarNode, SequenceNode, is_null
from dockyard.config.problems import MASK, Finding, FindingKind, Problem
from dockyard.config.scalars import VerbatimError
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
from dockyard.config.settings import Settings


Raw: TypeAlias = "ScalarNode | MappingNode | SequenceNode | list[Raw] | dict[str, Raw] | None"
_LONGEST_VALUE: Final = 80
"""Characters of a value that a message shows."""
_EXPECTED: Final = {
    "extra_forbidden": "must be a mapping of keys and values",  # an old section, now empty
    "dict_type": "must be a mapping of keys and values",
    "missing": "is required",
    "path_type": "must be a path",
    "model_type": "must be a mapping of keys and values",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
"""What to say for pydantic's kinds of errors that say something about the shape."""


def unknown(node: Node, shape: Shape, path: str = "") -> Iterator[Finding]:
    """Take keys that nobody knows out of `node`; yield a finding for each."""
    match node, shape:
        case MappingNode(), SectionShape():
            for key in [key for key in node.items if key not in shape.children]:
                yield _unknown(node, shape, key, path)
            for key, item in node.items.items():
                yield from unknown(item, shape.children[key], join(path, key))
        case MappingNode(), TableShape(value=value):
            for key, item in node.items.items():
                yield from unknown(item, value, join(path, key))
        case SequenceNode(), SeriesShape(element=element):
            for index, item in enumerate(node.items):
                yield from unknown(item, element, f"{path}[{index}]")
        case _:
            pass


def _unknown(node: MappingNode, shape: SectionShape, key: str, path: str) -> Finding:
    child = node.items.pop(key)
    line = None if child.origin.variable else node.lines.get(key, child.origin.line)
    source = f" (in {child.origin.variable})" if child.origin.variable else ""
    message = f"unknown key {join(path, key)}{source}{suggestion(key, tuple(shape.children))}"
    return Finding(FindingKind.UNKNOWN, join(path, key), line, message)


def settings_of(root: MappingNode) -> Settings | list[Problem]:
    """Return the settings that `root` says, or all that is wrong with it."""
    try:
        return Settings.model_validate(_raw(root, schema()))
    except ValidationError as error:
        return [_problem(detail, root) for detail in error.errors(include_url=False)]


def _raw(node: Node, shape: Shape) -> Raw:  # noqa: PLR0911 -- one for each shape
    """Return `node` for pydantic: values as nodes, and what is null left out."""
    match node, shape:
        case MappingNode(), SectionShape(children=children):
            return {
                key: _raw(item, children[key])
                for key, item in node.items.items()
                if not is_null(item)
            }
        case MappingNode(), TableShape(value=value):
            return {key: _raw(item, value) for key, item in node.items.items()}
        case SequenceNode(), SeriesShape(element=element):
            return [_raw(item, element) for item in node.items]
        case ScalarNode(), LeafShape() if node.is_null:
            return ScalarNode("", plain=False, origin=node.origin)
        case ScalarNode(), SectionShape() | SeriesShape() | TableShape() if node.is_null:
            return [] if isinstance(shape, SeriesShape) else {}
        case _:
            return node


def _problem(detail: ErrorDetails, root: MappingNode) -> Problem:
    location = [part for part in detail["loc"] if part != "[key]"]
    node, shape, path, origin = _find(root, location)
    shown = None if detail["type"] == "missing" or node is None else _shown(node, shape, path)
    cause = detail.get("ctx", {}).get("error")
    message = _message(detail)
    if shown is not None and not isinstance(cause, VerbatimError):
        message += f", not {shown}"
    return Problem(
        key=origin.key or path,
        message=message,
        value=shown,
        line=None if origin.variable else origin.line,
        variable=origin.variable,
    )


def _message(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            allowed = re.sub(" or ", ", ", str(context["expected"])).replace("'", "")
            return f"must be one of {allowed}"
        case kind:
            return _EXPECTED.get(kind, detail["msg"])


def _find(root: MappingNode, location: list[int | str]) -> tuple[Node | None, Shape, str, Origin]:
    """Return what is at `location`, its shape, its path and the nearest origin."""
    node: Node | None = root
    shape: Shape = schema()
    path, origin = "", root.origin
    for part in location:
        path = f"{path}[{part}]" if isinstance(part, int) else join(path, part)
        shape = _inside(shape, part)
        line = None
        match node, part:
            case MappingNode(), str():
                line = node.lines.get(part)
                node = node.items.get(part)
            case SequenceNode(), int():
                node = node.items[part]
            case _:
                node = None  # below a null, which stands for a mapping without keys
        if node is not None:
            origin = node.origin
        if line is not None and not origin.variable:
            origin = Origin(line=line, key=origin.key)
    return node, shape, path, origin


def _inside(shape: Shape, part: int | str) -> Shape:
    if isinstance(shape, SectionShape):
        return shape.children.get(str(part), FreeShape())
    if isinstance(shape, SeriesShape):
        return shape.element
    return shape.value if isinstance(shape, TableShape) else shape


def _shown(node: Node, shape: Shape, path: str) -> str | None:
    """Return `node` as a message may show it; nothing for a mapping that is one by right."""
    match node:
        case ScalarNode():
            name = path.rpartition(".")[2]
            secret = (isinstance(shape, LeafShape) and shape.secret) or is_secret_name(name)
            text = conceal(node.text)
            cut = text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
            return MASK if secret else repr(cut)
        case SequenceNode():
            return None if isinstance(shape, SeriesShape) else "a list"
        case MappingNode():
            return None if isinstance(shape, SectionShape | TableShape) else "a mapping"
