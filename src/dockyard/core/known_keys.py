"""The API keys as a worker knows them: in memory, read again when they may have changed.

Nothing is read while nobody comes with a key. Whoever does makes the worker look whether there is
another version of the keys, unless it has looked within `FRESH_SECONDS`: that long a worker may
still take a key that another has revoked. A key that is not known makes it look once more, since it
may have just been made; of many at once all wait for the same look, so strangers cost no more than
that.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from dockyard.auth.accounts import Account, Accounts
from dockyard.auth.apikeys import hash_secret, scope_of
from dockyard.clock import Clock
from dockyard.errors import StateError
from dockyard.state.interface import KeyRecord, State


if TYPE_CHECKING:
    from dockyard.auth.scope import Scope


FRESH_SECONDS: Final = 2.0
"""How long a worker takes what it knows of keys for true: so long a key may outlive its revocation
in other workers."""

LOOK_AGAIN_SECONDS: Final = 0.2
"""The pause between two looks: who comes with a key that nobody knows waits that long at most."""

USE_NOTED: Final = timedelta(minutes=1)
"""How exactly the last use of a key is known: a busy key costs one write in this time."""


class KnownKeys:
    """See `dockyard.auth.apikeys.ApiKeys`; one for each worker.

    Args:
        state: where the keys are kept.
        accounts: whom they stand for.
        clock: tells whether one has expired.
        seconds: a clock that never goes back.
    """

    def __init__(
        self,
        state: State,
        accounts: Accounts | None,
        clock: Clock,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state: Final = state
        self._accounts = accounts
        self._clock: Final = clock
        self._seconds: Final = seconds
        self._turn: Final = asyncio.Lock()
        self._looked = float("-inf")
        self._version = ""
        self._by_secret: Mapping[str, KeyRecord] = {}
        self._by_identifier: Mapping[str, KeyRecord] = {}
        self._scopes: Final[dict[str, Scope]] = {}
        self._noted: Final[dict[str, datetime]] = {}
        self._fresh: Final[dict[str, datetime]] = {}
        self._told = False

    def stand_for(self, accounts: Accounts | None) -> None:
        """Take these accounts for those that keys stand for."""
        self._accounts = accounts

    async def by_secret(self, secret: str) -> Account | None:
        """See `ApiKeys.by_secret`."""
        hashed = hash_secret(secret)
        key = await self._find(lambda: self._by_secret.get(hashed))
        if key is None or not hmac.compare_digest(key.secret, hashed):
            return None
        return self._account(key)

    async def by_identifier(self, identifier: str) -> Account | None:
        """See `ApiKeys.by_identifier`."""
        key = await self._find(lambda: self._by_identifier.get(identifier))
        return None if key is None else self._account(key)

    async def write(self) -> None:
        """Write down which keys were used since the last time. That failing is logged, once."""
        fresh = dict(self._fresh)
        self._fresh.clear()
        try:
            await self._state.note_keys_used(fresh)
        except asyncio.CancelledError:
            self._fresh.update({**fresh, **self._fresh})
            raise
        except StateError as error:
            self._fresh.update({**fresh, **self._fresh})
            if not self._told:
                structlog.get_logger().warning("use of keys is not noted", err=str(error))
            self._told = True
        else:
            self._told = False

    async def _find(self, look_up: Callable[[], KeyRecord | None]) -> KeyRecord | None:
        now = self._seconds()
        await self._look(now - FRESH_SECONDS)
        key = look_up()
        if key is None:
            await self._look(now)
            key = look_up()
        return key

    async def _look(self, since: float) -> None:
        """Return once what is known was looked at `since` then."""
        if self._looked >= since:
            return
        async with self._turn:
            if self._looked >= since:
                return
            pause = self._looked + LOOK_AGAIN_SECONDS - self._seconds()
            if pause > 0:
                await asyncio.sleep(pause)
            now = self._seconds()
            self._version, keys = await self._state.keys_since(self._version)
            self._looked = now
            if keys is not None:
                self._by_secret = {key.secret: key for key in keys}
                self._by_identifier = {key.identifier: key for key in keys}
                self._scopes.clear()
                for identifier in self._noted.keys() - self._by_identifier.keys():
                    del self._noted[identifier]

    def _account(self, key: KeyRecord) -> Account | None:
        """Return the account that a key stands for, and note that it was used."""
        now = self._clock()
        if key.expires is not None and key.expires <= now:
            return None
        owner = None if self._accounts is None else self._accounts.find(key.owner)
        if owner is None:
            return None
        self._note(key.identifier, now)
        return Account(replace(owner.principal, scope=self._scope(key)), key.secret)

    def _scope(self, key: KeyRecord) -> "Scope":
        scope = self._scopes.get(key.identifier)
        if scope is None:
            scope = scope_of(key.identifier, key.name, key.actions, key.repositories)
            self._scopes[key.identifier] = scope
        return scope

    def _note(self, identifier: str, now: datetime) -> None:
        last = self._noted.get(identifier)
        if last is None or now - last >= USE_NOTED:
            self._noted[identifier] = self._fresh[identifier] = now
