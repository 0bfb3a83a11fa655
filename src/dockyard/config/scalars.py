"""The types a single value can have, as lenient as the YAML reader of docker-distribution.

Each validator takes a `ScalarNode` as the file or environment gave it; anything else passes
through, so that settings can be built in Python too. Messages are the end of a sentence
that begins with the key.

Source: gopkg.in/yaml.v2, `decode.go` and `resolve.go`.
"""

import re
from datetime import timedelta
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator, JsonValue, SecretStr

from dockyard.config import durations
from dockyard.config.nodes import MappingNode, ScalarNode, SequenceNode


_TRUE: Final = frozenset(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"])
_FALSE: Final = frozenset(
    ["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"]
)
_PARAMETER_TRUE: Final = frozenset(["1", "t", "T", "true", "True", "TRUE"])
_PARAMETER_FALSE: Final = frozenset(["0", "f", "F", "false", "False", "FALSE"])
_INTEGER: Final = re.compile(
    r"[-+]?(0x_*[0-9a-fA-F][0-9a-fA-F_]*|0b_*[01][01_]*|0o?_*[0-7][0-7_]*|0|[1-9][0-9_]*)"
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER: Final = 64
"""Characters a number may have; 64 bits in binary notation, so that conversion is bounded."""
_INT64: Final = range(-(1 << 63), 1 << 63)


class VerbatimError(ValueError):
    """A wrong value whose message is docker-distribution's own and already names the value."""


def parse_number(text: str) -> int | float | None:
    """Return the number that YAML 1.1 sees in `text`, or `None` if it sees none."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if _INTEGER.fullmatch(text):
        digits = text.replace("_", "")
        sign, bare = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
        old_octal = len(bare) > 1 and bare[0] == "0" and bare[1].isdigit()
        return sign * int(bare, 8 if old_octal else 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return None


def parse_flag(node: ScalarNode) -> bool | None:
    """Return the truth value that YAML 1.1 sees in `node`, or `None` if it sees none."""
    if node.plain and node.text in _TRUE:
        return True
    if node.plain and node.text in _FALSE:
        return False
    return None


def to_text(value: object) -> object:
    """Return the characters written: a number where text belongs is that text."""
    return value.text if isinstance(value, ScalarNode) else value


def to_text_or_none(value: object) -> object:
    """Return the characters written, or `None` if there are none."""
    return to_text(value) or None


def to_flag(value: object) -> object:
    """Return the truth value written, in any spelling of YAML 1.1."""
    if not isinstance(value, ScalarNode):
        return value
    flag = parse_flag(value)
    if flag is None:
        quoted = not value.plain and value.text in _TRUE | _FALSE
        raise ValueError("must be true or false" + (" without quotes" if quoted else ""))
    return flag


def to_parameter_flag(value: object) -> object:
    """Return the truth value written, also in quotes, as storage drivers read theirs."""
    if isinstance(value, ScalarNode) and parse_flag(value) is None:
        if value.text in _PARAMETER_TRUE:
            return True
        if value.text in _PARAMETER_FALSE:
            return False
    return to_flag(value)


def to_number(value: object) -> object:
    """Return the number written, without its fraction."""
    if not isinstance(value, ScalarNode):
        return value
    number = parse_number(value.text) if value.plain else None
    if number is None or number in {float("inf"), float("-inf")} or int(number) not in _INT64:
        quoted = not value.plain and parse_number(value.text) is not None
        raise ValueError("must be a whole number" + (" without quotes" if quoted else ""))
    return int(number)


def to_parameter_number(value: object) -> object:
    """Return the number written, also in quotes, as storage drivers read theirs."""
    if isinstance(value, ScalarNode):
        return to_number(ScalarNode(value.text, plain=True, origin=value.origin))
    return value


def to_duration(value: object) -> object:
    """Return the duration written; a bare number is nanoseconds."""
    if not isinstance(value, ScalarNode):
        return value
    number = parse_number(value.text) if value.plain else None
    if isinstance(number, int):
        return durations.of_nanoseconds(number)
    return durations.parse(value.text)


def to_duration_with_unit(value: object) -> object:
    """Return the duration written; a bare number, which would be nanoseconds, is refused."""
    return durations.parse(value.text) if isinstance(value, ScalarNode) else value


def to_free(value: object) -> object:
    """Return what YAML sees in a value for which the configuration has no type."""
    match value:
        case MappingNode():
            return {key: to_free(item) for key, item in value.items.items()}
        case SequenceNode():
            return [to_free(item) for item in value.items]
        case ScalarNode(plain=True):
            return None if value.is_null else _resolved(value)
        case ScalarNode():
            return value.text
        case _:
            return value


def _resolved(node: ScalarNode) -> str | int | float | bool:
    flag = parse_flag(node)
    if flag is not None:
        return flag
    number = parse_number(node.text)
    return node.text if number is None or number in {float("inf"), float("-inf")} else number


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _not_backwards(value: timedelta) -> timedelta:
    if value < timedelta():
        raise ValueError("must not be negative")
    return value


def _longer_than_nothing(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise ValueError("must be longer than zero")
    return value


Text: TypeAlias = Annotated[str, BeforeValidator(to_text)]
"""Characters; a number or truth value written there is taken as its characters."""
OptionalText: TypeAlias = Annotated[str | None, BeforeValidator(to_text_or_none)]
"""Characters, or `None` when there are none."""
Secret: TypeAlias = Annotated[SecretStr | None, BeforeValidator(to_text_or_none)]
"""Characters that no message, log line or `repr` shows, or `None` when there are none."""
SecretText: TypeAlias = Annotated[SecretStr, BeforeValidator(to_text)]
"""Characters that no message, log line or `repr` shows."""
Flag: TypeAlias = Annotated[bool, BeforeValidator(to_flag)]
Number: TypeAlias = Annotated[int, BeforeValidator(to_number)]
Count: TypeAlias = Annotated[Number, AfterValidator(_not_negative)]
Duration: TypeAlias = Annotated[
    timedelta, BeforeValidator(to_duration), AfterValidator(_not_backwards)
]
SignedDuration: TypeAlias = Annotated[timedelta, BeforeValidator(to_duration)]
DurationWithUnit: TypeAlias = Annotated[
    timedelta, BeforeValidator(to_duration_with_unit), AfterValidator(_not_backwards)
]
Period: TypeAlias = Annotated[
    timedelta, BeforeValidator(to_duration_with_unit), AfterValidator(_longer_than_nothing)
]
ParameterFlag: TypeAlias = Annotated[bool, BeforeValidator(to_parameter_flag)]
ParameterCount: TypeAlias = Annotated[
    int, BeforeValidator(to_parameter_number), AfterValidator(_not_negative)
]
Free: TypeAlias = Annotated[JsonValue, BeforeValidator(to_free)]
"""Whatever YAML sees."""
