"""Uploads that several workers take part in, or that survive a restart: no state in one process
that another needs, and bytes are read again only where they came through several.
"""

from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.storage.files import FileReader
from dockyard.storage.filesystem import FilesystemStorage
from tests.api.client import with_query
from tests.api.registry import Registry
from tests.parts.images import digest_of


NAME = "team/app"
CONTENT = bytes(range(256)) * 40
DIGEST = digest_of(CONTENT)
UPLOAD_DATA = "/data"


class WatchedStorage(FilesystemStorage):
    """Counts how often the bytes of uploads are opened for reading."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reread = 0

    @override
    async def open(self, path: str) -> FileReader:
        self.reread += "/_uploads/" in path
        return await super().open(path)


class Worker(Registry):
    def __init__(self, root: Path) -> None:
        self.watched = WatchedStorage(root)
        super().__init__(self.watched)


@pytest.fixture
def workers(tmp_path: Path) -> list[Worker]:
    """Three workers of one registry."""
    return [Worker(tmp_path) for _ in range(3)]


async def push_by_turns(
    workers: list[Worker], turns: tuple[int, ...], *, last: str = "empty", digest: str = DIGEST
) -> None:
    """Push `CONTENT`: who begins, who takes a chunk each, and who finishes."""
    begins, *takes, finishes = turns
    location = (await workers[begins].begin(NAME)).location
    size = len(CONTENT) // (len(takes) + 1)
    for number, turn in enumerate(takes):
        stop = len(CONTENT) if last == "empty" and number == len(takes) - 1 else (number + 1) * size
        chunk = CONTENT[number * size : stop]
        location = (await workers[turn].send("PATCH", location, chunk)).expect(202).location
    body = b"" if last == "empty" else CONTENT[len(takes) * size :]
    target = with_query(location, digest=digest)
    answer = await workers[finishes].send("PUT", target, body)
    if digest != DIGEST and digest != digest_of(CONTENT, "sha512"):
        answer.refused(400, "DIGEST_INVALID")
        return
    answer.expect(201)
    for worker in workers:
        assert (await worker.blob(NAME, digest)).body == CONTENT


@pytest.mark.parametrize(
    ("turns", "last", "reread"),
    [
        pytest.param((0, 0, 0), "empty", 0, id="one-worker"),
        pytest.param((0, 0, 0, 0), "chunk", 0, id="one-worker-last-chunk-with-put"),
        pytest.param((0, 1, 1), "empty", 0, id="begun-elsewhere"),
        pytest.param((0, 1), "chunk", 0, id="begun-elsewhere-whole-in-put"),
        pytest.param((0, 0, 1), "empty", 0, id="finished-elsewhere"),
        pytest.param((0, 1, 2), "empty", 0, id="three-workers-one-chunk"),
        pytest.param((0, 0, 0, 0, 1), "empty", 0, id="all-chunks-by-one-finished-elsewhere"),
        pytest.param((0, 0, 1), "chunk", 1, id="last-chunk-elsewhere"),
        pytest.param((0, 0, 1, 0), "empty", 1, id="chunks-by-turns"),
        pytest.param((0, 0, 1, 2, 0), "chunk", 1, id="everyone-takes-part"),
    ],
)
async def test_bytes_are_read_again_only_where_several_took_them(
    workers: list[Worker], turns: tuple[int, ...], last: str, reread: int
) -> None:
    await push_by_turns(workers, turns, last=last)
    assert sum(worker.watched.reread for worker in workers) == reread


@pytest.mark.parametrize("turns", [(0, 0, 1), (0, 0, 1, 0), (0, 1, 2)], ids=str)
async def test_a_wrong_digest_is_noticed_wherever_the_bytes_came(
    workers: list[Worker], turns: tuple[int, ...]
) -> None:
    await push_by_turns(workers, turns, digest=digest_of(b"other"))
    for digest in (DIGEST, digest_of(b"other")):
        (await workers[0].blob(NAME, digest, "HEAD")).expect(404)


async def test_another_algorithm_than_expected_is_read_again(workers: list[Worker]) -> None:
    await push_by_turns(workers, (0, 0, 1), digest=digest_of(CONTENT, "sha512"))
    assert workers[1].watched.reread == 1


async def test_an_upload_survives_a_restart(tmp_path: Path) -> None:
    before = Worker(tmp_path)
    location = (await before.begin(NAME)).location
    location = (await before.send("PATCH", location, CONTENT[:1000])).location
    after = Worker(tmp_path)
    status = (await after.send("GET", location)).expect(204)
    assert status.header("Range") == "0-999"
    (await after.finish(status.location, CONTENT, CONTENT[1000:])).expect(201)
    assert (await after.blob(NAME, DIGEST)).body == CONTENT
    assert after.watched.reread == 1


async def test_bytes_of_before_a_power_cut_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsynced pages may be lost: then the bytes are not those whose digest was noted."""
    before = Worker(tmp_path)
    location = (await before.begin(NAME)).location
    location = (await before.send("PATCH", location, CONTENT)).expect(202).location
    (data,) = tmp_path.rglob("_uploads/*/data")
    data.write_bytes(bytes(len(CONTENT)))
    monkeypatch.setattr("dockyard.storage.files.boot_epoch", lambda: "after")
    after = Worker(tmp_path)
    (await after.finish(location, CONTENT)).refused(400, "DIGEST_INVALID")
    assert after.watched.reread == 1


@pytest.mark.parametrize("note", [b"", b"nonsense", b"\xff" * 100, b"x" * 5000], ids=len)
async def test_a_note_that_can_not_be_read_is_no_note(tmp_path: Path, note: bytes) -> None:
    before, after = Worker(tmp_path), Worker(tmp_path)
    location = (await before.begin(NAME)).location
    location = (await before.send("PATCH", location, CONTENT)).expect(202).location
    (hashed,) = tmp_path.rglob("_uploads/*/hashed")
    hashed.write_bytes(note)
    (await after.finish(location, CONTENT)).expect(201)
    assert after.watched.reread == 1


async def test_a_client_that_left_one_worker_goes_on_at_another(workers: list[Worker]) -> None:
    location = (await workers[0].begin(NAME)).location
    await workers[0].hang_up("PATCH", location, CONTENT[:1000])
    status = (await workers[1].send("GET", location)).expect(204)
    answer = await workers[1].send("PATCH", status.location, CONTENT[1000:])
    (await workers[0].finish(answer.location, CONTENT)).expect(201)
    assert (await workers[2].blob(NAME, DIGEST)).body == CONTENT


async def test_a_worker_remembers_only_so_many_uploads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockyard.core.uploads.HASHERS", 2)
    worker = Worker(tmp_path)
    begun = [(await worker.begin(NAME)).location for _ in range(4)]
    locations = [(await worker.send("PATCH", location, CONTENT)).location for location in begun]
    for location in locations:
        (await worker.finish(location, CONTENT, b"")).expect(201)
    assert worker.watched.reread == 0  # what it forgot, it had noted
