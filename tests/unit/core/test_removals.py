"""Removing, restoring and rolling back, without HTTP."""

from datetime import timedelta

import pytest

from dockyard.core.removals import Whereabouts
from dockyard.errors import (
    ItemUnknownError,
    ManifestUnknownError,
    NoEarlierManifestError,
    RepositoryUnknownError,
)
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from tests.parts.images import Image, digests_of, image, multi_platform
from tests.unit.core.collecting import WEEK, Tree


ONE, TWO, THREE = (image(seed) for seed in ("one", "two", "three"))
BOTH = multi_platform("both")


def digest(top: Image) -> Digest:
    return Digest.parse(top.digest)


async def points_to(tree: Tree, name: str, tag: str) -> str:
    return str(await tree.services.tags.resolve(name, tag))


@pytest.fixture
def tree() -> Tree:
    """A tree in memory, in which what is removed can be restored for a week."""
    return Tree(InMemoryStorage(), WEEK)


class TestRemovedManifests:
    async def test_a_manifest_comes_back_with_its_tags(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1", "latest")
        await tree.push("a", TWO, "v2")
        await tree.delete("a", ONE)
        (item,) = await tree.items()
        assert item.name == "a"
        assert item.tags == {"latest": digest(ONE), "v1": digest(ONE)}
        assert list(item.manifests) == [digest(ONE)]
        restored = await tree.removals.restore(item.identifier)
        assert restored.manifests == [digest(ONE)]
        assert restored.tags == ["latest", "v1"]
        assert not restored.taken
        assert not restored.incomplete
        assert await points_to(tree, "a", "v1") == ONE.digest
        assert not await tree.items()

    async def test_a_tag_comes_back_with_its_history(self, tree: Tree) -> None:
        await tree.push("a", ONE, "latest")
        await tree.push("a", TWO, "latest")
        await tree.services.tags.delete("a", "latest")
        (item,) = await tree.items()
        await tree.removals.restore(item.identifier)
        assert await points_to(tree, "a", "latest") == TWO.digest
        history = await tree.removals.history("a", "latest")
        assert [past.digest for past in history] == [digest(TWO), digest(ONE)]

    async def test_a_tag_that_was_set_again_stays_and_gets_the_history(self, tree: Tree) -> None:
        await tree.push("a", ONE, "latest")
        await tree.delete("a", ONE)
        await tree.push("a", TWO, "latest")
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert restored.taken == ["latest"]
        assert not restored.tags
        assert await points_to(tree, "a", "latest") == TWO.digest
        assert await tree.removals.rollback("a", "latest") == digest(ONE)

    async def test_restoring_what_was_pushed_again_is_harmless(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.push("a", ONE, "v1")
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert restored.manifests == [digest(ONE)]
        assert await points_to(tree, "a", "v1") == ONE.digest
        assert not await tree.items()

    async def test_a_tag_brings_back_its_manifest_that_was_removed_after_it(
        self, tree: Tree
    ) -> None:
        """A tag is deleted; a collection of untagged manifests then removes what it pointed to."""
        await tree.push("a", ONE, "v1")
        await tree.services.tags.delete("a", "v1")
        tree.watch.ahead += timedelta(seconds=1)
        await tree.collect(untagged=True)
        tag, manifest = await tree.items()
        assert not tag.manifests
        assert list(manifest.manifests) == [digest(ONE)]
        restored = await tree.removals.restore(tag.identifier)
        assert restored.tags == ["v1"]
        assert restored.manifests == [digest(ONE)]
        assert await tree.services.manifests.exists("a", digest(ONE))
        assert not await tree.items()

    async def test_a_tag_whose_manifest_is_gone_stays_in_the_trash(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.services.tags.delete("a", "v1")
        await tree.storage.delete(layout.revision("a", digest(ONE)))
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert not restored.tags
        assert set(restored.incomplete) == {digest(ONE)}
        with pytest.raises(ManifestUnknownError):
            await tree.services.tags.resolve("a", "v1")
        assert [each.identifier for each in await tree.items()] == [item.identifier]


class TestIncomplete:
    async def test_a_manifest_that_lacks_a_blob_stays_in_the_trash(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.storage.delete(layout.blob(Digest.parse(ONE.blobs[0].digest)))
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert ONE.blobs[0].digest in restored.incomplete[digest(ONE)]
        assert not restored.manifests
        assert not restored.tags
        assert not await tree.manifests("a")
        assert await tree.items() == [item]

    async def test_it_comes_back_once_the_blob_does(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        path = layout.blob(Digest.parse(ONE.blobs[0].digest))
        await tree.storage.delete(path)
        (item,) = await tree.items()
        await tree.removals.restore(item.identifier)
        await tree.storage.put(path, ONE.blobs[0].body)
        restored = await tree.removals.restore(item.identifier)
        assert restored.manifests == [digest(ONE)]
        assert restored.tags == ["v1"]

    async def test_a_manifest_that_lacks_its_own_bytes_stays_in_the_trash(self, tree: Tree) -> None:
        """However well a worker remembers them."""
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.storage.delete(layout.blob(digest(ONE)))
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert set(restored.incomplete) == {digest(ONE)}
        assert not await tree.manifests("a")

    async def test_an_index_stays_with_the_platform_that_stays(self, tree: Tree) -> None:
        await tree.push("a", BOTH, "v1")
        await tree.removals.remove_repository("a")
        damaged = BOTH.children[1]
        await tree.storage.delete(layout.blob(Digest.parse(damaged.blobs[0].digest)))
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert set(restored.incomplete) == {digest(BOTH), digest(damaged)}
        assert restored.manifests == [digest(BOTH.children[0])]
        assert await tree.manifests("a") == {BOTH.children[0].digest}
        (left,) = await tree.items()
        assert set(left.manifests) == {digest(BOTH), digest(damaged)}

    async def test_one_that_the_repository_has_stays_there(self, tree: Tree) -> None:
        """It was pushed again, and damaged since: that is not for a restore to remove."""
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.push("a", ONE, "v1")
        await tree.storage.delete(layout.blob(Digest.parse(ONE.blobs[0].digest)))
        (item,) = await tree.items()
        await tree.removals.restore(item.identifier)
        assert await tree.manifests("a") == {ONE.digest}
        assert await points_to(tree, "a", "v1") == ONE.digest

    async def test_likewise_on_disk(self, disk: FilesystemStorage) -> None:
        tree = Tree(disk, WEEK)
        await self.test_one_that_the_repository_has_stays_there(tree)


class TestRepositories:
    async def test_a_repository_comes_back_as_it_was(self, tree: Tree) -> None:
        await tree.push("a", BOTH, "v1")
        await tree.push("a", ONE, "v2", "latest")
        await tree.push("a/b", TWO, "v1")
        await tree.removals.remove_repository("a")
        assert not await tree.storage.exists(layout.manifests("a"))
        assert await points_to(tree, "a/b", "v1") == TWO.digest
        (item,) = await tree.items()
        restored = await tree.removals.restore(item.identifier)
        assert restored.tags == ["latest", "v1", "v2"]
        for top, tag in ((BOTH, "v1"), (ONE, "latest")):
            assert await points_to(tree, "a", tag) == top.digest
            await tree.services.manifests.references("a", digest(top))
        assert not await tree.items()

    async def test_it_can_be_pushed_to_meanwhile(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.removals.remove_repository("a")
        await tree.push("a", TWO, "v2")
        (item,) = await tree.items()
        await tree.removals.restore(item.identifier)
        assert await tree.manifests("a") == {ONE.digest, TWO.digest}
        assert await points_to(tree, "a", "v1") == ONE.digest

    async def test_one_without_a_manifest_can_be_removed(self, tree: Tree) -> None:
        content = ONE.blobs[0]
        path = layout.layer_link("a", Digest.parse(content.digest))
        await tree.storage.put(path, content.digest.encode())
        await tree.removals.remove_repository("a")
        (item,) = await tree.items()
        assert item.blobs == (Digest.parse(content.digest),)
        await tree.removals.restore(item.identifier)
        assert await tree.storage.exists(path)

    @pytest.mark.parametrize("name", ["a", "nothing", "a/b/c"])
    async def test_one_that_is_not_there_cannot(self, tree: Tree, name: str) -> None:
        await tree.push("a/b", ONE, "v1")
        with pytest.raises(RepositoryUnknownError):
            await tree.removals.remove_repository(name)
        assert not await tree.items()

    async def test_uploads_in_progress_end(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.services.uploads.begin("a")
        await tree.removals.remove_repository("a")
        assert not await tree.storage.exists(layout.uploads("a"))

    async def test_items_can_be_asked_for_by_repository(self, tree: Tree) -> None:
        for name in ("a", "b"):
            tree.watch.ahead += timedelta(seconds=1)
            await tree.push(name, ONE, "v1")
            await tree.removals.remove_repository(name)
        assert [item.name for item in await tree.removals.items()] == ["a", "b"]
        assert [item.name for item in await tree.removals.items("b")] == ["b"]
        assert await tree.removals.items("c") == []

    @pytest.mark.parametrize("item", ["nothing", "", "..", "20260101T000000Z-00000000"])
    async def test_an_item_that_is_not_there(self, tree: Tree, item: str) -> None:
        with pytest.raises(ItemUnknownError):
            await tree.removals.restore(item)
        with pytest.raises(ItemUnknownError):
            await tree.removals.destroy(item)

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    async def test_what_was_removed_before_it_comes_back_in_either_order(
        self, tree: Tree, order: tuple[int, int]
    ) -> None:
        """The links to the blobs of the one that was deleted first went with the repository."""
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        await tree.delete("a", ONE)
        tree.watch.ahead = timedelta(seconds=1)
        await tree.removals.remove_repository("a")
        found = await tree.items()
        for number in order:
            restored = await tree.removals.restore(found[number].identifier)
            assert not restored.incomplete
        for top, tag in ((ONE, "v1"), (TWO, "v2")):
            assert await points_to(tree, "a", tag) == top.digest
            await tree.services.manifests.references("a", digest(top))
        assert not await tree.items()


class TestHistory:
    async def test_the_newest_first_with_where_each_is(self, tree: Tree) -> None:
        for top in (ONE, TWO, THREE):
            await tree.push("a", top, "latest")
        await tree.delete("a", ONE)
        await tree.storage.delete(layout.revision("a", digest(TWO)))
        (item,) = await tree.items()
        history = await tree.removals.history("a", "latest")
        assert [(past.digest, past.whereabouts, past.item) for past in history] == [
            (digest(THREE), Whereabouts.CURRENT, None),
            (digest(TWO), Whereabouts.GONE, None),
            (digest(ONE), Whereabouts.TRASH, item.identifier),
        ]

    async def test_of_a_removed_tag(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v1")
        await tree.services.tags.delete("a", "v1")
        history = await tree.removals.history("a", "v1")
        assert [past.whereabouts for past in history] == [Whereabouts.KEPT] * 2

    async def test_of_nothing(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        with pytest.raises(ManifestUnknownError):
            await tree.removals.history("a", "v2")


class TestRollback:
    async def test_twice_leads_back(self, tree: Tree) -> None:
        for top in (ONE, TWO):
            await tree.push("a", top, "latest")
        for expected in (ONE, TWO, ONE):
            assert await tree.removals.rollback("a", "latest") == digest(expected)
            assert await points_to(tree, "a", "latest") == expected.digest

    async def test_to_a_digest(self, tree: Tree) -> None:
        for top in (ONE, TWO, THREE):
            await tree.push("a", top, "latest")
        assert await tree.removals.rollback("a", "latest", digest(ONE)) == digest(ONE)
        assert await points_to(tree, "a", "latest") == ONE.digest

    async def test_to_a_digest_that_the_tag_never_had(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        await tree.removals.rollback("a", "v1", digest(TWO))
        assert await points_to(tree, "a", "v1") == TWO.digest

    async def test_not_to_what_the_repository_never_had(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO, "v1")
        with pytest.raises(ManifestUnknownError):
            await tree.removals.rollback("a", "v1", digest(TWO))
        assert await points_to(tree, "a", "v1") == ONE.digest

    async def test_not_where_there_is_nothing_earlier(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        with pytest.raises(NoEarlierManifestError):
            await tree.removals.rollback("a", "v1")

    async def test_restores_what_was_removed_and_leaves_no_empty_item(self, tree: Tree) -> None:
        for top in (ONE, TWO):
            await tree.push("a", top, "latest")
        await tree.collect(untagged=True)
        assert await tree.manifests("a") == {TWO.digest}
        assert await tree.removals.rollback("a", "latest") == digest(ONE)
        await tree.services.manifests.references("a", digest(ONE))
        assert not await tree.items()

    async def test_brings_back_a_removed_tag(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        assert await tree.removals.rollback("a", "v1") == digest(ONE)
        assert await points_to(tree, "a", "v1") == ONE.digest
        assert await tree.blobs() == digests_of(ONE)


async def test_without_retention_nothing_can_be_restored() -> None:
    tree = Tree(InMemoryStorage(), timedelta(0))
    await tree.push("a", ONE, "v1")
    await tree.delete("a", ONE)
    assert not await tree.items()
    assert not await tree.storage.exists(layout.trash_items())
