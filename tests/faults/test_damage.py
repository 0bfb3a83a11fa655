"""Damage on the disk: told for the item it concerns, logged, and healed by pushing it again."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import LiveRegistry, serving
from tests.parts.images import Image, digest_of, image
from tests.registry_client import Answer, RegistryClient, assert_served


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    with serving(tmp_path_factory.mktemp("damage"), {"http": {"workers": 2}}) as running:
        yield running


@pytest.fixture
def client(registry: LiveRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(registry.address) as connected:
        yield connected


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses."""
    return "damaged/" + digest_of(request.node.nodeid.encode())[7:27]


def blob_file(registry: LiveRegistry, digest: str) -> Path:
    """Return the file that holds the bytes of `digest`."""
    hexadecimals = digest.partition(":")[2]
    base = registry.root / "docker/registry/v2/blobs/sha256"
    return base / hexadecimals[:2] / hexadecimals / "data"


def repository_folder(registry: LiveRegistry, name: str) -> Path:
    return registry.root / "docker/registry/v2/repositories" / name


def flip_a_bit(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize(
    "size", [pytest.param(0, id="to nothing"), pytest.param(700, id="in part")]
)
def test_a_truncated_blob_is_not_served_and_heals(
    registry: LiveRegistry, client: RegistryClient, name: str, size: int
) -> None:
    body = os.urandom(1000)
    digest = client.push_blob(name, body)
    os.truncate(blob_file(registry, digest), size)
    for method in ("GET", "HEAD"):
        client.blob(name, digest, method=method).expect(404)
    part = client.request("GET", f"/v2/{name}/blobs/{digest}", headers={"Range": "bytes=0-9"})
    assert part.expect(404).codes() == ["BLOB_UNKNOWN"]
    assert "damaged blob" in registry.messages
    assert digest in registry.messages
    # A mount would only spread it: the client is asked for the bytes instead.
    mount = f"/v2/{name}/other/blobs/uploads/?mount={digest}&from={name}"
    client.request("POST", mount, body=b"").expect(202)
    client.push_blob(name, body)
    assert client.blob(name, digest).expect(200).body == body


def test_a_blob_that_grew_is_not_served_and_heals(
    registry: LiveRegistry, client: RegistryClient, name: str
) -> None:
    body = os.urandom(1000)
    digest = client.push_blob(name, body)
    with blob_file(registry, digest).open("ab") as file:
        file.write(b"more")
    client.blob(name, digest).expect(404)
    client.push_blob(name, body)
    assert client.blob(name, digest).expect(200).body == body


def test_an_emptied_blob_without_a_recorded_size_is_not_served(
    registry: LiveRegistry, client: RegistryClient, name: str
) -> None:
    """As distribution leaves it after a power cut; it records no sizes."""
    body = os.urandom(1000)
    digest = client.push_blob(name, body)
    path = blob_file(registry, digest)
    path.unlink()
    path.touch()
    client.blob(name, digest).expect(404)
    client.push_blob(name, body)
    assert client.blob(name, digest).expect(200).body == body


def test_a_flipped_bit_in_a_blob_heals(
    registry: LiveRegistry, client: RegistryClient, name: str
) -> None:
    body = os.urandom(1000)
    digest = client.push_blob(name, body)
    flip_a_bit(blob_file(registry, digest))
    client.push_blob(name, body)
    assert client.blob(name, digest).expect(200).body == body


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip_a_bit, id="flipped bit"),
        pytest.param(lambda path: os.truncate(path, 100), id="truncated"),
        pytest.param(lambda path: os.truncate(path, 0), id="emptied"),
        pytest.param(lambda path: os.truncate(path, 64 << 20), id="grown to 64 MiB"),
        pytest.param(Path.unlink, id="removed"),
    ],
)
def test_a_damaged_manifest_is_not_served_and_heals(
    registry: LiveRegistry, client: RegistryClient, name: str, damage: Callable[[Path], None]
) -> None:
    good, bad = image(f"good {name}"), image(f"bad {name}")
    client.push_image(name, good, "good")
    client.push_image(name, bad, "bad")
    registry.restart()  # the bytes of a manifest can't change, so a worker may have kept them
    damage(blob_file(registry, bad.digest))
    for reference in ("bad", bad.digest):
        answer = client.manifest(name, reference)
        assert answer.expect(404).codes() == ["MANIFEST_UNKNOWN"]
    assert_lists_are_whole(client, name, good)
    assert client.referrers(name, good.digest) == []
    client.push_image(name, bad, "bad")
    assert_served(client, name, bad, "bad")


def assert_lists_are_whole(client: RegistryClient, name: str, good: Image) -> None:
    assert name in client.catalog()
    assert client.tags(name) == ["bad", "good"]
    assert_served(client, name, good, "good")


EMPTY, GARBAGE, LONG = b"", b"sha256:not a digest", b"x" * 5000
CUT = digest_of(b"").encode()[:40]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(EMPTY, id="empty"),
        pytest.param(GARBAGE, id="garbage"),
        pytest.param(LONG, id="long"),
        pytest.param(CUT, id="cut"),
        pytest.param(b"\0" * 71, id="zeros"),
        pytest.param(b"\xff\xfe" * 40, id="not ASCII"),
        pytest.param(b"../../../../etc/passwd", id="a path"),
    ],
)
@pytest.mark.parametrize("link", ["tag", "tag index", "revision", "layer"])
def test_a_damaged_link_concerns_its_item_only(
    registry: LiveRegistry, client: RegistryClient, name: str, link: str, content: bytes
) -> None:
    good, bad = image(f"good {name}"), image(f"bad {name}")
    client.push_image(name, good, "good")
    client.push_image(name, bad, "bad")
    layer = bad.blobs[1].digest
    manifests = repository_folder(registry, name) / "_manifests"
    hexadecimals = bad.digest.removeprefix("sha256:")
    path, damaged = {
        "tag": (manifests / "tags/bad/current/link", "bad"),
        "tag index": (manifests / f"tags/bad/index/sha256/{hexadecimals}/link", ""),
        "revision": (manifests / f"revisions/sha256/{hexadecimals}/link", bad.digest),
        "layer": (
            repository_folder(registry, name)
            / f"_layers/sha256/{layer.removeprefix('sha256:')}/link",
            "",
        ),
    }[link]
    assert path.read_bytes().startswith(b"sha256:")
    path.write_bytes(content)
    if damaged:
        assert_damaged(client.manifest(name, damaged), "MANIFEST_UNKNOWN")
        assert_damaged(client.manifest(name, damaged, method="HEAD"), "")
    if link == "layer":
        assert_damaged(client.blob(name, layer), "BLOB_UNKNOWN")
    if link != "tag index":  # which nobody reads but the collector
        assert "damaged link" in registry.messages
        assert str(path.relative_to(registry.root)) in registry.messages
    assert_lists_are_whole(client, name, good)
    client.push_image(name, bad, "bad")
    assert_served(client, name, bad, "bad")
    assert path.read_bytes().startswith(b"sha256:")


def assert_damaged(answer: Answer, code: str) -> None:
    answer.expect(404)
    if code:
        assert answer.codes() == [code]
        assert b"damaged" in answer.body


@pytest.mark.parametrize("link", ["tag", "revision", "layer"])
def test_what_has_a_damaged_link_can_be_deleted(
    registry: LiveRegistry, client: RegistryClient, name: str, link: str
) -> None:
    good, bad = image(f"good {name}"), image(f"bad {name}")
    client.push_image(name, good, "good")
    client.push_image(name, bad, "bad")
    folder, hexadecimals = repository_folder(registry, name), bad.digest.removeprefix("sha256:")
    layer = bad.blobs[0].digest
    path, target = {
        "tag": (folder / "_manifests/tags/bad/current/link", "manifests/bad"),
        "revision": (
            folder / f"_manifests/revisions/sha256/{hexadecimals}/link",
            f"manifests/{bad.digest}",
        ),
        "layer": (
            folder / f"_layers/sha256/{layer.removeprefix('sha256:')}/link",
            f"blobs/{layer}",
        ),
    }[link]
    path.write_bytes(b"")
    client.request("DELETE", f"/v2/{name}/{target}").expect(202)
    assert not path.exists()
    assert_served(client, name, good, "good")


@pytest.mark.parametrize("kind", ["directory", "FIFO", "loop", "dangling"])
def test_what_is_no_file_is_no_link(
    registry: LiveRegistry, client: RegistryClient, name: str, kind: str
) -> None:
    """Nor does it keep a worker waiting, as a FIFO without a writer would."""
    good, bad = image(f"good {name}"), image(f"bad {name}")
    client.push_image(name, good, "good")
    client.push_image(name, bad, "bad")
    path = repository_folder(registry, name) / "_manifests/tags/bad/current/link"
    path.unlink()
    match kind:
        case "directory":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case _:
            path.symlink_to("nowhere")
    client.manifest(name, "bad").expect(404, 503)
    assert_served(client, name, good, "good")
    assert "good" in client.tags(name)
    assert name in client.catalog()
