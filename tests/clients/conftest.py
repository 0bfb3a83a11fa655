"""One registry for all clients, and the engines that push to it and pull from it."""

from collections.abc import Iterator

import pytest

from tests.parts.engines import DaemonlessEngine, DockerEngine
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    with RegistryUnderTest(tmp_path_factory.mktemp("registry")) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture
def client(registry: RegistryUnderTest) -> Iterator[RegistryClient]:
    with RegistryClient(registry.address) as connected:
        yield connected


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses."""
    name: str = request.node.name
    return "clients/" + name.replace("[", "-").replace("]", "").replace("_", "-").lower()


@pytest.fixture(scope="session")
def node_1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    """The docker engine that pushes."""
    with DockerEngine(tmp_path_factory.mktemp("n1")) as running:
        yield running


@pytest.fixture(scope="session")
def node_2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    """The docker engine that pulls; it shares nothing with the other."""
    with DockerEngine(tmp_path_factory.mktemp("n2")) as running:
        yield running


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> DaemonlessEngine:
    """Where podman, buildah and skopeo push from."""
    return DaemonlessEngine(tmp_path_factory.mktemp("here"))


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> DaemonlessEngine:
    """Where they pull to; it shares nothing with `here`."""
    return DaemonlessEngine(tmp_path_factory.mktemp("elsewhere"))
