"""What was overwritten and deleted with docker and skopeo comes back, until it is collected.

Each registry is of its own: the commands see all of it, and a collection frees all of it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.engines import DaemonlessEngine, DockerEngine
from tests.parts.images import image, write_layout
from tests.parts.programs import attempt, run
from tests.parts.registries import RegistryUnderTest, server_program


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RegistryUnderTest]:
    """A registry that no other test uses."""
    with RegistryUnderTest(tmp_path / "own") as running:
        yield running
        assert running.complaints() == []


def command(registry: RegistryUnderTest, *arguments: str) -> str:
    """Run one of our commands on a registry that serves; return what it printed."""
    return run(server_program(), *arguments, "--config", registry.config)


def blobs(registry: RegistryUnderTest) -> list[Path]:
    """Return the files of all blobs, wherever they are."""
    tree = registry.root / "docker/registry/v2"
    return [*(tree / "blobs").rglob("data"), *(tree / ".dockyard/trash").rglob("*")]


def test_docker_pulls_what_was_overwritten_and_what_was_deleted(
    own: RegistryUnderTest, node_1: DockerEngine, node_2: DockerEngine
) -> None:
    name = f"{own.address}/team/app:latest"
    first = node_1.make_image(name, {"a": "one\n"}, layers=2)
    node_1.docker("push", name)
    second = node_1.make_image(name, {"a": "two\n"}, layers=2)
    node_1.docker("push", name)
    node_2.docker("pull", name)
    assert node_2.image_id(name) == second

    assert "team/app:latest points to sha256:" in command(
        own, "tags", "rollback", "team/app:latest"
    )
    node_2.docker("pull", name)
    assert node_2.image_id(name) == first

    node_2.docker("rmi", name)
    command(own, "repository", "delete", "team/app")
    assert "manifest unknown" in node_2.attempt("pull", name).stderr

    (line,) = command(own, "trash", "list").splitlines()
    item, repository, what = line.split("  ")
    assert repository == "team/app"
    assert what.startswith("tag latest, 2 manifests, ")
    assert "team/app:latest is back" in command(own, "trash", "restore", item)
    node_2.docker("pull", name)
    assert node_2.image_id(name) == first


def test_garbage_collect_frees_the_disk_and_ends_the_way_back(
    own: RegistryUnderTest, here: DaemonlessEngine, tmp_path: Path
) -> None:
    name = f"docker://{own.address}/team/app:latest"
    for seed in ("one", "two"):
        source = write_layout(tmp_path / seed, image(f"undo {seed}"))
        here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", name)
    here.skopeo("delete", "--tls-verify=false", name)
    command(own, "repository", "delete", "team/app")
    items = re.findall(r"^\S+", command(own, "trash", "list"), re.MULTILINE)
    assert len(items) == 2
    kept = attempt(server_program(), "garbage-collect", "--keep-trash", own.config)
    assert kept.returncode == 0, kept.stderr
    for item in items:
        command(own, "trash", "restore", item)
    here.skopeo("inspect", "--tls-verify=false", name)

    command(own, "repository", "delete", "team/app")
    done = attempt(server_program(), "garbage-collect", own.config)
    assert done.returncode == 0, done.stderr
    assert command(own, "trash", "list") == ""
    assert [path for path in blobs(own) if path.is_file()] == []
