"""What keys there are, read from the settings' types: the one list that everything else walks."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin

from pydantic import JsonValue, SecretStr

from dockyard.config.section import Choice, Section
from dockyard.config.settings import Settings


@dataclass(frozen=True, slots=True)
class LeafShape:
    """A single value.

    Attributes:
        secret: whether it must not be shown.
    """

    secret: bool = False


@dataclass(frozen=True, slots=True)
class FreeShape:
    """Whatever the operator writes."""


@dataclass(frozen=True, slots=True)
class SeriesShape:
    """A list."""

    element: "Shape"


@dataclass(frozen=True, slots=True)
class TableShape:
    """A mapping whose keys are the operator's."""

    value: "Shape"


@dataclass(frozen=True, slots=True)
class SectionShape:
    """A mapping whose keys are known.

    Attributes:
        children: the shape of each key, legacy names included.
        variables: other names that keys have in environment variables, in capitals.
        choice: the keys of which exactly one is given, if it is a choice.
    """

    children: dict[str, "Shape"]
    variables: dict[str, str]
    choice: tuple[str, ...] = ()


Shape: TypeAlias = LeafShape | FreeShape | SeriesShape | TableShape | SectionShape

VARIABLES: Final[Mapping[str, str]] = {
    "compatibility.schema1.signingkeyfile": "TRUSTKEY",
    "health.file": "FILECHECKERS",
    "health.http": "HTTPCHECKERS",
    "health.tcp": "TCPCHECKERS",
    "log.hooks[].options": "MAILOPTIONS",
    "notifications.events": "EVENTCONFIG",
}
"""Keys whose field in distribution's program, and so the environment variable, is called
otherwise. Source: `configuration/configuration.go`."""

LEGACY: Final = (
    "loglevel",
    "storage.cache.layerinfo",
    "validation.enabled",
    "redis.addr",
    "redis.pool.maxidle",
    "redis.pool.maxactive",
    "redis.pool.idletimeout",
)
"""Keys that have a new name; `dockyard.config.legacy` says which."""


@cache
def schema() -> SectionShape:
    """Return the shape of the whole configuration."""
    root = _section(Settings, "")
    for path in LEGACY:
        *parents, last = path.split(".")
        section = root
        for parent in parents:
            child = section.children.setdefault(parent, SectionShape({}, {}))
            assert isinstance(child, SectionShape)
            section = child
        section.children[last] = LeafShape()
    return root


def keys(shape: Shape | None = None, path: str = "") -> Iterator[str]:
    """Yield the path of every key, such as ``health.http[].uri``; ``*`` is any name."""
    match schema() if shape is None else shape:
        case SectionShape(children=children):
            for name, child in children.items():
                yield from keys(child, join(path, name))
            if path and not children:
                yield path
        case SeriesShape(element=element):
            yield from keys(element, f"{path}[]")
        case TableShape(value=value):
            yield from keys(value, join(path, "*"))
        case _:
            yield path


def join(path: str, name: str) -> str:
    """Return the path of `name` inside `path`."""
    return f"{path}.{name}" if path else name


def _section(model: type[Section], path: str) -> SectionShape:
    children: dict[str, Shape] = {}
    variables: dict[str, str] = {}
    for name, info in model.model_fields.items():
        key = info.alias or name
        child = join(path, key)
        children[key] = _shape(info.annotation, child)
        if child in VARIABLES:
            variables[VARIABLES[child]] = key
    choice = model.kinds() if issubclass(model, Choice) else ()
    return SectionShape(children, variables, choice)


def _shape(annotation: Any, path: str) -> Shape:  # noqa: ANN401, PLR0911 -- any type
    """Return the shape that values of a type have."""
    if annotation is JsonValue:
        return FreeShape()
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], path)
    if origin in {Union, types.UnionType}:
        return _shape(arguments[0], path)  # the others are None, for what is absent
    if origin is tuple:
        return SeriesShape(_shape(arguments[0], f"{path}[]"))
    if origin is Mapping:
        return TableShape(_shape(arguments[1], join(path, "*")))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return _section(annotation, path)
    return LeafShape(secret=annotation is SecretStr)
