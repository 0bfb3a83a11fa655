"""The configuration in effect, as YAML that can be read by people and by this program."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Final, TypeAlias

import yaml
from pydantic import SecretStr

from dockyard.config import durations
from dockyard.config.masking import conceal, is_secret_name
from dockyard.config.problems import MASK
from dockyard.config.section import Choice, Section
from dockyard.config.settings import Settings


Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"
_WITHOUT_EFFECT: Final = frozenset({"compatibility", "redis", "reporting"})
_LINE_WIDTH: Final = 1 << 20
"""Columns of a line: one line a value, however long."""


def render_effective(settings: Settings) -> str:
    """Return `settings` as YAML, defaults included, secrets masked, empty sections left out."""
    plain = _section(settings)
    kept = {key: value for key, value in plain.items() if key not in _WITHOUT_EFFECT}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)


def _section(section: Section) -> dict[str, Plain]:
    kinds = section.kinds() if isinstance(section, Choice) else ()
    rendered = {}
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        plain = _plain(value)
        if plain not in (None, [], {}, "") or (name in kinds and value is not None):
            rendered[info.alias or name] = plain
    return rendered


def _plain(value: object) -> Plain:  # noqa: C901, PLR0911, PLR0912 -- one case for each type
    match value:
        case Section():
            return _section(value)
        case SecretStr():
            return MASK if value.get_secret_value() else ""
        case timedelta():
            return durations.render(value)
        case str():
            return conceal(value)
        case bool() | int() | float() | None:
            return value
        case PurePath():
            return str(value)
        case Mapping():
            return {str(key): _entry(str(key), item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case _:
            raise TypeError(f"no setting has a {type(value).__name__}")


def _entry(name: str, value: object) -> Plain:
    return MASK if isinstance(value, str) and is_secret_name(name) else _plain(value)
