"""Stamps, and many looks at once, of the `filesystem` driver."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from dockyard.storage import looks
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.interface import ABSENT


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    return FilesystemStorage(tmp_path)


@pytest.fixture
def settling(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds after which what changed can be trusted; more than a file system's step of time."""
    monkeypatch.setattr(looks, "SETTLED", 0.1)
    return 0.15


class TestStamps:
    async def test_a_directory_just_changed_has_none(self, storage: FilesystemStorage) -> None:
        await storage.put("a/b", b"")
        assert await storage.stamp("a") is None
        assert list(await storage.stamps("", ["a", "a/b"])) == [None, None]

    async def test_a_settled_directory_has_one_that_lasts(
        self, storage: FilesystemStorage, settling: float
    ) -> None:
        await storage.put("a/b", b"")
        await asyncio.sleep(settling)
        stamp = await storage.stamp("a")
        assert stamp is not None
        assert [await storage.stamp("a"), *await storage.stamps("", ["a"])] == [stamp, stamp]
        await storage.put("a/c", b"")
        assert await storage.stamp("a") is None
        await asyncio.sleep(settling)
        assert await storage.stamp("a") not in {None, stamp}

    async def test_a_directory_made_anew_has_another(
        self, storage: FilesystemStorage, settling: float
    ) -> None:
        for name in ("a", "aa"):
            await storage.put(f"{name}/b", b"")
        await asyncio.sleep(settling)
        assert len({await storage.stamp(name) for name in ("a", "aa")}) == 2

    async def test_whoever_sets_times_back_is_noticed(
        self, storage: FilesystemStorage, tmp_path: Path, settling: float
    ) -> None:
        """A backup that is restored brings names with it and the directory's time of then."""
        await storage.put("a/b", b"")
        os.utime(tmp_path / "a", (1, 1))
        await asyncio.sleep(settling)
        stamp = await storage.stamp("a")
        assert stamp is not None
        await storage.put("a/c", b"")
        os.utime(tmp_path / "a", (1, 1))
        assert await storage.stamp("a") is None
        await asyncio.sleep(settling)
        assert await storage.stamp("a") not in {None, stamp}

    async def test_an_object_written_in_place_has_another(
        self, storage: FilesystemStorage, tmp_path: Path, settling: float
    ) -> None:
        await storage.put("a/b", b"one")
        await asyncio.sleep(settling)
        before = await storage.stamps("a", ["b"])
        (tmp_path / "a/b").write_bytes(b"two")
        assert await storage.stamps("a", ["b"]) == [None]
        await asyncio.sleep(settling)
        assert await storage.stamps("a", ["b"]) not in ([None], before)


class TestLooks:
    """`exist` and `stamps`: many looks for the cost of few."""

    @pytest.mark.parametrize("count", [1, looks.FEW, looks.FEW + 1, looks.AT_ONCE + 1])
    @pytest.mark.parametrize("swift", [0.0, 60.0])
    async def test_what_may_take_long_is_done_in_a_thread(
        self,
        storage: FilesystemStorage,
        monkeypatch: pytest.MonkeyPatch,
        count: int,
        swift: float,
    ) -> None:
        """More names than are looked at in a millisecond, or a disk that has been slow."""
        monkeypatch.setattr(looks, "SWIFT", swift)
        await storage.put("a/1", b"")
        threads = set[int]()
        access = os.access

        def note(path: str, mode: int, *, dir_fd: int) -> bool:
            threads.add(threading.get_ident())
            return access(path, mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "access", note)
        found = await storage.exist("a", [f"{number}" for number in range(count)])
        assert [number for number, there in enumerate(found) if there] == [1][: count - 1]
        hops = count > looks.AT_ONCE or (count > looks.FEW and swift == 0.0)
        assert len(threads) == (2 if hops else 1)

    async def test_what_can_not_be_looked_at_has_no_stamp(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, settling: float
    ) -> None:
        for name in "abc":
            await storage.put(f"d/{name}", b"")
        await asyncio.sleep(settling)
        stat = os.stat

        def refuse(path: str, *, dir_fd: int) -> os.stat_result:
            if path == "b":
                raise PermissionError(errno.EACCES, "Permission denied")
            return stat(path, dir_fd=dir_fd)

        monkeypatch.setattr(os, "stat", refuse)
        a, b, c, none = await storage.stamps("d", ["a", "b", "c", "none"])
        assert (a not in {None, ABSENT}, b, c not in {None, ABSENT}, none) == (
            True,
            None,
            True,
            ABSENT,
        )

    async def test_links_that_lead_nowhere_are_not_there(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        await storage.put("d/file", b"")
        (tmp_path / "d/loop").symlink_to("loop")
        (tmp_path / "d/dangling").symlink_to("nowhere")
        os.mkfifo(tmp_path / "d/fifo")
        names = ["loop", "loop/below", "dangling", "file", "fifo"]
        assert list(await storage.exist("d", names)) == [False, False, False, True, True]
        absent = [stamp == ABSENT for stamp in await storage.stamps("d", names)]
        assert absent == [True, True, True, False, False]
        for directory in ("d/loop", "d/dangling", "d/fifo"):
            assert list(await storage.exist(directory, ["a"])) == [False]
            assert list(await storage.stamps(directory, ["a"])) == [ABSENT]

    async def test_directories_are_closed_again(self, storage: FilesystemStorage) -> None:
        await storage.put("a/b", b"")
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- counted
        for _ in range(5):
            await storage.exist("a", ["b", "c"])
            await storage.stamps("a", ["b", "c"])
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 -- counted
