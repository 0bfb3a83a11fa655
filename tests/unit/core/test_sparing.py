"""Which untagged manifests a collection leaves for a time. Collected with: test_collector_trash."""

from datetime import timedelta

import pytest
from typing_extensions import override

from dockyard.clock import utc_now
from dockyard.core.sparing import Sparing
from dockyard.errors import StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.inmemory import InMemoryStorage
from tests.unit.core.trees import add_revision, add_tag


HOUR = timedelta(hours=1)


async def test_the_young_that_never_had_a_tag(memory: InMemoryStorage) -> None:
    digest = await add_revision(memory, "a")
    assert await Sparing(memory, HOUR).spares("a", digest, [])
    assert not await Sparing(memory, timedelta(0)).spares("a", digest, [])
    later = Sparing(memory, HOUR, clock=lambda: utc_now() + HOUR)
    assert not await later.spares("a", digest, [])


async def test_not_what_a_tag_pointed_to(memory: InMemoryStorage) -> None:
    digest = await add_tag(memory, "a", "v1")
    sparing = Sparing(memory, HOUR)
    assert not await sparing.spares("a", digest, ["latest", "v1"])
    assert await sparing.spares("a", digest, ["latest"])  # of another tag nobody asked
    assert not await sparing.spares("a", digest, ["latest"], left=True)


async def test_what_was_pulled_lately_however_old(memory: InMemoryStorage) -> None:
    digest = await add_tag(memory, "a", "v1")
    sparing = Sparing(memory, timedelta(0), [("a", digest)])
    assert await sparing.spares("a", digest, ["v1"])
    assert await sparing.spares("a", digest, ["v1"], left=True)
    assert not await sparing.spares("b", digest, ["v1"])


async def test_not_what_is_not_there(memory: InMemoryStorage) -> None:
    assert not await Sparing(memory, HOUR).spares("a", Digest.of(b"absent"), [])


async def test_trouble_is_told() -> None:
    class Failing(InMemoryStorage):
        @override
        async def exists(self, path: str) -> bool:
            raise StorageError(path)

    storage = Failing()
    digest = await add_revision(storage, "a")
    with pytest.raises(StorageError, match=layout.tag_index("a", "v1", digest)):
        await Sparing(storage, HOUR).spares("a", digest, ["v1"])
