"""What a collection does with what is in the trash, and what it spares for a time."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core.collector import Collected
from dockyard.core.trash import Trash
from dockyard.errors import StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Entry, Storage
from tests.parts.faults import Unreadable
from tests.parts.images import Image, artifact, digests_of, image, index
from tests.unit.core.collecting import WEEK, Tree


ONE, TWO = image("one"), image("two")
HOUR = timedelta(hours=1)
ZERO = timedelta(0)


def digest(top: Image) -> Digest:
    return Digest.parse(top.digest)


@pytest.fixture
def storage() -> Unreadable:
    return Unreadable()


@pytest.fixture
def tree(storage: Unreadable) -> Tree:
    """A tree in which what is removed can be restored for a week."""
    return Tree(storage, WEEK)


class TestRetention:
    async def test_what_can_be_restored_keeps_its_blobs(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        result = await tree.collect(untagged=True)
        assert not result.blobs
        assert not result.expired
        assert await tree.blobs() == digests_of(ONE)
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert restored.tags == ["v1"]
        await tree.services.manifests.references("a", digest(ONE))

    async def test_a_link_without_a_manifest_keeps_its_blob_too(self, tree: Tree) -> None:
        content = ONE.blobs[0]
        await tree.push("a", ONE, "v1")
        await tree.storage.delete(layout.manifests("a"))
        await tree.removals.remove_repository("a")
        await tree.collect()
        assert content.digest in await tree.blobs()

    async def test_what_is_older_is_destroyed_and_frees_its_room(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        await tree.delete("a", ONE)
        (item,) = await tree.items()
        tree.watch.ahead = WEEK - HOUR
        assert not (await tree.collect()).expired
        await tree.delete("a", TWO)
        tree.watch.ahead = WEEK
        result = await tree.collect()
        assert list(result.expired) == [item.identifier]
        assert await tree.blobs() == digests_of(TWO)
        assert result.freed == sum(len(each.body) for each in (*ONE.blobs, ONE.manifest))
        assert len(await tree.items()) == 1

    async def test_a_dry_run_destroys_nothing_and_tells_what_would_be_freed(
        self, tree: Tree
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        result = await tree.collect(dry_run=True, keep=ZERO)
        assert {str(each) for each in result.blobs} == digests_of(ONE)
        assert result.freed > 0
        assert await tree.blobs() == digests_of(ONE)
        assert len(await tree.items()) == 1

    async def test_if_it_is_not_kept_all_of_it_goes(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO, "v1")
        await tree.delete("a", ONE)
        await tree.removals.remove_repository("b")
        assert len((await tree.collect(keep=ZERO)).expired) == 2
        assert not await tree.blobs()
        assert not await tree.items()

    async def test_untagged_manifests_that_go_can_be_restored(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        result = await tree.collect(untagged=True)
        assert [str(each) for _, each in result.manifests] == [ONE.digest]
        assert not result.blobs
        (item,) = await tree.items()
        assert (await tree.removals.restore(item.identifier)).manifests == [digest(ONE)]

    async def test_they_go_for_good_once_they_were_kept(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        await tree.collect(untagged=True)
        tree.watch.ahead = WEEK
        await tree.collect(untagged=True)
        assert not await tree.blobs()

    async def test_a_removed_index_keeps_its_platforms(self, tree: Tree) -> None:
        top = index([ONE, TWO])
        await tree.push("a", top, "v1")
        await tree.delete("a", top)
        assert not (await tree.collect(untagged=True)).manifests
        (item,) = await tree.items()
        assert (await tree.removals.restore(item.identifier)).tags == ["v1"]
        assert await tree.blobs() == digests_of(top)

    async def test_a_removed_manifest_keeps_what_refers_to_it(self, tree: Tree) -> None:
        signature = artifact("signature", subject=ONE.manifest.descriptor())
        await tree.push("a", ONE, "v1")
        await tree.push("a", signature)
        await tree.delete("a", ONE)
        assert not (await tree.collect(untagged=True)).manifests
        assert await tree.blobs() == digests_of(ONE) | digests_of(signature)

    async def test_an_empty_item_of_another_version_is_no_trouble(self, tree: Tree) -> None:
        path = f"{layout.trash_item('not an item')}/a/_manifests/revisions/sha256/x/link"
        await tree.storage.put(path, b"x")
        assert not (await tree.collect(keep=ZERO)).doubts
        assert await tree.storage.exists(path)


class TestRemovedMeanwhile:
    """Somebody removes or restores while a collection runs, at each call of the storage."""

    async def test_a_manifest_that_follows_its_tag_into_the_trash(self) -> None:
        """The item is read with the tag alone; the manifest moves there before it is looked for."""
        storage = _Interrupted()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE, "v1")
        removal = Trash(storage, WEEK, tree.watch).removal("a")
        await removal.add(layout.tag("a", "v1"))

        async def remove_manifest() -> None:
            await removal.add(layout.revision("a", digest(ONE)))

        storage.before = (layout.REPOSITORIES, remove_manifest)
        await tree.collect()
        assert await tree.blobs() == digests_of(ONE)

    @pytest.mark.parametrize("keep", [WEEK, ZERO], ids=["kept", "not kept"])
    async def test_what_is_removed_after_it_began_can_be_restored(self, keep: timedelta) -> None:
        """Also if it destroys what was in the trash before."""
        storage = _Interrupted()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE, "v1")
        tree.watch.ahead = timedelta(seconds=2)  # the names of items count whole seconds

        async def remove() -> None:
            tree.watch.ahead *= 2
            await tree.delete("a", ONE)

        storage.before = (layout.REPOSITORIES, remove)
        await tree.collect(keep=keep)
        (item,) = await tree.items()
        assert (await tree.removals.restore(item.identifier)).tags == ["v1"]
        await tree.services.manifests.references("a", digest(ONE))

    async def test_what_is_restored_after_it_looked_is_kept(self) -> None:
        storage = _Interrupted()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        (item,) = await tree.items()

        async def restore() -> None:
            await tree.removals.restore(item.identifier)

        storage.before = (layout.trash_blobs("").rstrip("/"), restore)
        await tree.collect(untagged=True)
        await tree.services.manifests.references("a", digest(ONE))


class TestTroubleWithBlobs:
    """What can't be looked at or moved stays, is told of, and stops nobody."""

    async def test_a_blob_that_cannot_be_moved(self) -> None:
        storage = _Undeletable()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        stays = layout.blob(digest(ONE))
        storage.kept.add(stays)
        result = await tree.collect(keep=ZERO)
        assert list(result.doubts) == [stays]
        assert await tree.blobs() == {ONE.digest}
        assert {str(each) for each in result.destroyed} == digests_of(ONE) - {ONE.digest}

    async def test_one_that_was_destroyed_by_hand_meanwhile(self) -> None:
        storage = _Interrupted()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)

        async def destroy() -> None:
            await storage.delete(layout.blob(digest(ONE)))

        storage.before = (f"{layout.PRIVATE}/leases/sha256", destroy)
        result = await tree.collect(keep=ZERO)
        assert not result.doubts
        assert not await tree.blobs()

    async def test_manifests_that_cannot_be_moved_stay_with_all_they_need(self) -> None:
        storage = _Undeletable()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE)
        storage.kept.add(layout.revision("a", digest(ONE)))
        for keep in (WEEK, ZERO):
            result = await tree.collect(untagged=True, keep=keep)
            assert list(result.doubts) == [layout.manifests("a")]
            assert not result.manifests
            assert await tree.blobs() == digests_of(ONE)

    async def test_links_that_cannot_be_removed(self) -> None:
        storage = _Undeletable()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        link = layout.layer_link("a", Digest.parse(ONE.blobs[0].digest)).removesuffix("/link")
        storage.kept.add(link)
        result = await tree.collect(keep=ZERO)
        assert not result.links
        assert not await tree.blobs()
        assert await storage.exists(link)


class TestDelay:
    async def test_blobs_stay_in_the_trash_for_a_time(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        result = await tree.collect(keep=ZERO, delay=HOUR)
        assert {str(each) for each in result.blobs} == digests_of(ONE)
        assert not result.destroyed
        assert result.freed == 0
        assert not await tree.blobs()
        assert await tree.in_trash() == digests_of(ONE)

    async def test_they_are_destroyed_when_they_are_older(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.collect(keep=ZERO, delay=HOUR)
        assert await tree.in_trash() == digests_of(ONE)
        result = await tree.collect(keep=ZERO, delay=timedelta(microseconds=1))
        assert {str(each) for each in result.destroyed} == digests_of(ONE)
        assert not await tree.in_trash()

    async def test_they_are_brought_back_when_their_links_return(self, tree: Tree) -> None:
        """Somebody restores the directory of the repository from a backup."""
        await tree.push("a", ONE, "v1")
        links = await _content(tree.storage, layout.repository("a"))
        await tree.removals.remove_repository("a")
        await tree.collect(keep=ZERO, delay=HOUR)
        for path, content in links.items():
            await tree.storage.put(path, content)
        result = await tree.collect(keep=ZERO, delay=HOUR)
        assert not result.blobs
        assert await tree.blobs() == digests_of(ONE)
        assert not await tree.in_trash()
        await tree.services.manifests.references("a", digest(ONE))

    async def test_what_is_pushed_again_meanwhile_is_there(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.collect(keep=ZERO, delay=HOUR)
        await tree.push("a", ONE, "v1")
        await tree.collect(keep=ZERO, delay=HOUR)
        assert await tree.blobs() == digests_of(ONE)
        assert not await tree.in_trash()


class TestLeftovers:
    async def test_what_a_killed_collection_took_and_nobody_needs_goes(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        for each in (*ONE.blobs, ONE.manifest):
            await Trash(tree.storage).take(Digest.parse(each.digest))
        result = await tree.collect(keep=ZERO)
        assert {str(each) for each in result.destroyed} == digests_of(ONE)
        assert not await tree.in_trash()

    async def test_what_an_item_needs_is_brought_back(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        for each in (*ONE.blobs, ONE.manifest):
            await Trash(tree.storage).take(Digest.parse(each.digest))
        assert not (await tree.collect()).blobs
        assert await tree.blobs() == digests_of(ONE)

    async def test_what_a_client_was_told_of_is_brought_back(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        (await tree.services.blobs.tell("a", Digest.parse(ONE.blobs[0].digest))).close()
        await tree.delete("a", ONE)
        for each in (*ONE.blobs, ONE.manifest):
            await Trash(tree.storage).take(Digest.parse(each.digest))
        await tree.collect(keep=ZERO, leases=True)
        assert await tree.blobs() == {ONE.blobs[0].digest}


class TestSparing:
    async def test_a_young_manifest_that_never_had_a_tag_stays(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        result = await tree.collect(untagged=True, sparing=tree.sparing(HOUR))
        assert not result.manifests
        assert await tree.manifests("a") == {ONE.digest}

    async def test_not_when_it_is_older(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        tree.watch.ahead = HOUR
        await self.assert_goes(tree)

    async def test_not_when_a_tag_left_it(self, tree: Tree) -> None:
        await tree.push("a", ONE, "latest")
        await tree.push("a", TWO, "latest")
        await self.assert_goes(tree)

    @pytest.mark.parametrize("keep", [WEEK, ZERO], ids=["kept", "not kept"])
    async def test_not_when_its_tag_was_deleted(self, tree: Tree, keep: timedelta) -> None:
        """The tag in the trash tells, also if the trash is emptied by this collection."""
        await tree.push("a", ONE, "latest")
        await tree.services.tags.delete("a", "latest")
        await self.assert_goes(tree, keep)

    async def test_platforms_of_what_is_spared_stay(self, tree: Tree) -> None:
        await tree.push("a", index([ONE]))
        tree.watch.ahead = HOUR
        await tree.push("a", index([TWO]))
        await tree.collect(untagged=True, keep=ZERO, sparing=tree.sparing(2 * HOUR))
        assert await tree.manifests("a") == {
            each.digest for each in (ONE, TWO, index([ONE]), index([TWO]))
        }

    async def test_what_was_pulled_lately_stays(self, tree: Tree) -> None:
        await tree.push("a", ONE, "latest")
        await tree.push("b", ONE, "latest")
        for name in ("a", "b"):
            await tree.push(name, TWO, "latest")
        sparing = tree.sparing(ZERO, ("a", digest(ONE)))
        result = await tree.collect(untagged=True, keep=ZERO, sparing=sparing)
        assert [(name, str(each)) for name, each in result.manifests] == [("b", ONE.digest)]
        assert await tree.manifests("a") == {ONE.digest, TWO.digest}
        assert await tree.blobs() == digests_of(ONE) | digests_of(TWO)

    async def assert_goes(self, tree: Tree, keep: timedelta = WEEK) -> None:
        result = await tree.collect(untagged=True, sparing=tree.sparing(HOUR), keep=keep)
        assert [str(each) for _, each in result.manifests] == [ONE.digest]


class TestUnreadable:
    @pytest.mark.parametrize("keep", [WEEK, ZERO], ids=["kept", "not kept"])
    async def test_a_trash_that_cannot_be_listed_keeps_everything(
        self, tree: Tree, storage: Unreadable, keep: timedelta
    ) -> None:
        result = await self.collect(tree, storage, layout.trash_items(), keep)
        assert layout.trash_items() in result.doubts
        assert await tree.blobs() == digests_of(ONE) | digests_of(TWO)

    async def test_an_item_that_cannot_be_listed_keeps_everything(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        (item,) = await tree.items()
        result = await self.collect(tree, storage, layout.trash_item(item.identifier), WEEK)
        assert result.doubts
        assert digests_of(TWO) <= await tree.blobs()

    async def test_blobs_in_the_trash_that_cannot_be_listed_stay(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        path = layout.trash_blobs("").rstrip("/")
        result = await self.collect(tree, storage, path, ZERO)
        assert list(result.doubts) == [path]
        assert not await tree.blobs()

    async def test_a_removed_manifest_that_cannot_be_read_is_told(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        storage.paths.add(layout.blob(digest(ONE)))
        result = await tree.collect()
        assert result.doubts
        storage.paths.clear()
        assert digests_of(ONE) == await tree.blobs()

    async def test_what_a_damaged_manifest_of_a_removed_repository_may_need_is_kept(
        self, tree: Tree
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v1")
        await tree.removals.remove_repository("a")
        await tree.storage.put(layout.blob(digest(ONE)), b"damaged")
        result = await tree.collect()
        assert result.doubts
        assert await tree.blobs() == digests_of(ONE) | digests_of(TWO)

    async def test_an_item_that_cannot_be_destroyed_is_told_and_the_rest_goes_on(
        self,
    ) -> None:
        storage = _Undeletable()
        tree = Tree(storage, WEEK)
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        await tree.delete("a", ONE)
        (item,) = await tree.items()
        storage.kept.add(layout.trash_item(item.identifier))
        result = await tree.collect(keep=ZERO)
        assert list(result.doubts) == [layout.trash_item(item.identifier)]
        assert not result.expired
        assert digests_of(TWO) <= await tree.blobs()

    @staticmethod
    async def collect(tree: Tree, storage: Unreadable, path: str, keep: timedelta) -> Collected:
        """Collect with `path` unreadable and two images that nothing needs."""
        await tree.push("b", ONE)
        await tree.push("b", TWO)
        for each in (ONE, TWO):
            await tree.storage.delete(layout.revision("b", digest(each)))
        storage.paths.add(path)
        result = await tree.collect(keep=keep)
        storage.paths.clear()
        return result


async def test_the_trash_on_disk_keeps_and_gives_back(tmp_path: Path) -> None:
    tree = Tree(FilesystemStorage(tmp_path), WEEK)
    await tree.push("a", ONE, "v1")
    await tree.removals.remove_repository("a")
    await tree.collect(delay=HOUR)
    (item,) = await tree.items()
    await tree.removals.restore(item.identifier)
    await tree.services.manifests.references("a", digest(ONE))
    await tree.removals.remove_repository("a")
    await tree.collect(keep=ZERO)
    assert not await tree.blobs()
    assert [
        path for path in tmp_path.rglob("*") if path.is_file() and "locks" not in str(path)
    ] == []


async def _content(storage: Storage, directory: str) -> dict[str, bytes]:
    """Return the objects below `directory`."""
    found: dict[str, bytes] = {}
    for entry in await storage.list(directory):
        path = f"{directory}/{entry.name}"
        if entry.is_directory:
            found |= await _content(storage, path)
        else:
            found[path] = await storage.get(path, 1000)
    return found


class _Interrupted(InMemoryStorage):
    """Lets something else happen just before a directory is listed, once."""

    def __init__(self) -> None:
        super().__init__()
        self.before: tuple[str, Callable[[], Awaitable[None]]] | None = None

    @override
    async def list(self, path: str) -> Iterable[Entry]:
        if self.before is not None and path == self.before[0]:
            work, self.before = self.before[1], None
            await work()
        return await super().list(path)


class _Undeletable(InMemoryStorage):
    """A storage of which some paths can't be deleted or moved."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: set[str] = set()

    @override
    async def delete(self, path: str) -> None:
        if path in self.kept:
            raise StorageError(f"{path}: Input/output error")
        await super().delete(path)

    @override
    async def move(self, source: str, target: str) -> None:
        if source in self.kept:
            raise StorageError(f"{source}: Input/output error")
        await super().move(source, target)

    @override
    async def move_all(self, moves: Sequence[tuple[str, str]]) -> Mapping[str, StorageError | None]:
        failed = {path: StorageError(path) for path, _ in moves if path in self.kept}
        return {
            **await super().move_all([each for each in moves if each[0] not in failed]),
            **failed,
        }
