"""Tells whether a password is right, at a bounded cost.

bcrypt is slow on purpose. So passwords are hashed in one thread of their own, at a low priority:
neither the event loop nor the threads of the disk notice. Its queue is bounded, and of it one
address gets a part only. A password that was right is remembered for `REMEMBERED_SECONDS`, not
itself but a keyed hash of it; a wrong one never is.
"""

import asyncio
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from dockyard.auth.accounts import Account, Accounts
from dockyard.auth.apikeys import ApiKeys, is_secret
from dockyard.auth.directory_logins import DirectoryLogins, DirectoryQueue
from dockyard.auth.errors import LoginRefusedError, TooManyLoginsError
from dockyard.auth.htpasswd import matches
from dockyard.auth.principal import ROBOT_PREFIX, Principal
from dockyard.auth.throttle import Throttle
from dockyard.auth.workloads import Workloads


REMEMBERED_SECONDS: Final = 60.0
"""How long a password that was right is taken without hashing it again."""

REMEMBERED_LOGINS: Final = 4096
"""Logins that are remembered, under 1 MB; the one longest unused is forgotten."""

QUEUE: Final = 64
"""Passwords that wait to be hashed, about four seconds of work; more are turned away."""

QUEUE_OF_ADDRESS: Final = 8
"""Of these, those that came from one address: it can't keep the others out."""

BUSY_SECONDS: Final = 2.0
"""When who is turned away should try again."""

NICENESS: Final = 10
"""How much the thread that hashes stands back for those that serve."""


class Guard:
    """What stays while accounts are replaced: failed logins, and the queue for the one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.throttle: Final = Throttle(clock)
        self.waiting: Final[Counter[str]] = Counter()
        self.thread: Final = ThreadPoolExecutor(
            1, thread_name_prefix="passwords", initializer=_stand_back
        )
        self.directory: Final = DirectoryQueue()


class Logins:
    """Checks passwords of accounts; one for each worker.

    Args:
        accounts: where they are.
        clock: counts seconds.
        guard: that of the logins which these replace.
        workloads: who logs in with a token of another issuer; `None` if nobody does.
        keys: the API keys, which are taken as their owners' passwords; `None` where there are none.

    Attributes:
        directory: who is asked about those that have no account; `None` if nobody is.
    """

    def __init__(
        self,
        accounts: Accounts,
        clock: Callable[[], float] = time.monotonic,
        guard: Guard | None = None,
        workloads: Workloads | None = None,
        keys: ApiKeys | None = None,
    ) -> None:
        self._accounts: Final = accounts
        self._keys: Final = keys
        self._clock: Final = clock
        self._key: Final = secrets.token_bytes(32)
        self._right: Final[OrderedDict[bytes, float]] = OrderedDict()
        self._checked: Final[dict[bytes, asyncio.Future[bool]]] = {}
        self.guard: Final = guard or Guard(clock)
        self.workloads: Final = workloads
        self.directory: DirectoryLogins | None = None
        self._throttle: Final = self.guard.throttle
        self._waiting: Final = self.guard.waiting
        self._thread: Final = self.guard.thread

    def find(self, login: str) -> Account | None:
        """Return the account that logs in as `login`, without asking for a password."""
        return self._accounts.find(login)

    async def find_by_key(self, identifier: str) -> Account | None:
        """Return the account that an API key stands for, or `None` if it is not good any more.

        Raises:
            StorageError: it can't be told.
        """
        return None if self._keys is None else await self._keys.by_identifier(identifier)

    async def check(self, login: str, password: str, address: str) -> Principal:
        """Return who logs in as `login`; see `log_in`."""
        return (await self.log_in(login, password, address)).principal

    async def log_in(self, login: str, password: str, address: str) -> Account:
        """Return the account that logs in as `login`, by its password or one of its API keys.

        Args:
            login: the name given.
            password: the password given.
            address: where the request comes from, as the connection says.

        Raises:
            LoginRefusedError: no such account, or another password; which one is not told.
            TooManyLoginsError: too many failed, or too many are being checked.
            DirectoryUnavailableError: the directory can't tell.
            StorageError: the accounts can't be read.
        """
        if self._keys is not None and is_secret(password):
            return await self._log_in_by_key(self._keys, login, password, address)
        account = self._accounts.find(login)
        if account is None and self.directory is not None and not login.startswith(ROBOT_PREFIX):
            return await self.directory.log_in(login, password, address)
        mark = self._mark(login, password, account)
        if account is not None and self._is_remembered(mark):
            return account
        self._require_turn(login, address)
        hashed = None if account is None else account.hashed
        if not await self._matches(mark, password, hashed, address) or account is None:
            self._throttle.failed(address, login)
            raise LoginRefusedError(login)
        self._throttle.succeeded(address, login)
        self._remember(mark)
        return account

    async def _log_in_by_key(self, keys: ApiKeys, login: str, secret: str, address: str) -> Account:
        account = await keys.by_secret(secret)
        if account is not None and account.principal.login == login:
            return account
        self._require_turn(login, address)
        self._throttle.failed(address, login)
        raise LoginRefusedError(login)

    def _require_turn(self, login: str, address: str) -> None:
        delay = self._throttle.delay(address, login)
        if delay > 0:
            raise TooManyLoginsError(delay)

    async def _matches(self, mark: bytes, password: str, hashed: str | None, address: str) -> bool:
        """Return whether a password is right. Of many at once that are the same one is hashed."""
        same = self._checked.get(mark)
        if same is not None:
            return await asyncio.shield(same)
        if self._waiting[address] >= QUEUE_OF_ADDRESS or self._waiting.total() >= QUEUE:
            raise TooManyLoginsError(BUSY_SECONDS)
        work = asyncio.get_running_loop().run_in_executor(self._thread, matches, password, hashed)
        self._waiting[address] += 1
        self._checked[mark] = work
        # Counted until the thread is done with it, even if who asked is gone.
        work.add_done_callback(lambda _: self._leave(mark, address))
        return await asyncio.shield(work)

    def _leave(self, mark: bytes, address: str) -> None:
        self._checked.pop(mark, None)
        self._waiting[address] -= 1
        if not self._waiting[address]:
            del self._waiting[address]

    def _mark(self, login: str, password: str, account: Account | None) -> bytes:
        """Return what a login is remembered by: another password or another hash is another."""
        mark = hashlib.blake2b(key=self._key)
        for part in (login, password, "" if account is None else account.hashed):
            content = part.encode("utf-8", "surrogateescape")
            mark.update(len(content).to_bytes(8, "big") + content)
        return mark.digest()

    def _is_remembered(self, mark: bytes) -> bool:
        until = self._right.get(mark)
        if until is None:
            return False
        if until <= self._clock():
            del self._right[mark]
            return False
        self._right.move_to_end(mark)
        return True

    def _remember(self, mark: bytes) -> None:
        self._right[mark] = self._clock() + REMEMBERED_SECONDS
        while len(self._right) > REMEMBERED_LOGINS:
            self._right.popitem(last=False)


def fingerprint(account: Account) -> str:
    """Return what tells whether an account's secret is still the same, without telling it."""
    return hmac.new(b"dockyard account", account.hashed.encode(), hashlib.sha256).hexdigest()[:32]


def _stand_back() -> None:
    with suppress(OSError):  # a sandbox may forbid it; then it is as urgent as the others
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
