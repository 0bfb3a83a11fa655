import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core.directories import OVERHEAD, Directories
from dockyard.errors import PathUnknownError
from dockyard.storage.filesystem import FilesystemStorage
from tests.unit.core.trees import CountingStorage


Settle = Callable[[], Awaitable[None]]


def names_of(_: str, names: Sequence[str]) -> Sequence[str]:
    return names


async def fill(storage: FilesystemStorage, directory: str, count: int) -> None:
    for number in range(count):
        await storage.create(f"{directory}/{number}")


async def test_only_so_much_is_remembered(counting: CountingStorage, settle: Settle) -> None:
    for directory, count in (("a", 3), ("b", 3), ("c", 3), ("large", 40)):
        await fill(counting, directory, count)
    await settle()
    directories = Directories(counting, names_of, 2 * (3 + OVERHEAD))
    for directory in ("a", "b", "a", "c", "large", "a", "c", "b", "large"):
        counting.named.clear()
        assert len(await directories.get(directory)) == (40 if directory == "large" else 3)
        assert directories.remembered <= 2 * (3 + OVERHEAD)
    assert directories.remembered == 2 * (3 + OVERHEAD)


async def test_what_was_asked_for_longest_ago_goes_first(
    counting: CountingStorage, settle: Settle
) -> None:
    for directory in ("a", "b", "c"):
        await fill(counting, directory, 1)
    await settle()
    directories = Directories(counting, names_of, 2 * (1 + OVERHEAD))
    for directory in ("a", "b", "a", "c", "a", "b"):
        await directories.get(directory)
    assert counting.named == ["a", "b", "c", "b"]


async def test_what_is_gone_is_forgotten(counting: CountingStorage, settle: Settle) -> None:
    await fill(counting, "a", 1)
    await settle()
    directories = Directories(counting, names_of, 100)
    assert await directories.get("a") == ["0"]
    await counting.delete("a/0")
    assert await directories.get("a") == []
    assert directories.remembered == 0
    await counting.delete("a")
    with pytest.raises(PathUnknownError):
        await directories.get("a")


async def test_what_comes_while_it_is_listed_is_found(tmp_path: Path, settle: Settle) -> None:
    """Of two requests the one that lists first may end last: the stamp tells that it is old."""

    class Slow(FilesystemStorage):
        first = True

        @override
        async def names(self, path: str) -> Sequence[str]:
            found = await super().names(path)
            if self.first:
                self.first = False
                await go_on.wait()
            return found

    go_on = asyncio.Event()
    storage = Slow(tmp_path)
    await fill(storage, "a", 1)
    await settle()
    directories = Directories(storage, names_of, 100)
    slow = asyncio.create_task(directories.get("a"))
    await asyncio.sleep(0)
    await fill(storage, "a", 2)
    await settle()
    assert await directories.get("a") == ["0", "1"]
    go_on.set()
    assert await slow == ["0"]
    for _ in range(2):
        assert await directories.get("a") == ["0", "1"]
