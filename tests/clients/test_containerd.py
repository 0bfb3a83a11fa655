"""containerd: `ctr` pushes from one daemon and pulls into another."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.engines import Containerd
from tests.parts.images import Image, digests_of, image, multi_platform, write_layout
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with Containerd(tmp_path_factory.mktemp("c1")) as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with Containerd(tmp_path_factory.mktemp("c2")) as running:
        yield running


def content(daemon: Containerd) -> set[str]:
    """Return the digests of all that the daemon holds."""
    return set(daemon.ctr("content", "list", "--quiet").split())


@pytest.mark.parametrize(
    "top",
    [
        pytest.param(image("ctr", layers=3), id="image"),
        pytest.param(image("ctr-docker", docker=True), id="docker-image"),
        pytest.param(multi_platform("ctr-index"), id="index"),
    ],
)
def test_what_one_daemon_pushed_the_other_pulls(
    registry: RegistryUnderTest,
    client: RegistryClient,
    here: Containerd,
    elsewhere: Containerd,
    repository: str,
    top: Image,
    tmp_path: Path,
) -> None:
    name = f"{registry.address}/{repository}:1"
    layout = write_layout(tmp_path / "layout", top, "1")
    with tarfile.open(tmp_path / "layout.tar", "w") as archive:
        archive.add(layout, ".")
    here.ctr(
        *("images", "import", "--no-unpack", "--all-platforms"),
        *("--base-name", f"{registry.address}/{repository}", tmp_path / "layout.tar"),
    )
    here.ctr("images", "push", "--plain-http", name)
    assert client.manifest(repository, "1").expect(200).body == top.manifest.body
    elsewhere.ctr(
        *("images", "pull", "--plain-http", "--all-platforms", "--snapshotter", "native", name)
    )
    assert digests_of(top) <= content(elsewhere)
