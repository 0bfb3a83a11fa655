"""What somebody is called here whom others vouch for: a certificate, or the token of an issuer.

What is proved about them are facts: texts by name. A recognition says which facts it wants, by
patterns, and makes a name of some of them. In a pattern ``*`` is any run of characters without a
separator, also none, and ``**`` any run at all; which characters separate depends on the fact.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from dockyard.auth.principal import Kind, Principal


FACT_LIMIT: Final = 1024
"""Characters of a fact, at most: a longer one matches nothing."""

NAME_LIMIT: Final = 255
"""Characters of the name of a principal that is made of facts, at most."""

Facts: TypeAlias = Mapping[str, Sequence[str]]

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
"""What a fact may be that becomes a part of a name. No ``$``: that is how robots log in."""

_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
_WILD: Final = frozenset({"*", "**"})
_TOKENS: Final = re.compile(r"\*\*|.", re.DOTALL)


class TextPattern:
    """A pattern of texts.

    Args:
        text: the pattern.
        separators: the characters that ``*`` does not match.
    """

    def __init__(self, text: str, separators: str) -> None:
        self._tokens: Final = tuple(_TOKENS.findall(text))
        self._separators: Final = separators
        wild = [place for place, token in enumerate(self._tokens) if token in _WILD]
        self._wild: Final = wild[0] if len(wild) == 1 else None
        self._exact: Final = None if wild else text

    def matches(self, text: str) -> bool:
        """Return whether `text`, as a whole, is of this pattern. The time is bounded."""
        if len(text) > FACT_LIMIT:
            return False
        if self._exact is not None:
            return text == self._exact
        if self._wild is not None:
            return self._matches_around(text, self._wild)
        return self._matches_all_ways(text)

    def _matches_around(self, text: str, wild: int) -> bool:
        """Return whether `text` is of a pattern with one wildcard: the most common, and quick."""
        before, after = "".join(self._tokens[:wild]), "".join(self._tokens[wild + 1 :])
        between = text[len(before) : len(text) - len(after)]
        if len(text) < len(before) + len(after) or text != before + between + after:
            return False
        return self._tokens[wild] == "**" or set(self._separators).isdisjoint(between)

    def _matches_all_ways(self, text: str) -> bool:
        """Follow all ways to read `text` at once, so that none is tried twice."""
        places = self._with_what_follows({0})
        for character in text:
            places = self._with_what_follows(self._step(places, character))
            if not places:
                return False
        return len(self._tokens) in places

    def _step(self, places: set[int], character: str) -> set[int]:
        found: set[int] = set()
        for place in places - {len(self._tokens)}:
            match self._tokens[place]:
                case "**":
                    found.add(place)
                case "*" if character not in self._separators:
                    found.add(place)
                case literal if literal not in _WILD and literal == character:
                    found.add(place + 1)
                case _:
                    pass
        return found

    def _with_what_follows(self, places: set[int]) -> set[int]:
        """Return `places`, and those that are reached over wildcards which match nothing."""
        found = set(places)
        for place in places:
            following = place
            while following < len(self._tokens) and self._tokens[following] in _WILD:
                following += 1
                found.add(following)
        return found


class NameTemplate:
    """Makes the name of a principal from facts.

    Args:
        text: ``user:`` or ``robot:`` and a name, in which ``{FACT}`` stands for a fact. Without
            either it is a user.
    """

    def __init__(self, text: str) -> None:
        kind, _, name = text.partition(":")
        known = {"user": Kind.USER, "robot": Kind.ROBOT}
        self._kind: Final = known.get(kind, Kind.USER)
        self._parts: Final = _PLACEHOLDER.split(name if kind in known else text)
        self._between: Final = frozenset("".join(self._parts[2:-1:2]))

    @property
    def facts(self) -> frozenset[str]:
        """The facts that it needs."""
        return frozenset(self._parts[1::2])

    def render(self, facts: Mapping[str, str], groups: frozenset[str]) -> Principal | None:
        """Return who has these facts, or `None` if they can't be a name.

        A fact with other characters than names have is refused, and so is one with a character
        that stands between two facts: no two principals get one name by it.
        """
        rendered: list[str] = []
        for number, part in enumerate(self._parts):
            if number % 2 == 0:
                rendered.append(part)
                continue
            fact = facts.get(part, "")
            if _SAFE.fullmatch(fact) is None or not self._between.isdisjoint(fact):
                return None
            rendered.append(fact)
        name = "".join(rendered)
        return Principal(self._kind, name, groups) if 0 < len(name) <= NAME_LIMIT else None


@dataclass(frozen=True, slots=True)
class Recognition:
    """Which facts somebody must have, and who they are then.

    Attributes:
        conditions: for each fact the patterns of which one must match.
        template: makes their name.
        groups: the groups that they are in.
        members: the groups of users by their names, which they are in too.
    """

    conditions: Mapping[str, Sequence[TextPattern]]
    template: NameTemplate
    groups: frozenset[str] = frozenset()
    members: Mapping[str, frozenset[str]] | None = None

    def fits(self, facts: Facts) -> bool:
        """Return whether the facts are as they must be."""
        return all(self._fitting(name, facts) for name in self.conditions)

    def principal(self, facts: Facts) -> Principal | None:
        """Return who has these facts, which fit; `None` if they can't be a name.

        Of a fact with several values the one that fits counts; without a condition none does.
        """
        chosen: dict[str, str] = {}
        for name in self.template.facts:
            values = self._fitting(name, facts) if name in self.conditions else facts.get(name, ())
            if len(values) == 1 or (values and name in self.conditions):
                chosen[name] = values[0]
        found = self.template.render(chosen, self.groups)
        if found is None or found.kind is not Kind.USER or self.members is None:
            return found
        return Principal(found.kind, found.name, self.groups | self.members.get(found.name, set()))

    def _fitting(self, name: str, facts: Facts) -> Sequence[str]:
        patterns = self.conditions[name]
        values = facts.get(name, ())
        return [value for value in values if any(each.matches(value) for each in patterns)]


def recognise(recognitions: Sequence[Recognition], facts: Facts) -> Principal | None:
    """Return who has these facts: the first recognition that fits decides, if it is nobody too."""
    for recognition in recognitions:
        if recognition.fits(facts):
            return recognition.principal(facts)
    return None
