"""Mappings that choose one of several kinds: the storage and the authentication."""

from collections.abc import Sequence
from difflib import get_close_matches

from dockyard.config.nodes import MappingNode, Node, Origin, ScalarNode, is_null
from dockyard.config.problems import Problem
from dockyard.config.schema import SectionShape, join, schema


def normalise(node: Node) -> Node:
    """Return a choice as a mapping: plain text is that kind, and no text is none of them."""
    if not isinstance(node, ScalarNode):
        return node
    none = node.is_null or not node.text
    kind: dict[str, Node] = {} if none else {node.text: MappingNode({}, node.origin)}
    return MappingNode(kind, node.origin)


def settle(root: MappingNode, from_file: Sequence[str]) -> list[Problem]:
    """Check that the storage is one, and the authentication at most one; return what is wrong.

    Kinds without parameters are given empty ones; what is wrong is taken out, so that the
    rest can be checked as well.

    Args:
        root: the configuration.
        from_file: the kinds of storage that the file alone gives.

    Source: `Storage.UnmarshalYAML` and `Storage.Type` in distribution's `configuration.go`.
    """
    problems = []
    storage = root.items.get("storage")
    if storage is None:
        storage = root.items["storage"] = MappingNode({}, root.origin)
    if isinstance(storage, MappingNode):
        if not kinds(root):
            problems.append(Problem("storage", "no storage configuration provided"))
        problems += _settle("storage", storage, from_file)
        if not kinds(root):
            storage.items["inmemory"] = MappingNode({}, root.origin)
    auth = root.items.get("auth")
    if isinstance(auth, MappingNode):
        problems += _settle("auth", auth, ())
    return problems


def close(root: MappingNode) -> None:
    """Make an `access` without content a section without rules: it closes, it isn't left out."""
    access = root.items.get("access")
    if access is not None and is_null(access):
        root.items["access"] = MappingNode({}, access.origin)


def kinds(root: MappingNode) -> tuple[str, ...]:
    """Return the kinds of storage given, unknown ones included."""
    storage = root.items.get("storage")
    return _kinds("storage", storage) if isinstance(storage, MappingNode) else ()


def _kinds(name: str, node: MappingNode) -> tuple[str, ...]:
    shape = _shape(name)
    return tuple(key for key in node.items if key in shape.choice or key not in shape.children)


def _shape(name: str) -> SectionShape:
    shape = schema().children[name]
    assert isinstance(shape, SectionShape)
    return shape


def _settle(name: str, node: MappingNode, from_file: Sequence[str]) -> list[Problem]:
    shape = _shape(name)
    given = _kinds(name, node)
    unknown = [key for key in given if key not in shape.choice]
    problems = []
    if len(given) > 1:
        problems.append(_several(name, node, from_file))
    elif unknown:
        allowed = ", ".join(shape.choice)
        problems.append(_problem(name, unknown[0], node, f"is no type of {name}; one of {allowed}"))
    for key in given:
        if key not in shape.choice or key != given[0]:
            del node.items[key]
        elif is_null(node.items[key]):
            node.items[key] = MappingNode({}, Origin())
    return problems


def _several(name: str, node: MappingNode, from_file: Sequence[str]) -> Problem:
    given = _kinds(name, node)
    shape = _shape(name)
    if name == "auth":
        message = f"must provide exactly one type. Provided: [{' '.join(given)}]"
    elif len(from_file) == 1:
        message = (
            "multiple storage drivers specified in configuration or environment: "
            + ", ".join(given)
        )
    else:
        message = f"must provide exactly one storage type. Provided: [{' '.join(given)}]"
    for key in given:
        if key not in shape.choice:
            message += f"; {key} is no type of {name}{suggestion(key, tuple(shape.children))}"
    return _problem(name, "", node, message, given[-1])


def _problem(
    name: str, key: str, node: MappingNode, message: str, culprit: str | None = None
) -> Problem:
    culprit = culprit or key
    origin = node.items[culprit].origin
    line = None if origin.variable else node.lines.get(culprit, origin.line)
    return Problem(join(name, key) if key else name, message, line=line, variable=origin.variable)


def suggestion(key: str, known: Sequence[str]) -> str:
    """Return ``; did you mean …?`` with the name nearest to `key`, or nothing if none is near."""
    folded = {name.casefold(): name for name in known}
    near = get_close_matches(key.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""
