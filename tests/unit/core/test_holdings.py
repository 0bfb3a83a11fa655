"""What is read of a tree, and what is passed over."""

import json

import pytest
from typing_extensions import override

from dockyard.core.holdings import Held, Holder, Holdings, Role
from dockyard.errors import PathUnknownError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.inmemory import InMemoryStorage
from tests.unit.core.trees import add_revision, add_tag


class Failing(InMemoryStorage):
    """Of some paths neither the size nor the presence nor the bytes can be told."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: set[str] = set()
        self.missing_once: set[str] = set()

    @override
    async def get(self, path: str, limit: int) -> bytes:
        if path in self.missing_once:
            self.missing_once.remove(path)
            raise PathUnknownError(path)
        return await super().get(path, limit)

    @override
    async def size(self, path: str) -> int:
        self._check(path)
        return await super().size(path)

    @override
    async def exists(self, path: str) -> bool:
        self._check(path)
        return await super().exists(path)

    def _check(self, path: str) -> None:
        if path in self.paths:
            raise StorageError(f"{path}: Input/output error")


@pytest.fixture
def storage() -> Failing:
    return Failing()


@pytest.fixture
def holdings(storage: Failing) -> Holdings:
    return Holdings(storage)


A = Holder("a", layout.repository("a"))
MANIFEST = json.dumps(
    {
        "config": {"digest": str(Digest.of(b"config")), "size": 6},
        "layers": [{"digest": str(Digest.of(b"layer")), "size": 5}],
    }
).encode()


async def held_by(holdings: Holdings, holder: Holder = A) -> list[Held]:
    return [held async for held in holdings.manifests(holder)]


async def test_a_manifest_needs_itself_and_what_it_names(
    storage: Failing, holdings: Holdings
) -> None:
    digest = await add_tag(storage, "a", "v1", MANIFEST)
    (held,) = await held_by(holdings)
    assert list(held.needs()) == [
        (digest, Role.ITSELF),
        (Digest.of(b"config"), Role.CONFIG),
        (Digest.of(b"layer"), Role.LAYER),
    ]


async def test_a_manifest_needs_the_bytes_that_its_link_leads_to(
    storage: Failing, holdings: Holdings
) -> None:
    target, name = Digest.of(MANIFEST), Digest.of(MANIFEST, "sha512")
    await storage.put(layout.blob(target), MANIFEST)
    await storage.put(layout.revision_link("a", name), str(target).encode())
    (held,) = await held_by(holdings)
    assert list(held.needs())[:2] == [(name, Role.ITSELF), (target, Role.ITSELF)]


async def test_the_type_that_was_noted_tells_what_a_manifest_is(
    storage: Failing, holdings: Holdings
) -> None:
    digest = await add_revision(storage, "a", b"no JSON")
    await storage.put(layout.revision_media_type("a", digest), b"application/x-thing")
    (held,) = await held_by(holdings)
    assert held.manifest is not None
    assert held.manifest.media_type == "application/x-thing"
    assert not holdings.doubts


async def test_what_is_being_deleted_is_passed_over(storage: Failing, holdings: Holdings) -> None:
    digest = await add_tag(storage, "a", "v1", MANIFEST)
    await storage.put(layout.revision_media_type("b", digest), b"left behind")
    await storage.put(layout.tag_index("a", "v2", digest), str(digest).encode())
    assert await held_by(holdings, Holder("b", layout.repository("b"))) == []
    assert await holdings.tags("a") == {"v1": digest}
    assert not holdings.doubts


async def test_a_manifest_that_a_collection_brings_back_is_found(
    storage: Failing, holdings: Holdings
) -> None:
    digest = await add_revision(storage, "a", MANIFEST)
    storage.missing_once.add(layout.blob(digest))
    assert [held.digest for held in await held_by(holdings)] == [digest]
    assert not holdings.doubts


async def test_a_manifest_without_its_bytes_is_in_doubt(
    storage: Failing, holdings: Holdings
) -> None:
    digest = await add_revision(storage, "a", MANIFEST)
    await storage.delete(layout.blob(digest))
    assert await held_by(holdings) == [Held(digest, digest, is_doubtful=True)]
    assert list(holdings.doubts) == [layout.revision_link("a", digest)]


async def test_what_is_not_ours_is_passed_over(storage: Failing, holdings: Holdings) -> None:
    await storage.put(f"{layout.BLOBS}/md5/ab/abc/data", b"")
    await storage.put(f"{layout.BLOBS}/sha256/ab/abc/data", b"")
    await storage.put(f"{layout.trash_blobs('sha256')}/abc", b"abc")
    await storage.put(f"{layout.PRIVATE}/leases/sha256/abc/a", b"")
    await storage.put(f"{layout.revisions('a')}/sha256/abc/link", b"")
    assert [blob async for blob in holdings.stored()] == []
    assert await holdings.trashed() == 0
    assert await holdings.leased() == []
    assert await held_by(holdings) == []
    assert not holdings.doubts


async def test_directories_without_a_blob_are_passed_over(
    storage: Failing, holdings: Holdings
) -> None:
    path = layout.blob(Digest.of(b"x"))
    await storage.put(f"{path}-of-another-program", b"")
    assert [blob async for blob in holdings.stored()] == []


async def test_what_cannot_be_told_is_noted_once(storage: Failing, holdings: Holdings) -> None:
    digest = await add_revision(storage, "a", MANIFEST)
    storage.paths = {layout.blob(digest), layout.manifests("a")}
    for _ in range(2):
        assert await holdings.size(layout.blob(digest)) is None
        assert [holder async for holder in holdings.repositories()] == [A]
    assert holdings.doubts == {path: f"{path}: Input/output error" for path in storage.paths}
