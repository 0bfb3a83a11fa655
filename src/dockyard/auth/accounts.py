"""Where accounts are: users in a file, robots in the configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from dockyard.auth.htpasswd import HtpasswdFile
from dockyard.auth.principal import ROBOT_PREFIX, Kind, Principal


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can log in.

    Attributes:
        principal: who that is.
        hashed: the bcrypt hash of their secret, or what is no hash where no password opens it; with
            an API key, what is kept of that.
        evidence: what our tokens say about who has no account here but in a directory; such
            accounts get no refresh tokens.
    """

    principal: Principal
    hashed: str
    evidence: Mapping[str, object] | None = None


class Accounts(Protocol):
    """A place of accounts."""

    def find(self, login: str) -> Account | None:
        """Return the account that logs in as `login`, or `None`. Does not wait for anything.

        Raises:
            StorageError: the place can't be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Users:
    """The users of a password file, with the groups they are in."""

    file: HtpasswdFile
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def find(self, login: str) -> Account | None:
        """Return the user called `login`; a name that only robots have is no user's."""
        if login.startswith(ROBOT_PREFIX):
            return None
        hashed = self.file.find(login)
        if hashed is None:
            return None
        groups = self.groups.get(login, frozenset())
        return Account(Principal(Kind.USER, login, groups), hashed)


@dataclass(frozen=True, slots=True)
class PlainUsers:
    """The users of a password file where there are no rules: every line is one."""

    file: HtpasswdFile

    def find(self, login: str) -> Account | None:
        """Return the user called `login`."""
        hashed = self.file.find(login)
        return None if hashed is None else Account(Principal(Kind.USER, login), hashed)


@dataclass(frozen=True, slots=True)
class Robots:
    """The robot accounts of the configuration: hashes of their secrets by name, empty for none."""

    hashes: Mapping[str, str]

    def find(self, login: str) -> Account | None:
        """Return the robot that logs in as ``robot$NAME``."""
        if not login.startswith(ROBOT_PREFIX):
            return None
        name = login.removeprefix(ROBOT_PREFIX)
        hashed = self.hashes.get(name)
        return None if hashed is None else Account(Principal(Kind.ROBOT, name), hashed)


class AllAccounts:
    """Several places as one; the first that has an account counts."""

    def __init__(self, places: Sequence[Accounts]) -> None:
        self._places: Final = places

    def find(self, login: str) -> Account | None:
        """Return the account that logs in as `login`, or `None`."""
        for place in self._places:
            account = place.find(login)
            if account is not None:
                return account
        return None


def groups_of(members: Mapping[str, Sequence[str]]) -> Mapping[str, frozenset[str]]:
    """Return the groups of each user, from the users of each group."""
    found: dict[str, set[str]] = {}
    for group, names in members.items():
        for name in names:
            found.setdefault(name, set()).add(group)
    return {name: frozenset(groups) for name, groups in found.items()}
