import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from dockyard.errors import PathUnknownError, StorageError
from dockyard.storage import filesystem
from dockyard.storage.files import MAKE_TRIES
from dockyard.storage.filesystem import PRIVATE, FilesystemStorage
from tests.contract.storage import StorageContract, content_of, grow, read


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    return FilesystemStorage(tmp_path)


class TestFilesystemStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> FilesystemStorage:
        return FilesystemStorage(tmp_path)


class TestLeftovers:
    async def test_nothing_is_left_behind(self, storage: FilesystemStorage, tmp_path: Path) -> None:
        await storage.put("a/b", b"hello")
        await grow(storage, "up/data", b"x")
        await storage.publish("up/data", "blob")
        await storage.delete("a")
        assert list((tmp_path / PRIVATE / "tmp").iterdir()) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "docker", "up"]

    async def test_what_a_killed_process_left_is_swept_when_old(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leftovers = tmp_path / PRIVATE / "tmp"
        await storage.put("a", b"x")
        (leftovers / "file").write_bytes(b"half")
        (leftovers / "directory/below").mkdir(parents=True)
        (leftovers / "directory/below/link").write_bytes(b"half")
        (leftovers / "symlink").symlink_to(tmp_path / "a")
        assert storage.sweep() == 0
        assert len(list(leftovers.iterdir())) == 3
        later = time.time() + filesystem.STALE + 60
        monkeypatch.setattr(time, "time", lambda: later)
        assert storage.sweep() == 3
        assert list(leftovers.iterdir()) == []
        assert await storage.get("a", 10) == b"x"

    def test_there_may_be_nothing_to_sweep(self, storage: FilesystemStorage) -> None:
        assert storage.sweep() == 0


@pytest.fixture
def umask() -> Iterator[None]:
    """Let others read nothing, and the group not write."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_modes_follow_the_umask(storage: FilesystemStorage, tmp_path: Path) -> None:
    await storage.put("a/put", b"")
    await grow(storage, "up/growing", b"")
    await grow(storage, "up/data", b"")
    await storage.publish("up/data", "blobs/published")
    async with storage.lock("tag", "v1"):
        pass
    modes = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
    }
    assert modes["a/put"] == modes["up/growing"] == modes["blobs/published"] == 0o640
    assert modes["a"] == modes["blobs"] == modes[PRIVATE] == 0o750
    assert set(modes.values()) == {0o640, 0o750}


class TestMixedUpTrees:
    """Files where directories should be, and the other way about."""

    @pytest.mark.parametrize("path", ["file/below", "file/below/deeper", "directory"])
    async def test_writing_there_is_trouble_and_changes_nothing(
        self, storage: FilesystemStorage, tmp_path: Path, path: str
    ) -> None:
        await storage.put("file", b"x")
        await storage.put("directory/file", b"x")
        await grow(storage, "up/data", b"blob")
        for operation in (
            storage.put(path, b"new"),
            storage.create(path, b"new"),
            storage.publish("up/data", path),
        ):
            with pytest.raises(StorageError) as caught:
                await operation
            assert not isinstance(caught.value, PathUnknownError)
        assert (tmp_path / "file").read_bytes() == b"x"
        assert (tmp_path / "directory/file").read_bytes() == b"x"
        assert list((tmp_path / PRIVATE / "tmp").iterdir()) == []

    async def test_a_fifo_is_no_object_and_holds_nobody_up(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "fifo")
        assert await storage.get("fifo", 10) == b""
        for operation in (storage.open("fifo"), storage.size("fifo")):
            with pytest.raises(PathUnknownError):
                await operation

    async def test_links_that_lead_nowhere_are_no_objects(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        for path in ("dangling", "loop", "loop/below"):
            with pytest.raises(PathUnknownError):
                await storage.get(path, 10)
            assert not await storage.exists(path)

    async def test_a_symbolic_link_is_deleted_not_followed(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        await storage.put("kept/file", b"x")
        (tmp_path / "a").mkdir()
        (tmp_path / "a/link").symlink_to(tmp_path / "kept")
        (tmp_path / "a/dangling").symlink_to(tmp_path / "nowhere")
        await storage.delete("a")
        assert await storage.get("kept/file", 10) == b"x"


async def hold(storage: FilesystemStorage) -> None:
    async with storage.lock("tag", "v1"):
        pytest.fail("no lock can be had")


Operation = Callable[[FilesystemStorage], Awaitable[object]]


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        pytest.param("open", lambda storage: storage.get("a/b", 10), id="get"),
        pytest.param("open", lambda storage: storage.put("a/b", b""), id="put"),
        pytest.param("open", lambda storage: storage.create("a/c"), id="create"),
        pytest.param("open", lambda storage: storage.open("a/b"), id="open"),
        pytest.param("open", hold, id="lock"),
        pytest.param("stat", lambda storage: storage.size("a/b"), id="size"),
        pytest.param("stat", lambda storage: storage.exists("a/b"), id="exists"),
        pytest.param("stat", lambda storage: storage.stamp("a"), id="stamp"),
        pytest.param("open", lambda storage: storage.stamps("a", ["b"]), id="stamps"),
        pytest.param("open", lambda storage: storage.exist("a", ["b"]), id="exist"),
        pytest.param("stat", lambda storage: storage.exist("a", ["none"]), id="exist, one of them"),
        pytest.param("listdir", lambda storage: storage.names("a"), id="names"),
        pytest.param("scandir", lambda storage: storage.list("a"), id="list"),
        pytest.param("lstat", lambda storage: storage.delete("a"), id="delete"),
    ],
)
async def test_trouble_is_reported_with_its_cause(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, call: str, operation: Operation
) -> None:
    await storage.put("a/b", b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, refuse)
        with pytest.raises(StorageError, match="Permission denied") as caught:
            await operation(storage)
    assert isinstance(caught.value.__cause__, PermissionError)


class TestDirectoriesThatVanish:
    """``rm -rf`` of a repository, at the moment something is put into it."""

    async def test_they_are_made_again(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mkdir = os.mkdir
        removed: list[str] = []

        def vanish(path: str, *mode: int) -> None:
            mkdir(path, *mode)
            if path.endswith("/a/b") and len(removed) < MAKE_TRIES - 2:
                os.rmdir(path)  # noqa: PTH106 -- the same form as the code under test
                removed.append(path)

        monkeypatch.setattr(os, "mkdir", vanish)
        await storage.put("a/b/c", b"x")
        assert len(removed) == MAKE_TRIES - 2
        assert (tmp_path / "a/b/c").read_bytes() == b"x"

    @pytest.mark.parametrize(
        "write",
        [
            pytest.param(lambda storage: storage.put("a/b/c", b"x"), id="put"),
            pytest.param(lambda storage: storage.create("a/b/c"), id="create"),
            pytest.param(lambda storage: storage.publish("up/data", "a/b/c"), id="publish"),
        ],
    )
    async def test_not_for_ever(
        self,
        storage: FilesystemStorage,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        write: Operation,
    ) -> None:
        await grow(storage, "up/data", b"x")
        mkdir = os.mkdir

        def vanish(path: str, *mode: int) -> None:
            mkdir(path, *mode)
            if PRIVATE not in path:
                os.rmdir(path)  # noqa: PTH106 -- the same form as the code under test

        monkeypatch.setattr(os, "mkdir", vanish)
        with pytest.raises(StorageError):
            await write(storage)
        assert list((tmp_path / PRIVATE).glob("tmp/*")) == []

    async def test_a_removal_after_the_rename_is_what_happened_last(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace = os.replace

        def replace_and_remove(source: str, target: str) -> None:
            replace(source, target)
            if target.endswith("/a/b/c"):
                shutil.rmtree(tmp_path / "a")

        await storage.put("a/b/other", b"x")
        with monkeypatch.context() as broken:
            broken.setattr(os, "replace", replace_and_remove)
            await storage.put("a/b/c", b"x")
            assert not await storage.exists("a")
            await grow(storage, "up/data", b"x")
            await storage.publish("up/data", "a/b/c")
            assert not await storage.exists("a")
        await storage.put("a/b/c", b"x")
        assert await storage.get("a/b/c", 10) == b"x"


class TestAppending:
    async def test_a_file_published_meanwhile_is_refused(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await grow(storage, "up/data", b"blob")
        flock = fcntl.flock

        def flock_after_another_request_published(descriptor: int, operation: int) -> None:
            (tmp_path / "up/data").rename(tmp_path / "blob")
            (tmp_path / "up/data").write_bytes(b"of another upload")
            flock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", flock_after_another_request_published)
        with pytest.raises(PathUnknownError):
            async with storage.append("up/data"):
                pytest.fail("this is a blob")
        assert (tmp_path / "blob").read_bytes() == b"blob"

    async def test_a_file_removed_meanwhile_is_refused(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await grow(storage, "up/data", b"blob")
        flock = fcntl.flock

        def flock_after_a_cancel(descriptor: int, operation: int) -> None:
            (tmp_path / "up/data").unlink()
            flock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", flock_after_a_cancel)
        with pytest.raises(PathUnknownError):
            async with storage.append("up/data"):
                pytest.fail("there is no upload")


class TestReading:
    async def test_a_file_cut_short_is_noticed(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        await storage.put("a", b"hello")
        reader = await storage.open("a")
        os.truncate(tmp_path / "a", 2)
        with pytest.raises(StorageError, match="a ends at 2, expected 5"):
            await content_of(reader)

    async def test_a_disk_that_fails_is_reported(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await storage.put("a", b"hello")
        reader = await storage.open("a")

        def fail(*_: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            await content_of(reader)

    @pytest.mark.parametrize(
        ("trouble", "questions"),
        [(BlockingIOError(), 4), (OSError(errno.EOPNOTSUPP, "Operation not supported"), 1)],
        ids=["not-cached", "kernel-can-not-tell"],
    )
    async def test_bytes_that_are_not_cached_are_read_in_a_thread(
        self,
        storage: FilesystemStorage,
        monkeypatch: pytest.MonkeyPatch,
        trouble: OSError,
        questions: int,
    ) -> None:
        await storage.put("a", b"x" * (1 << 20))
        asked = []

        def ask(*_: object) -> int:
            asked.append(1)
            raise trouble

        monkeypatch.setattr(os, "preadv", ask)
        assert await read(storage, "a") == b"x" * (1 << 20)
        assert len(asked) == questions


class TestForgetting:
    @pytest.mark.parametrize("cached", [True, False])
    async def test_only_what_was_not_in_memory_before_is_given_back(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, *, cached: bool
    ) -> None:
        await storage.put("a", b"x" * 1000)
        told: list[tuple[int, ...]] = []

        def ask(*_: object) -> int:
            if cached:
                return 1
            raise BlockingIOError

        def advise(_: int, *told_of: int) -> None:
            told.append(told_of)
            raise OSError(errno.ESPIPE, "advice is advice")

        monkeypatch.setattr(os, "preadv", ask)
        monkeypatch.setattr(os, "posix_fadvise", advise)
        reader = await storage.open("a")
        reader.forget(0, 1000)  # nothing was read yet
        assert b"".join([chunk async for chunk in reader.read(0, 1000)]) == b"x" * 1000
        reader.forget(0, 1000)
        reader.close()
        assert told == ([] if cached else [(0, 1000, os.POSIX_FADV_DONTNEED)])


class TestRecordedSize:
    async def test_a_published_file_knows_it(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        await grow(storage, "up", b"12345")
        await storage.publish("up", "blob")
        os.truncate(tmp_path / "blob", 2)
        reader = await storage.open("blob")
        assert (reader.size, reader.recorded_size) == (2, 5)
        reader.close()

    async def test_what_another_registry_wrote_does_not(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "blob").write_bytes(b"12345")
        reader = await storage.open("blob")
        assert reader.recorded_size is None
        os.setxattr(tmp_path / "blob", "user.dockyard.size", b"nonsense")
        assert reader.recorded_size is None
        reader.close()

    async def test_a_file_system_without_room_for_it_will_do(
        self, storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "setxattr", refuse)
        await grow(storage, "up", b"12345")
        await storage.publish("up", "blob")
        assert await read(storage, "blob") == b"12345"
        reader = await storage.open("blob")
        assert not reader.note_size()
        reader.close()


def test_the_epoch_is_the_machines_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FilesystemStorage(tmp_path).epoch == FilesystemStorage(tmp_path / "other").epoch

    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert FilesystemStorage(tmp_path).epoch != FilesystemStorage(tmp_path).epoch
