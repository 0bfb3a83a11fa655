"""Trees of docker-registry, checked and repaired: what it leaves in everyday use is no problem."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from tests.parts.checking import Aged, check
from tests.parts.images import digest_of, image
from tests.parts.programs import attempt
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient, assert_served
from tests.takeover.collection import LIBRARY, push_library, stored_files


DAMAGED: Final = image("damaged", layers=2)
LAYER: Final = DAMAGED.blobs[-1].digest


def fsck(server: RegistryUnderTest, program: str, *flags: str) -> tuple[int, Any]:
    """Check a tree; return the exit status, and what was said as JSON."""
    done = attempt(program, "fsck", "--json", *flags, "--config", server.config)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def in_blobs(server: RegistryUnderTest, digest: str) -> Path:
    hexadecimals = digest.removeprefix("sha256:")
    base = server.root / "docker/registry/v2/blobs/sha256"
    return base / hexadecimals[:2] / hexadecimals / "data"


def in_repository(server: RegistryUnderTest, name: str, path: str) -> Path:
    return server.root / "docker/registry/v2/repositories" / name / path


def test_a_tree_with_deletes_and_a_collection_has_no_problems(
    server: RegistryUnderTest, old_program: str, new_program: str
) -> None:
    server.become(old_program)
    with RegistryClient(server.address) as client:
        push_library(client)
        client.delete_manifest("library/docker-list", LIBRARY["library/docker-list"].digest)
        loose = client.push_blob("orphans", b"never referenced by any manifest")
        client.request("DELETE", f"/v2/orphans/blobs/{loose}").expect(202)
        client.push_blob("orphans", b"nor this one")
    server.stop()
    assert asyncio.run(check(Aged(server.root), verify=True)) == []
    assert fsck(server, new_program, "--verify-digests") == (
        0,
        {"interrupted": False, "problems": [], "left": 0, "noted": 0},
    )


def test_a_check_changes_nothing(
    server: RegistryUnderTest, old_program: str, new_program: str
) -> None:
    server.become(old_program)
    with RegistryClient(server.address) as client:
        push_library(client)
    server.stop()
    before = dict(stored_files(server.root))
    for flags in ((), ("--verify-digests",), ("--repair", "--verify-digests")):
        assert fsck(server, new_program, *flags)[0] == 0
    after = dict(stored_files(server.root))
    assert {path: body for path, body in after.items() if "/locks/" not in path} == before


def test_links_that_a_collection_of_its_left_are_set_aside(
    server: RegistryUnderTest, old_program: str, new_program: str
) -> None:
    """It takes the blobs and leaves what leads to them."""
    server.become(old_program)
    with RegistryClient(server.address) as client:
        push_library(client)
        client.delete_manifest("single", LIBRARY["single"].digest).expect(202)
    server.stop()
    attempt(old_program, "garbage-collect", server.config)
    dangling = len(list(in_repository(server, "single", "_layers").rglob("link")))
    status, said = fsck(server, new_program, "--repair")
    assert (status, len(said["problems"])) == (0, dangling)
    assert fsck(server, new_program) == (
        0,
        {"interrupted": False, "problems": [], "left": 0, "noted": 0},
    )
    server.start()
    with RegistryClient(server.address) as client:
        client.push_image("single", LIBRARY["single"], "1")
        for name, top in LIBRARY.items():
            assert_served(client, name, top, "1")


@pytest.mark.parametrize("size", [0, 50], ids=["emptied", "cut"])
def test_a_truncated_layer_of_its_is_found_and_pushing_heals(
    server: RegistryUnderTest, old_program: str, new_program: str, size: int
) -> None:
    """As a power cut leaves it: it syncs nothing, and would go on serving what is there."""
    server.become(old_program)
    with RegistryClient(server.address) as client:
        client.push_image("app", DAMAGED, "1")
        os.truncate(in_blobs(server, LAYER), size)
        status, said = fsck(server, new_program)
        assert status == 1
        assert [each["kind"] for each in said["problems"]] == ["damaged-blob"]
        fsck(server, new_program, "--repair")
        server.become(new_program)
    with RegistryClient(server.address) as client:
        client.blob("app", LAYER).expect(404)
        client.push_image("app", DAMAGED, "1")
        assert_served(client, "app", DAMAGED, "1")
    assert fsck(server, new_program, "--verify-digests")[0] == 0


def test_links_that_a_power_cut_emptied_are_written_again(
    server: RegistryUnderTest, old_program: str, new_program: str
) -> None:
    server.become(old_program)
    with RegistryClient(server.address) as client:
        client.push_image("app", DAMAGED, "1")
    server.stop()
    emptied = list(in_repository(server, "app", "").rglob("link"))
    for link in emptied:
        os.truncate(link, 0)
    status, said = fsck(server, new_program, "--repair")
    assert (status, said["left"]) == (0, 0)
    for program in (old_program, new_program):
        server.become(program)
        with RegistryClient(server.address) as client:
            assert_served(client, "app", DAMAGED, "1")
    assert digest_of(in_blobs(server, LAYER).read_bytes()) == LAYER
