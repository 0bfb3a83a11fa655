import pytest

from dockyard.core.trash import Trash
from dockyard.errors import PathUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage


BLOB = Digest.of(b"a blob")


@pytest.fixture
def storage() -> Storage:
    return InMemoryStorage()


@pytest.fixture
async def trash(storage: Storage) -> Trash:
    """The trash of a storage that has one blob."""
    await storage.put(layout.blob(BLOB), b"a blob")
    return Trash(storage)


async def test_what_is_taken_is_gone_and_can_be_brought_back(
    trash: Trash, storage: Storage
) -> None:
    await trash.take(BLOB)
    assert not await storage.exists(layout.blob(BLOB))
    assert await trash.bring_back(BLOB)
    assert await storage.get(layout.blob(BLOB), 100) == b"a blob"
    assert not await storage.exists(layout.trash_blob(BLOB))


async def test_what_is_not_there_cannot_be_taken(storage: Storage) -> None:
    with pytest.raises(PathUnknownError):
        await Trash(storage).take(BLOB)


async def test_bringing_back_says_whether_it_is_there(trash: Trash, storage: Storage) -> None:
    assert await trash.bring_back(BLOB)
    await storage.delete(layout.blob(BLOB))
    assert not await trash.bring_back(BLOB)


async def test_one_that_was_pushed_again_is_not_replaced(trash: Trash, storage: Storage) -> None:
    """It may have been pushed to heal the one that was taken."""
    await storage.put(layout.blob(BLOB), b"damaged")
    await trash.take(BLOB)
    await storage.put(layout.blob(BLOB), b"a blob")
    assert await trash.bring_back(BLOB)
    assert await storage.get(layout.blob(BLOB), 100) == b"a blob"


async def test_emptying_destroys_what_is_named_and_in_it(trash: Trash, storage: Storage) -> None:
    other = Digest.of(b"another")
    await storage.put(layout.blob(other), b"another")
    await trash.take(BLOB)
    await trash.take(other)
    await trash.bring_back(other)
    await trash.empty([BLOB, other])
    assert not await trash.bring_back(BLOB)
    assert await storage.get(layout.blob(other), 100) == b"another"
