"""The servers collect by themselves: a real service with two workers, and no time in the trash."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dockyard.oci.digest import Digest
from dockyard.storage import layout
from tests.live import LiveRegistry, serving
from tests.parts.daemon import wait_for
from tests.parts.images import Image, digests_of, image
from tests.registry_client import RegistryClient, assert_served


CONNECTIONS = 6
"""So many that both workers have some: the kernel deals them out."""

ROUNDS = 6


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LiveRegistry]:
    """A service that collects every second what nobody needs, and keeps no trash."""
    maintenance = {
        "gc": {"enabled": True, "interval": "1s", "grace": "1m", "delay": "0s"},
        "trash": {"retention": "0s"},
    }
    settings = {"http": {"workers": 2}, "storage": {"maintenance": maintenance}}
    with serving(tmp_path, settings) as live:
        yield live


@pytest.fixture
def clients(registry: LiveRegistry) -> Iterator[list[RegistryClient]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RegistryClient(registry.address)) for _ in range(CONNECTIONS)]


def stored(registry: LiveRegistry, digests: set[str]) -> set[str]:
    """Return those of `digests` whose blobs are there, in their place or in the trash."""
    return {
        text
        for text in digests
        for path in (layout.blob(Digest.parse(text)), layout.trash_blob(Digest.parse(text)))
        if (registry.root / path).exists()
    }


def assert_pulled(client: RegistryClient, top: Image) -> None:
    """Assert that an image is served, by GET alone: who asks by HEAD is promised the blob."""
    assert client.manifest("a", "1").expect(200).body == top.manifest.body
    for content in top.blobs:
        assert client.blob("a", content.digest).expect(200).body == content.body


def test_what_was_deleted_goes_and_the_rest_stays(
    registry: LiveRegistry, clients: list[RegistryClient]
) -> None:
    kept, gone = image("kept"), image("gone")
    clients[0].push_image("a", kept, "kept")
    clients[0].push_image("a", gone, "gone")
    clients[0].delete_manifest("a", gone.digest).expect(202)
    wait_for(lambda: not stored(registry, digests_of(gone)), "the blobs are gone")
    for client in clients:
        assert_served(client, "a", kept, "kept")
        assert client.blob("a", gone.blobs[0].digest, method="HEAD").status == 404


def test_the_same_content_is_pushed_deleted_and_collected_again_and_again(
    registry: LiveRegistry, clients: list[RegistryClient]
) -> None:
    """No worker's memory brings back the dead: what is gone is pushed anew, whoever is asked."""
    top = image("again")
    for number in range(ROUNDS):
        pushing, deleting, *others = clients[number:] + clients[:number]
        for content in top.blobs:
            assert pushing.blob("a", content.digest, method="HEAD").status == 404
        pushing.push_image("a", top, "1")
        for client in clients:
            assert_pulled(client, top)
        deleting.delete_manifest("a", top.digest).expect(202)
        for client in clients:
            assert client.manifest("a", "1").status == 404
        wait_for(lambda: not stored(registry, digests_of(top)), "the blobs are gone")
        for client in others:
            assert client.manifest("a", top.digest).status == 404
            answer = client.push_manifest("a", "1", top.manifest.body, top.manifest.media_type)
            assert answer.status == 400, "a manifest is taken whose blobs are gone"
            assert set(answer.codes()) == {"MANIFEST_BLOB_UNKNOWN"}


def test_one_worker_of_the_two_collects(
    registry: LiveRegistry, clients: list[RegistryClient]
) -> None:
    clients[0].push_image("a", image("one"), "1")

    def collections() -> int:
        return registry.messages.count('msg="collection done"')

    before = collections()
    wait_for(lambda: collections() >= before + 3, "three more collections")
    instances = {
        line.partition("pid=")[2].split()[0] if "pid=" in line else ""
        for line in registry.messages.splitlines()
        if 'msg="collection done"' in line
    }
    assert len(instances) == 1
