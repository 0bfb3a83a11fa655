from pathlib import Path

import pytest

from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from tests.unit.core.trees import CountingStorage


@pytest.fixture
def memory() -> InMemoryStorage:
    return InMemoryStorage()


@pytest.fixture
def disk(tmp_path: Path) -> FilesystemStorage:
    """A storage whose root is `tmp_path`."""
    return FilesystemStorage(tmp_path)


@pytest.fixture
def counting(tmp_path: Path) -> CountingStorage:
    """A storage that counts, whose root is `tmp_path`."""
    return CountingStorage(tmp_path)
