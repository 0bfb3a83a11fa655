"""A registry that changes its program on the same configuration and the same tree."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.programs import require
from tests.parts.registries import PREDECESSOR, RegistryUnderTest, server_program


@pytest.fixture(
    scope="session",
    params=[PREDECESSOR, pytest.param("registry-v3", marks=pytest.mark.slow)],
    ids=["docker-registry", "distribution-3"],
)
def old_program(request: pytest.FixtureRequest) -> str:
    """Debian's docker-registry 2.8, and distribution 3 where there is the time to build it."""
    return require(request.param)


@pytest.fixture(scope="session")
def new_program() -> str:
    """The registry under test."""
    return server_program()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryUnderTest]:
    """A registry, not yet started; `become` starts a program on it."""
    prepared = RegistryUnderTest(tmp_path / "server")
    yield prepared
    prepared.stop()
