"""One directory for all tests that only ask it."""

from collections.abc import Iterator

import pytest

from tests.parts.directory import DirectoryServer, directory_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryServer]:
    with directory_server(tmp_path_factory.mktemp("directory")) as running:
        yield running
