"""API keys: making, listing and revoking them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dockyard.auth.accounts import Accounts
from dockyard.auth.apikeys import (
    check_actions,
    check_name,
    check_patterns,
    hash_secret,
    make_secret,
)
from dockyard.auth.errors import KeyInvalidError, KeyTakenError, KeyUnknownError
from dockyard.clock import Clock
from dockyard.state.interface import KeyRecord, State


MOST_KEYS: Final = 10_000
"""API keys, at most: a worker keeps all of them in memory, some 10 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """An API key that somebody wants.

    Attributes:
        name: what it is to be called.
        owner: who it stands for, as they log in: a user, or ``robot$NAME``.
        actions: what it is to be good for, ``*`` for all that the owner may.
        repositories: patterns of where.
        expires: from when on it is no longer good; `None` if that is not to come.
    """

    name: str
    owner: str
    actions: Sequence[str] = ("*",)
    repositories: Sequence[str] = ("**",)
    expires: datetime | None = None


class Keys:
    """The API keys of a registry.

    Args:
        state: where they are kept.
        accounts: who can have one; `None` where nobody logs in.
        clock: tells whether one would expire before it is made.
    """

    def __init__(self, state: State, accounts: Accounts | None, clock: Clock) -> None:
        self._state: Final = state
        self._accounts: Final = accounts
        self._clock: Final = clock

    def of(self, accounts: Accounts | None) -> "Keys":
        """Return the same keys, which these accounts can have."""
        return Keys(self._state, accounts, self._clock)

    async def create(self, wish: KeyWish) -> tuple[str, KeyRecord]:
        """Make an API key; return its secret, which nobody can tell again, and the key.

        Raises:
            KeyInvalidError: there can't be such a key.
            KeyTakenError: there is one of that name.
            StorageError: accounts can't be read, or the key can't be kept.
        """
        now = self._clock()
        self._check(wish, now)
        secret = make_secret()
        key = KeyRecord(
            identifier=secrets.token_hex(8),
            name=wish.name,
            owner=wish.owner,
            secret=hash_secret(secret),
            actions=tuple(wish.actions),
            repositories=tuple(wish.repositories),
            created=now,
            expires=wish.expires,
        )
        if not await self._state.add_key(key, MOST_KEYS):
            if any(each.name == wish.name for each in await self._state.keys()):
                raise KeyTakenError(wish.name)
            raise KeyInvalidError(
                f"there are {MOST_KEYS} keys, and there can't be more: revoke some"
            )
        return secret, key

    async def list(self) -> Sequence[KeyRecord]:
        """Return the API keys by name, those that are no longer good too.

        Raises:
            StateError: they can't be read.
        """
        return await self._state.keys()

    async def find(self, name: str) -> KeyRecord:
        """Return the API key called `name`.

        Raises:
            KeyUnknownError: there is none.
            StateError: it can't be read.
        """
        for key in await self._state.keys():
            if key.name == name:
                return key
        raise KeyUnknownError(name)

    async def revoke(self, name: str) -> None:
        """Revoke the API key called `name`, and with it the tokens that it got.

        Raises:
            KeyUnknownError: there is none.
            StateError: it can't be revoked.
        """
        if not await self._state.remove_key(name):
            raise KeyUnknownError(name)

    def why_useless(self, key: KeyRecord) -> str:
        """Return why a key is no longer good; empty if it is.

        Raises:
            StorageError: accounts can't be read.
        """
        if key.expires is not None and key.expires <= self._clock():
            return "expired"
        if self._accounts is None or self._accounts.find(key.owner) is None:
            return "owner gone"
        return ""

    async def close(self) -> None:
        """Release the database."""
        await self._state.close()

    def _check(self, wish: KeyWish, now: datetime) -> None:
        try:
            check_name(wish.name)
            check_actions(wish.actions)
            check_patterns(wish.repositories)
        except ValueError as error:
            raise KeyInvalidError(str(error)) from error
        if wish.expires is not None and wish.expires <= now:
            raise KeyInvalidError(
                f"expires: {wish.expires.isoformat(timespec='seconds')} is over; it must be to come"
            )
        if self._accounts is None:
            raise KeyInvalidError(
                "nobody can have a key: the configuration has neither auth.htpasswd nor "
                "access.robots"
            )
        if self._accounts.find(wish.owner) is None:
            raise KeyInvalidError(
                f"owner: {wish.owner!r} is neither a user of auth.htpasswd nor a robot of "
                "access.robots, written robot$NAME"
            )
