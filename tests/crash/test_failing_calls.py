"""System calls that fail: never a false 201, an answer in the envelope, and service afterwards."""

import http.client
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dockyard.storage.growing import WRITE_BACK
from tests.crash.strace import failing
from tests.live import LiveRegistry, Wire
from tests.parts.images import OCI_MANIFEST, digest_of, image
from tests.registry_client import OCTETS, Answer, RegistryClient, assert_served, with_query


LARGE: Final = b"0123456789abcdef" * 100_000


def refused(answer: Answer) -> None:
    """Assert that a failure of the storage was told as such."""
    assert answer.expect(503, 507).codes() == ["UNAVAILABLE"]
    assert b"Errno" not in answer.body
    assert b"docker/registry" not in answer.body


@pytest.mark.parametrize(
    ("calls", "error"),
    [
        pytest.param("fsync,fdatasync", "EIO", id="fsync"),
        pytest.param("rename,renameat,renameat2", "EIO", id="rename"),
        pytest.param("mkdir,mkdirat", "EIO", id="mkdir"),
        pytest.param("fsync,fdatasync", "ENOSPC", id="fsync on a full disk"),
        pytest.param("rename,renameat,renameat2", "EACCES", id="rename not allowed"),
    ],
)
def test_no_failure_is_acknowledged(tmp_path: Path, calls: str, error: str) -> None:
    kept, wanted = image("kept"), image("wanted")
    body = b"a new blob"
    registry = LiveRegistry(tmp_path, settings={"http": {"workers": 1}})
    with registry, RegistryClient(registry.address) as client:
        client.push_image("a/kept", kept, "v1")
        location = client.start_upload("a/kept")
        manifest = wanted.manifest
        for content in wanted.blobs:
            client.push_blob("a/kept", content.body)
        with failing(registry.workers, tmp_path / "trace", calls, error):
            target = with_query(location, digest=digest_of(body))
            refused(client.request("PUT", target, body=body, headers=OCTETS))
            at_once = f"/v2/a/new/blobs/uploads/?digest={digest_of(body)}"
            refused(client.request("POST", at_once, body=body, headers=OCTETS))
            mount = f"/v2/a/other/blobs/uploads/?mount={kept.blobs[0].digest}&from=a/kept"
            refused(client.request("POST", mount, body=b""))
            for reference in ("v1", "v2", wanted.digest):
                refused(client.push_manifest("a/kept", reference, manifest.body, OCI_MANIFEST))
            assert_served(client, "a/kept", kept, "v1")
        # Nothing of it was stored, and the service goes on as if nothing had been.
        assert client.blob("a/kept", digest_of(body)).status == 404
        assert client.manifest("a/kept", "v1").header("Docker-Content-Digest") == kept.digest
        assert client.manifest("a/kept", wanted.digest).status == 404
        assert client.tags("a/kept") == ["v1"]
        assert_served(client, "a/kept", kept, "v1")
        client.push_image("a/kept", wanted, "v1")
        client.push_blob("a/new", body)
        assert_served(client, "a/kept", wanted, "v1")
    registry.assert_no_trace()
    assert "storage failed" in registry.messages


def test_bytes_whose_sync_failed_are_never_acknowledged(tmp_path: Path) -> None:
    """A second `fsync` succeeds although the kernel dropped the bytes, so they must be sent again.

    Source: fsync(2); https://lwn.net/Articles/752063/.
    """
    body = b"lost by the disk" * 1000
    registry = LiveRegistry(tmp_path, settings={"http": {"workers": 1}})
    with registry, RegistryClient(registry.address) as client:
        location = client.start_upload("a/b")
        target = with_query(location, digest=digest_of(body))
        (data,) = registry.root.rglob("_uploads/*/data")
        with failing(registry.workers, tmp_path / "trace", "fsync,fdatasync", "EIO", file=data):
            refused(client.request("PUT", target, body=body, headers=OCTETS))
        again = client.request("PUT", target, body=b"")
        assert again.expect(404).codes() == ["BLOB_UPLOAD_UNKNOWN"]
        assert client.blob("a/b", digest_of(body)).status == 404
        client.push_blob("a/b", body)
        assert client.blob("a/b", digest_of(body)).expect(200).body == body


@pytest.mark.parametrize(
    ("error", "status"),
    [pytest.param("EIO", 503, id="EIO"), pytest.param("ENOSPC", 507, id="full")],
)
def test_bytes_whose_sync_failed_while_more_arrived_are_not_kept(
    tmp_path: Path, error: str, status: int
) -> None:
    """The kernel tells of such a failure once: the sync at the end would succeed."""
    body = b"lost by the disk" * (5 * WRITE_BACK // 32)
    registry = LiveRegistry(tmp_path, settings={"http": {"workers": 1}})
    with registry, RegistryClient(registry.address) as client:
        location = client.start_upload("a/b")
        (data,) = registry.root.rglob("_uploads/*/data")
        with failing(registry.workers, tmp_path / "trace", "fdatasync", error, file=data):
            refused(client.request("PATCH", location, body=body, headers=OCTETS).expect(status))
        again = client.request("PUT", with_query(location, digest=digest_of(body)), body=b"")
        assert again.expect(404).codes() == ["BLOB_UPLOAD_UNKNOWN"]
        client.push_blob("a/b", body)
        assert client.blob("a/b", digest_of(body)).expect(200).body == body
    registry.assert_no_trace()


@pytest.mark.parametrize(
    ("error", "status"),
    [pytest.param("EIO", 503, id="EIO"), pytest.param("ENOSPC", 507, id="full")],
)
def test_bytes_that_could_not_be_written_are_not_counted(
    tmp_path: Path, error: str, status: int
) -> None:
    body = b"x" * 100_000
    registry = LiveRegistry(tmp_path, settings={"http": {"workers": 1}})
    with registry, RegistryClient(registry.address) as client:
        location = client.start_upload("a/b")
        location = (
            client.request("PATCH", location, body=body, headers=OCTETS)
            .expect(202)
            .header("Location")
        )
        (data,) = registry.root.rglob("_uploads/*/data")
        # Only this file's writes: the same call writes to the clients.
        with failing(registry.workers, tmp_path / "trace", "write,writev", error, file=data):
            refused(client.request("PATCH", location, body=body, headers=OCTETS).expect(status))
        left = client.request("GET", location)
        if left.status == 204:
            assert left.header("Range") == f"0-{len(body) - 1}"
            target = with_query(location, digest=digest_of(body + body))
            client.request("PUT", target, body=body, headers=OCTETS).expect(201)
        else:
            left.expect(404)
            client.push_blob("a/b", body + body)
        assert client.blob("a/b", digest_of(body + body)).expect(200).body == body + body
    registry.assert_no_trace()


READS = "pread64,preadv,preadv2,read,sendfile"


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[tuple[LiveRegistry, RegistryClient, str, Path]]:
    """A registry, a client, the digest of a blob of several chunks, and the file it is in."""
    registry = LiveRegistry(tmp_path, settings={"http": {"workers": 1}})
    with registry, RegistryClient(registry.address) as client:
        digest = client.push_blob("a/b", LARGE)
        (data,) = registry.root.rglob(f"{digest.removeprefix('sha256:')}/data")
        yield registry, client, digest, data
        assert client.blob("a/b", digest).expect(200).body == LARGE
    registry.assert_no_trace()
    assert "storage failed" in registry.messages


def test_a_blob_that_cannot_be_read_is_an_error(
    tmp_path: Path, reading: tuple[LiveRegistry, RegistryClient, str, Path]
) -> None:
    registry, client, digest, data = reading
    other = client.push_blob("a/b", b"readable")
    with failing(registry.workers, tmp_path / "trace", READS, "EIO", file=data):
        refused(client.blob("a/b", digest))
        part = client.request("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": "bytes=0-9"})
        refused(part)
        assert not part.header("Content-Range")
        assert client.blob("a/b", other).expect(200).body == b"readable"


def test_a_blob_that_cannot_be_read_to_its_end_is_cut_off(
    tmp_path: Path, reading: tuple[LiveRegistry, RegistryClient, str, Path]
) -> None:
    """The client notices that what it got is not the whole."""
    registry, client, digest, data = reading
    with (
        failing(registry.workers, tmp_path / "trace", READS, "EIO", file=data, first=4),
        pytest.raises(http.client.IncompleteRead) as caught,
    ):
        client.blob("a/b", digest)
    assert LARGE.startswith(caught.value.partial)


def test_a_blob_that_shrinks_while_it_is_sent_is_cut_off(tmp_path: Path) -> None:
    registry = LiveRegistry(tmp_path, settings={"http": {"workers": 1}})
    with registry, RegistryClient(registry.address) as client, Wire(registry.port) as wire:
        body = LARGE * 20  # more than fits into the sockets' buffers
        digest = client.push_blob("a/b", body)
        (data,) = registry.root.rglob(f"{digest.removeprefix('sha256:')}/data")
        wire.send(f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        start = wire.socket.recv(1000)
        os.truncate(data, len(body) // 2)
        received = start + wire.read_all()
        assert f"Content-Length: {len(body)}".encode() in received
        assert len(received) < len(body)
        assert client.blob("a/b", digest).expect(404).codes() == ["BLOB_UNKNOWN"]
        client.push_blob("a/b", body)
        assert client.blob("a/b", digest).expect(200).body == body
    registry.assert_no_trace()


def test_a_link_that_cannot_be_read_is_an_error_of_its_item_only(tmp_path: Path) -> None:
    registry = LiveRegistry(tmp_path, settings={"http": {"workers": 1}})
    with registry, RegistryClient(registry.address) as client:
        kept = image("kept")
        client.push_image("a/b", kept, "bad", "good")
        link = (
            registry.root / "docker/registry/v2/repositories/a/b/_manifests/tags/bad/current/link"
        )
        with failing(registry.workers, tmp_path / "trace", "read", "EIO", file=link):
            refused(client.manifest("a/b", "bad"))
            assert client.tags("a/b") == ["bad", "good"]
            assert client.catalog() == ["a/b"]
            assert_served(client, "a/b", kept, "good")
        assert_served(client, "a/b", kept, "bad")
    registry.assert_no_trace()
