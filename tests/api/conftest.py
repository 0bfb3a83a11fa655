from pathlib import Path
from typing import Any

import pytest

from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage
from tests.api.registry import MakeRegistry, Registry


@pytest.fixture(params=["filesystem", "inmemory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage, of each driver in turn."""
    return FilesystemStorage(tmp_path) if request.param == "filesystem" else InMemoryStorage()


@pytest.fixture
def make(storage: Storage) -> MakeRegistry:
    """Makes workers of a registry on `storage`."""

    def registry_on_storage(**options: Any) -> Registry:  # noqa: ANN401 -- those of `services_on`
        return Registry(storage, **options)

    return registry_on_storage


@pytest.fixture
def registry(make: MakeRegistry) -> Registry:
    """A registry as it comes, but with deletion on."""
    return make()


@pytest.fixture
def disk(tmp_path: Path) -> Registry:
    """A registry on the `filesystem` driver, whose root is `tmp_path`."""
    return Registry(FilesystemStorage(tmp_path))
