import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs

from dockyard.core.catalog import Catalog
from dockyard.oci.reference import is_name
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage
from tests.unit.core.trees import add_revision, add_tag


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
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("repositories/b"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with capture_logs() as lines:
        assert await Catalog(disk).page(10, "") == (["a", "d"], False)
    assert [line["path"] for line in lines] == [layout.repository("b")]
