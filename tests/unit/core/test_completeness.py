"""Images found complete: true as long as the files say so, and looked at each time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core import completeness
from dockyard.core.completeness import Completeness
from dockyard.core.manifests import ManifestPush
from dockyard.errors import ManifestBlobsUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout, witness
from dockyard.storage.files import FileReader
from dockyard.storage.filesystem import FilesystemStorage
from tests.parts.images import Image, image as make_image
from tests.unit.core.pushing import Tree


NAME = "team/a"


class Opening(FilesystemStorage):
    """A storage that counts the blobs that are opened."""

    opened = 0

    @override
    async def open(self, path: str) -> FileReader:
        self.opened += 1
        return await super().open(path)


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago counts as settled."""
    monkeypatch.setattr(witness, "SETTLED", 0)


@pytest.fixture
def storage(tmp_path: Path) -> Opening:
    return Opening(tmp_path)


@pytest.fixture
def image() -> Image:
    return make_image("seed")


async def again(tree: Tree, image: Image, tag: str) -> None:
    body, media_type = image.manifest.body, image.manifest.media_type
    await tree.services.manifests.put(ManifestPush(NAME, body, media_type, None, [tag]))


async def test_what_is_there_is_opened_once(storage: Opening, image: Image) -> None:
    tree = Tree(storage)
    await tree.push(NAME, image, "v1")
    opened = storage.opened
    for number in range(3):
        await again(tree, image, f"again{number}")
    assert storage.opened == opened > 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root, digest: (root / layout.layer_link(NAME, digest)).unlink(),
        lambda root, digest: (root / layout.layer_link(NAME, digest)).write_text("damaged"),
        lambda root, digest: (root / layout.blob(digest)).unlink(),
        lambda root, digest: (root / layout.blob(digest)).write_bytes(b""),
    ],
    ids=["no link", "damaged link", "no blob", "truncated"],
)
async def test_what_went_is_missed(
    storage: Opening, image: Image, tmp_path: Path, spoil: Callable[[Path, Digest], None]
) -> None:
    tree = Tree(storage)
    await tree.push(NAME, image, "v1")
    await again(tree, image, "v2")
    spoil(tmp_path, Digest.parse(image.blobs[-1].digest))
    with pytest.raises(ManifestBlobsUnknownError):
        await again(tree, image, "v3")


async def test_what_another_repository_has_counts_for_nothing(
    storage: Opening, image: Image
) -> None:
    tree = Tree(storage)
    await tree.push("other", image, "v1")
    with pytest.raises(ManifestBlobsUnknownError):
        await again(tree, image, "v1")


async def test_only_so_many_are_remembered(
    storage: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "REMEMBERED", 5)
    known, digests = Completeness(storage), [Digest.of(bytes([each])) for each in range(3)]
    for digest in digests:
        await storage.put(layout.blob(digest), b"x")
        await storage.put(layout.layer_link(NAME, digest), b"x")
        found = await known.witness(NAME, [digest])
        assert found is not None
        known.keep(NAME, digest, found, 2)
    assert [known.stands(NAME, digest) for digest in digests] == [False, True, True]


async def test_too_many_blobs_are_looked_at_each_time(storage: Opening) -> None:
    digests = [Digest.of(str(each).encode()) for each in range(completeness.MOST + 1)]
    assert await Completeness(storage).witness(NAME, digests) is None
    assert await Completeness(storage).witness(NAME, []) is None
