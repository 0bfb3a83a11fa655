"""Mounting: end-11, a POST that gives a repository a blob of another one."""

import pytest

from tests.api.client import BASE
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import digest_of


CONTENT = b"a layer that many images share"
DIGEST = digest_of(CONTENT)


def target(name: str, digest: str, source: str | None = None) -> str:
    """Return the address of a mount into `name`."""
    query = f"mount={digest.replace(':', '%3A')}"
    if source is not None:
        query += f"&from={source.replace('/', '%2F')}"
    return f"v2/{name}/blobs/uploads/?{query}"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("source", ["team/base", None], ids=["from", "anonymous"])
async def test_end_11_a_blob_is_mounted(
    registry: Registry, source: str | None, algorithm: str
) -> None:
    digest = await registry.push_blob("team/base", CONTENT, algorithm)
    answer = (await registry.send("POST", target("team/app", digest, source))).expect(201)
    assert answer.location == f"{BASE}/v2/team/app/blobs/{digest}"
    assert answer.header("Docker-Content-Digest") == digest
    assert answer.header("Content-Length") == "0"
    assert (await registry.send("GET", answer.location)).body == CONTENT
    (await registry.blob("team/base", digest, "DELETE")).expect(202)
    assert (await registry.blob("team/app", digest)).body == CONTENT


async def test_end_11_mounting_from_itself_changes_nothing(registry: Registry) -> None:
    await registry.push_blob("a", CONTENT)
    (await registry.send("POST", target("a", DIGEST, "a"))).expect(201)
    (await registry.blob("a", DIGEST)).expect(200)


@pytest.mark.parametrize(
    "source",
    ["nothing/here", "without", "UPPER", "a/../team/base", "", "%00"],
    ids=["unknown", "without-the-blob", "no-name", "no-path", "empty", "nul"],
)
async def test_end_11_what_can_not_be_mounted_becomes_an_upload(
    registry: Registry, source: str
) -> None:
    await registry.push_blob("team/base", CONTENT)
    await registry.push_blob("without", b"something else")
    answer = (await registry.send("POST", target("a", DIGEST, source))).expect(202)
    (await registry.blob("a", DIGEST, "HEAD")).expect(404)
    (await registry.finish(answer.location, CONTENT, CONTENT)).expect(201)
    assert (await registry.blob("a", DIGEST)).body == CONTENT


async def test_end_11_a_blob_that_nobody_has_becomes_an_upload(registry: Registry) -> None:
    (await registry.send("POST", target("a", DIGEST))).expect(202)
    (await registry.send("POST", f"{target('a', DIGEST)}&digest={DIGEST}")).expect(202)


@pytest.mark.parametrize("digest", ["", "sha256:zz", "md5:" + "a" * 32])
async def test_end_11_a_digest_that_is_none_is_refused(registry: Registry, digest: str) -> None:
    answer = await registry.send("POST", target("a", digest, "team/base"))
    answer.refused(400, "DIGEST_INVALID")


async def test_end_11_another_worker_sees_it(make: MakeRegistry) -> None:
    workers = [make(), make()]
    await workers[0].push_blob("team/base", CONTENT)
    (await workers[1].send("POST", target("a", DIGEST, "team/base"))).expect(201)
    assert (await workers[0].blob("a", DIGEST)).body == CONTENT
