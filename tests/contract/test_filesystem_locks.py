"""Locks of the `filesystem` driver between processes."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from dockyard.errors import StorageBusyError
from dockyard.storage import locks
from dockyard.storage.filesystem import FilesystemStorage


HOLDER: Final = """
import asyncio, sys
from pathlib import Path
from dockyard.storage.filesystem import FilesystemStorage

async def hold(root, what):
    storage = FilesystemStorage(Path(root))
    if what == "append":
        holding = storage.append("up/data")
    else:
        holding = storage.lock("tag", "v1", shared=what == "shared")
    async with holding:
        print("holding", flush=True)
        sys.stdin.readline()

asyncio.run(hold(*sys.argv[1:]))
"""
"""A program that holds a lock until it is told to go on, or killed."""


@contextmanager
def another_process_holds(root: Path, what: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holding\n"
            yield holder
        finally:
            holder.kill()


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilesystemStorage:
    monkeypatch.setattr(locks, "LOCK_WAIT", 0.05)
    return FilesystemStorage(tmp_path)


async def can_hold(storage: FilesystemStorage, *, shared: bool) -> bool:
    try:
        async with storage.lock("tag", "v1", shared=shared):
            return True
    except StorageBusyError:
        return False


@pytest.mark.parametrize(("what", "shared_too"), [("shared", True), ("exclusive", False)])
async def test_a_lock_holds_among_processes(
    storage: FilesystemStorage, tmp_path: Path, what: str, *, shared_too: bool
) -> None:
    with another_process_holds(tmp_path, what):
        assert await can_hold(storage, shared=True) is shared_too
        assert not await can_hold(storage, shared=False)
        async with storage.lock("repository", "v1"):
            pass  # another kind is free
    assert await can_hold(storage, shared=False)


async def test_the_end_of_an_upload_is_held_among_processes(
    storage: FilesystemStorage, tmp_path: Path
) -> None:
    await storage.create("up/data")
    with another_process_holds(tmp_path, "append"), pytest.raises(StorageBusyError):
        async with storage.append("up/data"):
            pytest.fail("another process holds it")
    async with storage.append("up/data") as writer:
        await writer.append(b"free again")


async def test_a_killed_process_holds_nothing(storage: FilesystemStorage, tmp_path: Path) -> None:
    with another_process_holds(tmp_path, "exclusive") as holder:
        holder.kill()
        holder.wait()
        assert await can_hold(storage, shared=False)


async def test_whoever_waits_gets_the_lock_once_it_is_free(
    tmp_path: Path,
) -> None:
    storage = FilesystemStorage(tmp_path)
    with another_process_holds(tmp_path, "exclusive") as holder:
        waiting = asyncio.create_task(can_hold(storage, shared=False))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        holder.kill()
        holder.wait()
        async with asyncio.timeout(5):
            assert await waiting


async def test_shared_holders_that_keep_coming_do_not_shut_others_out(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    stop = asyncio.Event()

    async def keep_holding() -> None:
        while not stop.is_set():
            async with storage.lock("tag", "v1", shared=True):
                await asyncio.sleep(0.003)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for delay in range(4):
            tasks.create_task(keep_holding())
            await asyncio.sleep(0.001 * delay)
        for _ in range(3):
            async with storage.lock("tag", "v1"):
                pass
        stop.set()
    assert await can_hold(storage, shared=False)


async def test_of_several_who_wait_one_may_give_up(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    async with storage.lock("tag", "v1"):
        waiting = [asyncio.create_task(can_hold(storage, shared=False)) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiting[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
    async with asyncio.timeout(5):
        assert await waiting[0]
        assert await waiting[2]


async def test_a_wait_that_is_too_long_ends(storage: FilesystemStorage) -> None:
    async with storage.lock("tag", "v1"):
        with pytest.raises(StorageBusyError):
            async with storage.lock("tag", "v1"):
                pytest.fail("it is held")


class TestAtOnce:
    """A mark that is added with the lock shared in passing, if nobody is in the way."""

    LOCK: Final = ("tag", "v1")

    async def test_it_is_added_beside_others_that_share(self, tmp_path: Path) -> None:
        storage = FilesystemStorage(tmp_path)
        await storage.note("n/1", b"+")
        with another_process_holds(tmp_path, "shared"):
            assert storage.note_at_once("n/1", b"-", self.LOCK)
        assert await storage.get("n/1", 9) == b"+-"
        async with storage.lock(*self.LOCK):  # it was given back
            pass

    async def test_not_while_somebody_holds_the_lock_alone(self, tmp_path: Path) -> None:
        storage = FilesystemStorage(tmp_path)
        await storage.note("n/1", b"+")
        with another_process_holds(tmp_path, "exclusive"):
            assert not storage.note_at_once("n/1", b"-", self.LOCK)
        assert await storage.get("n/1", 9) == b"+"

    async def test_not_while_somebody_waits_to_hold_it_alone(self, tmp_path: Path) -> None:
        storage = FilesystemStorage(tmp_path)
        await storage.note("n/1", b"+")
        async with storage.lock(*self.LOCK, shared=True):
            waiting = asyncio.create_task(_hold_alone(storage, self.LOCK))
            await asyncio.sleep(0.05)
            assert not storage.note_at_once("n/1", b"-", self.LOCK)
        await waiting
        assert storage.note_at_once("n/1", b"-", self.LOCK)

    async def test_not_where_there_is_no_directory(self, tmp_path: Path) -> None:
        storage = FilesystemStorage(tmp_path)
        async with storage.lock(*self.LOCK):
            pass
        assert not storage.note_at_once("n/1", b"-", self.LOCK)
        assert not await storage.exists("n")


async def _hold_alone(storage: FilesystemStorage, lock: tuple[str, str]) -> None:
    async with storage.lock(*lock):
        pass
