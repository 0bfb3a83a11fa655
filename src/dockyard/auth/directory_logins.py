"""Logins of those whose account is in a directory: in threads of their own, at a bounded cost.

Neither the event loop nor the threads of passwords and disks wait for the directory. What was right
is remembered for `REMEMBERED_SECONDS`, by a keyed hash; what was wrong never is. Our tokens hold
which groups the directory said, so that it is asked for logins only.
"""

import asyncio
import hashlib
import secrets
import time
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from dockyard.auth.accounts import Account, Accounts
from dockyard.auth.directory import AmbiguousError, Directory, is_login
from dockyard.auth.errors import (
    DirectoryUnavailableError,
    LoginRefusedError,
    TooManyLoginsError,
)
from dockyard.auth.principal import Principal, user
from dockyard.auth.throttle import Throttle
from dockyard.auth.tokens import TokenUnfitError


THREADS: Final = 4
"""Logins that are asked about at the same time, by one worker: a directory answers in
milliseconds, and one that does not is not helped by more."""

QUEUE: Final = 32
"""Logins that are asked about or wait for that; more are turned away."""

QUEUE_OF_ADDRESS: Final = 8
"""Of these, those that came from one address: it can't keep the others out."""

BUSY_SECONDS: Final = 2.0
"""When who is turned away should try again."""

REMEMBERED_SECONDS: Final = 60.0
"""How long a password that was right is taken without asking again."""

REMEMBERED_LOGINS: Final = 4096
"""Logins that are remembered, under 2 MB; the one longest unused is forgotten."""


class DirectoryQueue:
    """What stays while rules are replaced: the threads that ask, and who waits for them."""

    def __init__(self) -> None:
        self.waiting: Final[Counter[str]] = Counter()
        self.threads: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="directory")


class DirectoryLogins:
    """Checks passwords of those in a directory; one for each worker.

    Args:
        directory: where they are.
        local: the accounts that go first: who is called so there, is nobody here.
        members: the groups of users in the configuration.
        throttle: counts failed logins.
        queue: the threads.
        clock: counts seconds.
    """

    def __init__(  # noqa: PLR0913 -- each is another thing; all are given by name
        self,
        directory: Directory,
        *,
        local: Accounts,
        members: Mapping[str, frozenset[str]],
        throttle: Throttle,
        queue: DirectoryQueue,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory: Final = directory
        self._local: Final = local
        self._members: Final = members
        self._throttle: Final = throttle
        self._queue: Final = queue
        self._clock: Final = clock
        self._key: Final = secrets.token_bytes(32)
        self._right: Final[OrderedDict[bytes, tuple[float, Account]]] = OrderedDict()
        self._mark: Final = _mark_of(directory)

    async def log_in(self, login: str, password: str, address: str) -> Account:
        """Return the account that logs in as `login`.

        Raises:
            LoginRefusedError: there is none, or not one alone, or it has another password.
            TooManyLoginsError: too many failed, or too many are being asked about.
            DirectoryUnavailableError: it can't be told. It is not counted as failed.
            StorageError: the accounts that go first can't be read.
        """
        mark = self._remembered_by(login, password)
        account = self._remembered(mark)
        if account is not None and self._local.find(account.principal.name) is None:
            return account
        known_as = _folded(login)
        delay = self._throttle.delay(address, known_as)
        if delay > 0:
            raise TooManyLoginsError(delay)
        principal = await self._identify(login, password, address)
        # However the login was spelled: a name of the password file is that user's alone.
        if principal is None or self._local.find(principal.name) is not None:
            self._throttle.failed(address, known_as)
            raise LoginRefusedError(login)
        self._throttle.succeeded(address, known_as)
        account = self._account(principal)
        self._remember(mark, account)
        return account

    def recall(self, evidence: object, name: str) -> Principal:
        """Return who logged in once, by what we have signed about them.

        Raises:
            TokenUnfitError: it proves nothing any more: there is another directory now, or the
                name is in the password file.
            StorageError: the accounts that go first can't be read.
        """
        if not isinstance(evidence, Mapping) or evidence.get("of") != self._mark:
            raise TokenUnfitError("it is of another directory")
        if self._local.find(name) is not None:
            raise TokenUnfitError("its name is of another account now")
        groups = frozenset(evidence["groups"]) & self._directory.settings.named
        return user(name, groups | self._members.get(name, frozenset()))

    def _account(self, principal: Principal) -> Account:
        evidence = {"of": self._mark, "groups": sorted(principal.groups)}
        groups = principal.groups | self._members.get(principal.name, frozenset())
        return Account(user(principal.name, groups), "", evidence)

    async def _identify(self, login: str, password: str, address: str) -> Principal | None:
        if not password or not is_login(login):  # not worth a question
            return None
        seconds = self._directory.settings.seconds
        work = self._begin(login, password, address)
        try:
            return await asyncio.wait_for(asyncio.shield(work), seconds)
        except AmbiguousError as error:
            structlog.get_logger().warning(
                "login refused: the directory is ambiguous", login=login, reason=str(error)
            )
            return None
        except TimeoutError:
            work.add_done_callback(_forget)
            raise self._unavailable(
                DirectoryUnavailableError(f"no answer in {seconds:g} s")
            ) from None
        except DirectoryUnavailableError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: DirectoryUnavailableError) -> DirectoryUnavailableError:
        structlog.get_logger().error(
            "the directory can't be asked",
            directory=self._directory.settings.url,
            reason=error.reason,
        )
        return error

    def _begin(self, login: str, password: str, address: str) -> asyncio.Future[Principal | None]:
        waiting = self._queue.waiting
        if waiting[address] >= QUEUE_OF_ADDRESS or waiting.total() >= QUEUE:
            raise TooManyLoginsError(BUSY_SECONDS)
        # By the time of the threads: what nobody waits for any more is not asked.
        deadline = time.monotonic() + self._directory.settings.seconds
        work = asyncio.get_running_loop().run_in_executor(
            self._queue.threads, self._directory.check, login, password, deadline
        )
        waiting[address] += 1

        def leave(_: object) -> None:
            waiting[address] -= 1
            if not waiting[address]:
                del waiting[address]

        work.add_done_callback(leave)
        return work

    def _remembered_by(self, login: str, password: str) -> bytes:
        mark = hashlib.blake2b(key=self._key)
        for part in (login, password):
            content = part.encode("utf-8", "surrogateescape")
            mark.update(len(content).to_bytes(8, "big") + content)
        return mark.digest()

    def _remembered(self, mark: bytes) -> Account | None:
        until, account = self._right.get(mark, (0.0, None))
        if account is None:
            return None
        if until <= self._clock():
            del self._right[mark]
            return None
        self._right.move_to_end(mark)
        return account

    def _remember(self, mark: bytes, account: Account) -> None:
        self._right[mark] = (self._clock() + REMEMBERED_SECONDS, account)
        while len(self._right) > REMEMBERED_LOGINS:
            self._right.popitem(last=False)


def _forget(work: asyncio.Future[Principal | None]) -> None:
    if not work.cancelled():
        work.exception()  # nobody waits for it any more


def _folded(login: str) -> str:
    """Return a login as directories compare it: other capitals are no other try."""
    return unicodedata.normalize("NFKC", login).casefold()


def _mark_of(directory: Directory) -> str:
    """Return what tells one directory from another, for our tokens."""
    settings = directory.settings
    parts = (settings.url, settings.userbase, settings.userfilter, settings.nameattribute)
    groups = (settings.groupbase, settings.groupfilter, settings.memberof, settings.groupprefix)
    return hashlib.sha256("\n".join((*parts, *groups)).encode()).hexdigest()[:16]
