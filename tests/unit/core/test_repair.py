"""What a repair does about what a check found, and that it hurts nobody who is at work."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core.problems import Kind, Problem
from dockyard.core.repair import ASIDE, GONE, LEFT, LINKED, MEASURED, Repair
from dockyard.core.trash import Trash
from dockyard.errors import BlobUnknownError, ManifestUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.files import FileReader
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.interface import Storage
from dockyard.storage.promptness import Promptness
from tests.parts.checking import Aged, check, repair, verification_on
from tests.parts.images import image
from tests.unit.core.pushing import Tree, blob
from tests.unit.core.test_integrity import GONE as NOWHERE, LAYER, MANIFEST, ONE


LAYER_LINK = layout.layer_link("team/a", LAYER)
REVISION_LINK = layout.revision_link("team/a", MANIFEST)
TAG = layout.tag_current("team/a", "v1")


@pytest.fixture
async def tree(tmp_path: Path) -> Tree:
    """A tree that has one image, and nobody is told of anything."""
    made = Tree(FilesystemStorage(tmp_path))
    await made.push("team/a", ONE, "v1")
    return made


async def mend(tree: Tree, storage: Storage | None = None, *, verify: bool = False) -> list[str]:
    return await repair(storage or tree.storage, tree.services.manifests, verify=verify)


async def assert_served(tree: Tree) -> None:
    """Assert that the use cases serve the whole image."""
    assert await tree.services.tags.resolve("team/a", "v1") == MANIFEST
    await tree.services.manifests.references("team/a", MANIFEST)
    for content in ONE.blobs:
        opened = await tree.services.blobs.open("team/a", Digest.parse(content.digest))
        assert b"".join([chunk async for chunk in opened.read(0, opened.size)]) == content.body
        opened.close()
    assert await check(tree.storage, verify=True) == []


class TestBlobs:
    @pytest.mark.parametrize("content", [b"", b"short", b"x" * len(ONE.blobs[-1].body)])
    async def test_a_damaged_one_is_set_aside_and_pushing_heals(
        self, tree: Tree, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / layout.blob(LAYER)).write_bytes(content)
        assert await mend(tree, verify=True) == [ASIDE]
        assert (tmp_path / layout.quarantine(layout.blob(LAYER))).read_bytes() == content
        with pytest.raises(BlobUnknownError):
            await tree.services.blobs.open("team/a", LAYER)
        await tree.push("team/a", ONE, "v1")
        await assert_served(tree)

    async def test_one_set_aside_before_stays(self, tree: Tree, tmp_path: Path) -> None:
        for content in (b"first", b"second"):
            (tmp_path / layout.blob(LAYER)).write_bytes(content)
            assert await mend(tree) == [ASIDE]
            await tree.push("team/a", ONE, "v1")
        aside = tmp_path / layout.quarantine(layout.blob(LAYER))
        kept = [path.read_bytes() for path in (aside, aside.with_name("data.1"))]
        assert kept == [b"first", b"second"]

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
    async def test_what_is_no_file_makes_way_for_one(
        self, tree: Tree, tmp_path: Path, make: object
    ) -> None:
        path = tmp_path / layout.blob(LAYER)
        path.unlink()
        assert callable(make)
        make(path)
        assert ASIDE in await mend(tree)
        await tree.push("team/a", ONE, "v1")
        await assert_served(tree)

    async def test_a_wrong_note_of_its_size_is_noted_anew(self, tree: Tree, tmp_path: Path) -> None:
        os.setxattr(tmp_path / layout.blob(LAYER), "user.dockyard.size", b"7")
        assert await mend(tree) == [MEASURED]
        await assert_served(tree)

    async def test_an_empty_directory_is_set_aside(self, tree: Tree, tmp_path: Path) -> None:
        directory = (tmp_path / layout.blob(NOWHERE)).parent
        directory.mkdir(parents=True)
        assert await mend(tree, Aged(tmp_path)) == [ASIDE]
        assert not directory.exists()

    async def test_one_that_comes_while_its_directory_is_set_aside_is_put_back(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        class Publishing(Aged):
            @override
            async def move(self, source: str, target: str) -> None:
                if source.endswith(NOWHERE.hex):
                    (tmp_path / layout.blob(NOWHERE)).write_bytes(b"never stored")
                await super().move(source, target)

        (tmp_path / layout.blob(NOWHERE)).parent.mkdir(parents=True)
        assert await mend(tree, Publishing(tmp_path)) == [GONE]
        assert (tmp_path / layout.blob(NOWHERE)).read_bytes() == b"never stored"

    async def test_one_that_is_healed_while_it_is_read_stays(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        body = ONE.blobs[-1].body

        class Healing(FilesystemStorage):
            healed = False

            @override
            async def age(self, path: str) -> float:
                if path == layout.blob(LAYER) and not self.healed:
                    self.healed = True
                    await FilesystemStorage(tmp_path).put(path, body)
                return await super().age(path)

        (tmp_path / layout.blob(LAYER)).write_bytes(b"x" * len(body))
        assert await mend(tree, Healing(tmp_path), verify=True) == [GONE]
        assert not (tmp_path / layout.quarantine(layout.blob(LAYER))).exists()
        await assert_served(tree)

    async def test_one_that_is_healed_in_the_last_moment_is_put_back(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        body = ONE.blobs[-1].body

        class Healing(FilesystemStorage):
            @override
            async def move(self, source: str, target: str) -> None:
                if source == layout.blob(LAYER):
                    await self.put(source, body)
                await super().move(source, target)

        (tmp_path / layout.blob(LAYER)).write_bytes(b"x" * len(body))
        assert await mend(tree, Healing(tmp_path), verify=True) == [GONE]
        await assert_served(tree)

    async def test_one_that_was_collected_meanwhile_is_gone(self, tree: Tree) -> None:
        problem = Problem(Kind.DAMAGED_BLOB, layout.blob(NOWHERE), "", NOWHERE)
        done = await Repair(
            tree.storage, tree.services.manifests, verification_on(tree.storage)
        ).repair(problem)
        assert done.repaired == GONE


class TestLinks:
    async def test_a_missing_one_is_made(self, tree: Tree) -> None:
        await tree.storage.delete(LAYER_LINK.removesuffix("/link"))
        assert await mend(tree) == [LINKED]
        await assert_served(tree)

    async def test_a_missing_one_to_what_a_collection_has_taken(self, tree: Tree) -> None:
        await tree.storage.delete(LAYER_LINK.removesuffix("/link"))
        await Trash(tree.storage).take(LAYER)
        assert await mend(tree) == [LINKED]
        await assert_served(tree)

    async def test_a_missing_one_is_not_made_for_a_manifest_that_was_deleted(
        self, tree: Tree
    ) -> None:
        await tree.storage.delete(LAYER_LINK.removesuffix("/link"))
        (problem,) = await check(tree.storage)
        await tree.services.manifests.delete("team/a", MANIFEST)
        repairing = Repair(tree.storage, tree.services.manifests, verification_on(tree.storage))
        assert (await repairing.repair(problem)).repaired == GONE
        assert not await tree.storage.exists(LAYER_LINK)

    @pytest.mark.parametrize("path", [LAYER_LINK, REVISION_LINK], ids=["layer", "revision"])
    @pytest.mark.parametrize("content", [b"", b"sha256:half", str(NOWHERE).encode(), b"x" * 70000])
    async def test_a_damaged_one_is_made_again_where_its_directory_proves_it(
        self, tree: Tree, path: str, content: bytes
    ) -> None:
        await tree.storage.put(path, content)
        assert await mend(tree) == [LINKED]
        await assert_served(tree)
        assert await tree.storage.get(layout.quarantine(path), 1 << 20) == content

    async def test_one_that_is_no_file_makes_way(self, tree: Tree, tmp_path: Path) -> None:
        (tmp_path / LAYER_LINK).unlink()
        (tmp_path / LAYER_LINK).mkdir()
        assert await mend(tree) == [LINKED]
        await assert_served(tree)

    async def test_a_damaged_one_to_nothing_is_set_aside(self, tree: Tree) -> None:
        await tree.storage.put(layout.layer_link("team/a", NOWHERE), b"")
        assert await mend(tree) == [ASIDE]
        await assert_served(tree)

    async def test_a_dangling_one_is_set_aside(self, tree: Tree) -> None:
        await tree.storage.put(layout.layer_link("team/a", NOWHERE), str(NOWHERE).encode())
        assert await mend(tree) == [ASIDE]
        await assert_served(tree)

    async def test_a_leftover_is_set_aside(self, tree: Tree, tmp_path: Path) -> None:
        await tree.storage.put(f"{LAYER_LINK}.0b0e6b4e.tmp", b"sha")
        assert await mend(tree, Aged(tmp_path)) == [ASIDE]
        await assert_served(tree)

    async def test_a_revision_that_is_no_manifest_is_left(self, tree: Tree) -> None:
        await tree.storage.put(layout.revision_link("team/a", LAYER), b"")
        assert await mend(tree) == [LEFT]
        with pytest.raises(ManifestUnknownError):
            await tree.services.manifests.get("team/a", LAYER)

    async def test_a_kill_in_the_middle_leaves_a_link(self, tree: Tree, tmp_path: Path) -> None:
        """A revision without its link is one that was deleted."""

        class Killed(FilesystemStorage):
            @override
            async def put(self, path: str, content: bytes) -> None:
                if path == REVISION_LINK:
                    raise KeyboardInterrupt
                await super().put(path, content)

        await tree.storage.put(REVISION_LINK, b"")
        with pytest.raises(KeyboardInterrupt):
            await mend(tree, Killed(tmp_path))
        assert await mend(tree) == [LINKED]
        await assert_served(tree)


class TestTags:
    async def test_a_damaged_one_is_pointed_to_the_only_manifest_it_ever_was(
        self, tree: Tree
    ) -> None:
        await tree.storage.put(TAG, b"")
        assert await mend(tree) == [LINKED]
        await assert_served(tree)

    async def test_with_two_nobody_knows_which_so_it_is_left(self, tree: Tree) -> None:
        await tree.push("team/a", image("two"), "v1")
        await tree.storage.put(TAG, b"")
        assert await mend(tree) == [LEFT]
        with pytest.raises(ManifestUnknownError):
            await tree.services.tags.resolve("team/a", "v1")
        await tree.push("team/a", ONE, "v1")
        await assert_served(tree)

    async def test_one_of_a_missing_manifest_is_set_aside(self, tree: Tree) -> None:
        await tree.storage.delete(layout.revision("team/a", MANIFEST))
        assert await mend(tree) == [ASIDE]
        assert await tree.services.tags.page("team/a", None, "") == ([], False)
        await tree.push("team/a", ONE, "v1")
        await assert_served(tree)

    async def test_one_that_points_nowhere_is_set_aside(self, tree: Tree, tmp_path: Path) -> None:
        await tree.storage.delete(TAG.removesuffix("/link"))
        assert await mend(tree, Aged(tmp_path)) == [ASIDE]
        await tree.push("team/a", ONE, "v1")
        await assert_served(tree)

    async def test_the_history_has_again_what_it_points_to(self, tree: Tree) -> None:
        await tree.storage.put(layout.tag_index("team/a", "v1", MANIFEST), b"")
        assert await mend(tree) == [LINKED]
        await assert_served(tree)

    async def test_an_earlier_entry_of_the_history_is_set_aside(self, tree: Tree) -> None:
        """When it was written is when the tag was moved: that can't be made up."""
        await tree.push("team/a", image("two"), "v1")
        path = layout.tag_index("team/a", "v1", MANIFEST)
        await tree.storage.put(path, b"")
        assert await mend(tree) == [ASIDE]
        assert await check(tree.storage) == []
        assert await tree.storage.exists(layout.quarantine(path))


class TestManifests:
    async def test_one_that_lacks_a_blob_is_left(self, tree: Tree) -> None:
        await tree.storage.delete(layout.blob(LAYER))
        assert await mend(tree) == [ASIDE, LEFT]
        assert [each.kind for each in await check(tree.storage)] == [Kind.INCOMPLETE]
        await tree.push("team/a", ONE, "v1")
        await assert_served(tree)

    async def test_one_that_a_collection_has_taken_is_brought_back(self, tree: Tree) -> None:
        await Trash(tree.storage).take(MANIFEST)
        problem = Problem(Kind.DANGLING_REVISION, REVISION_LINK, "team/a", MANIFEST)
        repairing = Repair(tree.storage, tree.services.manifests, verification_on(tree.storage))
        assert (await repairing.repair(problem)).repaired == GONE
        await assert_served(tree)

    async def test_its_layers_outlive_a_collection_when_its_bytes_are_damaged(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        """They are what is left of the image, for who restores or pushes its manifest."""
        (tmp_path / layout.blob(MANIFEST)).write_bytes(b"{}")
        assert await mend(tree) == [ASIDE]
        assert [each.kind for each in await check(tree.storage)] == [Kind.DANGLING_REVISION]
        assert await mend(tree) == [LEFT]
        await tree.forget_leases()
        await tree.collect(untagged=True)
        await tree.storage.put(layout.blob(MANIFEST), ONE.manifest.body)
        await assert_served(tree)


class TestUploads:
    async def test_an_old_one_is_left_for_purging(self, tree: Tree) -> None:
        await tree.storage.put(layout.upload_started("team/a", "x"), b"2020-01-01T00:00:00Z")
        assert await mend(tree) == [LEFT]
        assert await tree.storage.exists(layout.upload("team/a", "x"))


INDEX = layout.tag_index("team/a", "v1", MANIFEST)
DIRECTORY = layout.tag("team/a", "v1")


class TestWhatIsGoneMeanwhile:
    """What was found is looked at again before anything is done."""

    @pytest.mark.parametrize(
        "problem",
        [
            Problem(Kind.DAMAGED_BLOB, layout.blob(LAYER), "", LAYER),
            Problem(Kind.EMPTY_BLOB, layout.blob(LAYER).removesuffix("/data"), "", LAYER),
            Problem(Kind.EMPTY_BLOB, "docker/registry/v2/blobs/sha256/no/where", "", NOWHERE),
            Problem(Kind.DAMAGED_LINK, LAYER_LINK, "team/a", LAYER),
            Problem(Kind.DAMAGED_LINK, layout.layer_link("x", LAYER), "x", LAYER),
            Problem(Kind.DAMAGED_LINK, TAG, "team/a", tag="v1"),
            Problem(Kind.DAMAGED_LINK, INDEX, "team/a", MANIFEST, tag="v1"),
            Problem(Kind.DANGLING_LAYER, LAYER_LINK, "team/a", LAYER),
            Problem(Kind.DANGLING_LAYER, layout.layer_link("x", LAYER), "x", LAYER),
            Problem(Kind.DANGLING_TAG, TAG, "team/a", MANIFEST, tag="v1"),
            Problem(Kind.UNSET_TAG, DIRECTORY, "team/a", tag="v1"),
            Problem(Kind.UNSET_TAG, layout.tag("team/a", "v2"), "team/a", tag="v2"),
            Problem(Kind.MISSING_LINK, LAYER_LINK, "team/a", LAYER, needed_by=MANIFEST),
            Problem(Kind.LEFTOVER, f"{LAYER_LINK}.tmp", "team/a"),
        ],
        ids=lambda problem: f"{problem.kind.name} {problem.path[22:]}",
    )
    async def test_is_not_repaired(self, tree: Tree, problem: Problem) -> None:
        repairing = Repair(tree.storage, tree.services.manifests, verification_on(tree.storage))
        assert (await repairing.repair(problem)).repaired == GONE
        await assert_served(tree)
        assert not await tree.storage.exists(f"{layout.PRIVATE}/quarantine")

    async def test_a_tag_that_is_damaged_by_now_is_left_to_the_next_check(self, tree: Tree) -> None:
        await tree.storage.put(TAG, b"")
        problem = Problem(Kind.DANGLING_TAG, TAG, "team/a", MANIFEST, tag="v1")
        repairing = Repair(tree.storage, tree.services.manifests, verification_on(tree.storage))
        assert (await repairing.repair(problem)).repaired == GONE
        assert await tree.storage.exists(TAG)

    async def test_a_missing_link_to_what_is_damaged_is_not_made(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        await tree.storage.delete(LAYER_LINK.removesuffix("/link"))
        (tmp_path / layout.blob(LAYER)).write_bytes(b"damaged")
        assert sorted(await mend(tree)) == [GONE, ASIDE]
        assert [each.kind for each in await check(tree.storage)] == [Kind.INCOMPLETE]

    async def test_a_revision_without_its_bytes_is_left(self, tree: Tree) -> None:
        await tree.storage.put(layout.revision_link("team/a", NOWHERE), b"")
        assert await mend(tree) == [LEFT]

    async def test_one_that_is_replaced_again_and_again_is_left_to_who_does(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        class Busy(FilesystemStorage):
            @override
            async def age(self, path: str) -> float:
                return 0.0 if path == layout.blob(LAYER) else await super().age(path)

        (tmp_path / layout.blob(LAYER)).write_bytes(b"damaged")
        assert await mend(tree, Busy(tmp_path)) == [GONE]
        assert (tmp_path / layout.blob(LAYER)).exists()

    async def test_one_that_is_no_file_by_now_makes_way(self, tree: Tree, tmp_path: Path) -> None:
        path = tmp_path / layout.blob(LAYER)
        path.unlink()
        path.mkdir()
        await tree.storage.delete(LAYER_LINK.removesuffix("/link"))
        problem = Problem(Kind.MISSING_LINK, LAYER_LINK, "team/a", LAYER, needed_by=MANIFEST)
        repairing = Repair(tree.storage, tree.services.manifests, verification_on(tree.storage))
        assert (await repairing.repair(problem)).repaired == GONE
        assert not await tree.storage.exists(LAYER_LINK)


class TestBesideOthers:
    async def test_an_upload_that_ends_at_that_moment_keeps_its_link(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        """Its link is written before its bytes get their name, which for large ones takes long."""

        class Publishing(FilesystemStorage):
            @override
            async def publish(
                self, source: str, target: str, ahead: Sequence[tuple[str, bytes]] = ()
            ) -> None:
                await self.put_all(ahead)
                digest = Digest.parse(f"sha256:{target.split('/')[-2]}")
                path = layout.layer_link("team/a", digest)
                repairing = Repair(
                    tree.storage, tree.services.manifests, verification_on(tree.storage)
                )
                for kind in (Kind.DANGLING_LAYER, Kind.DAMAGED_LINK):
                    if kind is Kind.DAMAGED_LINK:
                        await tree.storage.put(path, b"")  # a disk that is failing
                    problem = Problem(kind, path, "team/a", digest)
                    assert (await repairing.repair(problem)).repaired == GONE
                await tree.storage.put(path, str(digest).encode())
                await super().publish(source, target, ahead)

        pushing = Tree(Publishing(tmp_path))
        digest = await pushing.upload("team/a", blob("being pushed"))
        (await pushing.services.blobs.open("team/a", digest)).close()

    async def test_no_bytes_of_blobs_are_read_while_a_lock_is_held(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        """Whoever pushes waits for it, and gives up after ten seconds."""

        class Reader(FileReader):
            @override
            def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
                assert not storage.held, "reading with a lock held"
                return super().read(start, stop)

        class Watched(FilesystemStorage):
            held = 0

            @override
            @asynccontextmanager
            async def lock(
                self, kind: str, name: str, *, shared: bool = False
            ) -> AsyncGenerator[None]:
                async with super().lock(kind, name, shared=shared):
                    self.held += 1
                    try:
                        yield
                    finally:
                        self.held -= 1

            @override
            async def open(self, path: str) -> FileReader:
                opened = await super().open(path)
                try:
                    descriptor = os.dup(opened._descriptor)  # noqa: SLF001
                    recorded = opened.recorded_size
                    return Reader(descriptor, opened.size, recorded, path, Promptness())
                finally:
                    opened.close()

        storage = Watched(tmp_path)
        await tree.storage.delete(LAYER_LINK.removesuffix("/link"))
        config = layout.layer_link("team/a", Digest.parse(ONE.blobs[0].digest))
        await tree.storage.put(config, b"")
        await tree.push("team/b", image("two"), "v1")
        damaged = Digest.parse(image("two").blobs[-1].digest)
        (tmp_path / layout.blob(damaged)).write_bytes(b"damaged")
        done = await repair(storage, tree.services.manifests)
        assert sorted(done) == [LINKED, LINKED, ASIDE]
