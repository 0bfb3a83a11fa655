import json

import pytest
from structlog.testing import capture_logs

from dockyard.core import manifests as module
from dockyard.core.manifests import ManifestPush
from dockyard.errors import ManifestUnknownError
from dockyard.oci import mediatype
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from tests.unit.core.trees import CountingStorage, add_revision, manifests_on
from tests.unit.core.turns import counting_turns


def index(seed: str) -> bytes:
    return json.dumps(
        {"mediaType": mediatype.OCI_INDEX, "manifests": [], "annotations": {"seed": seed}}
    ).encode()


async def test_bytes_are_read_once_links_each_time(counting: CountingStorage) -> None:
    digest = await add_revision(counting, "a", index("1"))
    manifests = manifests_on(counting)
    await manifests.get("a", digest)
    read = counting.gets
    for _ in range(3):
        assert (await manifests.get("a", digest)).content == index("1")
    assert counting.gets == read + 3
    await counting.delete(layout.revision("a", digest))
    with pytest.raises(ManifestUnknownError):
        await manifests.get("a", digest)


async def test_what_was_pushed_needs_no_reading(counting: CountingStorage) -> None:
    manifests = manifests_on(counting)
    digest, manifest = await manifests.put(ManifestPush("a", index("1"), "", None, ["v1"]))
    assert manifest.is_index
    read = counting.gets
    assert (await manifests.get("a", digest)).content == index("1")
    assert counting.gets == read + 1  # the link


async def test_only_so_many_bytes_are_kept(
    counting: CountingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(index("1"))
    monkeypatch.setattr(module, "CACHE", size * 2)
    manifests = manifests_on(counting)
    digests = [await add_revision(counting, "a", index(f"{number}")) for number in range(3)]
    for digest in digests * 2:
        assert Digest.of((await manifests.get("a", digest)).content) == digest
    read = counting.gets
    await manifests.get("a", digests[-1])
    assert counting.gets == read + 1
    await manifests.get("a", digests[0])
    assert counting.gets == read + 3


async def test_pushing_what_is_cached_counts_its_bytes_once(
    memory: InMemoryStorage,
) -> None:
    manifests = manifests_on(memory)
    for _ in range(3):
        await manifests.put(ManifestPush("a", index("1"), "", None, ["v1"]))
    assert manifests._cached == len(index("1"))  # noqa: SLF001 -- the promise is about memory


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (index("1"), mediatype.OCI_INDEX),
        (b'{"manifests": []}', mediatype.OCI_INDEX),
        (b'{"config": {}, "layers": []}', mediatype.OCI_MANIFEST),
        (b"{}", mediatype.OCTETS),
        (b"\xff", mediatype.OCTETS),
    ],
)
async def test_the_type_of_what_another_registry_stored(
    disk: FilesystemStorage, content: bytes, expected: str
) -> None:
    digest = await add_revision(disk, "a", content)
    assert (await manifests_on(disk).get("a", digest)).media_type == expected


async def test_a_type_that_the_bytes_say_is_not_noted(disk: FilesystemStorage) -> None:
    manifests = manifests_on(disk)
    for content, content_type, noted in (
        (index("1"), mediatype.OCI_INDEX, False),
        (b'{"manifests": []}', "", False),
        (b'{"manifests": []}', mediatype.DOCKER_MANIFEST_LIST, True),
        (b"{}", "application/x.y", True),
    ):
        digest, _ = await manifests.put(ManifestPush("a", content, content_type, None, []))
        path = layout.revision_media_type("a", digest)
        assert await disk.exists(path) is noted


async def test_a_file_too_large_for_a_manifest_is_damage(
    disk: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await add_revision(disk, "a", index("1"))
    monkeypatch.setattr(module, "STORED_LIMIT", 10)
    with capture_logs() as lines, pytest.raises(ManifestUnknownError) as caught:
        await manifests_on(disk).get("a", digest)
    assert caught.value.damage == "its bytes are damaged"
    assert lines[0]["digest"] == str(digest)


async def test_a_noted_type_that_is_too_long_is_none(disk: FilesystemStorage) -> None:
    digest = await add_revision(disk, "a", b"{}")
    await disk.put(layout.revision_media_type("a", digest), b"x" * 5000)
    assert (await manifests_on(disk).get("a", digest)).media_type == mediatype.OCTETS


async def test_others_get_their_turn_while_references_are_looked_up(
    memory: InMemoryStorage,
) -> None:
    children = [
        {"mediaType": "a/b", "digest": str(Digest.of(str(number).encode())), "size": 1}
        for number in range(module.SLICE * 3)
    ]
    content = json.dumps({"mediaType": mediatype.OCI_INDEX, "manifests": children}).encode()
    async with counting_turns() as turns:
        await manifests_on(memory).put(ManifestPush("a", content, "", None, []))
        assert turns() >= 3


async def test_a_large_manifest_of_an_older_server_is_served(disk: FilesystemStorage) -> None:
    content = index("x" * (module.MANIFEST_LIMIT + 1))
    digest = await add_revision(disk, "a", content)
    assert (await manifests_on(disk).get("a", digest)).content == content
