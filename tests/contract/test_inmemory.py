import pytest

from dockyard.errors import PathUnknownError
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage
from tests.contract.storage import StorageContract


class TestInMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return InMemoryStorage()


async def test_locks_nobody_uses_are_forgotten() -> None:
    storage = InMemoryStorage()
    async with storage.lock("tag", "v1"):
        assert len(storage._locks) == 1  # noqa: SLF001 -- the promise is about memory
    assert storage._locks == {}  # noqa: SLF001 -- the promise is about memory


async def test_content_ends_with_the_storage() -> None:
    await InMemoryStorage().put("a", b"x")
    with pytest.raises(PathUnknownError):
        await InMemoryStorage().get("a", 10)
