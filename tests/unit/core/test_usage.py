"""What a tree is used for. That it is what a deletion and a collection then free: by doing so."""

import json
import random
from datetime import timedelta

import pytest

from dockyard.core.leases import Leases
from dockyard.core.trash import Trash
from dockyard.core.usage import RepositoryUsage, Share, Survey, TagUsage, Usage
from dockyard.errors import RepositoryUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.inmemory import InMemoryStorage
from tests.parts.faults import Unreadable
from tests.parts.images import Image, index
from tests.unit.core.pushing import ITEM, Tree, blob, composed, size_of


BASE, ONLY, OTHER = blob("base", 1000), blob("only", 200), blob("other", 300)
ONE = composed("one", [BASE, ONLY])
TWO = composed("two", [BASE, OTHER])
ALONE = size_of(ONE, ONE.blobs[0], ONLY)
"""Bytes of one that two has no part in."""


@pytest.fixture
def storage() -> Unreadable:
    return Unreadable()


@pytest.fixture
def tree(storage: Unreadable) -> Tree:
    return Tree(storage)


async def usage_of(tree: Tree, name: str | None = None) -> Usage:
    return await Survey(tree.storage, Leases(tree.storage)).run(name)


async def repositories_of(tree: Tree) -> dict[str, RepositoryUsage]:
    return {each.name: each for each in (await usage_of(tree)).repositories}


async def tags_of(tree: Tree, name: str) -> dict[str, TagUsage]:
    detail = (await usage_of(tree, name)).detail
    assert detail is not None
    return {each.tag: each for each in detail.tags}


class TestRepositories:
    async def test_what_others_need_too_is_shared_and_stays(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b/c", TWO, "v1")
        a = (await repositories_of(tree))["a"]
        assert a == RepositoryUsage("a", 1, Share(ALONE + 1000, ALONE, ALONE))
        assert a.share.shared == 1000

    async def test_they_are_sorted_by_what_they_free(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO, "v1")
        await tree.push("c", ONE, "v1")
        assert [each.name for each in (await usage_of(tree)).repositories] == ["b", "a", "c"]

    async def test_what_needs_nothing_is_left_out(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.destroy_manifest("a", Digest.parse(ONE.digest))
        assert not (await usage_of(tree)).repositories

    async def test_one_that_is_not_there(self, tree: Tree) -> None:
        await tree.push("a/b", ONE, "v1")
        with pytest.raises(RepositoryUnknownError):
            await usage_of(tree, "a")


class TestTotals:
    async def test_all_that_is_stored_is_for_something(self, tree: Tree) -> None:
        await tree.push("needed", ONE, "v1")
        await tree.push("removed", TWO, "v1")
        await tree.remove("removed")
        leased = await tree.upload("leased", blob("leased", 70))
        unneeded = blob("unneeded", 80)
        await tree.storage.put(layout.blob(Digest.parse(unneeded.digest)), unneeded.body)
        collected = blob("collected", 90)
        await tree.storage.put(layout.trash_blob(Digest.parse(collected.digest)), collected.body)
        usage = await usage_of(tree)
        totals = usage.totals
        assert totals.needed == ALONE + 1000
        assert totals.removed == size_of(TWO, TWO.blobs[0], OTHER)
        assert (totals.leased, totals.unneeded, totals.trash) == (70, 80, 90)
        assert totals.stored == totals.needed + totals.removed + 150
        assert [each.name for each in usage.repositories] == ["needed"]
        assert usage.repositories[0].share.frees == ALONE  # what was removed needs the base
        await tree.collect()
        assert not (await usage_of(tree)).totals.unneeded
        assert await tree.storage.exists(layout.blob(leased))

    async def test_unneeded_is_what_a_collection_frees(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO, "v1")
        await tree.destroy_repository("a")
        unneeded = (await usage_of(tree)).totals.unneeded
        assert unneeded == ALONE
        assert (await tree.collect()).freed == unneeded

    async def test_a_lease_that_expired_keeps_nothing(self, tree: Tree) -> None:
        await tree.upload("a", blob("leased", 70))
        survey = Survey(tree.storage, Leases(tree.storage, timedelta(hours=-1)))
        assert (await survey.run()).totals.unneeded == 70

    async def test_what_a_killed_collection_took_can_still_be_read(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await Trash(tree.storage).take(Digest.parse(ONE.digest))
        usage = await usage_of(tree)
        assert not usage.doubts
        assert usage.totals.trash == size_of(ONE)
        assert usage.totals.needed == ALONE + 1000 - size_of(ONE)


class TestTags:
    async def test_a_tag_has_what_no_other_image_needs(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        tags = await tags_of(tree, "a")
        share = Share(ALONE + 1000, ALONE, ALONE)
        assert tags["v1"] == TagUsage("v1", Digest.parse(ONE.digest), share, ALONE)
        assert list(tags) == ["v2", "v1"]

    async def test_tags_of_one_manifest_have_the_same(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1", "latest")
        tags = await tags_of(tree, "a")
        assert tags["v1"].share == tags["latest"].share
        assert tags["v1"].share.frees == ALONE + 1000

    async def test_an_index_alone_frees_itself_and_its_platforms_untagged(self, tree: Tree) -> None:
        top = index([ONE, TWO])
        await tree.push("a", top, "v1")
        tag = (await tags_of(tree, "a"))["v1"]
        assert tag.share.frees == size_of(top)
        everything = size_of(top, ONE, *ONE.blobs, TWO, TWO.blobs[0], OTHER)
        assert tag.share.unique == tag.share.needed == tag.frees_untagged == everything

    async def test_what_no_tag_keeps(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v1")
        detail = (await usage_of(tree, "a")).detail
        assert detail is not None
        assert detail.untagged_manifests == 1
        assert detail.untagged == Share(ALONE + 1000, ALONE, ALONE)
        assert (await tree.collect(untagged=True)).freed == ALONE

    async def test_a_tag_of_what_is_gone_is_left_out(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        await tree.storage.delete(layout.revision("a", Digest.parse(ONE.digest)))
        assert list(await tags_of(tree, "a")) == ["v2"]


class TestDoubt:
    async def test_a_damaged_link_makes_its_repository_need_all_it_has(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        await tree.push("b", composed("three", [blob("three", 50)]), "v1")
        path = layout.revision_link("a", Digest.parse(ONE.digest))
        await tree.storage.put(path, b"half a dig")
        usage = await usage_of(tree, "a")
        assert list(usage.doubts) == [path]
        assert usage.detail is not None
        assert usage.detail.usage.share.unique == ALONE + 1000 + size_of(TWO, TWO.blobs[0], OTHER)
        frees = {each.tag: each.share.frees for each in usage.detail.tags}
        assert frees == {"v1": size_of(ONE), "v2": size_of(TWO)}  # themselves, for sure
        assert not usage.detail.untagged_manifests
        assert not usage.totals.unneeded
        await tree.destroy_manifest("a", Digest.parse(TWO.digest))
        assert (await tree.collect()).freed == size_of(TWO)

    async def test_a_damaged_manifest_likewise(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.storage.put(layout.blob(Digest.parse(ONE.digest)), b"{}")
        usage = await usage_of(tree)
        assert "damaged" in usage.doubts[layout.revision_link("a", Digest.parse(ONE.digest))]
        assert not usage.totals.unneeded

    async def test_a_tag_that_cannot_be_read_may_keep_any_manifest(self, tree: Tree) -> None:
        await tree.push("a", index([ONE]), "v1")
        await tree.push("a", TWO, "v2")
        await tree.storage.put(layout.tag_current("a", "v2"), b"")
        usage = await usage_of(tree, "a")
        assert list(usage.doubts) == [layout.tag_current("a", "v2")]
        assert usage.detail is not None
        (tag,) = usage.detail.tags
        assert tag.frees_untagged == tag.share.frees == size_of(index([ONE]))
        assert not usage.detail.untagged_manifests

    async def test_a_directory_that_cannot_be_listed_frees_nothing(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO, "v1")
        await tree.destroy_repository("a")
        storage.paths.add(layout.revisions("b"))
        usage = await usage_of(tree)
        assert usage.is_partial
        assert usage.totals.unneeded == 0
        assert usage.totals.needed == usage.totals.stored

    async def test_blobs_that_cannot_be_listed_are_not_counted(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE, "v1")
        shard = f"{layout.BLOBS}/sha256/{Digest.parse(BASE.digest).hex[:2]}"
        storage.paths.update({shard, layout.trash_blobs("sha256"), f"{layout.PRIVATE}/leases"})
        await tree.storage.put(layout.trash_blob(Digest.parse(BASE.digest)), b"")
        usage = await usage_of(tree)
        assert set(usage.doubts) == storage.paths
        assert not usage.is_partial
        assert usage.repositories[0].share.needed < ALONE + 1000


def forest(seed: int) -> list[tuple[str, Image, tuple[str, ...]]]:
    """Return pushes of images that share layers, are listed, refer to others, or lose their tag."""
    chance = random.Random(seed)
    layers = [blob(f"{seed}-{number}", 50 + number) for number in range(6)]
    pushes: list[tuple[str, Image, tuple[str, ...]]] = []
    for name in ("a", "a/b"):
        images: list[Image] = []
        for number in range(7):
            subject = None
            if images and chance.random() < 0.4:
                subject = chance.choice(images).manifest.descriptor()
            if images and chance.random() < 0.4:
                top = index(chance.sample(images, min(len(images), 2)), subject=subject)
            else:
                seed_of_config = f"{seed}-{number}-{chance.choice(['', name])}"
                top = composed(seed_of_config, chance.sample(layers, 2), subject=subject)
            images.append(top)
            tags = chance.sample(["v1", "v2", "v3", "v4"], chance.choice([0, 0, 1, 1, 2]))
            pushes.append((name, top, tuple(tags)))
    return pushes


@pytest.mark.parametrize("seed", range(8))
class TestItIsWhatGoes:
    """For each of a number of trees: delete one thing of a copy, collect, and compare."""

    async def planted(self, seed: int) -> Tree:
        tree = Tree(InMemoryStorage())
        for name, top, tags in forest(seed):
            await tree.push(name, top, *tags)
        return tree

    @pytest.mark.parametrize("name", ["a", "a/b"])
    async def test_by_deleting_a_repository(self, seed: int, name: str) -> None:
        tree = await self.planted(seed)
        told = (await repositories_of(tree))[name].share.frees
        for part in ("_manifests", "_layers"):
            await tree.storage.delete(f"{layout.repository(name)}/{part}")
        assert (await tree.collect()).freed == told

    @pytest.mark.parametrize("untagged", [False, True])
    async def test_by_deleting_what_a_tag_points_to(self, seed: int, *, untagged: bool) -> None:
        tree = await self.planted(seed)
        await tree.destroy_repository("a/b")  # what is untagged there would go as well
        await tree.collect()
        detail = (await usage_of(tree, "a")).detail
        assert detail is not None
        for tag in detail.tags:
            copy = await self.planted(seed)
            await copy.destroy_repository("a/b")
            await copy.collect()
            await copy.destroy_manifest("a", tag.digest)
            freed = (await copy.collect(untagged=untagged)).freed
            anyway = detail.untagged.frees
            assert freed == (tag.frees_untagged + anyway if untagged else tag.share.frees), tag


async def test_what_was_removed_is_read_with_its_own_links(tree: Tree) -> None:
    await tree.push("a", ONE, "v1")
    await tree.remove("a")
    directory = layout.trash_item_repository(ITEM, "a")
    hexadecimals = Digest.parse(ONE.digest).hex
    path = f"{directory}/_manifests/revisions/sha256/{hexadecimals}/link"
    await tree.storage.put(path, b"")
    usage = await usage_of(tree)
    assert list(usage.doubts) == [path]
    assert usage.totals.removed == ALONE + 1000


async def test_content_of_another_algorithm_counts_where_it_is_stored(tree: Tree) -> None:
    """distribution stores all by sha256, and a link by sha512 leads there."""
    content = b"stored by its sha256"
    by_sha512, by_sha256 = Digest.of(content, "sha512"), Digest.of(content)
    described = {"mediaType": "x/y", "digest": str(by_sha512), "size": len(content)}
    top = composed("linked", [])
    layers = f'"layers":[{json.dumps(described)}]'.encode()
    body = top.manifest.body.replace(b'"layers":[]', layers)
    digest = Digest.of(body)
    await tree.storage.put(layout.blob(by_sha256), content)
    await tree.storage.put(layout.layer_link("a", by_sha512), str(by_sha256).encode())
    await tree.storage.put(layout.blob(digest), body)
    await tree.storage.put(layout.revision_link("a", digest), str(digest).encode())
    assert (await usage_of(tree)).totals.needed == len(content) + len(body)
    await tree.storage.put(layout.layer_link("a", by_sha512), b"")
    assert list((await usage_of(tree)).doubts) == [layout.layer_link("a", by_sha512)]
