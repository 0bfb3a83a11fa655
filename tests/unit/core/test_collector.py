"""What a collection keeps, and what goes. That it may run beside anybody: `tests/model`."""

from pathlib import Path

import pytest

from dockyard.core.trash import Trash
from dockyard.errors import StorageBusyError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from tests.parts.faults import Unreadable
from tests.parts.images import artifact, digests_of, image, index, multi_platform
from tests.unit.core.collecting import Tree, once


ONE = image("one")
TWO = image("two")


@pytest.fixture
def storage() -> Unreadable:
    return Unreadable()


@pytest.fixture
def tree(storage: Unreadable) -> Tree:
    return Tree(storage)


class TestWhatGoes:
    async def test_what_a_deleted_manifest_alone_needed(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO, "v1")
        await tree.delete("a", ONE)
        result = await tree.collect(leases=True)  # a push that has ended leaves no lease
        assert {str(digest) for digest in result.blobs} == digests_of(ONE)
        assert result.freed == sum(len(content.body) for content in (*ONE.blobs, ONE.manifest))
        assert await tree.blobs() == digests_of(TWO)
        assert not result.doubts
        assert not result.spared

    async def test_its_links(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        await tree.delete("a", ONE)
        result = await tree.collect()
        assert {str(digest) for _, digest in result.links} == {each.digest for each in ONE.blobs}
        for each in ONE.blobs:
            link = layout.layer_link("a", Digest.parse(each.digest))
            assert not await tree.storage.exists(link)

    async def test_a_removed_repository_is_no_repository(self, tree: Tree) -> None:
        await tree.push("a/b", ONE, "v1")
        await tree.push("a", TWO, "v1")
        await tree.storage.delete(layout.repository("a/b"))
        await tree.collect()
        assert await tree.blobs() == digests_of(TWO)

    async def test_nothing_in_a_dry_run(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        before = await tree.blobs()
        result = await tree.collect(dry_run=True, untagged=True)
        assert {str(digest) for digest in result.blobs} == digests_of(ONE)
        assert [str(digest) for _, digest in result.manifests] == [ONE.digest]
        assert await tree.blobs() == before
        assert await tree.manifests("a") == {ONE.digest}

    async def test_nothing_that_a_client_was_told_of(self, tree: Tree) -> None:
        content = ONE.blobs[0]
        await tree.services.uploads.store("a", Digest.parse(content.digest), once(content.body))
        await tree.collect(leases=True)
        assert await tree.blobs() == {content.digest}
        await tree.collect()
        assert not await tree.blobs()

    async def test_nothing_of_a_client_that_asked_in_vain(self, tree: Tree) -> None:
        """Docker asks for each layer before it pushes; after that push nothing is leased."""
        for content in ONE.blobs:
            assert not await tree.services.blobs.mount("a", Digest.parse(content.digest), None)
        await tree.push("a", ONE, "v1")
        await tree.delete("a", ONE)
        await tree.collect(leases=True)
        assert not await tree.blobs()

    async def test_what_a_killed_collection_had_taken(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO)
        for each in (*ONE.blobs, ONE.manifest, *TWO.blobs):
            await Trash(tree.storage).take(Digest.parse(each.digest))
        await tree.delete("b", TWO)
        result = await tree.collect()
        assert await tree.blobs() == digests_of(ONE)
        assert not result.doubts
        assert not await tree.storage.exists(layout.trash_blobs("sha256"))

    async def test_the_same_content_can_be_pushed_again(self, tree: Tree) -> None:
        for _ in range(3):
            await tree.push("a", ONE, "v1")
            await tree.delete("a", ONE)
            await tree.collect(leases=True)
            assert not await tree.blobs()
        await tree.push("a", ONE, "v1")
        await tree.collect(leases=True)
        assert await tree.blobs() == digests_of(ONE)


class TestUntagged:
    async def test_what_has_no_tag_goes(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v1")
        result = await tree.collect(untagged=True)
        assert [(name, str(digest)) for name, digest in result.manifests] == [("a", ONE.digest)]
        assert await tree.blobs() == digests_of(TWO)
        assert await tree.manifests("a") == {TWO.digest}

    async def test_only_if_that_is_wanted(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        assert not (await tree.collect()).manifests
        assert await tree.blobs() == digests_of(ONE)

    async def test_children_of_what_is_kept_stay(self, tree: Tree) -> None:
        nested = index([multi_platform("inner"), ONE])
        await tree.push("a", nested, "v1")
        assert not (await tree.collect(untagged=True)).manifests
        assert await tree.blobs() == digests_of(nested)

    async def test_referrers_of_what_is_kept_stay(self, tree: Tree) -> None:
        signature = artifact("signature", subject=ONE.manifest.descriptor())
        of_it = artifact("signature of it", subject=signature.manifest.descriptor())
        await tree.push("a", index([ONE]), "v1")
        await tree.push("a", signature)
        await tree.push("a", of_it)
        assert not (await tree.collect(untagged=True)).manifests
        assert await tree.blobs() == (
            digests_of(index([ONE])) | digests_of(signature) | digests_of(of_it)
        )

    async def test_referrers_of_what_goes_go(self, tree: Tree) -> None:
        await tree.push("a", ONE)
        await tree.push("a", artifact("signature", subject=ONE.manifest.descriptor()))
        assert len((await tree.collect(untagged=True)).manifests) == 2
        assert not await tree.blobs()

    async def test_what_something_kept_refers_to_goes(self, tree: Tree) -> None:
        first = artifact("one", subject=TWO.manifest.descriptor())
        await tree.push("a", first, "v1")
        await tree.push("a", TWO)
        result = await tree.collect(untagged=True)
        assert [str(digest) for _, digest in result.manifests] == [TWO.digest]

    async def test_without_a_directory_of_tags_all_go(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.storage.delete(layout.tags("a"))
        await tree.collect(untagged=True)
        assert not await tree.blobs()


class TestDoubt:
    @pytest.mark.parametrize("content", [b"", b"half a digest"])
    async def test_a_damaged_link_keeps_what_its_repository_has(
        self, tree: Tree, content: bytes
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO)
        await tree.delete("b", TWO)
        path = layout.revision_link("a", Digest.parse(ONE.digest))
        await tree.storage.put(path, content)
        result = await tree.collect(untagged=True)
        assert list(result.doubts) == [path]
        assert tree.seen.doubts == [path]
        assert await tree.blobs() == digests_of(ONE)

    async def test_a_manifest_that_cannot_be_read_keeps_what_its_repository_has(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE)
        await tree.push("b", TWO)
        await tree.delete("b", TWO)
        storage.paths.add(layout.blob(Digest.parse(ONE.digest)))
        result = await tree.collect(untagged=True)
        assert set(result.doubts) == {layout.revision_link("a", Digest.parse(ONE.digest))}
        assert await tree.blobs() == digests_of(ONE)
        assert await tree.manifests("a") == {ONE.digest}

    async def test_a_damaged_manifest_keeps_what_its_repository_has(self, tree: Tree) -> None:
        await tree.push("a", ONE, "v1")
        await tree.storage.put(layout.blob(Digest.parse(ONE.digest)), b'{"schemaVersion": 2}')
        assert (await tree.collect()).doubts
        assert await tree.blobs() == digests_of(ONE)

    async def test_a_tag_that_cannot_be_read_keeps_every_manifest(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("a", TWO, "v2")
        storage.paths.add(layout.tag_current("a", "v1"))
        result = await tree.collect(untagged=True)
        assert result.doubts
        assert not result.manifests
        assert await tree.blobs() == digests_of(ONE) | digests_of(TWO)

    @pytest.mark.parametrize(
        "path",
        [layout.REPOSITORIES, layout.repository("a"), layout.revisions("a"), layout.tags("a")],
    )
    async def test_a_directory_that_cannot_be_listed_keeps_everything(
        self, tree: Tree, storage: Unreadable, path: str
    ) -> None:
        await tree.push("a", ONE, "v1")
        await tree.push("b", TWO)
        await tree.delete("b", TWO)
        storage.paths.add(path)
        result = await tree.collect(untagged=True)
        assert set(result.doubts) == {path}
        assert not result.blobs
        assert not result.manifests
        storage.paths.clear()
        assert await tree.blobs() == digests_of(ONE) | digests_of(TWO)
        assert not (await tree.collect()).doubts
        assert await tree.blobs() == digests_of(ONE)

    async def test_blobs_that_cannot_be_listed_stay_and_the_rest_goes(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE)
        await tree.delete("a", ONE)
        hidden = ONE.blobs[0].digest
        path = f"{layout.BLOBS}/sha256/{Digest.parse(hidden).hex[:2]}"
        storage.paths.add(path)
        result = await tree.collect()
        assert list(result.doubts) == [path]
        storage.paths.clear()
        assert await tree.blobs() == {hidden}

    async def test_a_lease_that_cannot_be_read_keeps_its_blob(
        self, tree: Tree, storage: Unreadable
    ) -> None:
        await tree.push("a", ONE)
        await tree.delete("a", ONE)
        kept = Digest.parse(ONE.blobs[0].digest)
        storage.paths.add(layout.leases(kept))
        await tree.collect()
        assert await tree.blobs() == {str(kept)}


async def test_content_of_another_algorithm_is_kept_with_what_stores_it(tree: Tree) -> None:
    """distribution stores all by sha256: the link by sha512 leads there, and is what is needed."""
    await tree.push("a", ONE, "v1")
    content = b"stored by its sha256"
    by_sha512, by_sha256 = Digest.of(content, "sha512"), Digest.of(content)
    await tree.storage.put(layout.blob(by_sha256), content)
    await tree.storage.put(layout.layer_link("a", by_sha512), str(by_sha256).encode())
    (await tree.services.blobs.tell("a", by_sha512)).close()
    await tree.collect(leases=True)
    assert await tree.blobs() == {*digests_of(ONE), str(by_sha256)}
    await tree.collect()
    assert await tree.blobs() == digests_of(ONE)


async def test_one_collection_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockyard.storage.locks.LOCK_WAIT", 0.01)
    tree = Tree(FilesystemStorage(tmp_path))
    async with tree.storage.lock("collect", "blobs"):
        with pytest.raises(StorageBusyError):
            await tree.collect()
    assert not (await tree.collect()).blobs
