"""What can be asked of a registry, in the words of the token specification.

Source: distribution v3.1.1, registry/auth/auth.go and handlers/app.go.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Action(Enum):
    """What a request does to what it names.

    `BASE` asks whether there is a registry, `OPEN` is for everyone: neither names anything.
    """

    OPEN = "open"
    BASE = "base"
    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Access:
    """One action on one resource, as a token grants it and an error tells it.

    Attributes:
        kind: ``repository`` or ``registry``.
        name: of the repository; ``catalog`` for the registry.
        action: ``pull``, ``push``, ``delete``; ``*`` for the catalog.
    """

    kind: str
    name: str
    action: str


def covers(grants: Collection[Access], wanted: Iterable[Access]) -> bool:
    """Return whether `grants` have all that is `wanted`; the action ``*`` is all of them.

    Source: distribution, registry/auth/token/util.go; measured with 2.8.2.
    """
    return all(
        access in grants or Access(access.kind, access.name, "*") in grants for access in wanted
    )


CATALOG: Final = Access("registry", "catalog", "*")


def needed(action: Action, name: str) -> Sequence[Access]:
    """Return the access that an action on the repository `name` needs; pushing needs pulling."""
    if action in {Action.OPEN, Action.BASE}:
        return ()
    if action is Action.CATALOG:
        return (CATALOG,)
    if action is Action.PUSH:
        return (Access("repository", name, "pull"), Access("repository", name, "push"))
    return (Access("repository", name, action.value),)


def parts(action: Action) -> Sequence[Action]:
    """Return what the rules have to allow for `action`: pushing and being listed need pulling."""
    if action is Action.PUSH:
        return (Action.PULL, Action.PUSH)
    if action is Action.CATALOG:
        return (Action.CATALOG, Action.PULL)
    return (action,)
