"""A full disk: 507 in the envelope; what is there is served; pushing works once there is room."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.conftest import Mount
from tests.live import LiveRegistry
from tests.parts.images import OCI_MANIFEST, digest_of, image
from tests.parts.programs import attempt, require
from tests.registry_client import OCTETS, Answer, RegistryClient, assert_served, with_query


DISK: Final = 8 << 20
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
KEPT: Final = image("kept")
NAME: Final = "full/kept"

UPLOAD_ROOM: Final = 64 << 10
"""Bytes that a pushed blob may cost besides its own: directories and links, a page each."""


@pytest.fixture
def registry(tmp_path: Path, mount: Mount) -> Iterator[LiveRegistry]:
    """A registry on a disk of 8 MiB, with one image."""
    disk = mount(f"size={DISK}")
    with LiveRegistry(tmp_path / "registry", root=disk / "root") as running:
        with RegistryClient(running.address) as client:
            client.push_image(NAME, KEPT, "v1")
        yield running
    running.assert_no_trace()


@pytest.fixture
def client(registry: LiveRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(registry.address) as connected:
        yield connected


def free(registry: LiveRegistry) -> int:
    """Return how many bytes are free on the registry's disk."""
    status = os.statvfs(registry.root)
    return status.f_bfree * status.f_bsize


def fill(registry: LiveRegistry, leave: int = 0) -> Path:
    """Fill the disk but for `leave` bytes with a file of somebody else; return it."""
    path = registry.root.parent / "filler"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(registry) - leave)
    return path


def assert_full(answer: Answer) -> None:
    """Assert that the client was told in so many words."""
    error = answer.expect(507).json()["errors"][0]
    assert error["code"] == "UNAVAILABLE"
    assert "full" in error["detail"]
    assert answer.header("Content-Type") == "application/json"


@pytest.mark.parametrize("way", ["PUT", "PATCH", "POST", "PUT without length"])
def test_an_upload_that_does_not_fit_is_507_in_the_middle_of_its_body(
    registry: LiveRegistry, client: RegistryClient, tmp_path: Path, way: str
) -> None:
    body = os.urandom(3 * DISK)
    large = tmp_path / "large"
    large.write_bytes(body)
    before = free(registry)
    location = client.start_upload("full/new")
    target = with_query(location, digest=digest_of(body))
    options = ["-X", way.split(maxsplit=1)[0], "-H", "Content-Type: application/octet-stream"]
    if way == "PATCH":
        target = location
    elif way == "POST":
        target = f"{registry.url}/v2/full/new/blobs/uploads/?digest={digest_of(body)}"
    elif way == "PUT without length":
        options += ["-H", "Transfer-Encoding: chunked"]
    options += ["--data-binary", f"@{large}", "-w", "\n%{http_code}"]
    done = attempt(require("curl"), "-s", "-S", *options, target)
    answer, _, status = done.stdout.rpartition("\n")
    assert (done.returncode, status) == (0, "507"), done
    assert '"code":"UNAVAILABLE"' in answer
    assert "storage is full" in answer
    if way != "POST":
        client.request("GET", location).expect(404)
    # The partial upload is dropped: what is left are directories, no bytes.
    assert before - free(registry) < UPLOAD_ROOM
    assert_served(client, NAME, KEPT, "v1")
    small = os.urandom(1 << 20)
    client.push_blob("full/new", small)
    assert client.blob("full/new", digest_of(small)).expect(200).body == small


def test_on_a_full_disk_images_are_served_and_pushes_work_once_there_is_room(
    registry: LiveRegistry, client: RegistryClient
) -> None:
    other, body = image("other"), b"a blob"
    filler = fill(registry)
    assert_full(client.request("POST", "/v2/full/new/blobs/uploads/", body=b""))
    at_once = f"/v2/full/new/blobs/uploads/?digest={digest_of(body)}"
    assert_full(client.request("POST", at_once, body=body, headers=OCTETS))
    mount = f"/v2/full/other/blobs/uploads/?mount={KEPT.blobs[0].digest}&from={NAME}"
    assert_full(client.request("POST", mount, body=b""))
    manifest = KEPT.manifest.body + b" "
    assert_full(client.push_manifest(NAME, "v2", manifest, OCI_MANIFEST))
    assert_served(client, NAME, KEPT, "v1")
    assert client.tags(NAME) == ["v1"]
    assert client.catalog() == [NAME]
    filler.unlink()
    client.push_image(NAME, other, "v1", "v2")
    assert_served(client, NAME, other, "v1", "v2")


def test_an_upload_begun_before_the_disk_was_full_is_507(
    registry: LiveRegistry, client: RegistryClient
) -> None:
    chunk = os.urandom(1 << 20)
    location = client.start_upload(NAME)
    location = client.request("PATCH", location, body=chunk).expect(202).header("Location")
    filler = fill(registry)
    assert_full(client.request("PATCH", location, body=chunk, headers=OCTETS))
    client.request("GET", location).expect(404)
    assert free(registry) >= len(chunk)  # what it had is given back at once
    filler.unlink()
    client.push_blob_in_chunks(NAME, chunk * 2, len(chunk))


def test_a_restart_on_a_full_disk_serves_what_is_there(
    registry: LiveRegistry, client: RegistryClient
) -> None:
    filler = fill(registry)
    registry.restart()
    assert_served(client, NAME, KEPT, "v1")
    filler.unlink()
    client.push_blob(NAME, b"after")


def test_whatever_room_is_left_nothing_stays_of_what_did_not_fit(
    registry: LiveRegistry, client: RegistryClient
) -> None:
    """The disk fills up at another step of the push each time: its bytes, its names, its link."""
    size = 5 * PAGE
    client.push_blob(NAME, b"so that the directories of the layout are there")
    refused = accepted = 0
    for pages in range(40):
        body = os.urandom(size)
        filler = fill(registry, leave=pages * PAGE)
        before = free(registry)
        first = client.request("POST", f"/v2/{NAME}/blobs/uploads/", body=b"")
        if first.status == 202:
            target = with_query(first.header("Location"), digest=digest_of(body))
            answer = client.request("PUT", target, body=body, headers=OCTETS)
        else:
            answer = first
        if answer.status == 201:
            accepted += 1
            assert client.blob(NAME, digest_of(body)).expect(200).body == body
        else:
            refused += 1
            assert_full(answer)
            client.blob(NAME, digest_of(body)).expect(404)
            assert before - free(registry) < size, f"{pages} pages were left"
        filler.unlink()
    assert refused > 5
    assert accepted > 5
    assert_served(client, NAME, KEPT, "v1")


def test_a_manifest_that_does_not_fit_moves_no_tag(
    registry: LiveRegistry, client: RegistryClient
) -> None:
    refused = 0
    for pages in range(20):
        other = image(f"other {pages}", annotations={"padding": "x" * 10_000})
        for content in other.blobs:
            client.push_blob(NAME, content.body)
        before = client.manifest(NAME, "v1").expect(200).header("Docker-Content-Digest")
        filler = fill(registry, leave=pages * PAGE)
        answer = client.push_manifest(NAME, "v1", other.manifest.body, OCI_MANIFEST)
        now = client.manifest(NAME, "v1").expect(200).header("Docker-Content-Digest")
        if answer.status == 201:
            assert now == other.digest
        else:
            refused += 1
            assert_full(answer)
            assert now == before
        assert client.tags(NAME) == ["v1"]
        filler.unlink()
    assert refused > 1


def test_a_disk_without_inodes_is_a_full_disk(tmp_path: Path, mount: Mount) -> None:
    disk = mount("size=16m,nr_inodes=400")
    with (
        serving_on(tmp_path, disk) as registry,
        RegistryClient(registry.address) as client,
    ):
        client.push_image(NAME, KEPT, "v1")
        fillers = disk / "fillers"
        take_all_inodes(fillers)
        for target in ("full/new", NAME):
            assert_full(client.request("POST", f"/v2/{target}/blobs/uploads/", body=b""))
        manifest = KEPT.manifest.body + b" "
        assert_full(client.push_manifest(NAME, "v1", manifest, OCI_MANIFEST))
        assert_served(client, NAME, KEPT, "v1")
        # Deleting makes room, so it must not need any.
        client.delete_manifest(NAME, "v1").expect(202)
        assert client.manifest(NAME, KEPT.digest).expect(200).body == KEPT.manifest.body
        shutil.rmtree(fillers)
        client.push_image(NAME, image("other"), "v1")
        assert_served(client, NAME, image("other"), "v1")


def test_a_restart_on_a_disk_without_inodes_serves_what_is_there(
    tmp_path: Path, mount: Mount
) -> None:
    disk = mount("size=16m,nr_inodes=400")
    with serving_on(tmp_path, disk) as registry, RegistryClient(registry.address) as client:
        client.push_image(NAME, KEPT, "v1")
        take_all_inodes(disk / "fillers")
        registry.restart()
        assert_served(client, NAME, KEPT, "v1")
        shutil.rmtree(disk / "fillers")
        client.push_blob(NAME, b"after")


def take_all_inodes(folder: Path) -> None:
    """Make files in the new directory `folder` until no more can be made on its disk."""
    folder.mkdir()
    while left := os.statvfs(folder).f_ffree:
        (folder / str(left)).touch()


def serving_on(folder: Path, disk: Path) -> LiveRegistry:
    return LiveRegistry(folder / "registry", root=disk / "root")
