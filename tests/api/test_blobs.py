"""Blobs: end-2 (GET, HEAD) and end-10 (DELETE)."""

import pytest

from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import digest_of


NAME = "team/app"
CONTENT = bytes(range(256)) * 4
DIGEST = digest_of(CONTENT)
LARGE = bytes(range(256)) * 4096
UNKNOWN = digest_of(b"never pushed")


@pytest.fixture
async def stocked(registry: Registry) -> Registry:
    """A registry that has `CONTENT`."""
    await registry.push_blob(NAME, CONTENT)
    return registry


@pytest.mark.parametrize(
    "content", [b"", b"x", CONTENT, LARGE], ids=["empty", "one-byte", "small", "large"]
)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_end_2_what_was_pushed_is_served(
    registry: Registry, content: bytes, algorithm: str
) -> None:
    digest = await registry.push_blob(NAME, content, algorithm)
    got = (await registry.blob(NAME, digest)).expect(200)
    assert got.body == content
    assert got.header("Content-Length") == str(len(content))
    assert got.header("Content-Type") == "application/octet-stream"
    assert got.header("Docker-Content-Digest") == digest
    assert got.header("Etag") == f'"{digest}"'
    assert got.header("Cache-Control") == "max-age=31536000"
    assert got.header("Accept-Ranges") == "bytes"
    head = (await registry.blob(NAME, digest, "HEAD")).expect(200)
    assert sorted(head.headers) == sorted(got.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    ("digest", "status", "code"),
    [
        (UNKNOWN, 404, "BLOB_UNKNOWN"),
        (digest_of(CONTENT, "sha512"), 404, "BLOB_UNKNOWN"),
        ("sha256:zz", 400, "DIGEST_INVALID"),
        (DIGEST.upper(), 400, "DIGEST_INVALID"),
        ("md5:" + "a" * 32, 400, "DIGEST_INVALID"),
        ("nonsense", 400, "DIGEST_INVALID"),
    ],
    ids=["unknown", "other-algorithm", "malformed", "upper-case", "weak", "no-digest"],
)
async def test_end_2_what_is_not_there(
    stocked: Registry, method: str, digest: str, status: int, code: str
) -> None:
    answer = (await stocked.blob(NAME, digest, method)).expect(status)
    if method != "HEAD":
        assert answer.refused(status, code)["detail"]


@pytest.mark.parametrize("name", ["other", "team", "team/app/below"])
async def test_end_2_a_blob_is_of_its_repository_only(stocked: Registry, name: str) -> None:
    assert (await stocked.blob(name, DIGEST)).refused(404, "BLOB_UNKNOWN")["detail"] == DIGEST


class TestRange:
    """RFC 9110, section 14."""

    @pytest.mark.parametrize(
        ("header", "wanted"),
        [
            ("bytes=0-0", range(1)),
            ("bytes=500-1499", range(500, 1024)),
            ("bytes=500-", range(500, 1024)),
            ("bytes=-24", range(1000, 1024)),
            ("bytes=-5000", range(1024)),
            ("bytes=100-199", range(100, 200)),
        ],
    )
    async def test_a_part(self, stocked: Registry, header: str, wanted: range) -> None:
        got = (await stocked.blob(NAME, DIGEST, headers={"Range": header})).expect(206)
        assert got.body == CONTENT[wanted.start : wanted.stop]
        assert got.header("Content-Range") == f"bytes {wanted.start}-{wanted.stop - 1}/1024"
        assert got.header("Docker-Content-Digest") == DIGEST

    @pytest.mark.parametrize(
        "header", ["bytes=1024-", "bytes=5000-10000", "bytes=500-0", "bytes=-0"]
    )
    async def test_a_part_that_is_not_there(self, stocked: Registry, header: str) -> None:
        answer = (await stocked.blob(NAME, DIGEST, headers={"Range": header})).expect(416)
        assert answer.header("Content-Range") == "bytes */1024"
        assert answer.body == b""

    @pytest.mark.parametrize("header", ["bytes=0-1,5-6", "items=0-1", "bytes=x", "0-1", ""])
    async def test_what_we_do_not_understand_is_ignored(
        self, stocked: Registry, header: str
    ) -> None:
        got = (await stocked.blob(NAME, DIGEST, headers={"Range": header})).expect(200)
        assert got.body == CONTENT

    @pytest.mark.parametrize(
        ("condition", "status"),
        [
            (f'"{DIGEST}"', 206),
            (f' "{DIGEST}" ', 206),
            (f'"{UNKNOWN}"', 200),
            (f'W/"{DIGEST}"', 200),
            ("Sat, 29 Oct 1994 19:43:31 GMT", 200),
        ],
    )
    async def test_it_may_be_meant_for_other_content(
        self, stocked: Registry, condition: str, status: int
    ) -> None:
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        (await stocked.blob(NAME, DIGEST, headers=headers)).expect(status)

    async def test_head_tells_the_whole(self, stocked: Registry) -> None:
        head = await stocked.blob(NAME, DIGEST, "HEAD", {"Range": "bytes=0-9"})
        assert head.expect(200).header("Content-Length") == "1024"

    async def test_a_large_part_of_a_large_blob(self, registry: Registry) -> None:
        digest = await registry.push_blob(NAME, LARGE)
        got = await registry.blob(NAME, digest, headers={"Range": "bytes=1-1048574"})
        assert got.expect(206).body == LARGE[1:-1]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (f'"{DIGEST}"', 304),
        (f'W/"{DIGEST}"', 304),
        (DIGEST, 304),
        ("*", 304),
        (f'"{UNKNOWN}", "{DIGEST}"', 304),
        (f'"{UNKNOWN}"', 200),
        ("", 200),
    ],
)
async def test_a_client_that_has_it_is_told_so(
    stocked: Registry, method: str, condition: str, status: int
) -> None:
    answer = await stocked.blob(NAME, DIGEST, method, {"If-None-Match": condition})
    answer.expect(status)
    assert answer.header("Etag") == f'"{DIGEST}"'


class TestDelete:
    """end-10."""

    async def test_a_blob_goes_from_its_repository_only(self, stocked: Registry) -> None:
        await stocked.push_blob("other", CONTENT)
        answer = (await stocked.blob(NAME, DIGEST, "DELETE")).expect(202)
        assert answer.header("Content-Length") == "0"
        (await stocked.blob(NAME, DIGEST)).refused(404, "BLOB_UNKNOWN")
        (await stocked.blob(NAME, DIGEST, "DELETE")).refused(404, "BLOB_UNKNOWN")
        (await stocked.blob("other", DIGEST)).expect(200)

    async def test_every_worker_sees_it_at_once(self, make: MakeRegistry) -> None:
        workers = [make(), make()]
        await workers[0].push_blob(NAME, CONTENT)
        (await workers[1].blob(NAME, DIGEST, "HEAD")).expect(200)
        (await workers[1].blob(NAME, DIGEST, "DELETE")).expect(202)
        (await workers[0].blob(NAME, DIGEST, "HEAD")).expect(404)

    async def test_it_can_be_pushed_again(self, stocked: Registry) -> None:
        (await stocked.blob(NAME, DIGEST, "DELETE")).expect(202)
        await stocked.push_blob(NAME, CONTENT)
        assert (await stocked.blob(NAME, DIGEST)).body == CONTENT

    @pytest.mark.parametrize("digest", [DIGEST, UNKNOWN, "sha256:zz"])
    async def test_it_can_be_switched_off(self, make: MakeRegistry, digest: str) -> None:
        registry = make(delete_enabled=False)
        await registry.push_blob(NAME, CONTENT)
        (await registry.blob(NAME, digest, "DELETE")).refused(405, "UNSUPPORTED")
        (await registry.blob(NAME, DIGEST)).expect(200)
