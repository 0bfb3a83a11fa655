"""Uploads: end-4 (POST), end-5 (PATCH), end-6 (PUT), end-13 (GET) and end-14 (DELETE)."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from dockyard.errors import PathUnknownError
from dockyard.storage import layout
from tests.api.client import BASE, Answer, HangUpError, with_query
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import digest_of


NAME = "team/app"
CONTENT = bytes(range(256)) * 40
DIGEST = digest_of(CONTENT)
UNKNOWN = f"v2/{NAME}/blobs/uploads/{UUID(int=0)}"
OCTETS = {"Content-Type": "application/octet-stream"}


def content_range(chunk: range) -> dict[str, str]:
    return {"Content-Range": f"{chunk.start}-{chunk.stop - 1}"}


async def patch(
    registry: Registry, location: str, chunk: range, *, announced: bool = True
) -> Answer:
    """Send a chunk of `CONTENT`."""
    headers = OCTETS | (content_range(chunk) if announced else {})
    return await registry.send("PATCH", location, CONTENT[chunk.start : chunk.stop], headers)


async def uploads_of(registry: Registry) -> set[str]:
    """Return the uploads that have left something in the storage."""
    try:
        return {entry.name for entry in await registry.storage.list(layout.uploads(NAME))}
    except PathUnknownError:
        return set()


async def assert_pushed(registry: Registry, answer: Answer, digest: str = DIGEST) -> None:
    """Assert that `answer` confirms `CONTENT`, which is served, and no upload is left."""
    answer.expect(201)
    assert answer.location == f"{BASE}/v2/{NAME}/blobs/{digest}"
    assert answer.header("Docker-Content-Digest") == digest
    assert answer.header("Content-Length") == "0"
    assert (await registry.send("GET", answer.location)).body == CONTENT
    assert await uploads_of(registry) == set()


class TestBegin:
    async def test_end_4_an_upload_begins(self, registry: Registry) -> None:
        answer = await registry.begin(NAME)
        identifier = answer.header("Docker-Upload-UUID")
        assert identifier is not None
        assert str(UUID(identifier)) == identifier
        assert answer.location.startswith(f"{BASE}/v2/{NAME}/blobs/uploads/{identifier}")
        assert answer.header("Range") == "0-0"
        assert answer.header("Content-Length") == "0"
        assert answer.header("OCI-Chunk-Min-Length") == "1"

    async def test_uploads_have_different_names(self, registry: Registry) -> None:
        names = {(await registry.begin(NAME)).location for _ in range(5)}
        assert len(names) == 5

    async def test_the_time_of_the_start_is_where_distribution_looks(
        self, registry: Registry
    ) -> None:
        identifier = (await registry.begin(NAME)).header("Docker-Upload-UUID") or ""
        path = layout.upload_started(NAME, identifier)
        started = (await registry.storage.get(path, 100)).decode()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", started)

    @pytest.mark.parametrize("algorithm", ["md5", "SHA256", "../x", "sha384"])
    async def test_an_algorithm_we_do_not_verify_is_refused(
        self, registry: Registry, algorithm: str
    ) -> None:
        target = f"v2/{NAME}/blobs/uploads/?digest-algorithm={algorithm}"
        (await registry.send("POST", target)).refused(400, "DIGEST_INVALID")
        assert await uploads_of(registry) == set()

    async def test_no_algorithm_is_the_usual_one(self, registry: Registry) -> None:
        location = (await registry.begin(NAME, digest_algorithm="")).location
        (await registry.finish(location, CONTENT, CONTENT)).expect(201)


class TestSinglePost:
    """end-4b: the whole blob in the first request, which distribution does not take."""

    @pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in-pieces"])
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    async def test_it_is_taken(self, registry: Registry, algorithm: str, *, pieces: bool) -> None:
        digest = digest_of(CONTENT, algorithm)
        body = [CONTENT[:10], CONTENT[10:]] if pieces else CONTENT
        target = f"v2/{NAME}/blobs/uploads/?digest={digest}"
        answer = await registry.send("POST", target, body, OCTETS)
        await assert_pushed(registry, answer, digest)

    @pytest.mark.parametrize(
        "digest",
        [digest_of(b"other"), "sha256:zz", "", "md5:" + "a" * 32],
        ids=["of-other-bytes", "malformed", "empty", "weak"],
    )
    async def test_a_digest_that_is_wrong_is_refused(self, registry: Registry, digest: str) -> None:
        answer = await registry.send("POST", f"v2/{NAME}/blobs/uploads/?digest={digest}", CONTENT)
        answer.refused(400, "DIGEST_INVALID")
        assert await uploads_of(registry) == set()
        (await registry.blob(NAME, DIGEST, "HEAD")).expect(404)

    async def test_a_client_that_leaves_leaves_nothing_behind(self, registry: Registry) -> None:
        target = f"/v2/{NAME}/blobs/uploads/?digest={DIGEST}"
        await registry.hang_up("POST", target, CONTENT[:100])
        assert await uploads_of(registry) == set()


class TestMonolithic:
    """POST, then PUT with everything."""

    @pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in-pieces"])
    async def test_end_6_a_blob_is_taken(self, registry: Registry, *, pieces: bool) -> None:
        location = (await registry.begin(NAME)).location
        body = [CONTENT[:1], b"", CONTENT[1:]] if pieces else CONTENT
        await assert_pushed(registry, await registry.finish(location, CONTENT, body, OCTETS))

    @pytest.mark.parametrize("body", [b"", [b""], []], ids=["length-0", "empty-piece", "no-piece"])
    async def test_end_6_the_empty_blob_is_taken(self, registry: Registry, body: bytes) -> None:
        location = (await registry.begin(NAME)).location
        (await registry.finish(location, b"", body)).expect(201)
        assert (await registry.blob(NAME, digest_of(b""))).expect(200).body == b""

    async def test_end_6_pushing_again_is_harmless(self, registry: Registry) -> None:
        for _ in range(2):
            location = (await registry.begin(NAME)).location
            await assert_pushed(registry, await registry.finish(location, CONTENT, CONTENT))

    async def test_end_6_a_wrong_digest_ends_the_upload(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        answer = await registry.finish(location, b"other", CONTENT)
        error = answer.refused(400, "DIGEST_INVALID")
        assert error["detail"] == f"promised {digest_of(b'other')}, received {DIGEST}"
        for digest in (DIGEST, digest_of(b"other")):
            (await registry.blob(NAME, digest, "HEAD")).expect(404)
        assert await uploads_of(registry) == set()

    @pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:zz", "?other=1"])
    async def test_end_6_a_missing_digest_keeps_the_upload(
        self, registry: Registry, query: str
    ) -> None:
        location = (await registry.begin(NAME)).location
        answer = await registry.send("PUT", location + query, CONTENT)
        answer.refused(400, "DIGEST_INVALID")
        await assert_pushed(registry, await registry.finish(location, CONTENT, CONTENT))


class TestChunked:
    @pytest.mark.parametrize("announced", [True, False], ids=["content-range", "without"])
    @pytest.mark.parametrize("last", ["own-patch", "with-put"])
    async def test_end_5_a_blob_comes_in_chunks(
        self, registry: Registry, last: str, *, announced: bool
    ) -> None:
        location = (await registry.begin(NAME)).location
        chunks = [range(1024), range(1024, 5000), range(5000, len(CONTENT))]
        for chunk in chunks[: 3 if last == "own-patch" else 2]:
            answer = (await patch(registry, location, chunk, announced=announced)).expect(202)
            assert answer.header("Range") == f"0-{chunk.stop - 1}"
            assert answer.header("Content-Length") == "0"
            assert (answer.header("Docker-Upload-UUID") or "?") in answer.location
            location = answer.location
        if last == "own-patch":
            answer = await registry.finish(location, CONTENT)
        else:
            headers = content_range(chunks[2]) if announced else {}
            answer = await registry.finish(location, CONTENT, CONTENT[5000:], headers)
        await assert_pushed(registry, answer)

    async def test_end_5_a_stream_without_length_is_taken(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        answer = await registry.send("PATCH", location, [CONTENT[:7], CONTENT[7:]])
        assert answer.expect(202).header("Range") == f"0-{len(CONTENT) - 1}"
        await assert_pushed(registry, await registry.finish(answer.location, CONTENT))

    @pytest.mark.parametrize(
        "header", ["0-1023", "bytes 0-1023/*", "bytes 0-1023/10240", "bytes=0-1023"]
    )
    async def test_end_5_each_way_to_announce_a_chunk(
        self, registry: Registry, header: str
    ) -> None:
        location = (await registry.begin(NAME)).location
        answer = await registry.send("PATCH", location, CONTENT[:1024], {"Content-Range": header})
        assert answer.expect(202).header("Range") == "0-1023"

    @pytest.mark.parametrize(
        "content_type", ["", "application/octet-stream", "text/plain", "application/x-tar"]
    )
    async def test_end_5_the_content_type_does_not_matter(
        self, registry: Registry, content_type: str
    ) -> None:
        location = (await registry.begin(NAME)).location
        headers = {"Content-Type": content_type} if content_type else {}
        (await registry.send("PATCH", location, CONTENT, headers)).expect(202)

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    @pytest.mark.parametrize(
        "chunk", [range(1024), range(512, 1536), range(2048, 3072)], ids=["back", "into", "ahead"]
    )
    async def test_end_5_end_6_a_chunk_out_of_order_keeps_the_upload(
        self, registry: Registry, method: str, chunk: range
    ) -> None:
        location = (await registry.begin(NAME)).location
        location = (await patch(registry, location, range(1024))).location
        target = with_query(location, digest=DIGEST) if method == "PUT" else location
        body = CONTENT[chunk.start : chunk.stop]
        answer = await registry.send(method, target, body, content_range(chunk))
        error = answer.refused(416, "RANGE_INVALID")
        assert error["message"] == "invalid content range"
        assert answer.header("Range") == "0-1023"
        # The client asks at the address it just used, query and all.
        status = (await registry.send("GET", target)).expect(204)
        assert status.header("Range") == "0-1023"
        rest = range(1024, len(CONTENT))
        headers = content_range(rest)
        last = await registry.finish(status.location, CONTENT, CONTENT[1024:], headers)
        await assert_pushed(registry, last)

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    async def test_end_5_end_6_an_address_of_before_is_out_of_order_too(
        self, registry: Registry, method: str
    ) -> None:
        first = (await registry.begin(NAME)).location
        second = (await patch(registry, first, range(1024), announced=False)).location
        target = with_query(first, digest=DIGEST) if method == "PUT" else first
        answer = await registry.send(method, target, CONTENT[:1024])
        answer.refused(416, "RANGE_INVALID")
        assert (await registry.send("GET", first)).expect(204).header("Range") == "0-1023"
        await assert_pushed(registry, await registry.finish(second, CONTENT, CONTENT[1024:]))

    async def test_end_5_an_announced_chunk_counts_more_than_the_address(
        self, registry: Registry
    ) -> None:
        first = (await registry.begin(NAME)).location
        await patch(registry, first, range(1024))
        answer = (await patch(registry, first, range(1024, 2048))).expect(202)
        assert answer.header("Range") == "0-2047"

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    @pytest.mark.parametrize(
        ("header", "status", "code"),
        [
            ("0-1000", 400, "SIZE_INVALID"),
            ("0-2000", 400, "SIZE_INVALID"),
            ("5-4", 416, "RANGE_INVALID"),
            ("nonsense", 416, "RANGE_INVALID"),
            ("bytes */1024", 416, "RANGE_INVALID"),
            ("-1", 416, "RANGE_INVALID"),
        ],
    )
    async def test_end_5_end_6_an_announcement_that_is_wrong_keeps_the_upload(
        self, registry: Registry, method: str, header: str, status: int, code: str
    ) -> None:
        location = (await registry.begin(NAME)).location
        target = with_query(location, digest=DIGEST) if method == "PUT" else location
        answer = await registry.send(method, target, CONTENT[:1024], {"Content-Range": header})
        answer.refused(status, code)
        assert (await registry.send("GET", location)).expect(204).header("Range") == "0-0"
        await assert_pushed(registry, await registry.finish(location, CONTENT, CONTENT))

    async def test_end_5_a_chunk_without_length_is_taken_as_announced(
        self, registry: Registry
    ) -> None:
        location = (await registry.begin(NAME)).location
        pieces = [CONTENT[:512], CONTENT[512:1024]]
        answer = await registry.send("PATCH", location, pieces, content_range(range(1024)))
        assert answer.expect(202).header("Range") == "0-1023"


class TestAddress:
    """The upload's state is in the path of its `Location`."""

    async def test_the_query_may_be_dropped(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        assert urlsplit(location).query == ""
        location = (await patch(registry, location, range(1024))).location
        assert urlsplit(location).query == ""
        assert location.endswith(".1024")

    async def test_the_query_may_have_anything(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        target = with_query(location, _state="of-another-registry", x="y")
        (await patch(registry, target, range(1024))).expect(202)

    async def test_the_offset_may_be_left_out(self, registry: Registry) -> None:
        identifier = (await registry.begin(NAME)).header("Docker-Upload-UUID")
        location = f"/v2/{NAME}/blobs/uploads/{identifier}"
        for chunk in (range(1024), range(1024, len(CONTENT))):
            (await patch(registry, location, chunk, announced=False)).expect(202)
        await assert_pushed(registry, await registry.finish(location, CONTENT))

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "PUT", "DELETE"])
    @pytest.mark.parametrize(
        "upload",
        [str(UUID(int=0)), f"{UUID(int=0)}.5", "nonsense", f"{UUID(int=0)}.x", "..", "%2e%2e"],
    )
    async def test_an_upload_that_is_none(
        self, registry: Registry, method: str, upload: str
    ) -> None:
        target = f"v2/{NAME}/blobs/uploads/{upload}?digest={DIGEST}"
        answer = (await registry.send(method, target, b"x")).expect(404)
        if method != "HEAD":
            answer.refused(404, "BLOB_UPLOAD_UNKNOWN")

    @pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
    async def test_an_upload_is_of_its_repository_only(
        self, registry: Registry, method: str
    ) -> None:
        location = (await registry.begin(NAME)).location
        elsewhere = with_query(location.replace(NAME, "other/app"), digest=DIGEST)
        answer = await registry.send(method, elsewhere, CONTENT)
        answer.refused(404, "BLOB_UPLOAD_UNKNOWN")
        await assert_pushed(registry, await registry.finish(location, CONTENT, CONTENT))


class TestStatus:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(("received", "shown"), [(0, "0-0"), (1, "0-0"), (1024, "0-1023")])
    async def test_end_13_it_is_told(
        self, registry: Registry, method: str, received: int, shown: str
    ) -> None:
        location = (await registry.begin(NAME)).location
        if received:
            location = (await patch(registry, location, range(received))).location
        answer = (await registry.send(method, location)).expect(204)
        assert answer.header("Range") == shown
        assert answer.location == location
        assert (answer.header("Docker-Upload-UUID") or "?") in location

    async def test_end_13_a_finished_upload_is_unknown(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        (await registry.finish(location, CONTENT, CONTENT)).expect(201)
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            answer = await registry.send(method, with_query(location, digest=DIGEST), b"x")
            answer.refused(404, "BLOB_UPLOAD_UNKNOWN")


class TestCancel:
    async def test_end_14_it_is_gone_with_its_bytes(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        location = (await patch(registry, location, range(1024))).location
        assert (await registry.send("DELETE", location)).expect(204).body == b""
        (await registry.send("GET", location)).refused(404, "BLOB_UPLOAD_UNKNOWN")
        (await registry.send("DELETE", location)).refused(404, "BLOB_UPLOAD_UNKNOWN")
        assert await uploads_of(registry) == set()

    async def test_end_14_it_does_not_need_deletion_switched_on(self, make: MakeRegistry) -> None:
        registry = make(delete_enabled=False)
        location = (await registry.begin(NAME)).location
        (await registry.send("DELETE", location)).expect(204)

    async def test_end_14_others_go_on(self, registry: Registry) -> None:
        first = (await registry.begin(NAME)).location
        second = (await registry.begin(NAME)).location
        (await registry.send("DELETE", first)).expect(204)
        await assert_pushed(registry, await registry.finish(second, CONTENT, CONTENT))


class TestSha512:
    @pytest.mark.parametrize("announced", ["sha512", ""], ids=["announced", "by-surprise"])
    @pytest.mark.parametrize("chunked", [False, True], ids=["whole", "in-chunks"])
    async def test_a_blob_is_taken_under_it(
        self, registry: Registry, announced: str, *, chunked: bool
    ) -> None:
        digest = digest_of(CONTENT, "sha512")
        location = (await registry.begin(NAME, digest_algorithm=announced)).location
        body = CONTENT
        if chunked:
            location = (await patch(registry, location, range(1024))).location
            assert location.endswith(".sha512") == bool(announced)
            body = CONTENT[1024:]
        answer = await registry.send("PUT", with_query(location, digest=digest), body)
        await assert_pushed(registry, answer, digest)
        (await registry.blob(NAME, DIGEST, "HEAD")).expect(404)

    async def test_an_upload_announced_as_sha512_may_end_as_sha256(
        self, registry: Registry
    ) -> None:
        location = (await registry.begin(NAME, digest_algorithm="sha512")).location
        await assert_pushed(registry, await registry.finish(location, CONTENT, CONTENT))

    async def test_a_wrong_digest_is_noticed(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        target = with_query(location, digest=digest_of(b"other", "sha512"))
        (await registry.send("PUT", target, CONTENT)).refused(400, "DIGEST_INVALID")


class TestClientsThatLeave:
    async def test_what_arrived_stays_and_the_client_goes_on(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        await registry.hang_up("PATCH", location, CONTENT[:600], CONTENT[600:1000])
        status = (await registry.send("GET", location)).expect(204)
        assert status.header("Range") == "0-999"
        rest = range(1000, len(CONTENT))
        location = (await patch(registry, status.location, rest)).expect(202).location
        await assert_pushed(registry, await registry.finish(location, CONTENT))

    async def test_within_the_last_request_too(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        await registry.hang_up("PUT", with_query(location, digest=DIGEST), CONTENT[:1000])
        (await registry.blob(NAME, DIGEST, "HEAD")).expect(404)
        status = (await registry.send("GET", location)).expect(204)
        last = await registry.finish(status.location, CONTENT, CONTENT[1000:])
        await assert_pushed(registry, last)

    async def test_before_the_first_byte(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        await registry.hang_up("PATCH", location)
        assert (await registry.send("GET", location)).expect(204).header("Range") == "0-0"
        await assert_pushed(registry, await registry.finish(location, CONTENT, CONTENT))


class TestTwoWritersAtOnce:
    """Retries of a proxy, or a client that lost patience: one writes, the other hears 409."""

    async def test_the_second_is_refused_and_changes_nothing(self, make: MakeRegistry) -> None:
        workers = [make(), make()]
        location = (await workers[0].begin(NAME)).location
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow_body() -> AsyncIterator[bytes]:
            yield CONTENT[:1000]
            arrived.set()
            await go_on.wait()
            yield CONTENT[1000:]

        first = asyncio.create_task(workers[0].send("PATCH", location, slow_body()))
        await arrived.wait()
        for worker in workers:
            for method in ("PATCH", "PUT"):
                target = with_query(location, digest=DIGEST)
                answer = await worker.send(method, target, CONTENT)
                error = answer.refused(409, "BLOB_UPLOAD_INVALID")
                assert "another request is writing" in error["detail"]
        go_on.set()
        answer = (await first).expect(202)
        assert answer.header("Range") == f"0-{len(CONTENT) - 1}"
        await assert_pushed(workers[1], await workers[1].finish(answer.location, CONTENT))

    async def test_a_writer_that_leaves_makes_way(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        leave = asyncio.Event()
        arrived = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield CONTENT[:1000]
            arrived.set()
            await leave.wait()
            raise HangUpError

        first = asyncio.create_task(
            registry._exchange("PATCH", location, body(), ())  # noqa: SLF001 -- may go unanswered
        )
        await arrived.wait()
        leave.set()
        assert await first is None
        status = await registry.send("GET", location)
        (await patch(registry, status.location, range(1000, 2000))).expect(202)

    async def test_a_cancelled_request_makes_way(self, registry: Registry) -> None:
        location = (await registry.begin(NAME)).location
        arrived = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield CONTENT[:1000]
            arrived.set()
            await asyncio.Event().wait()

        first = asyncio.create_task(registry.send("PATCH", location, body()))
        await arrived.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        status = (await registry.send("GET", location)).expect(204)
        assert status.header("Range") == "0-999"
        last = await registry.finish(status.location, CONTENT, CONTENT[1000:])
        await assert_pushed(registry, last)

    async def test_the_same_blob_by_many_uploads_at_once(self, make: MakeRegistry) -> None:
        workers = [make(), make(), make()]

        async def push(number: int) -> None:
            await workers[number % 3].push_blob(NAME, CONTENT)

        await asyncio.gather(*(push(number) for number in range(12)))
        assert (await workers[0].blob(NAME, DIGEST)).body == CONTENT
        assert await uploads_of(workers[0]) == set()
