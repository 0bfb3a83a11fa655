"""Who is asking."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from dockyard.auth.scope import Scope


ROBOT_PREFIX: Final = "robot$"
"""What the name of a robot account begins with where it logs in: no person is called so."""


WORKLOAD_LOGIN: Final = "oidc"
"""The name with which a workload logs in; its token is the password."""

WORKLOAD_CLAIM: Final = "oidc"
"""The claim of our tokens that has what proves who a workload is."""

DIRECTORY_CLAIM: Final = "ldap"
"""The claim of our tokens that has what a directory said of who has an account there."""


class Kind(Enum):
    """What sort of somebody a principal is."""

    ANONYMOUS = "anonymous"
    USER = "user"
    ROBOT = "robot"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose identity is proved, or `ANONYMOUS`.

    Attributes:
        kind: what sort of somebody.
        name: a user's name, or a robot's without its prefix; empty for `ANONYMOUS`.
        groups: the groups they belong to.
        scope: what the API key is good for that they came with; `None` if they came without one.
    """

    kind: Kind
    name: str = ""
    groups: frozenset[str] = frozenset()
    scope: Scope | None = None

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody proved who they are."""
        return self.kind is Kind.ANONYMOUS

    @property
    def login(self) -> str:
        """The name they log in with; empty for `ANONYMOUS`."""
        return f"{ROBOT_PREFIX}{self.name}" if self.kind is Kind.ROBOT else self.name


ANONYMOUS: Final = Principal(Kind.ANONYMOUS)


def user(name: str, groups: frozenset[str] = frozenset()) -> Principal:
    """Return the user called `name`."""
    return Principal(Kind.USER, name, groups)
