import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dockyard.storage import looks
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


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Wait until the stamps of what was just written can be trusted; make that a short time."""
    monkeypatch.setattr(looks, "SETTLED", 0.1)
    return lambda: asyncio.sleep(0.15)
