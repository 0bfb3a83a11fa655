"""Names of repositories and tags. Source: OCI Distribution Spec, spec.md#pulling-manifests."""

import re
from typing import Final

from dockyard.errors import NameInvalidError, TagInvalidError


NAME_LIMIT: Final = 255
"""Characters of a repository name, at most. Source: distribution, reference.NameTotalLengthMax."""

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST: Final = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
)
NAME_PATTERN: Final = rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*"
"""A name as distribution routes it: the first of several components may be a host name, capitals
included. A port is left out, since distribution can't store a colon either."""

TAG_PATTERN: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"

_NAME: Final = re.compile(NAME_PATTERN)
_TAG: Final = re.compile(TAG_PATTERN)


def is_name(text: str) -> bool:
    """Return whether `text` is the name of a repository."""
    return len(text) <= NAME_LIMIT and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Return whether `text` is a tag."""
    return _TAG.fullmatch(text) is not None


def parse_name(text: str) -> str:
    """Return `text`, which is the name of a repository.

    Raises:
        NameInvalidError: it is not.
    """
    if not is_name(text):
        raise NameInvalidError(text)
    return text


def parse_tag(text: str) -> str:
    """Return `text`, which is a tag.

    Raises:
        TagInvalidError: it is not.
    """
    if not is_tag(text):
        raise TagInvalidError(text)
    return text
