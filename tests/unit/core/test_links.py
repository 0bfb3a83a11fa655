import pytest
from structlog.testing import capture_logs

from dockyard.core.links import LinkDamagedError, read_link, write_link
from dockyard.errors import PathUnknownError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage.inmemory import InMemoryStorage


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_link_round_trips(memory: InMemoryStorage, algorithm: str) -> None:
    digest = Digest.of(b"x", algorithm)
    await write_link(memory, "a/link", digest)
    assert await read_link(memory, "a/link") == digest


async def test_a_link_is_the_digest_without_newline(memory: InMemoryStorage) -> None:
    digest = Digest.of(b"x")
    await write_link(memory, "a/link", digest)
    assert await memory.get("a/link", 1000) == str(digest).encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" ", b"\n\n"])
async def test_white_space_at_the_end_is_passed_over(memory: InMemoryStorage, end: bytes) -> None:
    digest = Digest.of(b"x")
    await memory.put("link", str(digest).encode() + end)
    assert await read_link(memory, "link") == digest


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"sha256:",
        b"sha256:" + b"a" * 63,
        b" sha256:" + b"a" * 64,
        b"\xff\x00",
        b"x" * 99,
    ],
)
async def test_what_is_no_digest_is_damage_and_logged(
    memory: InMemoryStorage, content: bytes
) -> None:
    await memory.put("a/link", content)
    with capture_logs() as lines, pytest.raises(LinkDamagedError) as caught:
        await read_link(memory, "a/link")
    assert caught.value.path == "a/link"
    (line,) = lines
    assert line["log_level"] == "error"
    assert line["path"] == "a/link"
    assert str(len(content)) in line["damage"]


async def test_a_link_that_is_too_long_is_no_link(memory: InMemoryStorage) -> None:
    await memory.put("a/link", b"x" * 5000)
    with pytest.raises(StorageError):
        await read_link(memory, "a/link")


async def test_no_link(memory: InMemoryStorage) -> None:
    with pytest.raises(PathUnknownError):
        await read_link(memory, "a/link")
