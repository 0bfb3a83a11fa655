"""Dockyard and docker-registry serve one tree at the same time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.parts.images import image, multi_platform
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient, assert_served
from tests.takeover.collection import everything_served


@pytest.fixture
def addresses(tmp_path: Path, old_program: str, new_program: str) -> Iterator[list[str]]:
    """Addresses of docker-registry and of ours, both running on one root."""
    with (
        RegistryUnderTest(tmp_path / "old", program=old_program, root=tmp_path / "root") as old,
        RegistryUnderTest(tmp_path / "new", program=new_program, root=tmp_path / "root") as new,
    ):
        yield [old.address, new.address]


@pytest.fixture
def clients(addresses: list[str]) -> Iterator[list[RegistryClient]]:
    with RegistryClient(addresses[0]) as old, RegistryClient(addresses[1]) as new:
        yield [old, new]


def test_each_serves_the_others_pushes_at_once(clients: list[RegistryClient]) -> None:
    for turn in range(8):
        pusher, other = clients[turn % 2], clients[(turn + 1) % 2]
        top = multi_platform(f"turn-{turn}") if turn % 4 > 1 else image(f"turn-{turn}", docker=True)
        pusher.push_image(f"repository-{turn // 2}", top, f"tag-{turn}")
        assert_served(other, f"repository-{turn // 2}", top, f"tag-{turn}")
    assert everything_served(clients[0]) == everything_served(clients[1])


def test_each_overwrites_the_others_tags(clients: list[RegistryClient]) -> None:
    for turn in range(6):
        pusher, other = clients[turn % 2], clients[(turn + 1) % 2]
        top = image(f"overwrite-{turn}")
        pusher.push_image("overwritten", top, "1")
        assert_served(other, "overwritten", top, "1")
    assert clients[0].tags("overwritten") == ["1"]


def test_each_sees_what_the_other_deletes(clients: list[RegistryClient]) -> None:
    for turn in range(2):
        pusher, other = clients[turn], clients[1 - turn]
        top = image(f"deleted-{turn}")
        pusher.push_image("deleted", top, "1", "2")
        assert_served(other, "deleted", top, "1", "2")
        other.delete_manifest("deleted", top.digest).expect(202)
        for reference in ("1", "2", top.digest):
            assert pusher.manifest("deleted", reference).expect(404).codes() == ["MANIFEST_UNKNOWN"]
        assert pusher.tags("deleted") == []


def test_each_mounts_what_the_other_holds(clients: list[RegistryClient]) -> None:
    for turn in range(2):
        pusher, other = clients[turn], clients[1 - turn]
        digest = pusher.push_blob("source", b"mounted %d" % turn)
        target = f"/v2/target/blobs/uploads/?mount={digest}&from=source"
        other.request("POST", target, headers={"Content-Length": "0"}).expect(201)
        assert pusher.blob("target", digest).expect(200).body == b"mounted %d" % turn


def test_pushes_of_both_at_the_same_time_are_all_kept(addresses: list[str]) -> None:
    images = [image(f"together-{number}", layers=1) for number in range(24)]

    def push(number: int) -> None:
        with RegistryClient(addresses[number % 2]) as client:
            client.push_image("together", images[number], f"{number:02}")
            client.push_blob("together", b"pushed by all of them")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(push, range(len(images))))
    for address in addresses:
        with RegistryClient(address) as client:
            assert sorted(client.tags("together")) == [f"{number:02}" for number in range(24)]
            for number, top in enumerate(images):
                assert_served(client, "together", top, f"{number:02}")
