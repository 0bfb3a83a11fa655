"""What a check of the tree finds, and what a repair does about it."""

from datetime import timedelta
from pathlib import Path

import pytest

from dockyard.clock import utc_now
from dockyard.core.integrity import Integrity
from dockyard.core.problems import REMEDIES, Kind, Problem
from dockyard.core.repair import Repair
from dockyard.core.trash import Trash
from dockyard.core.verification import Verification
from dockyard.errors import BlobUnknownError, ManifestUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.interface import Storage
from tests.parts.images import digests_of, image, multi_platform
from tests.unit.core.pushing import Tree


ONE = image("one")
LAYER = Digest.parse(ONE.blobs[-1].digest)
MANIFEST = Digest.parse(ONE.digest)


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.blobs = 0

    def found(self, problem: Problem) -> None:
        self.problems.append(problem)

    def blob(self, size: int) -> None:
        assert size >= 0
        self.blobs += 1

    def repository(self, name: str) -> None:
        assert name


@pytest.fixture
async def tree(tmp_path: Path) -> Tree:
    """A tree that has one image, and nobody is told of anything."""
    made = Tree(FilesystemStorage(tmp_path))
    await made.push("team/a", ONE, "v1")
    return made


async def check(storage: Storage, *, verify: bool = False) -> list[Problem]:
    seen = Seen()
    integrity = Integrity(storage, seen, utc_now, timedelta(hours=1))
    digests = await integrity.blobs()
    if verify:
        await Verification(storage, seen, 0).run(digests, restart=False)
    for digest in digests:
        await integrity.check_length(digest, counts=True)
    await integrity.repositories()
    return list({problem.path: problem for problem in reversed(seen.problems)}.values())


async def repair(tree: Tree, *, verify: bool = False) -> list[str]:
    """Check and repair; return what was done."""
    verification = Verification(tree.storage, Seen(), 0)
    repairing = Repair(tree.storage, tree.services.manifests, verification)
    found = await check(tree.storage, verify=verify)
    return [(await repairing.repair(problem)).repaired for problem in found]


async def overwrite(tree: Tree, path: str, content: bytes, root: Path) -> None:
    """Damage what is at `path`, its noted size included."""
    await tree.storage.size(path)
    (root / path).write_bytes(content)


async def test_a_whole_tree_has_no_problems(tree: Tree) -> None:
    await tree.push("team/b", multi_platform("many"), "v1")
    assert await check(tree.storage, verify=True) == []


def test_every_kind_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Kind)


class TestBlobs:
    @pytest.mark.parametrize("content", [b"", b"short"])
    async def test_a_wrong_length_is_found_and_set_aside(
        self, tree: Tree, tmp_path: Path, content: bytes
    ) -> None:
        await overwrite(tree, layout.blob(LAYER), content, tmp_path)
        assert [problem.kind for problem in await check(tree.storage)] == [Kind.DAMAGED_BLOB]
        assert await repair(tree) == ["moved to the quarantine"]
        aside = tmp_path / layout.quarantine(layout.blob(LAYER))
        assert aside.read_bytes() == content

    async def test_flipped_bytes_are_found_by_reading_them(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        path = tmp_path / layout.blob(LAYER)
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)
        assert await check(tree.storage) == []
        assert await repair(tree, verify=True) == ["moved to the quarantine"]
        with pytest.raises(BlobUnknownError):
            await tree.services.blobs.open("team/a", LAYER)

    async def test_pushing_again_heals(self, tree: Tree, tmp_path: Path) -> None:
        await overwrite(tree, layout.blob(LAYER), b"", tmp_path)
        await repair(tree)
        await tree.push("team/a", ONE, "v1")
        assert await check(tree.storage, verify=True) == []

    async def test_one_that_was_healed_meanwhile_stays(self, tree: Tree) -> None:
        problem = Problem(Kind.DAMAGED_BLOB, layout.blob(LAYER), "", LAYER)
        verification = Verification(tree.storage, Seen(), 0)
        repairing = Repair(tree.storage, tree.services.manifests, verification)
        assert (await repairing.repair(problem)).repaired == "gone meanwhile"
        assert await check(tree.storage, verify=True) == []

    async def test_what_a_collection_has_taken_is_not_missing(self, tree: Tree) -> None:
        await Trash(tree.storage).take(LAYER)
        assert await check(tree.storage) == []


class TestLinks:
    async def test_a_missing_link_is_made(self, tree: Tree) -> None:
        await tree.storage.delete(layout.layer_link("team/a", LAYER).removesuffix("/link"))
        (problem,) = await check(tree.storage)
        assert problem.kind is Kind.MISSING_LINK
        assert await repair(tree) == ["linked"]
        (await tree.services.blobs.open("team/a", LAYER)).close()
        assert await check(tree.storage) == []

    @pytest.mark.parametrize(
        "path",
        [layout.layer_link("team/a", LAYER), layout.revision_link("team/a", MANIFEST)],
        ids=["layer", "revision"],
    )
    @pytest.mark.parametrize("content", [b"", b"sha256:half", str(Digest.of(b"x")).encode()])
    async def test_a_damaged_link_is_made_again_where_its_directory_proves_it(
        self, tree: Tree, path: str, content: bytes
    ) -> None:
        await tree.storage.put(path, content)
        assert [problem.kind for problem in await check(tree.storage)] == [Kind.DAMAGED_LINK]
        assert await repair(tree) == ["linked"]
        assert await check(tree.storage) == []
        assert await tree.storage.get(layout.quarantine(path), 1000) == content

    async def test_a_damaged_link_to_nothing_is_set_aside(self, tree: Tree) -> None:
        gone = Digest.of(b"never stored")
        await tree.storage.put(layout.layer_link("team/a", gone), b"")
        assert await repair(tree) == ["moved to the quarantine"]
        assert await check(tree.storage) == []

    async def test_a_revision_that_is_no_manifest_is_set_aside(self, tree: Tree) -> None:
        await tree.storage.put(layout.revision_link("team/a", LAYER), b"")
        assert await repair(tree) == ["moved to the quarantine"]
        assert await check(tree.storage) == []

    async def test_links_that_lead_nowhere_are_set_aside(self, tree: Tree) -> None:
        gone = Digest.of(b"never stored")
        await tree.storage.put(layout.layer_link("team/a", gone), str(gone).encode())
        await tree.storage.put(layout.revision_link("team/a", gone), str(gone).encode())
        kinds = {problem.kind for problem in await check(tree.storage)}
        assert kinds == {Kind.DANGLING_LAYER, Kind.DANGLING_REVISION}
        assert await repair(tree) == ["moved to the quarantine"] * 2
        assert await check(tree.storage) == []


class TestTags:
    async def test_a_damaged_tag_with_one_manifest_in_its_history_is_set_again(
        self, tree: Tree
    ) -> None:
        await tree.storage.put(layout.tag_current("team/a", "v1"), b"")
        assert [problem.kind for problem in await check(tree.storage)] == [Kind.DAMAGED_LINK]
        assert await repair(tree) == ["linked"]
        assert await tree.services.tags.resolve("team/a", "v1") == MANIFEST

    async def test_with_two_nobody_knows_which_so_it_is_set_aside(self, tree: Tree) -> None:
        await tree.push("team/a", image("two"), "v1")
        await tree.storage.put(layout.tag_current("team/a", "v1"), b"")
        assert await repair(tree) == ["moved to the quarantine"]
        with pytest.raises(ManifestUnknownError):
            await tree.services.tags.resolve("team/a", "v1")
        assert await check(tree.storage) == []

    async def test_a_tag_of_a_missing_manifest_is_set_aside(self, tree: Tree) -> None:
        await tree.storage.delete(layout.revision("team/a", MANIFEST))
        assert [problem.kind for problem in await check(tree.storage)] == [Kind.DANGLING_TAG]
        assert await repair(tree) == ["moved to the quarantine"]
        assert await check(tree.storage) == []


class TestManifests:
    async def test_one_that_lacks_a_blob_is_told_of_and_left(self, tree: Tree) -> None:
        await tree.storage.delete(layout.blob(LAYER))
        await tree.storage.delete(layout.layer_link("team/a", LAYER).removesuffix("/link"))
        (problem,) = await check(tree.storage)
        assert problem.kind is Kind.INCOMPLETE
        assert str(LAYER) in problem.detail
        assert await repair(tree) == [""]

    async def test_one_whose_bytes_are_damaged_is_set_aside(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        await overwrite(tree, layout.blob(MANIFEST), b"{}", tmp_path)
        assert Kind.DAMAGED_BLOB in {problem.kind for problem in await check(tree.storage)}
        await repair(tree)
        remaining = {problem.kind for problem in await check(tree.storage)}
        assert remaining == {Kind.DANGLING_REVISION}
        await repair(tree)
        await repair(tree)  # the tag leads nowhere now
        assert await check(tree.storage) == []


class TestUploads:
    @pytest.mark.parametrize("started", [b"2020-01-01T00:00:00Z", b"yesterday"])
    async def test_one_that_nobody_finished_is_told_of_and_left(
        self, tree: Tree, started: bytes
    ) -> None:
        await tree.storage.put(layout.upload_started("team/a", "x"), started)
        assert [problem.kind for problem in await check(tree.storage)] == [Kind.ORPHAN_UPLOAD]
        assert await repair(tree) == [""]
        assert await tree.storage.exists(layout.upload("team/a", "x"))

    async def test_one_in_progress_is_none(self, tree: Tree) -> None:
        await tree.services.uploads.begin("team/a")
        assert await check(tree.storage) == []


class TestVerification:
    async def test_it_goes_on_where_it_was(self, tree: Tree) -> None:
        digests = sorted(Digest.parse(text) for text in digests_of(ONE))
        seen = Seen()
        verification = Verification(tree.storage, seen, 0)
        await verification._note(digests[0])  # noqa: SLF001 -- as a run that is killed leaves it
        await verification.run(digests, restart=False)
        assert seen.blobs == len(digests) - 1
        assert not await tree.storage.exists(layout.check_progress())

    async def test_it_begins_anew_if_told(self, tree: Tree) -> None:
        digests = sorted(Digest.parse(text) for text in digests_of(ONE))
        seen = Seen()
        verification = Verification(tree.storage, seen, 0)
        await verification._note(digests[-1])  # noqa: SLF001 -- likewise
        await verification.run(digests, restart=True)
        assert seen.blobs == len(digests)

    @pytest.mark.parametrize("note", [b"", b"{}", b"[]", b'{"cursor": "x", "damaged": []}'])
    async def test_a_damaged_note_is_none(self, tree: Tree, note: bytes) -> None:
        await tree.storage.put(layout.check_progress(), note)
        seen = Seen()
        digests = sorted(Digest.parse(text) for text in digests_of(ONE))
        await Verification(tree.storage, seen, 0).run(digests, restart=False)
        assert seen.blobs == len(digests)

    async def test_it_reads_no_faster_than_it_may(self, tree: Tree) -> None:
        now = [0.0]
        size = await tree.storage.size(layout.blob(LAYER))
        verification = Verification(tree.storage, Seen(), size * 50, lambda: now[0])
        began = utc_now()
        assert await verification.is_whole(LAYER, layout.blob(LAYER))
        assert utc_now() - began >= timedelta(seconds=0.019)
