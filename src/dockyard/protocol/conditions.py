"""Conditional requests and content negotiation. Source: RFC 9110, sections 12.5.1 and 13."""

from collections.abc import Iterable


ANY = "*"


def parse_tags(text: str) -> frozenset[str]:
    """Return the entity tags of ``If-Match`` or ``If-None-Match``, unquoted; `ANY` for ``*``.

    Bare tags are taken too, as distribution does. Weak tags count as their strong form: ours are
    digests, and equal digests are equal bytes.
    """
    tags = (item.strip().removeprefix("W/").strip('"') for item in text.split(","))
    return frozenset(tag for tag in tags if tag)


class Accept:
    """The media types a client takes, from all its ``Accept`` headers."""

    __slots__ = ("_refused", "_taken")

    def __init__(self, values: Iterable[str]) -> None:
        taken: set[str] = set()
        refused: set[str] = set()
        for item in ",".join(values).split(","):
            name, *parameters = item.split(";")
            media_type = name.strip().lower()
            if media_type:
                (refused if _is_zero(parameters) else taken).add(media_type)
        self._taken = taken
        self._refused = refused

    @property
    def is_absent(self) -> bool:
        """Whether the client said nothing, which allows everything."""
        return not self._taken and not self._refused

    def allows(self, media_type: str) -> bool:
        """Return whether the client named `media_type`, or a pattern that covers it."""
        wanted = media_type.lower()
        for candidate in (wanted, f"{wanted.partition('/')[0]}/*", "*/*"):
            if candidate in self._refused:
                return False
            if candidate in self._taken:
                return True
        return False


def _is_zero(parameters: list[str]) -> bool:
    """Return whether a quality says "not this one"."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value) == 0
            except ValueError:
                return False
    return False
