"""Growing files of the `filesystem` driver: their bytes go to the disk while more arrive."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from dockyard.errors import StorageError, StorageFullError
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.growing import WRITE_BACK, write_all
from dockyard.threads import in_thread
from tests.contract.storage import read


PART = bytes(range(256)) * (WRITE_BACK // 256)
SOON = 10.0
"""Seconds; a sync that is waited for comes in milliseconds."""


class Disk:
    """Stands between `os.fdatasync` and the disk: each sync waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[int] = []
        self.inodes: list[int] = []
        self.error = 0
        self._begins = threading.Event()
        self._go = threading.Event()
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, descriptor: int) -> None:
        self.begun.append(descriptor)
        self._begins.set()
        assert self._go.wait(SOON)
        self.inodes.append(os.fstat(descriptor).st_ino)  # fails if it was closed meanwhile
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self._sync(descriptor)

    def let_go(self, error: int = 0) -> None:
        self.error = error
        self._go.set()

    async def syncing(self) -> None:
        """Return once a sync has begun."""
        assert await in_thread(self._begins.wait, SOON)


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    return FilesystemStorage(tmp_path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_what_arrives_is_synced_while_more_arrives(
    storage: FilesystemStorage, disk: Disk
) -> None:
    await storage.create("up/data")
    async with storage.append("up/data") as writer:
        await writer.append(PART)
        await disk.syncing()
        await writer.append(b"more", PART)
        assert writer.size == 2 * len(PART) + 4
        assert len(disk.begun) == 1, "a second sync of the same file waits for the first"
        disk.let_go()
        while len(disk.begun) < 2:
            await writer.append(b".")
            await asyncio.sleep(0.001)
        size = writer.size
    assert len(disk.inodes) == len(disk.begun)
    await storage.publish("up/data", "blob")
    assert await read(storage, "blob") == PART + b"more" + PART + b"." * (size - 2 * len(PART) - 4)


async def test_what_is_small_is_synced_once(storage: FilesystemStorage, disk: Disk) -> None:
    await storage.create("up/data")
    async with storage.append("up/data") as writer:
        await writer.append(PART[:-1])
        await asyncio.sleep(0.01)
    await storage.publish("up/data", "blob")
    assert disk.begun == []


async def test_one_file_is_synced_at_a_time(storage: FilesystemStorage, disk: Disk) -> None:
    await storage.create("one/data")
    await storage.create("other/data")
    async with storage.append("one/data") as one, storage.append("other/data") as other:
        await one.append(PART)
        await disk.syncing()
        await other.append(PART)
        await asyncio.sleep(0.01)
        assert len(disk.begun) == 1
        disk.let_go()
    assert len(set(disk.inodes)) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [(errno.EIO, StorageError), (errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError)],
)
class TestFailures:
    async def test_it_ends_the_upload(
        self, storage: FilesystemStorage, disk: Disk, error: int, kind: type[StorageError]
    ) -> None:
        async def push() -> None:
            async with storage.append("up/data") as writer:
                await writer.append(PART)
                await disk.syncing()
                disk.let_go(error)

        await storage.create("up/data")
        with pytest.raises(kind) as caught:
            await push()
        assert type(caught.value) is kind
        assert not await storage.exists("up/data")

    async def test_nothing_more_is_taken(
        self, storage: FilesystemStorage, disk: Disk, error: int, kind: type[StorageError]
    ) -> None:
        async def push() -> None:
            async with storage.append("up/data") as writer, asyncio.timeout(SOON):
                await writer.append(PART)
                await disk.syncing()
                disk.let_go(error)
                while True:
                    await writer.append(PART)
                    await asyncio.sleep(0.001)

        await storage.create("up/data")
        with pytest.raises(kind):
            await push()

    async def test_it_is_not_published(
        self, storage: FilesystemStorage, disk: Disk, error: int, kind: type[StorageError]
    ) -> None:
        async def push() -> None:
            async with storage.append("up/data") as writer:
                await writer.append(PART)
                await disk.syncing()
                publishing = asyncio.create_task(storage.publish("up/data", "blob"))
                await asyncio.sleep(0.01)
                assert not publishing.done(), "what the sync will tell is waited for"
                disk.let_go(error)
                await publishing

        await storage.create("up/data")
        with pytest.raises(kind):
            await push()
        assert not await storage.exists("blob")
        assert not await storage.exists("up/data")


async def test_who_is_cancelled_waits_for_the_sync(storage: FilesystemStorage, disk: Disk) -> None:
    """The descriptor would be another file's by then."""
    await storage.create("up/data")

    async def push() -> None:
        async with storage.append("up/data") as writer:
            await writer.append(PART)
            await asyncio.sleep(SOON)

    pushing = asyncio.create_task(push())
    await disk.syncing()
    pushing.cancel()
    await asyncio.sleep(0.01)
    pushing.cancel()
    await asyncio.sleep(0.01)
    assert not pushing.done()
    disk.let_go()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    assert len(disk.inodes) == 1
    async with storage.append("up/data") as writer:
        assert writer.size == len(PART)


async def test_the_failure_before_is_the_one_that_is_told(
    storage: FilesystemStorage, disk: Disk
) -> None:
    async def push() -> None:
        async with storage.append("up/data") as writer:
            await writer.append(PART)
            await disk.syncing()
            disk.let_go(errno.EIO)
            raise ZeroDivisionError

    await storage.create("up/data")
    with pytest.raises(ZeroDivisionError):
        await push()


@pytest.mark.parametrize("most", [1, 5, 6, 7, 4096], ids="{} bytes at once".format)
@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 3000])
def test_pieces_are_written_to_their_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, count: int
) -> None:
    """However little the system takes at once: at a signal, or where the disk is nearly full."""
    pieces = [memoryview(b"%06d" % number) for number in range(count)]
    writev = os.writev
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(
        os, "writev", lambda file, some: writev(file, [memoryview(b"".join(some))[:most]])
    )
    try:
        assert write_all(descriptor, pieces) == 6 * count
    finally:
        os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
