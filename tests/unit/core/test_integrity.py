"""What a check of the tree finds. What is done about it: `test_repair`."""

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core.policy import Children, Policy
from dockyard.core.problems import REMEDIES, Kind
from dockyard.core.trash import Trash
from dockyard.errors import StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.files import FileReader
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.interface import Entry, Storage
from dockyard.storage.promptness import Promptness
from tests.parts.checking import Aged, check
from tests.parts.images import artifact, image, manifest, multi_platform
from tests.unit.core.pushing import Tree, blob


ONE = image("one")
LAYER = Digest.parse(ONE.blobs[-1].digest)
MANIFEST = Digest.parse(ONE.digest)
GONE = Digest.of(b"never stored")


@pytest.fixture
async def tree(tmp_path: Path) -> Tree:
    """A tree that has one image."""
    made = Tree(FilesystemStorage(tmp_path))
    await made.push("team/a", ONE, "v1")
    return made


@pytest.fixture
def aged(tree: Tree, tmp_path: Path) -> Storage:
    """The same tree, later, with its leases expired."""
    del tree  # it is there
    return Aged(tmp_path)


async def kinds(storage: Storage, *, verify: bool = False) -> list[Kind]:
    return [problem.kind for problem in await check(storage, verify=verify)]


async def test_a_whole_tree_has_no_problems(tree: Tree, aged: Storage) -> None:
    await tree.push("team/b", multi_platform("many"), "v1", "v2")
    await tree.push("team/b", multi_platform("newer"), "v1")
    await tree.push("team/b", artifact("sbom", subject=ONE.manifest.descriptor()))
    assert await check(aged, verify=True) == []


async def test_what_was_deleted_is_no_problem(tree: Tree, aged: Storage) -> None:
    await tree.push("team/a", image("two"), "v1")  # one is in the history of the tag
    await tree.services.manifests.delete("team/a", MANIFEST)
    await tree.services.blobs.unlink("team/a", LAYER)
    assert await check(aged) == []


@pytest.mark.parametrize(
    "directory",
    [layout.layer_link("team/a", GONE), layout.revision_link("team/a", GONE)],
    ids=["layer", "revision"],
)
async def test_a_directory_alone_is_what_distribution_leaves(
    aged: Storage, tmp_path: Path, directory: str
) -> None:
    (tmp_path / directory).parent.mkdir(parents=True)
    assert await check(aged) == []


def test_every_kind_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Kind)


class TestBlobs:
    @pytest.mark.parametrize("content", [b"", b"short"])
    async def test_a_wrong_length(self, tree: Tree, tmp_path: Path, content: bytes) -> None:
        (tmp_path / layout.blob(LAYER)).write_bytes(content)
        assert await kinds(tree.storage) == [Kind.DAMAGED_BLOB]

    async def test_a_length_that_only_the_manifest_knows(self, tree: Tree, tmp_path: Path) -> None:
        path = tmp_path / layout.blob(LAYER)
        body = path.read_bytes()
        path.unlink()
        path.write_bytes(body[:50])  # as distribution writes it, without a noted size
        assert await kinds(tree.storage) == [Kind.DAMAGED_BLOB]

    async def test_a_manifest_that_is_wrong_about_a_length_is_no_damage(self, tree: Tree) -> None:
        layer = blob("layer")
        await tree.upload("team/a", layer)
        config = blob("config")
        await tree.upload("team/a", config)
        wrong = {**layer.descriptor(), "size": 7}
        lying = manifest(ONE.manifest.media_type, config=config.descriptor(), layers=[wrong])
        await tree.storage.put(layout.blob(Digest.parse(lying.digest)), lying.body)
        link = layout.revision_link("team/a", Digest.parse(lying.digest))
        await tree.storage.put(link, lying.digest.encode())
        assert await check(tree.storage) == []

    async def test_flipped_bytes_are_found_by_reading_them(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        path = tmp_path / layout.blob(LAYER)
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1, *path.read_bytes()[1:]]))
        assert await kinds(tree.storage) == []
        assert await kinds(tree.storage, verify=True) == [Kind.DAMAGED_BLOB]

    async def test_flipped_bytes_of_a_manifest_are_always_found(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        path = tmp_path / layout.blob(MANIFEST)
        path.write_bytes(path.read_bytes().replace(b"schemaVersion", b"schemaversion"))
        assert await kinds(tree.storage) == [Kind.DAMAGED_BLOB]

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
    async def test_one_that_is_no_file(self, tree: Tree, tmp_path: Path, make: object) -> None:
        path = tmp_path / layout.blob(LAYER)
        path.unlink()
        assert callable(make)
        make(path)
        found = await check(tree.storage)
        assert Kind.DAMAGED_BLOB in {problem.kind for problem in found}
        assert "it is no file" in {problem.detail for problem in found}

    async def test_a_directory_without_one_that_is_nobodys(
        self, tree: Tree, aged: Storage, tmp_path: Path
    ) -> None:
        (tmp_path / layout.blob(GONE)).parent.mkdir(parents=True)
        assert await kinds(tree.storage) == []  # someone may be about to publish it
        assert await kinds(aged) == [Kind.EMPTY_BLOB]

    async def test_what_a_collection_has_taken_is_not_missing(self, tree: Tree) -> None:
        await Trash(tree.storage).take(LAYER)
        await Trash(tree.storage).take(MANIFEST)
        assert await check(tree.storage) == []


class TestLinks:
    async def test_a_missing_one(self, tree: Tree) -> None:
        await tree.storage.delete(layout.layer_link("team/a", LAYER).removesuffix("/link"))
        (problem,) = await check(tree.storage)
        assert (problem.kind, problem.needed_by) == (Kind.MISSING_LINK, MANIFEST)

    @pytest.mark.parametrize(
        "path",
        [
            layout.layer_link("team/a", LAYER),
            layout.revision_link("team/a", MANIFEST),
            layout.tag_current("team/a", "v1"),
            layout.tag_index("team/a", "v1", MANIFEST),
        ],
        ids=["layer", "revision", "tag", "history"],
    )
    @pytest.mark.parametrize("content", [b"", b"sha256:half", b"x" * 1000])
    async def test_a_damaged_one(self, tree: Tree, path: str, content: bytes) -> None:
        await tree.storage.put(path, content)
        problem = (await check(tree.storage))[0]
        assert (problem.kind, problem.path) == (Kind.DAMAGED_LINK, path)
        assert "bytes" in problem.detail

    @pytest.mark.parametrize(
        "path",
        [
            layout.layer_link("team/a", LAYER),
            layout.revision_link("team/a", MANIFEST),
            layout.tag_index("team/a", "v1", MANIFEST),
        ],
        ids=["layer", "revision", "history"],
    )
    async def test_one_that_says_another_digest_than_its_directory(
        self, tree: Tree, path: str
    ) -> None:
        await tree.storage.put(path, str(GONE).encode())
        assert [each.detail for each in await check(tree.storage)] == [f"holds {GONE}"]

    async def test_one_that_is_no_file(self, tree: Tree, tmp_path: Path) -> None:
        path = tmp_path / layout.layer_link("team/a", LAYER)
        path.unlink()
        path.mkdir()
        assert [each.detail for each in await check(tree.storage)] == ["it is no file"]

    async def test_one_that_leads_nowhere(self, tree: Tree) -> None:
        for path in (layout.layer_link("team/a", GONE), layout.revision_link("team/a", GONE)):
            await tree.storage.put(path, str(GONE).encode())
        found = await kinds(tree.storage)
        assert found == [Kind.DANGLING_LAYER, Kind.DANGLING_REVISION]

    async def test_distributions_by_another_algorithm_are_followed(self, tree: Tree) -> None:
        """It stores all content by sha256, whatever it is called."""
        body = ONE.blobs[-1].body
        layer = {**ONE.blobs[-1].descriptor(), "digest": str(Digest.of(body, "sha512"))}
        config = ONE.blobs[0].descriptor()
        top = manifest(ONE.manifest.media_type, config=config, layers=[layer])
        link = layout.layer_link("team/a", Digest.of(body, "sha512"))
        await tree.storage.put(link, str(LAYER).encode())
        digest = Digest.parse(top.digest)
        await tree.storage.put(layout.blob(digest), top.body)
        await tree.storage.put(layout.revision_link("team/a", digest), top.digest.encode())
        assert await check(tree.storage) == []
        await tree.storage.delete(layout.blob(LAYER))
        found = await kinds(tree.storage)
        assert found.count(Kind.INCOMPLETE) == 2

    async def test_a_leftover_of_distribution_that_is_nobodys(
        self, tree: Tree, aged: Storage
    ) -> None:
        path = f"{layout.layer_link('team/a', LAYER)}.0b0e6b4e.tmp"
        await tree.storage.put(path, b"")
        assert await kinds(tree.storage) == []  # it may be written at this moment
        assert [(each.kind, each.path) for each in await check(aged)] == [(Kind.LEFTOVER, path)]


class TestTags:
    async def test_one_of_a_missing_manifest(self, tree: Tree) -> None:
        await tree.storage.delete(layout.revision("team/a", MANIFEST))
        assert await kinds(tree.storage) == [Kind.DANGLING_TAG]

    async def test_one_that_points_nowhere_once_it_is_nobodys(
        self, tree: Tree, aged: Storage
    ) -> None:
        await tree.storage.delete(f"{layout.tag('team/a', 'v1')}/current")
        assert await kinds(tree.storage) == []  # it may be moved at this moment
        assert await kinds(aged) == [Kind.UNSET_TAG]


class TestManifests:
    async def test_one_that_lacks_a_blob(self, tree: Tree, aged: Storage) -> None:
        await tree.storage.delete(layout.blob(LAYER))
        assert await kinds(aged) == [Kind.EMPTY_BLOB, Kind.DANGLING_LAYER, Kind.INCOMPLETE]
        await tree.storage.delete(layout.layer_link("team/a", LAYER).removesuffix("/link"))
        (problem,) = await check(tree.storage)
        assert problem.detail == f"lacks {LAYER}"

    async def test_one_that_lacks_a_platform(self, tree: Tree) -> None:
        top = multi_platform("many")
        await tree.push("team/b", top, "v1")
        await tree.destroy_manifest("team/b", Digest.parse(top.children[0].digest))
        assert await kinds(tree.storage) == [Kind.INCOMPLETE]
        lax = Policy(children=Children.NONE)
        assert await check(tree.storage, policy=lax) == []

    async def test_where_sparse_ones_are_taken_nothing_lacks(self, tree: Tree) -> None:
        """A link there may not be made either: nobody has looked whether the repository may."""
        await tree.storage.delete(layout.layer_link("team/a", LAYER).removesuffix("/link"))
        assert await check(tree.storage, policy=Policy(sparse=True)) == []

    async def test_one_of_unknown_type_proves_no_link(self, tree: Tree) -> None:
        """Whoever pushes it may name what he can't read."""
        await tree.upload("team/secret", blob("secret"))
        top = manifest("application/vnd.example+json", layers=[blob("secret").descriptor()])
        digest = Digest.parse(top.digest)
        await tree.storage.put(layout.blob(digest), top.body)
        await tree.storage.put(layout.revision_link("team/a", digest), top.digest.encode())
        assert await check(tree.storage) == []

    @pytest.mark.parametrize("body", [b"{}", b'{"schemaVersion": 1}', b"no json"])
    async def test_one_that_cannot_be_understood(self, tree: Tree, body: bytes) -> None:
        digest = Digest.of(body)
        await tree.storage.put(layout.blob(digest), body)
        await tree.storage.put(layout.revision_link("team/a", digest), str(digest).encode())
        assert await kinds(tree.storage) == [Kind.UNREADABLE]


class TestUploads:
    @pytest.mark.parametrize("started", [b"2020-01-01T00:00:00Z", b"2020-01-01T00:00:00"])
    async def test_one_that_nobody_finished(self, tree: Tree, started: bytes) -> None:
        await tree.storage.put(layout.upload_started("team/a", "x"), started)
        assert await kinds(tree.storage) == [Kind.ORPHAN_UPLOAD]

    @pytest.mark.parametrize("started", [b"yesterday", b"x" * 500])
    async def test_one_that_does_not_say_when_it_began_and_is_nobodys(
        self, tree: Tree, aged: Storage, started: bytes
    ) -> None:
        await tree.storage.put(layout.upload_started("team/a", "x"), started)
        assert await kinds(tree.storage) == []  # it may begin at this moment
        assert await kinds(aged) == [Kind.ORPHAN_UPLOAD]

    async def test_one_in_a_repository_with_nothing_else(self, tree: Tree) -> None:
        await tree.storage.put(layout.upload_started("only/uploads", "x"), b"2020-01-01T00:00:00Z")
        assert [problem.name for problem in await check(tree.storage)] == ["only/uploads"]

    async def test_one_in_progress_is_none(self, tree: Tree, aged: Storage) -> None:
        await tree.services.uploads.begin("team/a")
        assert await check(aged) == []


class TestWhatCannotBeRead:
    async def test_is_told_and_the_rest_is_looked_at(self, tree: Tree, tmp_path: Path) -> None:
        class Broken(FilesystemStorage):
            @override
            async def get(self, path: str, limit: int) -> bytes:
                if path == layout.layer_link("team/a", LAYER):
                    raise StorageError(f"{path}: Input/output error")
                return await super().get(path, limit)

        await tree.storage.put(layout.revision_link("team/a", GONE), b"")
        found = {problem.kind: problem for problem in await check(Broken(tmp_path))}
        assert set(found) == {Kind.UNREACHABLE, Kind.DAMAGED_LINK}
        assert "Input/output error" in found[Kind.UNREACHABLE].detail

    @pytest.mark.parametrize(
        "path",
        [layout.blob(LAYER), layout.blob(MANIFEST), layout.revisions("team/a")],
        ids=["blob", "manifest", "directory"],
    )
    async def test_is_told_whatever_it_is(self, tree: Tree, tmp_path: Path, path: str) -> None:
        class Broken(FilesystemStorage):
            @override
            async def get(self, path: str, limit: int) -> bytes:
                self.refuse(path)
                return await super().get(path, limit)

            @override
            async def open(self, path: str) -> FileReader:
                self.refuse(path)
                return await super().open(path)

            @override
            async def list(self, path: str) -> Iterable[Entry]:
                self.refuse(path)
                return await super().list(path)

            def refuse(self, asked: str) -> None:
                if asked == path:
                    raise StorageError(f"{path}: Input/output error")

        await tree.push("team/b", ONE, "v1")
        found = await check(Broken(tmp_path), verify=True)
        assert {(each.kind, each.path) for each in found} == {(Kind.UNREACHABLE, path)}

    async def test_one_that_fails_while_it_is_read(self, tree: Tree, tmp_path: Path) -> None:
        class Failing(FileReader):
            @override
            async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
                async for chunk in super().read(start, stop - 1):
                    yield chunk
                raise StorageError("Input/output error")

        class Broken(FilesystemStorage):
            @override
            async def open(self, path: str) -> FileReader:
                opened = await super().open(path)
                descriptor, recorded = opened._descriptor, opened.recorded_size  # noqa: SLF001
                return Failing(descriptor, opened.size, recorded, path, Promptness())

        assert await check(tree.storage) == []
        found = await check(Broken(tmp_path), verify=True)
        assert {each.kind for each in found} == {Kind.UNREACHABLE}


async def test_an_upload_whose_link_is_there_and_whose_blob_is_not_yet_is_no_problem(
    tree: Tree, tmp_path: Path
) -> None:
    class Publishing(FilesystemStorage):
        said: object = None

        @override
        async def publish(
            self, source: str, target: str, ahead: Sequence[tuple[str, bytes]] = ()
        ) -> None:
            await self.put_all(ahead)
            self.said = await check(FilesystemStorage(tmp_path))
            await super().publish(source, target, ahead)

    await tree.push("team/a", image("two"), "v2")
    storage = Publishing(tmp_path)
    await Tree(storage).upload("team/a", blob("being pushed"))
    assert storage.said == []
