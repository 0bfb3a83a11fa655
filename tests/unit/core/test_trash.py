import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core.tags import Tags
from dockyard.core.trash import Trash
from dockyard.errors import PathUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage
from tests.unit.core.collecting import WEEK
from tests.unit.core.trees import NOW, now


BLOB = Digest.of(b"a blob")


@pytest.fixture
def storage() -> Storage:
    return InMemoryStorage()


@pytest.fixture
async def trash(storage: Storage) -> Trash:
    """The trash of a storage that has one blob."""
    await storage.put(layout.blob(BLOB), b"a blob")
    return Trash(storage)


async def test_what_is_taken_is_gone_and_can_be_brought_back(
    trash: Trash, storage: Storage
) -> None:
    await trash.take(BLOB)
    assert not await storage.exists(layout.blob(BLOB))
    assert await trash.bring_back(BLOB)
    assert await storage.get(layout.blob(BLOB), 100) == b"a blob"
    assert not await storage.exists(layout.trash_blob(BLOB))


async def test_what_is_not_there_cannot_be_taken(storage: Storage) -> None:
    with pytest.raises(PathUnknownError):
        await Trash(storage).take(BLOB)


async def test_bringing_back_says_whether_it_is_there(trash: Trash, storage: Storage) -> None:
    assert await trash.bring_back(BLOB)
    await storage.delete(layout.blob(BLOB))
    assert not await trash.bring_back(BLOB)


async def test_one_that_was_pushed_again_is_not_replaced(trash: Trash, storage: Storage) -> None:
    """It may have been pushed to heal the one that was taken."""
    await storage.put(layout.blob(BLOB), b"damaged")
    await trash.take(BLOB)
    await storage.put(layout.blob(BLOB), b"a blob")
    assert await trash.bring_back(BLOB)
    assert await storage.get(layout.blob(BLOB), 100) == b"a blob"


async def test_emptying_destroys_what_is_named_and_in_it(trash: Trash, storage: Storage) -> None:
    other = Digest.of(b"another")
    await storage.put(layout.blob(other), b"another")
    await trash.take(BLOB)
    await trash.take(other)
    await trash.bring_back(other)
    await trash.empty([BLOB, other])
    assert not await trash.bring_back(BLOB)
    assert await storage.get(layout.blob(other), 100) == b"another"


class TestItems:
    async def test_a_removal_becomes_one_item_in_the_shape_it_had(self, storage: Storage) -> None:
        link, blob = str(BLOB).encode(), layout.layer_link("a/b", BLOB)
        await storage.put(layout.tag_current("a/b", "v1"), link)
        await storage.put(layout.revision_link("a/b", BLOB), link)
        await storage.put(blob, link)
        trash = Trash(storage, WEEK, now)
        removal = trash.removal("a/b")
        await removal.add(layout.tag("a/b", "v1"))
        await removal.add(layout.revision("a/b", BLOB))
        await removal.add(blob.removesuffix("/link"))
        (item,) = await trash.items()
        assert item.identifier.startswith("20260131T120000Z-")
        assert item.name == "a/b"
        assert item.removed == NOW
        assert item.tags == {"v1": BLOB}
        assert list(item.manifests) == [BLOB]
        assert item.blobs == (BLOB,)
        assert await trash.item(item.identifier) == item
        directory = layout.trash_item_repository(item.identifier, "a/b")
        assert await storage.get(f"{directory}/_manifests/tags/v1/current/link", 100) == link
        assert not await storage.exists(layout.repository("a/b"))

    async def test_a_damaged_tag_is_in_it_with_nothing(self, storage: Storage) -> None:
        await storage.put(layout.tag_current("a", "v1"), b"no digest")
        trash = Trash(storage, WEEK, now)
        await trash.removal("a").add(layout.tag("a", "v1"))
        (item,) = await trash.items()
        assert item.tags == {"v1": None}

    async def test_what_is_not_there_cannot_be_removed(self, storage: Storage) -> None:
        for keep in (WEEK, timedelta(0)):
            with pytest.raises(PathUnknownError):
                await Trash(storage, keep).removal("a").add(layout.tag("a", "v1"))
        assert not await Trash(storage, WEEK).items()

    async def test_without_retention_it_is_destroyed_at_once(self, storage: Storage) -> None:
        await storage.put(layout.tag_current("a", "v1"), str(BLOB).encode())
        await Trash(storage).removal("a").add(layout.tag("a", "v1"))
        assert not await storage.exists(layout.tag("a", "v1"))
        assert not await storage.exists(layout.trash_items())

    async def test_they_are_kept_for_a_time(self, storage: Storage) -> None:
        identifier = await self.removed(storage)
        for later, kept in ((WEEK - timedelta(seconds=1), True), (WEEK, False)):
            trash = Trash(storage, WEEK, lambda later=later: NOW + later)  # type: ignore[misc]
            assert [item.identifier for item in await trash.items()] == [identifier] * kept
            assert await trash.over() == [identifier] * (not kept)

    async def test_what_removed_tags_ever_pointed_to(self, storage: Storage) -> None:
        other = Digest.of(b"another")
        tags = Tags(storage, Trash(storage, WEEK, now))
        for digest in (other, BLOB):
            await tags.move("a", "v1", digest)
        await tags.move("b", "v1", other)
        await tags.delete("a", "v1")
        assert await Trash(storage, WEEK, now).left() == {("a", other), ("a", BLOB)}

    async def test_a_destroyed_one_is_gone(self, storage: Storage) -> None:
        identifier = await self.removed(storage)
        trash = Trash(storage, WEEK, now)
        await trash.destroy(identifier)
        assert not await trash.items()
        with pytest.raises(PathUnknownError):
            await trash.destroy(identifier)

    @pytest.mark.parametrize(
        "identifier",
        [
            "",
            ".",
            "..",
            "../blobs",
            "20260131T120000Z-1234567",
            "20260131T120000Z-123456789",
            "20260131T120000Z-1234567g",
            "20261331T120000Z-12345678",
            "20260131T120000Z-12345678/a",
            "20260131T120000Z-12345678\n",
            "\u0662\u0660\u0662\u06660131T120000Z-12345678",
        ],
    )
    async def test_what_is_no_items_name_is_never_touched(
        self, storage: Storage, identifier: str
    ) -> None:
        await self.removed(storage)
        if "/" not in identifier:
            await storage.put(f"{layout.trash_items()}/{identifier or 'other'}/a/x", b"x")
        trash = Trash(storage, WEEK, now)
        with pytest.raises(PathUnknownError):
            await trash.destroy(identifier)
        assert await trash.item(identifier) is None
        assert len(await trash.items()) == 1

    async def test_what_is_no_repository_in_an_item_is_passed_over(self, storage: Storage) -> None:
        identifier = await self.removed(storage)
        await storage.put(f"{layout.trash_item(identifier)}/lost+found/x", b"x")
        assert [item.name for item in await Trash(storage, WEEK, now).items()] == ["a"]

    async def test_on_a_full_disk_what_is_deleted_is_gone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Deleting makes room; there is none for the directories of the trash."""
        storage = FilesystemStorage(tmp_path)
        await storage.put(layout.tag_current("a", "v1"), str(BLOB).encode())
        makedirs = os.makedirs

        def full(path: str, *arguments: bool, **options: bool) -> None:
            if "/trash/" in path:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            makedirs(path, *arguments, **options)

        monkeypatch.setattr(os, "makedirs", full)
        await Trash(storage, WEEK).removal("a").add(layout.tag("a", "v1"))
        assert not await storage.exists(layout.tag("a", "v1"))
        assert not await Trash(storage, WEEK).items()

    async def removed(self, storage: Storage) -> str:
        """Remove a tag; return the name of the item."""
        await storage.put(layout.tag_current("a", "v1"), str(BLOB).encode())
        await Trash(storage, WEEK, now).removal("a").add(layout.tag("a", "v1"))
        (item,) = await Trash(storage, WEEK, now).items()
        return item.identifier


async def test_blobs_that_are_taken_together(trash: Trash) -> None:
    absent = Digest.of(b"absent")
    results = await trash.take_all([BLOB, absent])
    assert results[BLOB] is None
    assert isinstance(results[absent], PathUnknownError)
    assert await trash.blobs() == [BLOB]
    assert await trash.size(BLOB) == len(b"a blob")


async def test_how_long_a_blob_has_been_there(trash: Trash) -> None:
    await trash.take(BLOB)
    assert await trash.is_older(BLOB, timedelta(0))
    assert not await trash.is_older(BLOB, timedelta(hours=1))
    assert not await trash.is_older(Digest.of(b"absent"), timedelta(microseconds=1))


class Restless(InMemoryStorage):
    """A storage in which a blob moves to the trash, or back, after the `after`-th look."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after
        self.moves = (layout.blob(BLOB), layout.trash_blob(BLOB))

    @override
    async def exists(self, path: str) -> bool:
        found = await super().exists(path)
        self.left -= 1
        if self.left == 0:
            await self.move(*self.moves)
        return found


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("taken", [False, True])
async def test_one_that_moves_between_two_looks_is_found(after: int, *, taken: bool) -> None:
    """A collection takes it, or brings it back, while somebody needs it."""
    storage = Restless(after)
    if taken:
        storage.moves = (layout.trash_blob(BLOB), layout.blob(BLOB))
    await storage.put(storage.moves[0], b"content")
    assert await Trash(storage).bring_back(BLOB)
