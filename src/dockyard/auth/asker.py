"""Who asks, with what they may do: what handlers see of access."""

from dataclasses import dataclass
from typing import Final, Protocol

from dockyard.auth.actions import Access, Action, covers, needed, parts
from dockyard.auth.policy import Policy
from dockyard.auth.principal import Principal


ANY: Final = ("**", "**/**")
"""Names that no repository has, which only a pattern for all repositories matches both."""


class Asker(Protocol):
    """Somebody who was let in, and what they may do besides what they came for."""

    @property
    def principal(self) -> Principal:
        """Who it is."""
        ...

    @property
    def may_everything(self) -> bool:
        """Whether no repository is closed to them."""
        ...

    def may(self, action: Action, repository: str) -> bool:
        """Return whether they may do `action` to `repository`."""
        ...

    def sees(self, repository: str) -> bool:
        """Return whether `repository` is in the catalog that they get."""
        ...


@dataclass(frozen=True, slots=True)
class Unbounded:
    """Whoever is let in may everything: where there are users but no rules."""

    principal: Principal
    may_everything: bool = True

    def may(self, action: Action, repository: str) -> bool:
        """Return that they may."""
        del action, repository
        return True

    def sees(self, repository: str) -> bool:
        """Return that they see it."""
        del repository
        return True


@dataclass(frozen=True, slots=True)
class Granted:
    """The bearer of a token from outside: what it says is all that is known."""

    principal: Principal
    grants: frozenset[Access]
    may_everything: bool = False

    def may(self, action: Action, repository: str) -> bool:
        """Return whether the token grants it."""
        return covers(self.grants, needed(action, repository))

    def sees(self, repository: str) -> bool:
        """Return that they see it: whoever was granted the catalog was granted all of it."""
        del repository
        return True


@dataclass(frozen=True, slots=True)
class Ruled:
    """Somebody whom the rules are about.

    Attributes:
        principal: who it is.
        policy: the rules.
        grants: what their token grants; `None` if they came with a password, or with nothing.
    """

    principal: Principal
    policy: Policy
    grants: frozenset[Access] | None = None
    may_everything: bool = False

    def may(self, action: Action, repository: str) -> bool:
        """Return whether the rules allow it, and the token, if there is one, grants it."""
        if self.grants is not None and not covers(self.grants, needed(action, repository)):
            return False
        return self.allowed(action, repository)

    def allowed(self, action: Action, repository: str) -> bool:
        """Return whether the rules allow it; pushing needs pulling.

        What is done to all repositories at once, so to none by name, needs a rule for all of them.
        """
        if not repository:
            return all(self.policy.may(self.principal, action, name) for name in ANY)
        return all(self.policy.may(self.principal, each, repository) for each in parts(action))

    def sees(self, repository: str) -> bool:
        """Return whether the rules let them list it, and pull from it."""
        return self.allowed(Action.CATALOG, repository)
