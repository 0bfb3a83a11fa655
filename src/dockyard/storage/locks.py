"""Locks among all processes that share a directory tree: files that are locked."""

import asyncio
import fcntl
import hashlib
import os
import time
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from typing_extensions import override

from dockyard.errors import StorageBusyError
from dockyard.storage.promptness import Promptness
from dockyard.storage.translation import translating


LOCKS: Final = 256
"""Lock files; names share them by hash. 256 keep two random names apart 99.6 % of the time."""

LOCK_WAIT: Final = 10.0
"""Seconds to wait for a lock. It is held for a few syncs, some milliseconds each, so ten seconds
mean a stuck disk, and the client had better hear of it."""


_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC


class FileLocks:
    """The lock files in one directory."""

    def __init__(self, directory: str, prompt: Promptness) -> None:
        self._directory: Final = directory
        self._prompt: Final = prompt

    def hold(
        self, kind: str, name: str, *, shared: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """See `Storage.lock`. Waits up to `LOCK_WAIT`.

        Whoever wants the lock passes a gate first and holds it while waiting, so that an exclusive
        holder gets its turn although shared ones keep coming.
        """
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        return _Hold(self._path(kind, name), name, operation, self._prompt)

    def share_at_once(self, kind: str, name: str) -> int | None:
        """Share the lock; return a descriptor that holds it until it is closed.

        `None`: that would have to be waited for. Whoever is at the gate goes first.

        Raises:
            OSError: the files that are locked are not there yet, or can't be opened.
        """
        path = self._path(kind, name)
        gate = os.open(f"{path}.gate", _FLAGS)
        try:
            if not _take(gate, fcntl.LOCK_SH):
                return None
            descriptor = os.open(path, _FLAGS)
            if _take(descriptor, fcntl.LOCK_SH):
                return descriptor
            os.close(descriptor)
        finally:
            os.close(gate)
        return None

    def _path(self, kind: str, name: str) -> str:
        stripe = hashlib.sha256(name.encode()).digest()[0] % LOCKS
        return f"{self._directory}/{kind}-{stripe:02x}"


class _Hold(AbstractAsyncContextManager[None]):
    """One holding of a lock.

    A class, since every HEAD of a blob takes one, and a generator costs more than the lock.
    """

    __slots__ = ("_descriptor", "_name", "_operation", "_path", "_prompt")

    def __init__(self, path: str, name: str, operation: int, prompt: Promptness) -> None:
        self._prompt = prompt
        self._path = path
        self._name = name
        self._operation = operation
        self._descriptor = -1

    @override
    async def __aenter__(self) -> None:
        with translating(self._name):
            gate = await self._prompt.acquire(_open, os.close, f"{self._path}.gate")
            try:
                if not _take(gate, fcntl.LOCK_EX):
                    await _wait(gate, fcntl.LOCK_EX, self._name)
                descriptor = await self._prompt.acquire(_open, os.close, self._path)
                try:
                    if not _take(descriptor, self._operation):
                        await _wait(descriptor, self._operation, self._name)
                except BaseException:
                    os.close(descriptor)
                    raise
            finally:
                os.close(gate)
        self._descriptor = descriptor

    @override
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def _open(path: str) -> int:
    flags = _FLAGS | os.O_CREAT
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 -- plain strings
        return os.open(path, flags, 0o666)


def _take(descriptor: int, operation: int) -> bool:
    """Take a lock if nobody is in the way; return whether it was."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _wait(descriptor: int, operation: int, name: str) -> None:
    pause = 0.001
    deadline = time.monotonic() + LOCK_WAIT
    while not _take(descriptor, operation):
        if time.monotonic() > deadline:
            raise StorageBusyError(name)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)
