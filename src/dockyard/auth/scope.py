"""What an API key is good for. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.auth.actions import Action


@dataclass(frozen=True, slots=True)
class Scope:
    """What an API key is good for, of what its owner may do.

    Attributes:
        key: the identifier of the key.
        name: what people call it.
        actions: the actions.
        repositories: patterns, of which one must match.
    """

    key: str
    name: str
    actions: frozenset[Action]
    repositories: Sequence[re.Pattern[str]]

    def covers(self, action: Action, repository: str) -> bool:
        """Return whether the key is good for doing `action` to `repository`."""
        return action in self.actions and any(
            pattern.fullmatch(repository) for pattern in self.repositories
        )
