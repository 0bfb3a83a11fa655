"""Who may do what to which repository: rules, and the one that decides. Pure.

The first rule that names the repository, the action and the principal decides; if none does, the
answer is no.

In the pattern of a repository ``*`` is any run of characters without a slash, also none; ``**``,
which stands alone between slashes, is one or more whole components. So ``team/**`` is everything
below ``team`` but not ``team`` itself, and ``**`` is every repository.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dockyard.auth.actions import Action
from dockyard.auth.principal import Kind, Principal


DEEP_LIMIT: Final = 3
"""``**`` in one pattern, at most: what a match costs grows with each of them."""

PATTERN_LIMIT: Final = 255
"""Characters of a pattern, at most: as many as a name has."""

_LITERAL: Final = re.compile(r"[a-zA-Z0-9._*-]+")

GRANTABLE: Final = (Action.PULL, Action.PUSH, Action.DELETE, Action.CATALOG, Action.ADMIN)
"""The actions that a rule can be about."""


class PatternInvalidError(ValueError):
    """A text is no pattern of repositories; the message says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        number: its place in the configuration, counted from 1.
        repositories: patterns, of which one must match.
        actions: those it is about.
        who: those it is about: ``anonymous`` is everybody, logged in or not.
        allows: whether it allows or denies.
    """

    number: int
    repositories: Sequence[re.Pattern[str]]
    actions: frozenset[Action]
    who: frozenset[str]
    allows: bool = True

    def concerns(self, principal: Principal) -> bool:
        """Return whether the rule is about `principal`."""
        if "anonymous" in self.who:
            return True
        if principal.kind is Kind.ANONYMOUS:
            return False
        named = f"{principal.kind.value}:{principal.name}"
        return (
            "authenticated" in self.who
            or named in self.who
            or any(f"group:{group}" in self.who for group in principal.groups)
        )

    def covers(self, repository: str) -> bool:
        """Return whether the rule is about `repository`."""
        return any(pattern.fullmatch(repository) for pattern in self.repositories)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed.

    Attributes:
        allowed: whether it is.
        rule: the rule that decided; `None` if none did, and so it is not allowed.
        outside: whether the API key that they came with is not good for it, whatever rules say.
    """

    allowed: bool
    rule: Rule | None = None
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules, in their order."""

    rules: Sequence[Rule] = ()

    def decide(self, principal: Principal, action: Action, repository: str) -> Decision:
        """Return whether `principal` may do `action` to `repository`, and why.

        An API key only narrows: what it is not good for is not allowed, what it is good for is
        for the rules to decide.
        """
        scope = principal.scope
        if scope is not None and not scope.covers(action, repository):
            return Decision(allowed=False, outside=True)
        for rule in self.rules:
            if action in rule.actions and rule.concerns(principal) and rule.covers(repository):
                return Decision(rule.allows, rule)
        return Decision(allowed=False)

    def may(self, principal: Principal, action: Action, repository: str) -> bool:
        """Return whether `principal` may do `action` to `repository`."""
        return self.decide(principal, action, repository).allowed

    def may_ever(self, principal: Principal, action: Action) -> bool:
        """Return whether there is a rule that may allow `principal` to do `action` somewhere."""
        if principal.scope is not None and action not in principal.scope.actions:
            return False
        return any(
            rule.allows and action in rule.actions and rule.concerns(principal)
            for rule in self.rules
        )


def compile_pattern(text: str) -> re.Pattern[str]:
    """Return what matches the repositories that `text` means.

    Raises:
        PatternInvalidError: it is no pattern.
    """
    components = text.split("/")
    if len(text) > PATTERN_LIMIT:
        raise PatternInvalidError(f"must have at most {PATTERN_LIMIT} characters")
    if components.count("**") > DEEP_LIMIT:
        raise PatternInvalidError(f"must have at most {DEEP_LIMIT} times **")
    return re.compile("/".join(_component(component) for component in components))


def _component(text: str) -> str:
    if text == "**":
        return r"[^/]+(?:/[^/]+)*?"
    if "**" in text:
        raise PatternInvalidError("must have ** alone between slashes")
    if _LITERAL.fullmatch(text) is None:
        raise PatternInvalidError(
            "must be a repository's name, in which * stands for a part of a component and ** for "
            "whole ones"
        )
    first, *others = text.split("*")
    if not others:
        return re.escape(first)
    # Each part is taken where it first fits, for good (the atomic group): the last one must reach
    # the component's end. So a component is matched in linear time.
    middle = "".join(rf"(?>[^/]*?{re.escape(part)})" for part in others[:-1])
    return rf"{re.escape(first)}{middle}[^/]*{re.escape(others[-1])}"


OPEN: Final = Policy(
    [Rule(0, (compile_pattern("**"),), frozenset(GRANTABLE), frozenset({"anonymous"}))]
)
"""What holds where there are no rules: everybody who is let in may everything."""
