"""The promises of `dockyard.storage.interface.Storage`, once, for every driver."""

import asyncio
import time
from datetime import timedelta

import pytest

from dockyard.clock import utc_now
from dockyard.errors import PathUnknownError, StorageBusyError, StorageError
from dockyard.storage.interface import ABSENT, ObjectTooLargeError, Reader, Stamp, Storage


LARGE = bytes(range(256)) * 4096
"""1 MiB: more than a driver reads at once."""


CLOCK_STEP = 0.02
"""Seconds by which a file's time may be early: it is counted in the kernel's ticks."""


async def content_of(reader: Reader) -> bytes:
    """Return all bytes of an open object, and close it."""
    try:
        return b"".join([chunk async for chunk in reader.read(0, reader.size)])
    finally:
        reader.close()


async def read(storage: Storage, path: str) -> bytes:
    return await content_of(await storage.open(path))


async def grow(storage: Storage, path: str, *chunks: bytes) -> None:
    """Make a growing object of `chunks`."""
    await storage.create(path)
    async with storage.append(path) as writer:
        for chunk in chunks:
            await writer.append(chunk)


class SmallObjects:
    """Links, manifests, notes: `put` and `get`."""

    @pytest.mark.parametrize("content", [b"", b"hello", LARGE], ids=["empty", "small", "large"])
    async def test_what_was_put_is_there(self, storage: Storage, content: bytes) -> None:
        await storage.put("a/b/c", content)
        assert await storage.get("a/b/c", len(content)) == content
        assert await storage.size("a/b/c") == len(content)
        assert await read(storage, "a/b/c") == content

    async def test_putting_again_replaces(self, storage: Storage) -> None:
        await storage.put("a/b", b"a longer one")
        await storage.put("a/b", b"short")
        assert await storage.get("a/b", 100) == b"short"

    async def test_more_than_the_limit_is_refused(self, storage: Storage) -> None:
        await storage.put("a", b"hello")
        assert await storage.get("a", 5) == b"hello"
        with pytest.raises(StorageError, match="more than 4 bytes") as caught:
            await storage.get("a", 4)
        assert not isinstance(caught.value, PathUnknownError)

    @pytest.mark.parametrize("size", [65535, 65536, 65537], ids=str)
    async def test_the_limit_counts_whatever_is_read_at_once(
        self, storage: Storage, size: int
    ) -> None:
        await storage.put("a", LARGE[:size])
        for limit in (size, size + 1, 4 * size):
            assert await storage.get("a", limit) == LARGE[:size]
        with pytest.raises(ObjectTooLargeError):
            await storage.get("a", size - 1)

    async def test_readers_see_the_old_bytes_or_the_new(self, storage: Storage) -> None:
        old, new = b"o" * 100_000, b"n" * 100_000
        await storage.put("a", old)
        puts = [asyncio.create_task(storage.put("a", content)) for content in (new, old) * 5]
        seen = set()
        while not all(put.done() for put in puts):
            seen.add(await storage.get("a", len(old)))
            await asyncio.sleep(0)
        assert seen <= {old, new}


class MissingObjects:
    """What is not there is `PathUnknownError`, which names the path."""

    @pytest.mark.parametrize("path", ["nothing", "a", "a/b/nothing", "a/b/c/below"])
    async def test_nothing_to_read(self, storage: Storage, path: str) -> None:
        await storage.put("a/b/c", b"")
        for operation in (storage.get(path, 10), storage.open(path), storage.size(path)):
            with pytest.raises(PathUnknownError) as caught:
                await operation
            assert caught.value.path == path

    @pytest.mark.parametrize("path", ["nothing", "a/b/nothing", "a/b/c/below"])
    async def test_nothing_to_delete(self, storage: Storage, path: str) -> None:
        await storage.put("a/b/c", b"")
        with pytest.raises(PathUnknownError):
            await storage.delete(path)
        assert await storage.exists("a/b/c")

    @pytest.mark.parametrize("path", ["nothing", "a/b/nothing", "a/b/c"])
    async def test_nothing_to_list(self, storage: Storage, path: str) -> None:
        await storage.put("a/b/c", b"")
        with pytest.raises(PathUnknownError):
            await storage.list(path)

    @pytest.mark.parametrize("path", ["nothing", "a/b/nothing", "a/b/c"])
    async def test_nothing_to_name(self, storage: Storage, path: str) -> None:
        await storage.put("a/b/c", b"")
        with pytest.raises(PathUnknownError):
            await storage.names(path)

    @pytest.mark.parametrize("path", ["nothing", "a/b/nothing"])
    async def test_nothing_to_stamp(self, storage: Storage, path: str) -> None:
        await storage.put("a/b/c", b"")
        with pytest.raises(PathUnknownError):
            await storage.stamp(path)

    @pytest.mark.parametrize("path", ["nothing", "a", "a/b/nothing"])
    async def test_nothing_to_append_to(self, storage: Storage, path: str) -> None:
        await grow(storage, "a/b/c")
        with pytest.raises(PathUnknownError):
            async with storage.append(path):
                pytest.fail("there is no such object")

    async def test_nothing_to_publish(self, storage: Storage) -> None:
        await storage.put("target", b"old")
        with pytest.raises(PathUnknownError) as caught:
            await storage.publish("nothing", "target")
        assert caught.value.path == "nothing"
        assert await storage.get("target", 10) == b"old"


class GrowingObjects:
    """Blobs on their way in: `create`, `append`, `publish`."""

    async def test_an_object_grows(self, storage: Storage) -> None:
        await storage.create("up/data", b"begin")
        async with storage.append("up/data") as writer:
            assert writer.size == 5
            await writer.append(b" and")
            await writer.append(b"")
            await writer.append(b" go on")
            assert writer.size == 15
            assert await storage.size("up/data") == 15
        assert await read(storage, "up/data") == b"begin and go on"

    async def test_growing_goes_on_where_it_ended(self, storage: Storage) -> None:
        await grow(storage, "up/data", b"one")
        async with storage.append("up/data") as writer:
            assert writer.size == 3
            await writer.append(b"two")
        assert await read(storage, "up/data") == b"onetwo"

    async def test_what_arrived_stays_when_the_request_fails(self, storage: Storage) -> None:
        async def fail_half_way() -> None:
            async with storage.append("up/data") as writer:
                await writer.append(b"half")
                raise ConnectionError

        await storage.create("up/data")
        with pytest.raises(ConnectionError):
            await fail_half_way()
        assert await storage.size("up/data") == 4

    async def test_creating_again_begins_anew(self, storage: Storage) -> None:
        await grow(storage, "up/data", b"a longer one")
        await storage.create("up/data", b"new")
        assert await read(storage, "up/data") == b"new"

    async def test_only_one_request_holds_the_end(self, storage: Storage) -> None:
        await storage.create("up/data")
        async with storage.append("up/data") as writer:
            with pytest.raises(StorageBusyError):
                async with storage.append("up/data"):
                    pytest.fail("two requests hold the end")
            await writer.append(b"x")
        async with storage.append("up/data") as writer:
            assert writer.size == 1

    async def test_a_published_object_has_its_new_name_only(self, storage: Storage) -> None:
        await grow(storage, "up/data", LARGE)
        await storage.publish("up/data", "blobs/x/data")
        assert await read(storage, "blobs/x/data") == LARGE
        assert not await storage.exists("up/data")
        with pytest.raises(PathUnknownError):
            async with storage.append("up/data"):
                pytest.fail("a published object can't grow")

    async def test_publishing_while_holding_the_end(self, storage: Storage) -> None:
        await storage.create("up/data")
        async with storage.append("up/data") as writer:
            await writer.append(b"blob")
            await storage.publish("up/data", "blobs/x/data")
        assert await read(storage, "blobs/x/data") == b"blob"

    async def test_publishing_replaces(self, storage: Storage) -> None:
        await storage.put("blobs/x/data", b"damaged")
        await grow(storage, "up/data", b"whole")
        await storage.publish("up/data", "blobs/x/data")
        assert await read(storage, "blobs/x/data") == b"whole"

    async def test_a_published_object_may_know_its_size(self, storage: Storage) -> None:
        await grow(storage, "up/data", b"12345")
        await storage.publish("up/data", "blobs/x/data")
        reader = await storage.open("blobs/x/data")
        assert reader.size == 5
        assert reader.recorded_size in {5, None}
        reader.close()


class Readers:
    """An object opened for reading."""

    async def test_a_size_that_is_noted_is_known(self, storage: Storage) -> None:
        await storage.put("a", b"12345")
        reader = await storage.open("a")
        assert reader.note_size() == (reader.recorded_size == 5)
        reader.close()

    async def test_what_is_forgotten_can_be_read_again(self, storage: Storage) -> None:
        await storage.put("a", LARGE)
        reader = await storage.open("a")
        for _ in range(2):
            chunks = [chunk async for chunk in reader.read(0, len(LARGE))]
            assert b"".join(chunks) == LARGE
            reader.forget(0, len(LARGE))
        reader.close()

    @pytest.mark.parametrize(
        "wanted",
        [
            range(0),
            range(1),
            range(100, 200),
            range(len(LARGE) - 1, len(LARGE)),
            range(1, len(LARGE)),
            range(262_143, 262_145),
        ],
        ids=str,
    )
    async def test_any_range_can_be_read(self, storage: Storage, wanted: range) -> None:
        await storage.put("a", LARGE)
        reader = await storage.open("a")
        chunks = [chunk async for chunk in reader.read(wanted.start, wanted.stop)]
        reader.close()
        assert b"".join(chunks) == LARGE[wanted.start : wanted.stop]
        assert all(chunks)

    async def test_a_reader_reads_more_than_once(self, storage: Storage) -> None:
        await storage.put("a", b"hello")
        reader = await storage.open("a")
        for _ in range(2):
            assert b"".join([chunk async for chunk in reader.read(1, 3)]) == b"el"
        reader.close()

    async def test_closing_again_is_harmless(self, storage: Storage) -> None:
        await storage.put("a", b"hello")
        reader = await storage.open("a")
        reader.close()
        reader.close()

    async def test_a_reader_sees_what_it_opened(self, storage: Storage) -> None:
        await storage.put("a", b"old")
        replaced = await storage.open("a")
        await storage.put("a", b"newer")
        deleted = await storage.open("a")
        await storage.delete("a")
        assert await content_of(replaced) == b"old"
        assert await content_of(deleted) == b"newer"


class Directories:
    """`exists`, `exist`, `list`, `names`, `stamp`, `stamps` and `delete`."""

    async def test_what_exists(self, storage: Storage) -> None:
        await storage.put("a/b/c", b"")
        await storage.create("a/g")
        for path in ("a", "a/b", "a/b/c", "a/g"):
            assert await storage.exists(path)
        for path in ("b", "a/bb", "a/b/c/d", "a/b/cc"):
            assert not await storage.exists(path)

    async def test_which_of_many_exist(self, storage: Storage) -> None:
        await storage.put("a/b/c", b"")
        await storage.create("a/g")
        names = ["b", "nothing", "b/c", "b/nothing", "g", "g/below", "b/c/d"]
        there = [True, False, True, False, True, False, False]
        assert list(await storage.exist("a", names)) == there
        assert list(await storage.exist("a", [])) == []
        for directory in ("nothing", "a/b/c"):
            assert list(await storage.exist(directory, ["b", "c"])) == [False, False]

    async def test_any_number_may_be_looked_at_at_once(self, storage: Storage) -> None:
        names = [f"{number}" for number in range(600)]
        for name in names[::2]:
            await storage.create(f"a/{name}")
        there = [int(name) % 2 == 0 for name in names]
        assert list(await storage.exist("a", names)) == there
        absent = [stamp == ABSENT for stamp in await storage.stamps("a", names)]
        assert absent == [not each for each in there]

    async def test_names_come_in_order(self, storage: Storage) -> None:
        for name in ("b", "a", "B", "\u00e9", "10", "9", "d/deeper/file"):
            await storage.put(f"a/{name}", b"")
        await storage.create("a/_growing")
        assert list(await storage.names("a")) == [
            "10",
            "9",
            "B",
            "_growing",
            "a",
            "b",
            "d",
            "\u00e9",
        ]

    async def test_a_directory_lists_its_own_names(self, storage: Storage) -> None:
        await storage.put("a/file", b"")
        await storage.put("a/directory/deeper/file", b"")
        await storage.put("ab/other", b"")
        await storage.create("a/growing")
        entries = {entry.name: entry.is_directory for entry in await storage.list("a")}
        assert entries == {"file": False, "directory": True, "growing": False}

    async def test_a_directory_of_any_size_lists_its_names(self, storage: Storage) -> None:
        names = {f"a/name-of-a-file-that-is-{number:0200}" for number in range(300)}
        for name in names:
            await storage.create(name)
        assert {f"a/{entry.name}" for entry in await storage.list("a")} == names

    async def test_deleting_an_object(self, storage: Storage) -> None:
        await storage.put("a/b", b"")
        await storage.put("a/bb", b"")
        await storage.delete("a/b")
        assert not await storage.exists("a/b")
        assert await storage.exists("a/bb")
        with pytest.raises(PathUnknownError):
            await storage.delete("a/b")

    async def test_deleting_a_directory_with_all_it_holds(self, storage: Storage) -> None:
        for path in ("a/b/c", "a/b/d/e", "a/bb", "c"):
            await storage.put(path, b"")
        await grow(storage, "a/b/up/data", b"x")
        await storage.delete("a/b")
        assert not await storage.exists("a/b")
        assert {entry.name for entry in await storage.list("a")} == {"bb"}
        assert await storage.exists("c")

    async def test_what_was_deleted_can_be_put_again(self, storage: Storage) -> None:
        for content in (b"one", b"two"):
            await storage.put("a/b/c", content)
            assert await storage.get("a/b/c", 10) == content
            await storage.delete("a")

    async def test_a_stamp_tells_that_names_came_or_left(self, storage: Storage) -> None:
        await storage.put("a/b", b"")
        stamps = [await storage.stamp("a")]
        await storage.put("a/c", b"")
        stamps.append(await storage.stamp("a"))
        await storage.delete("a/b")
        stamps.append(await storage.stamp("a"))
        told = [stamp for stamp in stamps if stamp is not None]
        assert len(set(told)) == len(told)

    async def test_what_is_not_there_has_the_stamp_of_that(self, storage: Storage) -> None:
        await storage.put("a/b/c", b"")
        stamps = await storage.stamps("a", ["b", "nothing", "b/c", "b/nothing", "b/c/d"])
        assert [stamp == ABSENT for stamp in stamps] == [False, True, False, True, True]
        assert list(await storage.stamps("nothing", ["b", "c"])) == [ABSENT, ABSENT]
        assert list(await storage.stamps("a", [])) == []

    async def test_the_stamp_of_an_object_tells_that_it_was_replaced(
        self, storage: Storage
    ) -> None:
        told = list[Stamp]()
        for content in (b"one", b"two"):
            await storage.put("a/b", content)
            (stamp,) = await storage.stamps("a", ["b"])
            told += [] if stamp is None else [stamp]
        assert len(set(told)) == len(told)

    async def test_the_epoch_stays_while_nothing_was_lost(self, storage: Storage) -> None:
        assert storage.epoch == storage.epoch


class Moves:
    """`move`: to the trash and back."""

    async def test_what_is_moved_is_there_and_no_longer_here(self, storage: Storage) -> None:
        await storage.put("a/b/data", LARGE)
        await storage.put("a/c/data", b"other")
        await storage.move("a/b/data", "trash/b")
        assert await read(storage, "trash/b") == LARGE
        assert not await storage.exists("a/b/data")
        assert await storage.get("a/c/data", 10) == b"other"

    async def test_there_and_back(self, storage: Storage) -> None:
        await storage.put("a/b/data", b"x")
        for _ in range(3):
            await storage.move("a/b/data", "trash/b")
            await storage.move("trash/b", "a/b/data")
        assert await storage.get("a/b/data", 10) == b"x"

    async def test_a_directory_that_held_nothing_else_goes_too(self, storage: Storage) -> None:
        for path in ("a/b/data", "a/c/data", "a/c/more"):
            await storage.put(path, b"x")
        await storage.move("a/b/data", "trash/b")
        await storage.move("a/c/data", "trash/c")
        assert {entry.name for entry in await storage.list("a")} == {"c"}
        assert {entry.name for entry in await storage.list("a/c")} == {"more"}

    async def test_moving_replaces(self, storage: Storage) -> None:
        await storage.put("a/data", b"new")
        await storage.put("trash/a", b"an older one")
        await storage.move("a/data", "trash/a")
        assert await storage.get("trash/a", 20) == b"new"

    async def test_a_whole_directory(self, storage: Storage) -> None:
        for path in ("a/b/c", "a/b/d/e", "a/bb"):
            await storage.put(path, path.encode())
        await storage.move("a/b", "trash/b")
        assert await storage.get("trash/b/d/e", 10) == b"a/b/d/e"
        assert {entry.name for entry in await storage.list("trash/b")} == {"c", "d"}
        assert {entry.name for entry in await storage.list("a")} == {"bb"}

    async def test_what_was_moved_can_be_put_again(self, storage: Storage) -> None:
        await storage.put("a/b/data", b"one")
        await storage.move("a/b/data", "trash/b")
        await storage.put("a/b/data", b"two")
        await grow(storage, "up/data", b"three")
        await storage.publish("up/data", "a/c/data")
        assert await storage.get("trash/b", 10) == b"one"
        assert await storage.get("a/b/data", 10) == b"two"
        await storage.move("a/c/data", "trash/c")
        await grow(storage, "up/data", b"four")
        await storage.publish("up/data", "a/c/data")
        assert await storage.get("a/c/data", 10) == b"four"

    async def test_a_reader_goes_on_with_what_is_moved(self, storage: Storage) -> None:
        await storage.put("a/data", LARGE)
        reader = await storage.open("a/data")
        await storage.move("a/data", "trash/a")
        await storage.delete("trash/a")
        assert await content_of(reader) == LARGE

    @pytest.mark.parametrize("path", ["nothing", "a/b/nothing"])
    async def test_nothing_to_move(self, storage: Storage, path: str) -> None:
        await storage.put("a/b/c", b"")
        await storage.put("target", b"old")
        with pytest.raises(PathUnknownError) as caught:
            await storage.move(path, "target")
        assert caught.value.path == path
        assert await storage.get("target", 10) == b"old"
        with pytest.raises(PathUnknownError):
            await storage.move(path, "new/target")
        assert not await storage.exists("new")

    async def test_of_two_who_move_one_does(self, storage: Storage) -> None:
        await storage.put("a/data", b"x")
        moves = [storage.move("a/data", f"trash/{number}") for number in range(4)]
        results = await asyncio.gather(*moves, return_exceptions=True)
        assert sum(result is None for result in results) == 1
        assert sum(isinstance(result, PathUnknownError) for result in results) == 3
        assert len(list(await storage.list("trash"))) == 1


class Batches:
    """`move_all` and `delete_all`: what a collection takes away and destroys."""

    async def test_all_are_moved(self, storage: Storage) -> None:
        names = [str(number) for number in range(600)]  # more than a driver moves at once
        for name in names:
            await storage.put(f"a/{name}/data", name.encode())
        moves = [(f"a/{name}/data", f"trash/{name}") for name in names]
        results = await storage.move_all(moves)
        assert results == dict.fromkeys((source for source, _ in moves), None)
        assert {entry.name for entry in await storage.list("trash")} == set(names)
        assert await storage.get("trash/7", 10) == b"7"
        assert not await storage.exists("a/7/data")

    async def test_what_is_missing_is_reported_and_the_rest_moved(self, storage: Storage) -> None:
        for name in ("one", "two"):
            await storage.put(f"a/{name}/data", name.encode())
        sources = [f"a/{name}/data" for name in ("one", "missing", "two")]
        results = await storage.move_all([(path, f"trash/{path[2:5]}") for path in sources])
        error = results["a/missing/data"]
        assert isinstance(error, PathUnknownError)
        assert error.path == "a/missing/data"
        assert [results[sources[0]], results[sources[2]]] == [None, None]
        assert {entry.name for entry in await storage.list("trash")} == {"one", "two"}

    async def test_a_target_is_replaced(self, storage: Storage) -> None:
        await storage.put("a/data", b"new")
        await storage.put("trash/a", b"an older one")
        await storage.move_all([("a/data", "trash/a")])
        assert await storage.get("trash/a", 20) == b"new"

    async def test_directories_that_held_nothing_else_go_too(self, storage: Storage) -> None:
        for path in ("a/b/data", "a/c/data", "a/c/more"):
            await storage.put(path, b"x")
        await storage.move_all([("a/b/data", "trash/b"), ("a/c/data", "trash/c")])
        assert {entry.name for entry in await storage.list("a")} == {"c"}
        assert {entry.name for entry in await storage.list("a/c")} == {"more"}

    async def test_age_counts_from_then(self, storage: Storage) -> None:
        await storage.put("a/b", b"+")
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await storage.move_all([("a/b", "trash/b")])
        assert 0 <= await storage.age("trash/b") <= time.monotonic() - began + CLOCK_STEP

    async def test_all_are_deleted_and_what_is_missing_is_passed_over(
        self, storage: Storage
    ) -> None:
        names = [str(number) for number in range(600)]
        for name in names:
            await storage.put(f"a/{name}/data", b"x")
        await storage.put("b/data", b"x")
        doomed = [f"a/{name}/data" for name in names]
        await storage.delete_all(["a/missing/data", *doomed, "b/data/below", "c"])
        assert not await storage.exists("a/7/data")
        assert not await storage.exists("a/599")
        assert await storage.exists("b/data")

    async def test_a_directory_goes_with_the_last_it_holds(self, storage: Storage) -> None:
        for path in ("a/b/c", "a/b/d", "a/bb/c"):
            await storage.put(path, b"x")
        await storage.delete_all(["a/b/c", "a/bb/c"])
        assert {entry.name for entry in await storage.list("a")} == {"b"}

    async def test_nothing_to_do(self, storage: Storage) -> None:
        assert await storage.move_all([]) == {}
        await storage.delete_all([])


class Notes:
    """`note`, `age` and `modified`: leases, and what tells how old something is."""

    async def test_moving_keeps_when_it_was_written(self, storage: Storage) -> None:
        before = utc_now() - timedelta(seconds=CLOCK_STEP)
        await storage.put("a/b/link", b"x")
        written = await storage.modified("a/b/link")
        assert before <= written <= utc_now()
        await asyncio.sleep(0.05)
        await storage.move("a/b/link", "trash/one")
        assert await storage.modified("trash/one") == written
        await storage.move_all([("trash/one", "trash/two")])
        assert await storage.modified("trash/two") == written
        await storage.move("trash", "elsewhere")
        assert await storage.modified("elsewhere/two") == written

    @pytest.mark.parametrize(("content", "after"), [(b"x", 1.1), (b"y", 0.05)])
    async def test_writing_again_is_later(
        self, storage: Storage, content: bytes, after: float
    ) -> None:
        await storage.put("a", b"x")
        first = await storage.modified("a")
        await asyncio.sleep(after)
        await storage.put("a", content)
        assert await storage.modified("a") > first

    async def test_of_several_all_are_later_when_one_is_new(self, storage: Storage) -> None:
        """A tag that goes back to what it pointed to a moment ago did so now."""
        await storage.put_all([("a", b"x"), ("b", b"x")])
        first = await storage.modified("a")
        await asyncio.sleep(0.05)
        await storage.put_all([("a", b"x"), ("b", b"y")])
        assert await storage.modified("a") > first
        assert await read(storage, "b") == b"y"

    async def test_an_upload_is_written_when_it_is_published_or_before(
        self, storage: Storage
    ) -> None:
        before = utc_now() - timedelta(seconds=CLOCK_STEP)
        await grow(storage, "up/data", b"x")
        await storage.publish("up/data", "a/data")
        assert before <= await storage.modified("a/data") <= utc_now()

    @pytest.mark.parametrize("path", ["nothing", "a/b"])
    async def test_what_is_not_there_was_never_written(self, storage: Storage, path: str) -> None:
        await storage.put("a", b"")
        with pytest.raises(PathUnknownError) as caught:
            await storage.modified(path)
        assert caught.value.path == path

    async def test_a_note_begins_and_grows(self, storage: Storage) -> None:
        for mark in (b"+", b"+", b"-"):
            await storage.note("leases/a/b", mark)
        assert await storage.get("leases/a/b", 10) == b"++-"

    async def test_notes_at_once_all_stay(self, storage: Storage) -> None:
        await asyncio.gather(*(storage.note("leases/a", b"+") for _ in range(50)))
        assert await storage.size("leases/a") == 50

    async def test_a_note_on_what_was_removed_begins_anew(self, storage: Storage) -> None:
        await storage.note("leases/a/b", b"+")
        await storage.delete("leases/a")
        await storage.note("leases/a/b", b"-")
        assert await storage.get("leases/a/b", 10) == b"-"

    async def test_what_is_added_depends_on_the_end(self, storage: Storage) -> None:
        seen: list[tuple[bytes, bool]] = []

        def amendment(end: bytes, is_all: bool) -> bytes:  # noqa: FBT001 -- see `Amendment`
            seen.append((end, is_all))
            return b"" if end == b"2" else b"!"

        for path, mark in (("n/1", b"1"), ("n/2", b"2"), ("n/3", b"1234")):
            await storage.note(path, mark)
        paths = ["n/1", "n/2", "n/3", "n/nothing"]
        assert await storage.amend(paths, 2, amendment) == {}
        assert seen == [(b"1", True), (b"2", True), (b"34", False)]
        assert [await storage.get(path, 9) for path in paths[:3]] == [b"1!", b"2", b"1234!"]
        assert not await storage.exists("n/nothing")

    async def test_many_are_amended(self, storage: Storage) -> None:
        paths = [f"n/{number}" for number in range(150)]
        for path in paths:
            await storage.note(path, b"+")
        await storage.amend(paths, 8, lambda end, _: end * 2)
        assert {await storage.get(path, 9) for path in paths} == {b"+++"}

    async def test_age_counts_from_the_last_note(self, storage: Storage) -> None:
        await storage.note("a", b"+")
        await asyncio.sleep(0.2)
        assert 0.1 < await storage.age("a") < 60
        began = time.monotonic()
        await storage.note("a", b"+")
        assert 0 <= await storage.age("a") <= time.monotonic() - began + CLOCK_STEP

    async def test_age_counts_from_the_last_move(self, storage: Storage) -> None:
        await storage.note("a/b", b"+")
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await storage.move("a/b", "trash/b")
        assert 0 <= await storage.age("trash/b") <= time.monotonic() - began + CLOCK_STEP

    async def test_nothing_has_no_age(self, storage: Storage) -> None:
        with pytest.raises(PathUnknownError) as caught:
            await storage.age("nothing")
        assert caught.value.path == "nothing"


class Locks:
    """One holder at a time."""

    async def test_holders_of_one_name_take_turns(self, storage: Storage) -> None:
        events: list[str] = []

        async def hold(name: str) -> None:
            async with storage.lock("tag", "v1"):
                events.append(f"{name} in")
                await asyncio.sleep(0.001)
                events.append(f"{name} out")

        await asyncio.gather(*(hold(name) for name in "abc"))
        assert [event.split() for event in events] == [
            [name, way] for name in dict.fromkeys(e[0] for e in events) for way in ("in", "out")
        ]

    async def test_an_exclusive_holder_excludes_shared_ones(self, storage: Storage) -> None:
        holders: set[str] = set()
        met: list[set[str]] = []

        async def hold(name: str, *, shared: bool) -> None:
            async with storage.lock("repository", "a", shared=shared):
                holders.add(name)
                await asyncio.sleep(0.001)
                met.append(holders - {name})
                holders.discard(name)

        kinds = {"exclusive": False, "one": True, "two": True}
        await asyncio.gather(*(hold(name, shared=shared) for name, shared in kinds.items()))
        assert len(met) == 3
        assert all("exclusive" not in others for others in met)

    async def test_two_kinds_can_be_held_together(self, storage: Storage) -> None:
        async with storage.lock("repository", "a", shared=True), storage.lock("tag", "a"):
            await storage.put("a", b"x")
        assert await storage.exists("a")

    async def test_a_lock_is_free_after_a_failure(self, storage: Storage) -> None:
        with pytest.raises(ConnectionError):
            async with storage.lock("tag", "v1"):
                raise ConnectionError
        async with asyncio.timeout(5), storage.lock("tag", "v1"):
            pass

    async def test_waiting_for_a_lock_can_be_cancelled(self, storage: Storage) -> None:
        async def wait() -> None:
            async with storage.lock("tag", "v1"):
                pytest.fail("it is held")

        async with storage.lock("tag", "v1"):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(5), storage.lock("tag", "v1"):
            pass


class StorageContract(
    SmallObjects,
    MissingObjects,
    GrowingObjects,
    Readers,
    Directories,
    Moves,
    Batches,
    Notes,
    Locks,
):
    """Subclass once per driver, with a `storage` fixture."""
