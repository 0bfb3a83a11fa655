"""What is removed, and what comes back. Beside collections: `tests/model`."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from dockyard.core.collector import Collected, Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.manifests import ManifestPush
from dockyard.core.trash import Trash
from dockyard.errors import ManifestUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from tests.api.registry import services_on
from tests.parts.collection import Silent
from tests.parts.faults import Unreadable
from tests.parts.images import Image, image, multi_platform


KEEP = timedelta(days=7)
ONE = image("one")
TWO = image("two")
INDEX = next(
    top
    for top in map(multi_platform, map(str, range(100)))
    if top.digest == min(each.digest for each in top.everything())
)
"""An index that is looked at before its platforms: items are read in the order of digests."""


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


class Tree:
    """A registry's tree, with nobody told of anything, and a trash that keeps."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.services = services_on(storage, keep=KEEP)
        self.removals = self.services.removals

    async def push(self, name: str, top: Image, *tags: str) -> None:
        for each in top.everything():
            for content in each.blobs:
                digest = Digest.parse(content.digest)
                await self.services.uploads.store(name, digest, _once(content.body))
            body, kind = each.manifest.body, each.manifest.media_type
            push = ManifestPush(name, body, kind, None, tags if each is top else ())
            await self.services.manifests.put(push)

    async def delete(self, name: str, top: Image) -> str:
        """Delete a manifest; return the item of the trash that has it."""
        before = {item.identifier for item in await self.removals.items()}
        await self.services.manifests.delete(name, Digest.parse(top.digest))
        [item] = [i for i in await self.removals.items() if i.identifier not in before]
        return item.identifier

    async def collect(self, *, untagged: bool = False, dry_run: bool = False) -> Collected:
        leases = Leases(self.storage, timedelta(seconds=-1))
        trash = Trash(self.storage, KEEP)
        collector = Collector(self.storage, self.services.manifests, leases, trash)
        plan = Plan(delete_untagged=untagged, dry_run=dry_run)
        return await collector.run(Silent(), plan)

    async def is_whole(self, name: str, top: Image) -> bool:
        for each in top.everything():
            if not await self.services.manifests.exists(name, Digest.parse(each.digest)):
                return False
            for content in each.blobs:
                if not await self.services.blobs.has(name, Digest.parse(content.digest)):
                    return False
        return True


@pytest.fixture
def storage() -> Unreadable:
    return Unreadable()


@pytest.fixture
def tree(storage: Unreadable) -> Tree:
    return Tree(storage)


async def test_one_that_was_pushed_again_stays_although_it_lacks_something(tree: Tree) -> None:
    await tree.push("a", ONE, "v1")
    item = await tree.delete("a", ONE)
    await tree.push("a", ONE, "v2")
    await tree.services.blobs.unlink("a", Digest.parse(ONE.blobs[0].digest))
    restored = await tree.removals.restore(item)
    assert restored.incomplete
    assert await tree.services.manifests.exists("a", Digest.parse(ONE.digest))


async def test_an_index_does_not_come_back_without_its_platforms(tree: Tree) -> None:
    await tree.push("a", INDEX, "v1")
    platforms = [each for each in INDEX.everything() if each is not INDEX]
    await tree.removals.remove_repository("a")
    [item] = await tree.removals.items()
    for platform in platforms:
        for content in platform.blobs:
            link = layout.layer_link("a", Digest.parse(content.digest))
            below = link.removeprefix(layout.repository("a")).removesuffix("/link")
            if await tree.storage.exists(f"{item.directory}{below}"):
                await tree.storage.delete(f"{item.directory}{below}")
    restored = await tree.removals.restore(item.identifier)
    assert set(restored.incomplete) == {Digest.parse(e.digest) for e in INDEX.everything()}
    assert restored.tags == []
    assert not await tree.services.manifests.exists("a", Digest.parse(INDEX.digest))


async def test_an_index_comes_back_with_the_platforms_that_were_removed_after_it(
    tree: Tree,
) -> None:
    await tree.push("a", INDEX, "v1")
    item = await tree.delete("a", INDEX)
    for platform in INDEX.everything():
        if platform is not INDEX:
            await tree.delete("a", platform)
    restored = await tree.removals.restore(item)
    assert restored.tags == ["v1"]
    assert not restored.incomplete
    assert await tree.is_whole("a", INDEX)
    assert await tree.removals.items() == []  # nothing empty is left to be listed


async def test_a_tag_comes_back_with_the_manifest_that_was_collected_after_it(tree: Tree) -> None:
    await tree.push("a", ONE, "v1")
    await tree.services.tags.delete("a", "v1")
    [item] = await tree.removals.items()
    assert (await tree.collect(untagged=True)).manifests
    restored = await tree.removals.restore(item.identifier)
    assert restored.tags == ["v1"]
    assert await tree.is_whole("a", ONE)


async def test_a_tag_whose_manifest_is_gone_stays_in_the_trash(tree: Tree) -> None:
    await tree.push("a", ONE, "v1")
    await tree.services.tags.delete("a", "v1")
    [item] = await tree.removals.items()
    await tree.storage.delete(layout.revision("a", Digest.parse(ONE.digest)))
    restored = await tree.removals.restore(item.identifier)
    assert set(restored.incomplete) == {Digest.parse(ONE.digest)}
    assert restored.tags == restored.taken == []
    assert await tree.removals.items() == [item]


async def test_a_tag_comes_back_where_a_half_made_one_is(tree: Tree) -> None:
    """A server was killed between the tag's history and the tag."""
    await tree.push("a", ONE, "v1")
    await tree.push("a", TWO, "v2")
    await tree.services.tags.delete("a", "v1")
    [item] = await tree.removals.items()
    two = Digest.parse(TWO.digest)
    await tree.storage.put(layout.tag_index("a", "v1", two), str(two).encode())
    restored = await tree.removals.restore(item.identifier)
    assert restored.tags == ["v1"]
    assert await tree.services.tags.resolve("a", "v1") == Digest.parse(ONE.digest)


async def test_a_tag_is_not_rolled_back_to_what_lacks_something(tree: Tree) -> None:
    await tree.push("a", ONE, "v1")
    await tree.push("a", TWO, "v1")
    await tree.services.blobs.unlink("a", Digest.parse(ONE.blobs[0].digest))
    with pytest.raises(ManifestUnknownError, match="not whole any more"):
        await tree.removals.rollback("a", "v1", Digest.parse(ONE.digest))
    assert await tree.services.tags.resolve("a", "v1") == Digest.parse(TWO.digest)


class TestCollections:
    async def test_what_goes_to_the_trash_keeps_its_blobs_where_they_are(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        for dry_run in (True, False):
            result = await tree.collect(untagged=True, dry_run=dry_run)
            assert result.manifests == [("a", Digest.parse(ONE.digest))]
            assert (result.blobs, result.spared) == ({}, [])

    async def test_an_item_whose_manifest_cant_be_read_keeps_what_it_may_need(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.removals.remove_repository("a")
        [item] = await tree.removals.items()
        [directory] = item.manifests.values()
        storage.paths.add(f"{directory}/link")
        result = await tree.collect()
        assert result.doubts == [f"{directory}/link"]
        storage.paths.clear()
        assert (await tree.removals.restore(item.identifier)).tags == ["v1"]
        assert await tree.is_whole("a", ONE)

    async def test_an_item_keeps_what_a_link_of_distribution_leads_to(self, tree: Tree) -> None:
        """distribution stores by sha256 what was pushed by another algorithm."""
        await tree.push("a", ONE, "v1")
        layer = ONE.blobs[-1].body
        longer, target = Digest.of(layer, "sha512"), Digest.of(layer)
        document = ONE.manifest.body.replace(str(target).encode(), str(longer).encode())
        link = layout.layer_link("a", longer)
        await tree.storage.put(link, str(target).encode())
        push = ManifestPush("a", document, ONE.manifest.media_type, None, ("v2",))
        await tree.services.manifests.put(push)
        await tree.services.manifests.delete("a", Digest.parse(ONE.digest))
        await tree.removals.destroy((await tree.removals.items())[0].identifier)
        await tree.removals.remove_repository("a")
        assert target not in (await tree.collect()).blobs
        [item] = await tree.removals.items()
        assert not (await tree.removals.restore(item.identifier)).incomplete

    async def test_a_trash_that_cant_be_listed_keeps_everything(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.push("b", TWO, "v1")
        await tree.removals.remove_repository("b")
        storage.paths.add(layout.trash_items())
        result = await tree.collect(untagged=True)
        assert result.blobs == {}
        assert layout.trash_items() in result.doubts
