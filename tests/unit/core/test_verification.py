"""That all bytes are read, at a bounded rate, and how an interrupted verification goes on."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core.problems import Kind
from dockyard.core.verification import Pace, Verification
from dockyard.errors import StorageError, StorageFullError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.files import FileReader
from dockyard.storage.filesystem import FilesystemStorage
from tests.parts.checking import Seen, verification_on
from tests.parts.images import digests_of, image
from tests.unit.core.pushing import Tree


ONE = image("one", layers=3)
DIGESTS = sorted(Digest.parse(text) for text in digests_of(ONE))


@pytest.fixture
async def storage(tmp_path: Path) -> FilesystemStorage:
    """A storage that has one image."""
    await Tree(FilesystemStorage(tmp_path)).push("team/a", ONE, "v1")
    return FilesystemStorage(tmp_path)


async def note(storage: FilesystemStorage, cursor: Digest, *damaged: Digest) -> None:
    """Write what a run that was killed leaves."""
    body = {"cursor": str(cursor), "damaged": [str(digest) for digest in damaged]}
    await storage.put(layout.check_progress(), json.dumps(body).encode())


class TestGoingOn:
    async def test_it_goes_on_where_it_was(self, storage: FilesystemStorage) -> None:
        await note(storage, DIGESTS[0])
        seen = Seen()
        await verification_on(storage, seen).run(DIGESTS, restart=False)
        assert (seen.blobs, seen.cursor) == (len(DIGESTS) - 1, DIGESTS[0])
        assert not await storage.exists(layout.check_progress())

    async def test_what_it_had_found_is_looked_at_again(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        await note(storage, DIGESTS[1], DIGESTS[0], DIGESTS[1])
        (tmp_path / layout.blob(DIGESTS[0])).write_bytes(b"damaged")  # the other one was healed
        seen = Seen()
        await verification_on(storage, seen).run(DIGESTS, restart=False)
        assert [each.digest for each in seen.problems] == [DIGESTS[0]]

    async def test_it_begins_anew_if_told(self, storage: FilesystemStorage) -> None:
        await note(storage, DIGESTS[-1])
        seen = Seen()
        await verification_on(storage, seen).run(DIGESTS, restart=True)
        assert (seen.blobs, seen.cursor) == (len(DIGESTS), None)

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b"[]", b'{"cursor": "x", "damaged": []}', b"x" * (2 << 20)]
    )
    async def test_a_damaged_note_is_none(self, storage: FilesystemStorage, content: bytes) -> None:
        await storage.put(layout.check_progress(), content)
        seen = Seen()
        await verification_on(storage, seen).run(DIGESTS, restart=False)
        assert seen.blobs == len(DIGESTS)

    async def test_one_that_is_stopped_notes_how_far_it_came(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        (tmp_path / layout.blob(DIGESTS[0])).write_bytes(b"damaged")

        class Stopping(Seen):
            @override
            def blob(self, size: int) -> None:
                super().blob(size)
                if self.blobs == 3:
                    raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await verification_on(storage, Stopping()).run(DIGESTS, restart=False)
        noted = json.loads(await storage.get(layout.check_progress(), 1000))
        assert noted == {"cursor": str(DIGESTS[1]), "damaged": [str(DIGESTS[0])]}

    async def test_one_that_cannot_be_read_is_not_forgotten(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        class Broken(FilesystemStorage):
            @override
            async def open(self, path: str) -> FileReader:
                if path == layout.blob(DIGESTS[0]):
                    raise StorageError("Input/output error")
                return await super().open(path)

        broken = Broken(tmp_path)

        class Stopping(Seen):
            @override
            def blob(self, size: int) -> None:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await verification_on(broken, Stopping()).run(DIGESTS, restart=False)
        seen = Seen()
        await verification_on(broken, seen).run(DIGESTS, restart=False)
        assert [each.kind for each in seen.problems] == [Kind.UNREACHABLE]
        assert storage.epoch

    async def test_it_goes_on_where_nothing_can_be_noted(
        self, storage: FilesystemStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Full(FilesystemStorage):
            @override
            async def put(self, path: str, content: bytes) -> None:
                raise StorageFullError("no room left")

        monkeypatch.setattr("dockyard.core.verification.NOTED_SECONDS", 0.0)
        seen = Seen()
        await verification_on(Full(tmp_path), seen).run(DIGESTS, restart=False)
        assert seen.blobs == len(DIGESTS)
        assert storage.epoch


class TestReading:
    async def test_it_reads_no_faster_than_it_may(self, storage: FilesystemStorage) -> None:
        size = await storage.size(layout.blob(DIGESTS[0]))
        verification = Verification(storage, Seen(), Pace(size * 50, lambda: 0.0))
        began = time.monotonic()
        assert await verification.is_whole(DIGESTS[0], layout.blob(DIGESTS[0]))
        assert time.monotonic() - began >= 0.019

    async def test_sizes_that_are_not_noted_are_noted_if_wished(
        self, storage: FilesystemStorage, tmp_path: Path
    ) -> None:
        paths = [tmp_path / layout.blob(digest) for digest in DIGESTS[:2]]
        for path in paths:
            body = path.read_bytes()
            path.unlink()
            path.write_bytes(body)
        paths[1].write_bytes(b"damaged")
        await verification_on(storage).run(DIGESTS, restart=False)
        sizes = [await recorded(storage, digest) for digest in DIGESTS[:2]]
        assert sizes == [None, None]
        noting = Verification(storage, Seen(), Pace(0), notes_sizes=True)
        await noting.run(DIGESTS, restart=False)
        sizes = [await recorded(storage, digest) for digest in DIGESTS[:2]]
        assert sizes == [paths[0].stat().st_size, None]
        assert noting.noted == 1


async def recorded(storage: FilesystemStorage, digest: Digest) -> int | None:
    reader = await storage.open(layout.blob(digest))
    try:
        return reader.recorded_size
    finally:
        reader.close()
