"""Dockyard takes a tree over from docker-registry, and docker-registry takes it back."""

import re
from pathlib import Path

import pytest

from tests.parts.engines import DaemonlessEngine, DockerEngine
from tests.parts.images import multi_platform, write_layout
from tests.parts.programs import attempt
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient, assert_served
from tests.takeover.collection import LIBRARY, everything_served, push_library, stored_files


def push_with_clients(server: RegistryUnderTest, folder: Path) -> None:
    """Push by docker, podman and skopeo what each makes of an image itself."""
    here = DaemonlessEngine(folder / "here")
    layout = write_layout(folder / "layout", multi_platform("by-skopeo"))
    to = f"docker://{server.address}/by/skopeo"
    here.skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:latest", f"{to}:1")
    here.skopeo(
        *("copy", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{layout}:latest", f"{to}:2")
    )
    here.podman("pull", "--quiet", "--tls-verify=false", f"{server.address}/by/skopeo:1")
    here.podman(
        *("push", "--quiet", "--tls-verify=false", f"{server.address}/by/skopeo:1"),
        f"{server.address}/by/podman:1",
    )
    with DockerEngine(folder / "d") as engine:
        name = f"{server.address}/by/docker:1"
        engine.make_image(name, {"file": "by docker\n"}, layers=3)
        engine.docker("push", name)


def test_a_tree_of_docker_registry_is_served_byte_for_byte(
    server: RegistryUnderTest, old_program: str, new_program: str, tmp_path: Path
) -> None:
    server.become(old_program)
    with RegistryClient(server.address) as client:
        push_library(client)
        push_with_clients(server, tmp_path)
        before = everything_served(client)
    stored = dict(stored_files(server.root))
    server.become(new_program)
    with RegistryClient(server.address) as client:
        assert everything_served(client) == before
        for name, top in LIBRARY.items():
            assert_served(client, name, top, "1", "latest")
    assert {"by/docker", "by/podman", "by/skopeo"} < set(before.repositories)
    now = dict(stored_files(server.root))
    assert {path: now.get(path) for path in stored} == stored, "serving changed the tree"


def test_a_tree_of_ours_is_served_by_docker_registry_byte_for_byte(
    server: RegistryUnderTest, old_program: str, new_program: str, tmp_path: Path
) -> None:
    server.become(new_program)
    with RegistryClient(server.address) as client:
        push_library(client)
        push_with_clients(server, tmp_path)
        before = everything_served(client)
    server.become(old_program)
    with RegistryClient(server.address) as client:
        assert everything_served(client) == before
        for name, top in LIBRARY.items():
            assert_served(client, name, top, "1", "latest")


def collect(server: RegistryUnderTest, program: str, *flags: str) -> str:
    done = attempt(program, "garbage-collect", *flags, server.config)
    assert done.returncode == 0, done.stderr
    return done.stdout


def eligible(said: str) -> tuple[int, int]:
    """Return how many blobs and manifests a collection would delete."""
    found = re.search(r"\d+ blobs marked, (\d+) blobs and (\d+) manifests eligible", said)
    assert found, said
    return int(found[1]), int(found[2])


def test_docker_registrys_collector_would_delete_nothing_of_ours(
    server: RegistryUnderTest, old_program: str, new_program: str
) -> None:
    server.become(new_program)
    with RegistryClient(server.address) as client:
        push_library(client)
    assert eligible(collect(server, old_program, "--dry-run")) == (0, 0)


def test_what_docker_registrys_collector_leaves_is_served(
    server: RegistryUnderTest, old_program: str, new_program: str
) -> None:
    server.become(new_program)
    with RegistryClient(server.address) as client:
        push_library(client)
        client.delete_manifest("single", LIBRARY["single"].digest).expect(202)
        server.stop()
        blobs, manifests = eligible(collect(server, old_program))
        assert (blobs, manifests) == (3, 0)  # its manifest, configuration and layer
        server.start()
    with RegistryClient(server.address) as client:
        for name, top in LIBRARY.items():
            if name != "single":
                assert_served(client, name, top, "1", "latest")
        assert client.manifest("single", "1").status == 404


@pytest.mark.parametrize("first", ["old", "new"])
def test_the_switch_can_be_made_again_and_again(
    server: RegistryUnderTest, old_program: str, new_program: str, first: str
) -> None:
    programs = [old_program, new_program] if first == "old" else [new_program, old_program]
    names = list(LIBRARY)
    for turn in range(4):
        server.become(programs[turn % 2])
        with RegistryClient(server.address) as client:
            client.push_image(names[turn], LIBRARY[names[turn]], "1")
            for name in names[: turn + 1]:
                assert_served(client, name, LIBRARY[name], "1")
            assert sorted(client.catalog()) == sorted(names[: turn + 1])
