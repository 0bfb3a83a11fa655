import pytest
from typing_extensions import override

from dockyard.core.links import link
from dockyard.errors import BlobUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from tests.unit.core.trees import blobs_on


DIGEST = Digest.of(b"x")


async def test_a_repository_has_a_blob_by_its_link(memory: InMemoryStorage) -> None:
    blobs = blobs_on(memory)
    await memory.put(layout.blob(DIGEST), b"x")
    assert not await blobs.has("a", DIGEST)
    await memory.put(*link(layout.layer_link("a", DIGEST), DIGEST))
    assert await blobs.has("a", DIGEST)
    assert not await blobs.has("b", DIGEST)
    await blobs.unlink("a", DIGEST)
    assert not await blobs.has("a", DIGEST)
    assert await memory.exists(layout.blob(DIGEST))


async def test_a_link_without_its_blob_is_none(memory: InMemoryStorage) -> None:
    blobs = blobs_on(memory)
    await memory.put(*link(layout.layer_link("a", DIGEST), DIGEST))
    assert not await blobs.has("a", DIGEST)
    assert not await blobs.mount("b", DIGEST, "a")
    assert not await blobs.mount("b", DIGEST, None)


async def test_of_two_deletions_one_finds_nothing() -> None:
    class Slow(InMemoryStorage):
        @override
        async def delete(self, path: str) -> None:
            await super().delete(path)
            await super().delete(path)  # the other one was faster

    storage = Slow()
    await storage.put(*link(layout.layer_link("a", DIGEST), DIGEST))
    with pytest.raises(BlobUnknownError) as caught:
        await blobs_on(storage).unlink("a", DIGEST)
    assert caught.value.digest == str(DIGEST)


async def test_an_open_blob_can_be_closed_again(disk: FilesystemStorage) -> None:
    blobs = blobs_on(disk)
    await disk.put(layout.blob(DIGEST), b"x")
    await disk.put(*link(layout.layer_link("a", DIGEST), DIGEST))
    blob = await blobs.open("a", DIGEST)
    assert b"".join([chunk async for chunk in blob.read(0, blob.size)]) == b"x"
    blob.close()
    blob.close()


async def test_who_is_told_that_a_blob_is_not_there_gets_no_lease(memory: InMemoryStorage) -> None:
    with pytest.raises(BlobUnknownError):
        await blobs_on(memory).tell("a", DIGEST)
    assert not await memory.exists(layout.lease(DIGEST, "a"))
