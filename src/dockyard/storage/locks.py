"""Locks among all processes that share a directory tree: files that are locked."""

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from dockyard.errors import StorageBusyError
from dockyard.storage.promptness import Promptness
from dockyard.storage.translation import translating


LOCKS: Final = 256
"""Lock files; names share them by hash. 256 keep two random names apart 99.6 % of the time."""

LOCK_WAIT: Final = 10.0
"""Seconds to wait for a lock. It is held for a few syncs, some milliseconds each, so ten seconds
mean a stuck disk, and the client had better hear of it."""


class FileLocks:
    """The lock files in one directory."""

    def __init__(self, directory: str, prompt: Promptness) -> None:
        self._directory: Final = directory
        self._prompt: Final = prompt

    @asynccontextmanager
    async def hold(self, kind: str, name: str, *, shared: bool = False) -> AsyncGenerator[None]:
        """See `Storage.lock`. Waits up to `LOCK_WAIT`.

        Whoever wants the lock passes a gate first and holds it while waiting, so that an exclusive
        holder gets its turn although shared ones keep coming.
        """
        stripe = f"{kind}-{hashlib.sha256(name.encode()).digest()[0] % LOCKS:02x}"
        with translating(name):
            gate = await self._prompt.acquire(self._open, os.close, f"{stripe}.gate")
        try:
            with translating(name):
                await _hold(gate, fcntl.LOCK_EX, name)
                descriptor = await self._prompt.acquire(self._open, os.close, stripe)
        except BaseException:
            os.close(gate)
            raise
        try:
            try:
                with translating(name):
                    await _hold(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, name)
            finally:
                os.close(gate)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        path, flags = f"{self._directory}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(self._directory, exist_ok=True)  # noqa: PTH103 -- plain strings throughout
            return os.open(path, flags, 0o666)


async def _hold(descriptor: int, operation: int, name: str) -> None:
    pause = 0.001
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StorageBusyError(name) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return
