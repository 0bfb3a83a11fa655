import asyncio
import errno
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs
from typing_extensions import override

from dockyard.core import catalog as module
from dockyard.core.catalog import Catalog
from dockyard.errors import StorageError
from dockyard.oci.reference import is_name
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage
from tests.unit.core.trees import CountingStorage, add_revision, add_tag
from tests.unit.core.turns import counting_turns


NAMES = st.from_regex(r"(a|b|a0|a-b|a\.b|a_b)(/(a|b|a0|a-b|a\.b)){0,2}", fullmatch=True)


def by_walk(name: str) -> list[str]:
    """Return the key by which a walk orders names: the separator comes before everything."""
    return name.split("/")


async def fill(storage: Storage, names: Sequence[str]) -> None:
    for name in names:
        await storage.put(layout.tag_current(name, "v1"), b"")


@given(st.sets(NAMES, max_size=12), st.integers(1, 5))
def test_pages_give_every_name_once_in_the_order_of_a_walk(names: set[str], size: int) -> None:
    async def pages() -> list[Sequence[str]]:
        storage = InMemoryStorage()
        await fill(storage, list(names))
        catalog = Catalog(storage)
        found: list[Sequence[str]] = []
        more, last = True, ""
        while more:
            page, more = await catalog.page(size, last)
            assert page or not more
            last = page[-1] if page else ""
            found.append(page)
        return found

    found = asyncio.run(pages())
    assert [name for page in found for name in page] == sorted(names, key=by_walk)
    assert all(len(page) == size for page in found[:-1])


@given(st.sets(NAMES, max_size=12), NAMES | st.text(alphabet="ab0-./_", max_size=6))
def test_a_page_begins_after_any_text(names: set[str], last: str) -> None:
    async def page() -> Sequence[str]:
        storage = InMemoryStorage()
        await fill(storage, list(names))
        return (await Catalog(storage).page(100, last))[0]

    expected = [
        name for name in sorted(names, key=by_walk) if not last or by_walk(name) > by_walk(last)
    ]
    assert asyncio.run(page()) == expected


@given(NAMES)
def test_the_names_of_this_test_are_names(name: str) -> None:
    assert is_name(name)


async def test_the_two_drivers_agree(memory: InMemoryStorage, disk: FilesystemStorage) -> None:
    names = ["a", "a-b", "a/b", "a.b", "a0", "b/c/d"]
    pages = []
    for storage in (memory, disk):
        await fill(storage, names)
        pages.append(await Catalog(storage).page(100, ""))
    assert pages[0] == pages[1] == (["a", "a/b", "a-b", "a.b", "a0", "b/c/d"], False)


class TestContent:
    """Which directories are repositories to be shown."""

    async def test_a_tag_or_a_revision_is_content(self, disk: FilesystemStorage) -> None:
        await disk.put(layout.tag_current("tag-only", "v1"), b"")
        await add_revision(disk, "revision-only")
        await add_tag(disk, "both", "v1")
        assert (await Catalog(disk).page(9, ""))[0] == ["both", "revision-only", "tag-only"]

    @pytest.mark.parametrize(
        "directory",
        [
            "_layers/sha256",
            "_uploads/1",
            "_manifests",
            "_manifests/tags",
            "_manifests/tags/v1/index",
            "_manifests/revisions/sha256",
            "_manifests/revisions/sha256/abc",
        ],
    )
    async def test_empty_directories_are_not(
        self, disk: FilesystemStorage, tmp_path: Path, directory: str
    ) -> None:
        (tmp_path / layout.repository("ghost") / directory).mkdir(parents=True)
        assert (await Catalog(disk).page(9, "")) == ([], False)

    async def test_stray_files_do_no_harm(self, disk: FilesystemStorage, tmp_path: Path) -> None:
        await add_tag(disk, "a", "v1")
        root = tmp_path / layout.REPOSITORIES
        for stray in ("README", "a/notes", "a/_manifests/tags/.DS_Store", "a/_manifests/x"):
            (root / stray).write_text("stray")
        (root / "lost+found").mkdir()
        assert (await Catalog(disk).page(9, "")) == (["a"], False)

    async def test_there_may_be_no_tree_at_all(self, disk: FilesystemStorage) -> None:
        assert (await Catalog(disk).page(9, "")) == ([], False)

    async def test_nothing_is_looked_for_when_nothing_is_wanted(
        self, disk: FilesystemStorage
    ) -> None:
        await add_tag(disk, "a", "v1")
        assert (await Catalog(disk).page(0, "")) == ([], False)


async def test_a_directory_that_can_not_be_listed_hides_only_itself(
    disk: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(disk, ["a", "b/c", "d"])
    listdir = os.listdir

    def refuse(path: str) -> list[str]:
        if path.endswith("repositories/b"):
            raise OSError(errno.EIO, "Input/output error")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with capture_logs() as lines:
        assert await Catalog(disk).page(10, "") == (["a", "d"], False)
    assert [line["path"] for line in lines] == [layout.repository("b")]


Settle = Callable[[], Awaitable[None]]


async def listed(catalog: Catalog) -> list[str]:
    return list((await catalog.page(100, ""))[0])


class TestWhatIsRemembered:
    """What a worker saw is looked at again each time: all that others do shows at once."""

    @pytest.fixture
    async def catalog(self, disk: FilesystemStorage, settle: Settle) -> Catalog:
        """A catalog that has seen the repositories ``a``, ``team/x``, ``team/y``, all settled."""
        await fill(disk, ["a", "team/x", "team/y"])
        await settle()
        catalog = Catalog(disk)
        for _ in range(2):
            assert await listed(catalog) == ["a", "team/x", "team/y"]
        return catalog

    async def test_a_settled_tree_is_not_listed_again(
        self, counting: CountingStorage, catalog: Catalog
    ) -> None:
        catalog = Catalog(counting)
        await listed(catalog)
        assert counting.named != []
        counting.named.clear()
        counting.looked_at.clear()
        assert await listed(catalog) == ["a", "team/x", "team/y"]
        assert counting.named == []
        base, link = layout.REPOSITORIES, "_manifests/tags/v1/current/link"
        assert sorted(counting.looked_at) == [
            f"{base}/a",
            f"{base}/a/{link}",
            f"{base}/team/_manifests",
            f"{base}/team/x",
            f"{base}/team/x/{link}",
            f"{base}/team/y",
            f"{base}/team/y/{link}",
        ]

    async def test_rm_of_a_repository(self, catalog: Catalog, tmp_path: Path) -> None:
        shutil.rmtree(tmp_path / layout.repository("team/x"))
        assert await listed(catalog) == ["a", "team/y"]
        shutil.rmtree(tmp_path / layout.repository("team"))
        assert await listed(catalog) == ["a"]

    async def test_rm_of_the_last_tag(self, catalog: Catalog, tmp_path: Path) -> None:
        (tmp_path / layout.tag_current("team/x", "v1")).unlink()
        assert await listed(catalog) == ["a", "team/y"]

    async def test_the_tag_that_told_goes_and_something_else_stays(
        self, catalog: Catalog, disk: FilesystemStorage, tmp_path: Path
    ) -> None:
        await disk.put(layout.tag_current("a", "v2"), b"")
        await add_revision(disk, "team/y")
        for name in ("a", "team/y"):
            shutil.rmtree(tmp_path / layout.tag(name, "v1"))
        assert await listed(catalog) == ["a", "team/x", "team/y"]

    @pytest.mark.parametrize("name", ["b", "team/w", "team/x/below", "team/y/far/below", "other/a"])
    async def test_a_new_repository(
        self, catalog: Catalog, disk: FilesystemStorage, settle: Settle, name: str
    ) -> None:
        names = sorted(["a", "team/x", "team/y", name], key=by_walk)
        await fill(disk, [name])
        assert await listed(catalog) == names
        await settle()
        for _ in range(2):
            assert await listed(catalog) == names

    async def test_changes_within_one_tick(
        self, catalog: Catalog, disk: FilesystemStorage, tmp_path: Path
    ) -> None:
        """The file system's time may be the same for both: what is so fresh is not trusted."""
        for round_ in range(20):
            await fill(disk, [f"team/new-{round_}"])
            assert f"team/new-{round_}" in await listed(catalog)
            await fill(disk, [f"team/x/new-{round_}"])
            assert f"team/x/new-{round_}" in await listed(catalog)
            shutil.rmtree(tmp_path / layout.repository(f"team/new-{round_}"))
            assert f"team/new-{round_}" not in await listed(catalog)

    async def test_a_repository_moved_away_and_another_in_its_place(
        self, catalog: Catalog, disk: FilesystemStorage, tmp_path: Path
    ) -> None:
        await fill(disk, ["other/deep/er"])
        root = tmp_path / layout.REPOSITORIES
        (root / "team/x").rename(root / "x")
        (root / "other").rename(root / "team/x")
        assert await listed(catalog) == ["a", "team/x/deep/er", "team/y", "x"]

    async def test_a_directory_that_vanishes_below_a_team(
        self, catalog: Catalog, disk: FilesystemStorage, tmp_path: Path
    ) -> None:
        await fill(disk, ["team/x/below"])
        assert await listed(catalog) == ["a", "team/x", "team/x/below", "team/y"]
        shutil.rmtree(tmp_path / layout.repository("team/x/below"))
        assert await listed(catalog) == ["a", "team/x", "team/y"]


async def test_links_that_can_not_be_looked_at_hide_only_their_repository(
    tmp_path: Path, settle: Settle
) -> None:
    class Troubled(FilesystemStorage):
        broken = False

        @override
        async def exist(self, directory: str, names: Sequence[str]) -> Sequence[bool]:
            if self.broken and any("x/_manifests/" in f"{directory}/{name}" for name in names):
                raise StorageError("Input/output error")
            return await super().exist(directory, names)

    storage = Troubled(tmp_path)
    await fill(storage, ["a", "team/x", "team/y"])
    await settle()
    catalog = Catalog(storage)
    for _ in range(2):
        assert await listed(catalog) == ["a", "team/x", "team/y"]
    storage.broken = True
    with capture_logs() as lines:
        assert await listed(catalog) == ["a", "team/y"]
    assert [line["path"] for line in lines] == [layout.tags("team/x")]
    storage.broken = False
    assert await listed(catalog) == ["a", "team/x", "team/y"]


async def test_what_may_not_be_seen_is_not_looked_for(counting: CountingStorage) -> None:
    await fill(counting, ["a", "b", "b/c", "d"])
    page = await Catalog(counting).page(9, "", lambda name: name in {"b/c", "d"})
    assert page == (["b/c", "d"], False)
    assert not any("/a/_manifests" in path for path in [*counting.named, *counting.looked_at])


@given(st.sets(NAMES, max_size=12), st.sets(NAMES, max_size=12), st.integers(1, 3))
def test_pages_of_what_may_be_seen(names: set[str], seen: set[str], size: int) -> None:
    async def pages() -> list[str]:
        storage = InMemoryStorage()
        await fill(storage, list(names))
        catalog = Catalog(storage)
        found: list[str] = []
        more = True
        while more:
            page, more = await catalog.page(
                size, found[-1] if found else "", lambda name: name in seen
            )
            found += page
        return found

    assert asyncio.run(pages()) == sorted(names & seen, key=by_walk)


async def test_others_get_their_turn_while_many_are_looked_at(memory: InMemoryStorage) -> None:
    await fill(memory, [f"r{number}" for number in range(3 * module.BATCH)])
    async with counting_turns() as turns:
        await Catalog(memory).page(1, "")
        few = turns()
        await Catalog(memory).page(3 * module.BATCH, "")
        assert turns() - few >= few + 2
