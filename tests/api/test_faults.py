"""Damage on the disk: told for the item it concerns, logged, and healed by pushing it again."""

import errno
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dockyard.storage.filesystem import FilesystemStorage
from tests.api.client import with_query
from tests.api.registry import Registry, blob_file, link_file
from tests.parts.images import Image, artifact, digest_of, image


NAME = "team/app"
CONTENT = bytes(range(256)) * 8
DIGEST = digest_of(CONTENT)
TOP = image("top")
Damage = Callable[[Path], None]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff garbage" * 3)


def too_long(path: Path) -> None:
    path.write_bytes(b"sha256:" + b"a" * 1000)


def other_digest(path: Path) -> None:
    path.write_text(digest_of(b"something else that is stored"))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def gone(path: Path) -> None:
    path.unlink()


def hexadecimals(digest: str) -> str:
    return digest.removeprefix("sha256:")


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as lines:
        yield lines


async def push_blob(registry: Registry) -> str:
    """Push as docker does, unless the blob is there."""
    if (await registry.blob(NAME, DIGEST, "HEAD")).status == 200:
        return DIGEST
    return await registry.push_blob(NAME, CONTENT)


class TestBlobs:
    @pytest.mark.parametrize(
        ("damage", "says"),
        [
            (cut, "stored with 100 bytes instead of 2048"),
            (empty, "stored with 0 bytes instead of 2048"),
        ],
    )
    async def test_a_blob_that_lost_bytes_is_unknown_until_pushed_again(
        self, disk: Registry, tmp_path: Path, log: list[Any], damage: Damage, says: str
    ) -> None:
        await push_blob(disk)
        damage(blob_file(tmp_path, DIGEST))
        error = (await disk.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
        assert error["detail"] == f"blob {DIGEST}: {says}"
        (await disk.blob(NAME, DIGEST, "HEAD")).expect(404)
        (line, *_) = log
        assert line["log_level"] == "error"
        assert (line["digest"], line["damage"]) == (DIGEST, says)
        assert "push it again" in line["event"]
        await push_blob(disk)
        assert (await disk.blob(NAME, DIGEST)).body == CONTENT

    async def test_an_empty_file_of_distributions_is_known_as_such(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        """A crash of distribution leaves such; it notes no size beside its blobs."""
        await push_blob(disk)
        path = blob_file(tmp_path, DIGEST)
        path.unlink()
        path.write_bytes(b"")
        error = (await disk.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
        assert "stored without its bytes" in error["detail"]
        await push_blob(disk)
        assert (await disk.blob(NAME, DIGEST)).body == CONTENT

    async def test_the_empty_blob_of_distributions_is_whole(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        digest = await disk.push_blob(NAME, b"")
        path = blob_file(tmp_path, digest)
        path.unlink()
        path.write_bytes(b"")
        (await disk.blob(NAME, digest)).expect(200)

    async def test_flipped_bits_heal_by_pushing_again(self, disk: Registry, tmp_path: Path) -> None:
        await push_blob(disk)
        flip_a_bit(blob_file(tmp_path, DIGEST))
        await disk.push_blob(NAME, CONTENT)
        assert (await disk.blob(NAME, DIGEST)).body == CONTENT

    @pytest.mark.parametrize("damage", [gone, directory, fifo])
    async def test_what_is_no_file_is_unknown(
        self, disk: Registry, tmp_path: Path, damage: Damage
    ) -> None:
        await push_blob(disk)
        damage(blob_file(tmp_path, DIGEST))
        (await disk.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
        target = f"v2/{NAME}/blobs/uploads/?mount={DIGEST}"
        (await disk.send("POST", target)).expect(202)

    async def test_a_damaged_blob_is_not_mounted(self, disk: Registry, tmp_path: Path) -> None:
        await push_blob(disk)
        cut(blob_file(tmp_path, DIGEST))
        for query in (f"mount={DIGEST}", f"mount={DIGEST}&from={NAME}"):
            (await disk.send("POST", f"v2/other/blobs/uploads/?{query}")).expect(202)
        (await disk.blob("other", DIGEST)).refused(404, "BLOB_UNKNOWN")

    async def test_a_manifest_whose_blobs_are_damaged_is_not_taken(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        await disk.push(NAME, TOP, "v1")
        damaged = TOP.blobs[1].digest
        empty(blob_file(tmp_path, damaged))
        answer = await disk.put_manifest(NAME, "v2", TOP.manifest.body)
        assert answer.refused(400, "MANIFEST_BLOB_UNKNOWN")["detail"] == damaged
        (await disk.manifest(NAME, "v1")).expect(200)

    async def test_a_blob_that_ends_while_it_is_sent_ends_the_answer(
        self, disk: Registry, log: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server then cuts the connection, so that the client notices."""
        content = b"x" * (1 << 20)
        digest = await disk.push_blob(NAME, content)
        read = os.pread

        def failing(descriptor: int, length: int, offset: int) -> bytes:
            if offset:
                raise OSError(errno.EIO, "Input/output error")
            return read(descriptor, length, offset)

        with monkeypatch.context() as broken:
            broken.setattr(os, "pread", failing)
            promised, arrived, facts = await disk.cut_off(f"v2/{NAME}/blobs/{digest}")
        assert promised == len(content)
        assert content.startswith(arrived)
        assert 0 < len(arrived) < promised
        assert facts.code == "UNAVAILABLE"
        assert log[-1]["event"] == "storage failed"
        assert (await disk.blob(NAME, digest)).body == content

    async def test_a_blob_that_can_not_be_read_at_all_is_told_so(
        self, disk: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await push_blob(disk)

        def failing(*_: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(os, "pread", failing)
            answer = await disk.blob(NAME, DIGEST)
        answer.refused(503, "UNAVAILABLE")
        assert answer.header("Etag") is None
        (await disk.blob(NAME, DIGEST)).expect(200)


LINK_DAMAGES = pytest.mark.parametrize("damage", [empty, garbage, too_long, fifo])


class TestLinks:
    @LINK_DAMAGES
    async def test_a_damaged_layer_link(
        self, disk: Registry, tmp_path: Path, log: list[Any], damage: Damage
    ) -> None:
        await push_blob(disk)
        path = link_file(tmp_path, f"{NAME}/_layers/sha256/{hexadecimals(DIGEST)}/link")
        damage(path)
        error = (await disk.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
        assert error["detail"] == f"blob {DIGEST}: its link is damaged"
        assert any(str(path).endswith(line.get("path", "?")) for line in log)
        target = f"v2/other/blobs/uploads/?mount={DIGEST}&from={NAME}"
        (await disk.send("POST", target)).expect(202)
        await push_blob(disk)
        assert (await disk.blob(NAME, DIGEST)).body == CONTENT

    async def test_a_layer_link_to_another_blob_serves_nothing(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        """Never bytes under a digest that they do not have."""
        await disk.push_blob("other", b"something else that is stored")
        await push_blob(disk)
        other_digest(link_file(tmp_path, f"{NAME}/_layers/sha256/{hexadecimals(DIGEST)}/link"))
        (await disk.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
        target = f"v2/other/blobs/uploads/?mount={DIGEST}&from={NAME}"
        (await disk.send("POST", target)).expect(202)
        await push_blob(disk)
        assert (await disk.blob(NAME, DIGEST)).body == CONTENT

    async def test_the_alias_that_distribution_keeps_is_followed(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        """What was pushed as sha512 lies under its sha256 there."""
        await push_blob(disk)
        sha512 = digest_of(CONTENT, "sha512")
        path = link_file(tmp_path, f"{NAME}/_layers/sha512/{sha512.removeprefix('sha512:')}/link")
        path.parent.mkdir(parents=True)
        path.write_text(DIGEST)
        got = (await disk.blob(NAME, sha512)).expect(200)
        assert got.body == CONTENT
        assert got.header("Docker-Content-Digest") == sha512
        target = f"v2/other/blobs/uploads/?mount={sha512}&from={NAME}"
        (await disk.send("POST", target)).expect(201)
        assert (await disk.blob("other", sha512)).body == CONTENT

    async def test_the_directory_that_distributions_collector_leaves_is_no_blob(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        await push_blob(disk)
        gone(link_file(tmp_path, f"{NAME}/_layers/sha256/{hexadecimals(DIGEST)}/link"))
        (await disk.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
        (await disk.blob(NAME, DIGEST, "DELETE")).refused(404, "BLOB_UNKNOWN")

    @LINK_DAMAGES
    async def test_a_damaged_tag(
        self, disk: Registry, tmp_path: Path, log: list[Any], damage: Damage
    ) -> None:
        for tag in ("bad", "good"):
            await disk.push(NAME, TOP, tag)
        path = link_file(tmp_path, f"{NAME}/_manifests/tags/bad/current/link")
        damage(path)
        error = (await disk.manifest(NAME, "bad")).refused(404, "MANIFEST_UNKNOWN")
        assert error["detail"] == "manifest bad: its link is damaged"
        assert any(str(path).endswith(line.get("path", "?")) for line in log)
        (await disk.manifest(NAME, "good")).expect(200)
        listed = await disk.send("GET", f"v2/{NAME}/tags/list")
        assert listed.json()["tags"] == ["bad", "good"]
        assert (await disk.send("GET", "v2/_catalog")).json() == {"repositories": [NAME]}
        await disk.push(NAME, TOP, "bad")
        (await disk.manifest(NAME, "bad")).expect(200)

    @LINK_DAMAGES
    async def test_a_damaged_tag_can_be_deleted(
        self, disk: Registry, tmp_path: Path, damage: Damage
    ) -> None:
        for tag in ("bad", "good"):
            await disk.push(NAME, TOP, tag)
        damage(link_file(tmp_path, f"{NAME}/_manifests/tags/bad/current/link"))
        (await disk.send("DELETE", f"v2/{NAME}/manifests/bad")).expect(202)
        listed = await disk.send("GET", f"v2/{NAME}/tags/list")
        assert listed.json()["tags"] == ["good"]

    async def test_a_damaged_tag_does_not_stop_the_deletion_of_a_manifest(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        for tag in ("bad", "good"):
            await disk.push(NAME, TOP, tag)
        empty(link_file(tmp_path, f"{NAME}/_manifests/tags/bad/current/link"))
        (await disk.send("DELETE", f"v2/{NAME}/manifests/{TOP.digest}")).expect(202)
        (await disk.manifest(NAME, "good")).refused(404, "MANIFEST_UNKNOWN")

    @LINK_DAMAGES
    async def test_a_damaged_revision(
        self, disk: Registry, tmp_path: Path, log: list[Any], damage: Damage
    ) -> None:
        other = image("other")
        await disk.push(NAME, TOP, "bad")
        await disk.push(NAME, other, "good")
        hexes = hexadecimals(TOP.digest)
        path = link_file(tmp_path, f"{NAME}/_manifests/revisions/sha256/{hexes}/link")
        damage(path)
        for reference in ("bad", TOP.digest):
            error = (await disk.manifest(NAME, reference)).refused(404, "MANIFEST_UNKNOWN")
            assert error["detail"] == f"manifest {TOP.digest}: its link is damaged"
        assert any(str(path).endswith(line.get("path", "?")) for line in log)
        (await disk.manifest(NAME, "good")).expect(200)
        await disk.push(NAME, TOP, "bad")
        (await disk.manifest(NAME, "bad")).expect(200)

    async def test_a_revision_link_to_another_manifest_serves_nothing_else(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        other = image("other")
        await disk.push("elsewhere", other, "v1")
        await disk.push(NAME, TOP, "v1")
        hexes = hexadecimals(TOP.digest)
        path = link_file(tmp_path, f"{NAME}/_manifests/revisions/sha256/{hexes}/link")
        path.write_text(other.digest)
        fresh = Registry(FilesystemStorage(tmp_path))
        (await fresh.manifest(NAME, "v1")).refused(404, "MANIFEST_UNKNOWN")

    async def test_a_link_with_a_newline_is_read(self, disk: Registry, tmp_path: Path) -> None:
        """As editors and ``echo`` leave it."""
        await disk.push(NAME, TOP, "v1")
        path = link_file(tmp_path, f"{NAME}/_manifests/tags/v1/current/link")
        path.write_text(f"{TOP.digest}\n")
        (await disk.manifest(NAME, "v1")).expect(200)


class TestManifests:
    @pytest.mark.parametrize("damage", [flip_a_bit, cut, empty, garbage])
    async def test_damaged_bytes_are_not_served_and_heal_by_pushing_again(
        self, tmp_path: Path, disk: Registry, log: list[Any], damage: Damage
    ) -> None:
        await disk.push(NAME, TOP, "v1")
        damage(blob_file(tmp_path, TOP.digest))
        fresh = Registry(FilesystemStorage(tmp_path))
        for reference in ("v1", TOP.digest):
            error = (await fresh.manifest(NAME, reference)).refused(404, "MANIFEST_UNKNOWN")
            assert error["detail"] == f"manifest {TOP.digest}: its bytes are damaged"
        (await fresh.manifest(NAME, "v1", "HEAD")).expect(404)
        assert log[0]["digest"] == TOP.digest
        assert "push it again" in log[0]["event"]
        # docker looks first, by HEAD, and pushes what is not there.
        await fresh.push(NAME, TOP, "v1")
        assert (await fresh.manifest(NAME, "v1")).body == TOP.manifest.body
        assert blob_file(tmp_path, TOP.digest).read_bytes() == TOP.manifest.body

    @pytest.mark.parametrize("damage", [gone, directory])
    async def test_bytes_that_are_not_there_are_unknown(
        self, tmp_path: Path, disk: Registry, damage: Damage
    ) -> None:
        await disk.push(NAME, TOP, "v1")
        damage(blob_file(tmp_path, TOP.digest))
        fresh = Registry(FilesystemStorage(tmp_path))
        (await fresh.manifest(NAME, "v1")).refused(404, "MANIFEST_UNKNOWN")

    async def test_a_damaged_referrer_is_left_out_until_it_is_healed(
        self, tmp_path: Path, disk: Registry
    ) -> None:
        subject = TOP.manifest.descriptor()
        good, bad = (artifact(name, subject=subject) for name in ("good", "bad"))
        for top in (good, bad):
            await disk.push(NAME, top)
        flip_a_bit(blob_file(tmp_path, bad.digest))
        fresh = Registry(FilesystemStorage(tmp_path))
        assert await referrers(fresh) == {good.digest}
        await fresh.push(NAME, bad)
        assert await referrers(fresh) == {good.digest, bad.digest}

    async def test_a_referrer_damaged_after_it_was_seen_does_no_harm(
        self, tmp_path: Path, disk: Registry
    ) -> None:
        subject = TOP.manifest.descriptor()
        good, bad = (artifact(name, subject=subject) for name in ("good", "bad"))
        for top in (good, bad):
            await disk.push(NAME, top)
        assert await referrers(disk) == {good.digest, bad.digest}
        hexes = hexadecimals(bad.digest)
        empty(link_file(tmp_path, f"{NAME}/_manifests/revisions/sha256/{hexes}/link"))
        assert await referrers(disk) == {good.digest}


async def referrers(registry: Registry) -> set[str]:
    answer = await registry.send("GET", f"v2/{NAME}/referrers/{TOP.digest}")
    return {entry["digest"] for entry in answer.expect(200).json()["manifests"]}


class TestStorageTrouble:
    """The disk fails: 503 that says nothing of paths, while the log does."""

    @pytest.mark.parametrize(
        "ask",
        [
            pytest.param(lambda disk: disk.manifest(NAME, "v1"), id="tag"),
            pytest.param(lambda disk: disk.blob(NAME, TOP.blobs[0].digest), id="blob"),
            pytest.param(
                lambda disk: disk.put_manifest(NAME, "v2", TOP.manifest.body), id="manifest-put"
            ),
            pytest.param(lambda disk: disk.send("POST", f"v2/{NAME}/blobs/uploads/"), id="upload"),
        ],
    )
    async def test_it_is_told_without_paths(
        self,
        tmp_path: Path,
        disk: Registry,
        log: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        ask: Callable[[Registry], Awaitable[Any]],
    ) -> None:
        await disk.push(NAME, TOP, "v1")
        with monkeypatch.context() as broken:

            def fail(*_: object, **__: object) -> int:
                raise OSError(errno.EIO, "Input/output error")

            broken.setattr(os, "open", fail)
            answer = await ask(disk)
        error = answer.refused(503, "UNAVAILABLE")
        assert "detail" not in error
        assert str(tmp_path) not in str(answer.headers) + answer.body.decode()
        line = log[-1]
        assert line["event"] == "storage failed"
        assert line["request"] == "r1"
        assert "Input/output error" in line["err"]
        (await disk.manifest(NAME, "v1")).expect(200)


class TestFullDisk:
    """507: what is there stays, and pushing works again once there is room."""

    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
        write = os.write

        def limited(descriptor: int, content: bytes) -> int:
            if len(content) > 64:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, content)

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", limited)
            yield patch

    async def refused(self, disk: Registry, method: str, target: str, body: bytes) -> None:
        error = (await disk.send(method, target, body)).refused(507, "UNAVAILABLE")
        assert "full" in error["detail"]

    async def test_uploads_are_refused_and_leave_no_bytes(
        self, disk: Registry, tmp_path: Path, full: pytest.MonkeyPatch
    ) -> None:
        await self.refused(disk, "POST", f"v2/{NAME}/blobs/uploads/?digest={DIGEST}", CONTENT)
        location = (await disk.begin(NAME)).location
        await self.refused(disk, "PATCH", location, CONTENT)
        (await disk.send("GET", location)).refused(404, "BLOB_UPLOAD_UNKNOWN")
        location = (await disk.begin(NAME)).location
        await self.refused(disk, "PUT", with_query(location, digest=DIGEST), CONTENT)
        uploads = tmp_path / f"docker/registry/v2/repositories/{NAME}/_uploads"
        assert list(uploads.iterdir()) == []
        full.undo()
        await disk.push_blob(NAME, CONTENT)
        assert (await disk.blob(NAME, DIGEST)).body == CONTENT

    async def test_manifests_are_refused_and_leave_no_tag(
        self, disk: Registry, full: pytest.MonkeyPatch
    ) -> None:
        top = Image(image("bare", layers=0).manifest)
        full.undo()
        for blob in image("bare", layers=0).blobs:
            await disk.push_blob(NAME, blob.body)
        with pytest.MonkeyPatch.context() as patch:

            def refuse(*_: object) -> int:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

            patch.setattr(os, "write", refuse)
            await self.refused(disk, "PUT", f"v2/{NAME}/manifests/v1", top.manifest.body)
        (await disk.manifest(NAME, "v1")).refused(404, "MANIFEST_UNKNOWN")
        (await disk.put_manifest(NAME, "v1", top.manifest.body)).expect(201)

    async def test_there_may_be_no_room_to_begin(
        self, disk: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:

            def refuse(*_: object) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(os, "write", refuse)
            await self.refused(disk, "POST", f"v2/{NAME}/blobs/uploads/", b"")
        assert list(tmp_path.rglob("startedat")) == []

    async def test_an_upload_that_can_not_be_removed_either_is_reported_as_full(
        self, disk: Registry, log: list[Any], full: pytest.MonkeyPatch
    ) -> None:
        location = (await disk.begin(NAME)).location

        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        full.setattr(os, "replace", refuse)
        await self.refused(disk, "PATCH", location, CONTENT)
        assert any(line["event"] == "leftover upload" for line in log)


async def test_a_finished_upload_that_can_not_be_tidied_is_finished(
    disk: Registry, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    location = (await disk.begin(NAME)).location
    replace, unlink = os.replace, os.unlink

    def refuse(source: str, target: str) -> None:
        if "/.dockyard/tmp/" in target:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    def refuse_to_remove(path: str) -> None:
        if "/_uploads/" in path:
            raise OSError(errno.EIO, "Input/output error")
        unlink(path)

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", refuse)
        broken.setattr(os, "unlink", refuse_to_remove)
        (await disk.finish(location, CONTENT, CONTENT)).expect(201)
    assert [line["event"] for line in log] == ["leftover upload"]
    assert (await disk.blob(NAME, DIGEST)).body == CONTENT


async def test_an_upload_whose_sync_failed_must_begin_anew(
    disk: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes the bytes for written from then on: syncing again would say all is well."""
    location = (await disk.begin(NAME)).location
    location = (await disk.send("PATCH", location, CONTENT)).location
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if "/_uploads/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        (await disk.finish(location, CONTENT)).refused(503, "UNAVAILABLE")
    (await disk.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
    (await disk.finish(location, CONTENT)).refused(404, "BLOB_UPLOAD_UNKNOWN")
    await push_blob(disk)
    assert (await disk.blob(NAME, DIGEST)).body == CONTENT


async def test_our_own_directory_may_be_removed(disk: Registry, tmp_path: Path) -> None:
    await disk.push(NAME, TOP, "v1")
    shutil.rmtree(tmp_path / "docker/registry/v2/.dockyard")
    fresh = Registry(FilesystemStorage(tmp_path))
    (await fresh.manifest(NAME, "v1")).expect(200)
    await fresh.push(NAME, image("next"), "v1")
    (await fresh.manifest(NAME, "v1")).expect(200)
