"""What keeps a blob, or the rule by which it goes."""

from datetime import timedelta

import pytest
from typing_extensions import override

from dockyard.core.explanation import (
    Chain,
    Explanation,
    Inquiry,
    Keeper,
    Lease,
    Relation,
    Step,
    Verdict,
)
from dockyard.core.holdings import Holder, Role
from dockyard.core.trash import Trash
from dockyard.errors import StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from tests.parts.faults import Unreadable
from tests.parts.images import Image, artifact, index
from tests.unit.core.pushing import ITEM, Tree, blob, composed
from tests.unit.core.trees import NOW, now


LAYER = blob("layer")
ONE = composed("one", [LAYER])
TWO = composed("two", [LAYER])


@pytest.fixture
def storage() -> Unreadable:
    return Unreadable()


@pytest.fixture
def tree(storage: Unreadable) -> Tree:
    return Tree(storage)


def digest_of(top: Image) -> Digest:
    return Digest.parse(top.digest)


LAYER_DIGEST = Digest.parse(LAYER.digest)


async def explain(tree: Tree, digest: Digest = LAYER_DIGEST) -> Explanation:
    return await Inquiry(tree.storage, now).run(digest)


def repository(name: str) -> Holder:
    return Holder(name, layout.repository(name))


class TestKept:
    async def test_by_every_tag_of_every_manifest_in_every_repository(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1", "latest")
        await tree.push("a", TWO)
        await tree.push("b/c", ONE, "v2")
        found = await explain(tree)
        assert found.verdict is Verdict.KEPT
        assert found.size == len(LAYER.body)
        one, two = digest_of(ONE), digest_of(TWO)
        assert sorted(found.keepers, key=lambda keeper: len(keeper.chains)) == [
            Keeper(repository("a"), two, Role.LAYER),
            Keeper(repository("b/c"), one, Role.LAYER, (Chain("v2"),)),
            Keeper(repository("a"), one, Role.LAYER, (Chain("latest"), Chain("v1"))),
        ]
        assert found.links == ["a", "b/c"]

    async def test_as_a_configuration(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        (keeper,) = (await explain(tree, Digest.parse(ONE.blobs[0].digest))).keepers
        assert keeper.role is Role.CONFIG

    async def test_by_an_index_above_an_index(self, tree: Tree) -> None:
        inner = index([ONE])
        outer = index([inner])
        await tree.push("a", outer, "v1")
        (keeper,) = (await explain(tree)).keepers
        steps = (Step(Relation.CHILD, digest_of(inner)), Step(Relation.CHILD, digest_of(outer)))
        assert keeper.chains == (Chain("v1", steps),)
        found = await explain(tree, digest_of(ONE))
        assert {keeper.role for keeper in found.keepers} == {Role.ITSELF, Role.CHILD}
        assert found.verdict is Verdict.KEPT

    async def test_by_what_it_refers_to(self, tree: Tree) -> None:
        signature = artifact("signature", subject=ONE.manifest.descriptor())
        await tree.push("a", ONE, "v1")
        await tree.push("a", signature)
        found = await explain(tree, Digest.parse(signature.blobs[1].digest))
        (keeper,) = found.keepers
        assert keeper.chains == (Chain("v1", (Step(Relation.REFERRER, digest_of(ONE)),)),)
        assert found.verdict is Verdict.KEPT

    async def test_by_the_shortest_way_even_in_a_circle_of_many(self, tree: Tree) -> None:
        await tree.push("a", index([ONE], subject=ONE.manifest.descriptor()), "v1")
        (keeper,) = (await explain(tree)).keepers
        assert [len(chain.steps) for chain in keeper.chains] == [1]

    async def test_though_its_bytes_are_missing(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.storage.delete(layout.blob(LAYER_DIGEST))
        found = await explain(tree)
        assert found.size is None
        assert found.verdict is Verdict.KEPT


class TestWhatGoes:
    async def test_with_what_is_untagged(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        assert (await explain(tree)).verdict is Verdict.UNTAGGED
        await tree.collect(untagged=True)
        assert (await explain(tree)).verdict is Verdict.UNKNOWN

    async def test_once_its_leases_expired(self, tree: Tree) -> None:
        await tree.upload("a/b", LAYER)
        found = await explain(tree)
        assert found.verdict is Verdict.LEASED
        (lease,) = found.leases
        assert lease.repository == "a/b"
        assert lease.expires is not None
        assert timedelta(minutes=59) < lease.expires - NOW <= timedelta(hours=1)
        await tree.forget_leases()
        found = await explain(tree)
        assert (found.verdict, found.leases) == (Verdict.UNNEEDED, [])

    async def test_with_the_next_collection_though_it_is_linked(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", composed("other", [blob("other")]), "v2")
        await tree.destroy_manifest("a", digest_of(ONE))
        found = await explain(tree)
        assert (found.verdict, found.links) == (Verdict.UNNEEDED, ["a"])
        assert LAYER_DIGEST in (await tree.collect()).blobs

    async def test_once_what_was_removed_is_emptied(self, tree: Tree) -> None:
        await tree.push("a/b", ONE, "v1")
        await tree.remove("a/b")
        found = await explain(tree)
        assert found.verdict is Verdict.REMOVED
        holder = Holder("a/b", layout.trash_item_repository(ITEM, "a/b"), ITEM)
        assert found.keepers == [Keeper(holder, digest_of(ONE), Role.LAYER)]

    async def test_what_a_collection_took(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.destroy_repository("a")
        await Trash(tree.storage).take(LAYER_DIGEST)
        found = await explain(tree)
        assert (found.verdict, found.size) == (Verdict.COLLECTED, None)
        assert found.trashed == len(LAYER.body)

    async def test_what_is_not_there(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        assert (await explain(tree, Digest.of(b"nothing"))).verdict is Verdict.UNKNOWN


class TestDoubt:
    async def test_a_damaged_link_keeps_what_its_repository_has(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        path = layout.revision_link("a", digest_of(ONE))
        await tree.storage.put(path, b"")
        found = await explain(tree)
        assert (found.verdict, found.in_doubt) == (Verdict.KEPT, [repository("a")])
        assert list(found.doubts) == [path]
        assert LAYER_DIGEST not in (await tree.collect()).blobs
        assert (await explain(tree, digest_of(ONE))).in_doubt == [repository("a")]
        assert not (await explain(tree, Digest.of(b"nothing"))).in_doubt

    async def test_a_tag_that_cannot_be_read_may_keep_it(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.storage.put(layout.tag_current("a", "v1"), b"")
        found = await explain(tree)
        assert found.keepers[0].chains == (Chain("v1", is_sure=False),)
        assert found.verdict is Verdict.KEPT

    async def test_a_directory_that_cannot_be_listed_keeps_everything(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.upload("a", LAYER)
        await tree.forget_leases()
        storage.paths.add(layout.REPOSITORIES)
        found = await explain(tree)
        assert found.is_partial
        assert found.verdict is Verdict.KEPT

    async def test_leases_that_cannot_be_read_keep_it(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.upload("a", LAYER)
        storage.paths.add(layout.leases(LAYER_DIGEST))
        found = await explain(tree)
        assert (found.verdict, found.leases) == (Verdict.LEASED, [Lease(None, None)])


class Ageless(Unreadable):
    """Of a lease, once it was looked at, the age can't be told."""

    asked = 0

    @override
    async def age(self, path: str) -> float:
        self.asked += 1
        if self.asked > 1:
            raise StorageError(f"{path}: Input/output error")
        return await super().age(path)


async def test_a_lease_whose_age_cannot_be_told_ends_some_time() -> None:
    tree = Tree(Ageless())
    await tree.upload("a", LAYER)
    found = await explain(tree)
    assert found.leases == [Lease("a", None)]
    assert list(found.doubts) == [layout.lease(LAYER_DIGEST, "a")]
