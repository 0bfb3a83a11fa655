"""The `filesystem` driver when the disk fails, is full, or loses power.

What `put`, `publish` and `delete` did survives loss of power once they return: that is a matter of
which names and bytes were synced, in which order, so the calls to the system are recorded.
"""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import PathUnknownError, StorageError, StorageFullError
from dockyard.storage import naming, placing
from dockyard.storage.filesystem import PRIVATE, FilesystemStorage
from tests.contract.storage import grow, read


Operation = Callable[[FilesystemStorage], Awaitable[None]]

TARGET = "a/b/c/link"
TEMPORARY = f"{PRIVATE}/tmp/"


async def put(storage: FilesystemStorage) -> None:
    await storage.put(TARGET, b"new")


async def publish(storage: FilesystemStorage) -> None:
    await grow(storage, "up/data", b"new")
    await storage.publish("up/data", TARGET)


WRITES = pytest.mark.parametrize("write", [put, publish], ids=["put", "publish"])


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    return FilesystemStorage(tmp_path)


class Recorder:
    """What was asked of the system: names of calls and paths below `root`, in their order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self.calls: list[tuple[str, ...]] = []
        for name in ("mkdir", "replace", "unlink", "rmdir"):
            monkeypatch.setattr(os, name, self._recording(name, getattr(os, name)))
        fsync = os.fsync

        def recorded_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self._record("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink()))

        monkeypatch.setattr(os, "fsync", recorded_fsync)

    def _recording(self, name: str, function: Callable[..., None]) -> Callable[..., None]:
        def recorded(*paths: Any, **options: Any) -> None:  # noqa: ANN401 -- as the system has them
            function(*paths, **options)
            self._record(name, *(path for path in paths if isinstance(path, str)))

        return recorded

    def _record(self, name: str, *paths: str) -> None:
        self.calls.append((name, *(os.path.relpath(path, self._root) for path in paths)))

    def place(self, name: str, *paths: str) -> int:
        """Return when a call was made that has not failed; the last, if there were several."""
        return len(self.calls) - 1 - self.calls[::-1].index((name, *paths))

    def place_of_rename_to(self, target: str) -> tuple[int, str]:
        """Return when `target` was given its name, and which name it had before."""
        renames = [
            (place, call[1])
            for place, call in enumerate(self.calls)
            if call[0] == "replace" and call[2] == target
        ]
        assert len(renames) == 1
        return renames[0]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(tmp_path, monkeypatch)


class TestOrder:
    @WRITES
    @pytest.mark.parametrize("before", [(), ("a/other",), (TARGET,)], ids=["fresh", "dir", "file"])
    async def test_bytes_before_the_name_and_the_name_before_success(
        self,
        storage: FilesystemStorage,
        recorder: Recorder,
        write: Operation,
        before: tuple[str, ...],
    ) -> None:
        for path in before:
            await storage.put(path, b"old")
        recorder.calls.clear()
        await write(storage)
        renamed, source = recorder.place_of_rename_to(TARGET)
        assert recorder.place("fsync", source) < renamed
        assert recorder.place("fsync", "a/b/c") > renamed

    @WRITES
    async def test_the_names_of_new_directories_are_durable_too(
        self, storage: FilesystemStorage, recorder: Recorder, write: Operation
    ) -> None:
        await write(storage)
        for directory, parent in (("a", "."), ("a/b", "a"), ("a/b/c", "a/b")):
            assert recorder.place("fsync", parent) > recorder.place("mkdir", directory)

    async def test_directories_that_another_process_made_are_not_trusted(
        self, storage: FilesystemStorage, recorder: Recorder, tmp_path: Path
    ) -> None:
        (tmp_path / "a/b/c").mkdir(parents=True)
        recorder.calls.clear()
        await put(storage)
        assert {("fsync", "."), ("fsync", "a"), ("fsync", "a/b")} <= set(recorder.calls)

    async def test_a_name_is_made_durable_again_only_after_a_change(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await put(storage)
        recorder.calls.clear()
        await storage.put("a/b/c/other", b"x")
        synced = [call[1] for call in recorder.calls if call[0] == "fsync"]
        assert synced[1:] == ["a/b", "a/b/c"]

    async def test_directories_removed_and_made_again_are_synced_again(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await put(storage)
        await storage.delete("a")
        recorder.calls.clear()
        await put(storage)
        for directory, parent in (("a", "."), ("a/b", "a"), ("a/b/c", "a/b")):
            assert recorder.place("fsync", parent) > recorder.place("mkdir", directory)

    async def test_above_what_changed_nothing_is_synced_again(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await put(storage)
        recorder.calls.clear()
        await storage.put("a/b/new/link", b"x")
        synced = [call[1] for call in recorder.calls if call[0] == "fsync"]
        assert synced[1:] == ["a", "a/b", "a/b/new"]

    async def test_directories_another_process_made_again_are_synced_again(
        self, storage: FilesystemStorage, recorder: Recorder, tmp_path: Path
    ) -> None:
        """It may not have synced them yet, and a name below needs them all."""
        await put(storage)
        (tmp_path / "a").rename(tmp_path / "elsewhere")
        (tmp_path / "a/b/c").mkdir(parents=True)
        recorder.calls.clear()
        await put(storage)
        assert {("fsync", "."), ("fsync", "a"), ("fsync", "a/b")} <= set(recorder.calls)
        (tmp_path / "a").rename(tmp_path / "again")
        (tmp_path / "a/b").mkdir(parents=True)
        recorder.calls.clear()
        await storage.put("a/b/new/link", b"x")
        assert {("fsync", "."), ("fsync", "a"), ("fsync", "a/b")} <= set(recorder.calls)

    async def test_what_two_workers_put_is_synced_by_each_once(
        self, storage: FilesystemStorage, recorder: Recorder, tmp_path: Path
    ) -> None:
        """What one touches looks like another file to the other, so neither does so each time."""
        other = FilesystemStorage(tmp_path)
        await put(storage)
        await put(other)
        recorder.calls.clear()
        for each in (storage, other, storage, other):
            await put(each)
        assert recorder.calls == []

    async def test_of_several_all_are_written_if_one_is(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        await put(storage)
        before = (tmp_path / TARGET).stat().st_mtime_ns
        await asyncio.sleep(0.05)
        await storage.put_all([(TARGET, b"new"), ("a/b/new/link", b"x")])
        assert (tmp_path / TARGET).stat().st_mtime_ns > before

    async def test_what_is_in_place_and_durable_is_not_written_again(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await put(storage)
        recorder.calls.clear()
        await put(storage)
        assert recorder.calls == []

    async def test_what_another_process_put_there_is_synced(
        self, storage: FilesystemStorage, recorder: Recorder, tmp_path: Path
    ) -> None:
        (tmp_path / "a/b/c").mkdir(parents=True)
        (tmp_path / TARGET).write_bytes(b"new")
        recorder.calls.clear()
        await put(storage)
        assert {("fsync", TARGET), ("fsync", "a/b/c"), ("fsync", ".")} <= set(recorder.calls)
        assert not [call for call in recorder.calls if call[0] == "replace"]

    async def test_what_another_process_put_there_since_is_synced(
        self, storage: FilesystemStorage, recorder: Recorder, tmp_path: Path
    ) -> None:
        await put(storage)
        times = (tmp_path / TARGET).stat()
        (tmp_path / TARGET).write_bytes(b"new")
        os.utime(tmp_path / TARGET, ns=(times.st_atime_ns, times.st_mtime_ns))
        recorder.calls.clear()
        await put(storage)
        assert {("fsync", TARGET), ("fsync", "a/b/c")} <= set(recorder.calls)

    async def test_only_so_many_objects_are_remembered(
        self, storage: FilesystemStorage, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(placing, "KNOWN_OBJECTS", 1)
        await put(storage)
        await storage.put("a/b/c/other", b"x")
        recorder.calls.clear()
        await put(storage)
        assert ("fsync", TARGET) in recorder.calls

    async def test_each_of_several_is_durable_before_the_next_has_its_name(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await storage.put_all([("a/b/one", b"x"), ("a/c/two", b"x")])
        first, _ = recorder.place_of_rename_to("a/b/one")
        second, _ = recorder.place_of_rename_to("a/c/two")
        assert first < recorder.place("fsync", "a/b") < second < recorder.place("fsync", "a/c")
        assert recorder.place("fsync", "a") > recorder.place("mkdir", "a/c")

    async def test_what_goes_ahead_of_a_blob_is_durable_with_it(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await grow(storage, "up/data", b"new")
        await storage.publish("up/data", TARGET, [("links/one", b"x")])
        ahead, _ = recorder.place_of_rename_to("links/one")
        renamed, _ = recorder.place_of_rename_to(TARGET)
        assert ahead < renamed
        assert recorder.place("fsync", "links") > ahead
        assert recorder.place("fsync", "a/b/c") > renamed

    async def test_only_so_many_directories_are_remembered(
        self, storage: FilesystemStorage, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(naming, "KNOWN_DIRECTORIES", 3)
        for name in "abc":
            await storage.put(f"{name}/x/y", b"")
        recorder.calls.clear()
        await storage.put("a/x/z", b"")
        assert ("fsync", "a") in recorder.calls

    async def test_the_roots_own_name_is_durable(self, recorder: Recorder, tmp_path: Path) -> None:
        await put(FilesystemStorage(tmp_path / "var/registry"))
        above = [("fsync", "var"), ("fsync", "."), ("fsync", "..")]
        assert [call for call in recorder.calls if call in above][:3] == above

    async def test_what_is_above_the_root_may_be_closed_to_us(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        system_open = os.open

        def guarded(path: str, flags: int, mode: int = 0o777) -> int:
            if path == str(tmp_path):
                raise PermissionError(errno.EACCES, "Permission denied")
            return system_open(path, flags, mode)

        monkeypatch.setattr(os, "open", guarded)
        storage = FilesystemStorage(tmp_path / "registry")
        await put(storage)
        assert await storage.get(TARGET, 10) == b"new"

    @pytest.mark.parametrize(("path", "parent"), [("a/b", "a"), (TARGET, "a/b/c")])
    async def test_a_deletion_is_one_rename_and_durable(
        self, storage: FilesystemStorage, recorder: Recorder, path: str, parent: str
    ) -> None:
        await put(storage)
        recorder.calls.clear()
        await storage.delete(path)
        names = [call[0] for call in recorder.calls]
        renamed = names.index("replace")
        assert recorder.calls[renamed][1] == path
        assert recorder.calls[renamed][2].startswith(TEMPORARY)
        assert recorder.place("fsync", parent) == renamed + 1
        assert not {"unlink", "rmdir"} & set(names[: renamed + 1])


class TestBatches:
    """`move_all` and `delete_all`: few syncs, in an order that loses nothing."""

    MOVES = tuple((f"a/{name}/data", f"trash/{name}") for name in "bcd")

    @pytest.fixture(autouse=True)
    async def _objects(self, storage: FilesystemStorage) -> None:
        for source, _ in self.MOVES:
            await storage.put(source, source.encode())

    async def test_the_new_names_are_durable_by_one_sync(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await storage.move_all(self.MOVES)
        assert [call for call in recorder.calls if call == ("fsync", "trash")] == [
            ("fsync", "trash")
        ]
        for source, target in self.MOVES:
            renamed, before = recorder.place_of_rename_to(target)
            assert before == source
            assert renamed < recorder.place("fsync", "trash")
        assert recorder.place("fsync", ".") > recorder.place("mkdir", "trash")

    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
    @pytest.mark.parametrize("nth", [1, 2, 3])
    async def test_one_that_fails_does_not_stop_the_others(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, nth: int, error: int
    ) -> None:
        await storage.put("trash/other", b"x")
        with monkeypatch.context() as broken:
            broken.setattr(os, "replace", Failing(nth, error).wrap(os.replace))
            results = await storage.move_all(self.MOVES)
        for number, (source, target) in enumerate(self.MOVES, 1):
            failed = results[source]
            if number == nth:
                assert isinstance(failed, StorageError)
                assert isinstance(failed, StorageFullError) == (error == errno.ENOSPC)
                assert source in str(failed)
            else:
                assert failed is None
            assert await storage.exists(source) == (number == nth)
            assert await storage.exists(target) == (number != nth)

    async def test_names_that_can_not_be_synced_are_trouble_for_all(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fsync", Failing(1).wrap(os.fsync))
        with pytest.raises(StorageError, match="Input/output error"):
            await storage.move_all(self.MOVES)

    async def test_a_deletion_is_one_call_each(
        self, storage: FilesystemStorage, recorder: Recorder
    ) -> None:
        await storage.delete_all([f"a/{name}/data" for name in "bcd"])
        names = [call[0] for call in recorder.calls if call[0] in {"replace", "fsync", "unlink"}]
        assert names == ["unlink"] * 3

    @pytest.mark.parametrize("nth", [1, 2, 3])
    async def test_one_that_can_not_be_deleted_is_reported_and_the_others_go(
        self,
        storage: FilesystemStorage,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        nth: int,
    ) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(os, "unlink", Failing(nth).wrap(os.unlink))
            with pytest.raises(StorageError, match=rf"a/{'bcd'[nth - 1]}/data: Input/output error"):
                await storage.delete_all([f"a/{name}/data" for name in "bcd"])
        there = [await storage.exists(f"a/{name}") for name in "bcd"]
        assert there == [number == nth for number in (1, 2, 3)]
        assert list((tmp_path / PRIVATE / "tmp").glob("*")) == []


class Failing:
    """Lets a system call fail at its `nth` time."""

    def __init__(self, nth: int, error: int = errno.EIO) -> None:
        self._left = nth
        self._error = error

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 -- whatever it is
            self._left -= 1
            if self._left == 0:
                raise OSError(self._error, os.strerror(self._error))
            return function(*arguments, **options)

        return failing

    @property
    def has_failed(self) -> bool:
        return self._left <= 0


class TestFailedSync:
    """Each call of fsync fails once; what is there is the old object or the new, whole."""

    @WRITES
    @pytest.mark.parametrize("replaces", [False, True], ids=["fresh", "replacing"])
    async def test_nothing_is_lost_and_nothing_is_half_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Operation, *, replaces: bool
    ) -> None:
        for nth in count(1):
            storage = FilesystemStorage(tmp_path / str(nth))
            if replaces:
                await storage.put(TARGET, b"old")
            failing = Failing(nth)
            with monkeypatch.context() as broken:
                broken.setattr(os, "fsync", failing.wrap(os.fsync))
                try:
                    await write(storage)
                except StorageError:
                    assert failing.has_failed
                else:
                    assert nth > 2
                    break
            there = await self._content(storage)
            before = b"old" if replaces else None
            # The object's own bytes are synced first; then it has its name or not.
            assert there == before if nth == 1 else there in {before, b"new"}
            await write(storage)
            assert await self._content(storage) == b"new"
            assert list((tmp_path / str(nth) / PRIVATE / "tmp").glob("*")) == []

    @staticmethod
    async def _content(storage: FilesystemStorage) -> bytes | None:
        try:
            return await read(storage, TARGET)
        except PathUnknownError:
            return None

    async def test_an_upload_that_could_not_be_synced_is_gone(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second fsync would succeed, whatever reached the disk: so there is none."""
        await grow(storage, "up/data", b"new")
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", Failing(1).wrap(os.fsync))
            with pytest.raises(StorageError, match="Input/output error"):
                await storage.publish("up/data", TARGET)
        with pytest.raises(PathUnknownError):
            await storage.publish("up/data", TARGET)

    async def test_a_deletion_whose_sync_fails_is_reported(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await put(storage)
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", Failing(1).wrap(os.fsync))
            with pytest.raises(StorageError, match="Input/output error"):
                await storage.delete("a")
        assert not await storage.exists("a")


class TestFullDisk:
    @pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
    def error(self, request: pytest.FixtureRequest) -> int:
        number: int = request.param
        return number

    @staticmethod
    def leave_room(monkeypatch: pytest.MonkeyPatch, room: int, error: int) -> None:
        """Let the disk take `room` more bytes, then no more."""
        write = os.write
        left = iter(range(room, -1, -1))

        def limited(descriptor: int, content: bytes | memoryview) -> int:
            if not content:
                return 0
            if next(left) == 0:
                raise OSError(error, os.strerror(error))
            return write(descriptor, content[:1])

        monkeypatch.setattr(os, "write", limited)

    @pytest.mark.parametrize("room", range(4))
    async def test_a_chunk_that_does_not_fit_leaves_no_trace(
        self,
        storage: FilesystemStorage,
        monkeypatch: pytest.MonkeyPatch,
        room: int,
        error: int,
    ) -> None:
        await grow(storage, "up/data", b"before")
        async with storage.append("up/data") as writer:
            with monkeypatch.context() as full:
                self.leave_room(full, room, error)
                with pytest.raises(StorageFullError):
                    await writer.append(b"chunk")
            assert writer.size == len(b"before")
            assert await storage.size("up/data") == len(b"before")
            await writer.append(b"+")
        assert await read(storage, "up/data") == b"before+"

    async def test_a_disk_that_fails_is_not_full(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await grow(storage, "up/data", b"before")
        async with storage.append("up/data") as writer:
            with monkeypatch.context() as broken:
                self.leave_room(broken, 2, errno.EIO)
                with pytest.raises(StorageError, match="write failed") as caught:
                    await writer.append(b"chunk")
            assert not isinstance(caught.value, StorageFullError)
            assert await storage.size("up/data") == len(b"before")

    @pytest.mark.parametrize("room", range(3))
    async def test_a_put_that_does_not_fit_changes_nothing(
        self,
        storage: FilesystemStorage,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        room: int,
        error: int,
    ) -> None:
        await storage.put(TARGET, b"old")
        with monkeypatch.context() as full:
            self.leave_room(full, room, error)
            with pytest.raises(StorageFullError):
                await put(storage)
        assert await storage.get(TARGET, 10) == b"old"
        assert list((tmp_path / TEMPORARY).iterdir()) == []

    async def test_an_upload_that_can_not_begin_is_told_so(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, error: int
    ) -> None:
        self.leave_room(monkeypatch, 0, error)
        with pytest.raises(StorageFullError):
            await storage.create("up/startedat", b"2026-01-01T00:00:00Z")

    async def test_a_directory_that_can_not_be_made_leaves_no_temporary_file(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await storage.put("x", b"")
        with monkeypatch.context() as full:
            # The first is for our own directory, which is there.
            full.setattr(os, "mkdir", Failing(2, errno.ENOSPC).wrap(os.mkdir))
            with pytest.raises(StorageFullError):
                await put(storage)
        assert list((tmp_path / TEMPORARY).iterdir()) == []

    async def test_deleting_makes_room_even_without_room_for_our_own_directory(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a/b/c").mkdir(parents=True)
        (tmp_path / TARGET).write_bytes(b"x")
        monkeypatch.setattr(os, "mkdir", Failing(1, errno.ENOSPC).wrap(os.mkdir))
        await storage.delete("a/b")
        assert list((tmp_path / "a").iterdir()) == []

    async def test_deleting_reports_other_trouble_with_our_own_directory(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a").write_bytes(b"x")
        monkeypatch.setattr(os, "mkdir", Failing(1, errno.EROFS).wrap(os.mkdir))
        with pytest.raises(StorageError, match="Read-only file system"):
            await storage.delete("a")
        assert (tmp_path / "a").read_bytes() == b"x"


async def test_a_directory_is_gone_at_once_even_if_its_files_stay(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(storage)
    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", Failing(1).wrap(os.unlink))
        with pytest.raises(StorageError):
            await storage.delete("a")
    assert not await storage.exists("a")


@pytest.fixture(autouse=True)
def _descriptors_are_closed() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count
    yield
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 -- a count
