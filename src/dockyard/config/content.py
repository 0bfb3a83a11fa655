"""Settings of what may be stored, and of how much is listed at once."""

import re
import warnings
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from dockyard.config.scalars import Count, Flag, Number, OptionalText, Text, VerbatimError, to_text
from dockyard.config.section import Section


_ENTRIES: Final = 1000
"""Names in one answer of the catalog, or of a repository's tags."""


def _pattern(value: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a pattern that Python only doubts means another thing
            re.compile(value)
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression ({error})") from error
    return value


def _to_platforms(value: object) -> object:
    text = to_text(value)
    if not isinstance(text, str):
        return text
    if text.lower() not in {"all", "none", "list"}:
        raise VerbatimError(
            f"invalid platforms option {text.lower()} Must be one of [all, none, list]"
        )
    return text.lower()


def _entries(value: int) -> int:
    return value if value > 0 else _ENTRIES


Pattern: TypeAlias = Annotated[Text, AfterValidator(_pattern)]
"""A regular expression, looked for anywhere in the text."""


class CatalogSettings(Section):
    """How many repositories one answer lists."""

    maxentries: Annotated[Number, AfterValidator(_entries)] = _ENTRIES


class TagsSettings(Section):
    """How many tags one answer lists."""

    maxtags: Annotated[Count, AfterValidator(_entries)] = _ENTRIES


class URLsSettings(Section):
    """Which foreign URLs a manifest may give for its content."""

    allow: tuple[Pattern, ...] = ()
    deny: tuple[Pattern, ...] = ()


class PlatformSettings(Section):
    """A platform whose image an index must come with."""

    architecture: OptionalText = None
    os: OptionalText = None


class IndexesSettings(Section):
    """Which images of an index must be there when it is pushed."""

    platforms: Annotated[Literal["all", "none", "list"], BeforeValidator(_to_platforms)] = "all"
    platformlist: tuple[PlatformSettings, ...] = ()


class ManifestsSettings(Section):
    """What is checked in a manifest.

    Attributes:
        sparse: whether a manifest is taken although some of what it names is not there.
    """

    urls: URLsSettings = URLsSettings()
    indexes: IndexesSettings = IndexesSettings()
    sparse: Flag = False


class ValidationSettings(Section):
    """What is checked in what is pushed."""

    disabled: Flag = False
    manifests: ManifestsSettings = ManifestsSettings()


class RepositoryPolicySettings(Section):
    """What a repository may hold; no class named is every class."""

    classes: tuple[Text, ...] = ()


class PolicySettings(Section):
    """What is allowed."""

    repository: RepositoryPolicySettings = RepositoryPolicySettings()
