"""Pushing manifests: end-7 (PUT)."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from dockyard.core.manifests import MANIFEST_LIMIT
from dockyard.http.manifests import TAGS_LIMIT
from dockyard.http.messages import QUERY_FIELDS
from dockyard.oci import mediatype
from tests.api.client import BASE, Answer
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import Image, artifact, digest_of, image, index, manifest


NAME = "team/app"
OCI = image("oci")
DOCKER = image("docker", docker=True)
OTHER = image("other")
UNKNOWN = digest_of(b"never pushed")


@pytest.fixture
async def stocked(registry: Registry) -> Registry:
    """A registry with the blobs of three images in `NAME`, but no manifest."""
    for top in (OCI, DOCKER, OTHER):
        for blob in top.blobs:
            await registry.push_blob(NAME, blob.body)
    return registry


async def put(registry: Registry, reference: str, top: Image, **headers: str) -> Answer:
    content = top.manifest
    return await registry.put_manifest(NAME, reference, content.body, content.media_type, **headers)


@pytest.mark.parametrize("reference", ["v1", OCI.digest], ids=["tag", "digest"])
async def test_end_7_a_manifest_is_taken(stocked: Registry, reference: str) -> None:
    answer = (await put(stocked, reference, OCI)).expect(201)
    assert answer.location == f"{BASE}/v2/{NAME}/manifests/{OCI.digest}"
    assert answer.header("Docker-Content-Digest") == OCI.digest
    assert answer.body == b""
    assert answer.header("OCI-Subject") is None
    assert answer.all("OCI-Tag") == []
    (await stocked.manifest(NAME, reference)).expect(200)


async def test_end_7_the_body_may_come_in_chunks(stocked: Registry) -> None:
    body = OCI.manifest.body
    pieces = [body[:1], b"", body[1:100], body[100:]]
    answer = await stocked.put_manifest(NAME, "v1", pieces, OCI.manifest.media_type)
    answer.expect(201)
    assert (await stocked.manifest(NAME, "v1")).body == body


async def test_end_7_pushing_again_is_harmless(stocked: Registry) -> None:
    for _ in range(2):
        (await put(stocked, "v1", OCI)).expect(201)
    (await put(stocked, "v1", DOCKER)).expect(201)
    got = await stocked.manifest(NAME, "v1")
    assert got.header("Docker-Content-Digest") == DOCKER.digest
    (await stocked.manifest(NAME, OCI.digest)).expect(200)


async def test_end_7_a_client_that_leaves_has_pushed_nothing(stocked: Registry) -> None:
    half = OCI.manifest.body[:50]
    await stocked.hang_up("PUT", f"v2/{NAME}/manifests/v1", half)
    (await stocked.manifest(NAME, "v1")).refused(404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("reference", "body", "content_type", "says"),
    [
        pytest.param(UNKNOWN, OCI.manifest.body, "", None, id="digest-of-other-bytes"),
        pytest.param("sha256:baddigeststring", OCI.manifest.body, "", None, id="digest-malformed"),
        pytest.param("v1", b"", "", "not JSON", id="empty"),
        pytest.param("v1", b"[]", "", "not a JSON object", id="list"),
        pytest.param("v1", b"{}", "", "type is unknown", id="no-type"),
        pytest.param(
            "v1",
            OCI.manifest.body,
            mediatype.DOCKER_MANIFEST,
            "send the same value",
            id="two-types",
        ),
        pytest.param(
            "v1",
            b'{"mediaType": "a/b\\r\\nSet-Cookie: c"}',
            "",
            "not a media type",
            id="type-with-line-break",
        ),
        pytest.param("v1", b'{"schemaVersion": 1}', "", "skopeo copy --format v2s2", id="schema-1"),
        pytest.param(
            "v1", b"{}", mediatype.DOCKER_SCHEMA1_SIGNED, "Docker 1.10 or later", id="schema-1-type"
        ),
    ],
)
async def test_end_7_what_can_not_be_a_manifest_is_refused(
    stocked: Registry, reference: str, body: bytes, content_type: str, says: str | None
) -> None:
    answer = await stocked.put_manifest(NAME, reference, body, content_type)
    if says is None:
        answer.refused(400, "DIGEST_INVALID")
    else:
        assert says in answer.refused(400, "MANIFEST_INVALID")["message"]
    (await stocked.send("GET", f"v2/{NAME}/tags/list")).refused(404, "NAME_UNKNOWN")


class TestReferences:
    async def test_each_missing_blob_is_told_once(self, registry: Registry) -> None:
        config, *layers = OCI.blobs
        await registry.push_blob(NAME, layers[0].body)
        answer = (await put(registry, "v1", OCI)).expect(400)
        errors = answer.errors()
        assert {error["code"] for error in errors} == {"MANIFEST_BLOB_UNKNOWN"}
        assert [error["detail"] for error in errors] == [config.digest, layers[1].digest]
        (await registry.manifest(NAME, "v1")).refused(404, "MANIFEST_UNKNOWN")

    async def test_a_blob_named_twice_is_missed_once(self, registry: Registry) -> None:
        blob = OCI.blobs[0].descriptor()
        top = manifest(mediatype.OCI_MANIFEST, config=blob, layers=[blob, blob])
        answer = await registry.put_manifest(NAME, "v1", top.body)
        assert len(answer.expect(400).errors()) == 1

    async def test_a_blob_of_another_repository_is_missing(self, registry: Registry) -> None:
        for blob in OCI.blobs:
            await registry.push_blob("elsewhere", blob.body)
        assert len((await put(registry, "v1", OCI)).expect(400).errors()) == len(OCI.blobs)

    async def test_children_must_be_there(self, stocked: Registry) -> None:
        top = index([OCI, DOCKER])
        (await put(stocked, OCI.digest, OCI)).expect(201)
        error = (await put(stocked, "v1", top)).refused(400, "MANIFEST_BLOB_UNKNOWN")
        assert error["detail"] == DOCKER.digest
        (await put(stocked, DOCKER.digest, DOCKER)).expect(201)
        (await put(stocked, "v1", top)).expect(201)

    async def test_a_layer_that_clients_fetch_elsewhere_needs_not_be_there(
        self, stocked: Registry
    ) -> None:
        layer = {
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "digest": UNKNOWN,
            "size": 5,
            "urls": ["https://store.example.com/layer"],
        }
        config = OCI.blobs[0].descriptor()
        top = manifest(mediatype.OCI_MANIFEST, config=config, layers=[layer])
        (await stocked.put_manifest(NAME, "v1", top.body)).expect(201)
        layer["urls"] = []
        top = manifest(mediatype.OCI_MANIFEST, config=config, layers=[layer])
        error = (await stocked.put_manifest(NAME, "v1", top.body)).refused(
            400, "MANIFEST_BLOB_UNKNOWN"
        )
        assert error["detail"] == UNKNOWN


class TestSubject:
    """OCI-Subject, which tells clients that they need no referrers tag."""

    @pytest.mark.parametrize("present", [True, False], ids=["present", "missing"])
    @pytest.mark.parametrize("kind", ["image", "index", "artifact", "unknown"])
    async def test_it_is_confirmed_whether_or_not_it_is_there(
        self, registry: Registry, kind: str, *, present: bool
    ) -> None:
        if present:
            await registry.push(NAME, OCI, "v1")
        subject = OCI.manifest.descriptor()
        top = {
            "image": image("refers", subject=subject),
            "index": index([], subject=subject, artifactType="a/b"),
            "artifact": artifact("refers", subject=subject),
            "unknown": Image(manifest("application/vnd.example+json", subject=subject)),
        }[kind]
        for blob in top.blobs:
            await registry.push_blob(NAME, blob.body)
        for reference in (top.digest, "tag"):
            answer = (await put(registry, reference, top)).expect(201)
            assert answer.header("OCI-Subject") == OCI.digest


class TestTags:
    """`?tag=`, which points tags to the manifest in the same request."""

    async def test_each_is_confirmed(self, stocked: Registry) -> None:
        tags = [f"v{number}" for number in range(10)]
        query = "&".join(f"tag={tag}" for tag in tags)
        answer = (await put(stocked, f"{OCI.digest}?{query}", OCI)).expect(201)
        assert answer.all("OCI-Tag") == tags
        for tag in tags:
            got = await stocked.manifest(NAME, tag)
            assert got.header("Docker-Content-Digest") == OCI.digest

    async def test_they_add_to_the_tag_of_the_address(self, stocked: Registry) -> None:
        answer = (await put(stocked, "v1?tag=v2&tag=v2&tag=v1", OCI)).expect(201)
        assert answer.all("OCI-Tag") == ["v2", "v1"]
        listed = await stocked.send("GET", f"v2/{NAME}/tags/list")
        assert listed.json()["tags"] == ["v1", "v2"]

    @pytest.mark.parametrize("tag", ["", "-v1", "a%2Fb", "a:b", "t" * 129, "%00", "%FF"])
    async def test_what_is_no_tag_is_refused_before_anything_is_stored(
        self, stocked: Registry, tag: str
    ) -> None:
        answer = await put(stocked, f"{OCI.digest}?tag=good&tag={tag}", OCI)
        answer.refused(400, "TAG_INVALID")
        (await stocked.manifest(NAME, OCI.digest)).refused(404, "MANIFEST_UNKNOWN")

    @pytest.mark.parametrize(
        ("count", "status"), [(TAGS_LIMIT, 201), (TAGS_LIMIT + 1, 414), (QUERY_FIELDS + 1, 414)]
    )
    async def test_there_may_be_only_so_many(
        self, stocked: Registry, count: int, status: int
    ) -> None:
        query = "&".join(["tag=same"] * count)
        answer = (await put(stocked, f"{OCI.digest}?{query}", OCI)).expect(status)
        if status == 414:
            assert "at most" in answer.errors()[0]["message"] or "512" in answer.body.decode()
            (await stocked.manifest(NAME, OCI.digest)).expect(404)


class TestSize:
    """413, of which distribution makes 400."""

    async def test_a_body_that_announces_too_much_is_not_read(self, registry: Registry) -> None:
        read: list[bytes] = []

        async def body() -> Any:  # noqa: ANN401 -- an async iterator
            read.append(b"x")
            yield b"x"

        answer = await registry.send(
            "PUT",
            f"v2/{NAME}/manifests/v1",
            body(),
            {"content-length": str(MANIFEST_LIMIT + 1)},
        )
        error = answer.refused(413, "MANIFEST_INVALID")
        assert str(MANIFEST_LIMIT) in error["message"]
        assert read == []

    async def test_a_body_in_chunks_is_read_up_to_the_limit(self, registry: Registry) -> None:
        read: list[int] = []

        async def body() -> Any:  # noqa: ANN401 -- an async iterator
            for _ in range(100):
                read.append(1 << 20)
                yield b" " * (1 << 20)

        answer = await registry.send("PUT", f"v2/{NAME}/manifests/v1", body())
        answer.refused(413, "MANIFEST_INVALID")
        assert sum(read) == MANIFEST_LIMIT + (1 << 20)


class TestConditions:
    """`If-Match` and `If-None-Match` on a tag: two jobs can't silently overwrite each other."""

    @pytest.mark.parametrize(
        ("header", "before", "after"),
        [
            pytest.param({"if_match": f'"{OCI.digest}"'}, OCI, 201, id="points-there"),
            pytest.param({"if_match": OCI.digest}, OCI, 201, id="bare"),
            pytest.param({"if_match": f'"{UNKNOWN}", "{OCI.digest}"'}, OCI, 201, id="one-of"),
            pytest.param({"if_match": "*"}, OCI, 201, id="exists"),
            pytest.param({"if_match": f'"{UNKNOWN}"'}, OCI, 412, id="points-elsewhere"),
            pytest.param({"if_match": f'"{OCI.digest}"'}, None, 412, id="is-not-there"),
            pytest.param({"if_match": "*"}, None, 412, id="any-but-is-not-there"),
            pytest.param({"if_match": ""}, OCI, 412, id="matches-nothing"),
            pytest.param({"if_none_match": "*"}, None, 201, id="must-be-new-and-is"),
            pytest.param({"if_none_match": "*"}, OCI, 412, id="must-be-new-and-is-not"),
            pytest.param({"if_none_match": f'"{OCI.digest}"'}, OCI, 412, id="must-differ"),
            pytest.param({"if_none_match": f'"{UNKNOWN}"'}, OCI, 201, id="differs"),
            pytest.param(
                {"if_match": f'"{OCI.digest}"', "if_none_match": f'"{OCI.digest}"'},
                OCI,
                412,
                id="contradiction",
            ),
        ],
    )
    async def test_a_tag_moves_only_if_they_hold(
        self, stocked: Registry, header: dict[str, str], before: Image | None, after: int
    ) -> None:
        if before is not None:
            (await put(stocked, "v1", before)).expect(201)
        answer = (await put(stocked, "v1", OTHER, **header)).expect(after)
        moved = await stocked.manifest(NAME, "v1")
        if after == 201:
            assert moved.header("Docker-Content-Digest") == OTHER.digest
            return
        error = answer.refused(412, "TAG_INVALID")
        current = None if before is None else before.digest
        assert error["detail"] == {"tag": "v1", "current": current}
        assert moved.header("Docker-Content-Digest") == current

    async def test_the_condition_may_be_on_several_lines(self, stocked: Registry) -> None:
        (await put(stocked, "v1", OCI)).expect(201)
        headers = [
            ("content-type", OTHER.manifest.media_type),
            ("if-none-match", f'"{UNKNOWN}"'),
            ("if-none-match", f'"{OCI.digest}"'),
        ]
        target = f"v2/{NAME}/manifests/v1"
        answer = await stocked.send("PUT", target, OTHER.manifest.body, headers)
        answer.refused(412, "TAG_INVALID")

    async def test_of_several_tags_the_first_is_meant(self, stocked: Registry) -> None:
        (await put(stocked, "v2", OCI)).expect(201)
        answer = await put(stocked, "v1?tag=v2", OTHER, if_none_match="*")
        answer.expect(201)

    async def test_without_a_tag_there_is_nothing_to_check(self, stocked: Registry) -> None:
        answer = await put(stocked, OTHER.digest, OTHER, if_match=f'"{UNKNOWN}"')
        answer.expect(201)

    async def test_of_many_jobs_with_one_condition_one_wins(self, make: MakeRegistry) -> None:
        workers = [make() for _ in range(3)]
        base, *tops = [
            Image(manifest(mediatype.OCI_INDEX, manifests=[], annotations={"job": f"{number}"}))
            for number in range(10)
        ]
        (await put(workers[0], "v1", base)).expect(201)
        answers = await asyncio.gather(
            *(
                put(workers[number % 3], "v1", top, if_match=f'"{base.digest}"')
                for number, top in enumerate(tops)
            )
        )
        assert sorted(answer.status for answer in answers) == [201] + [412] * (len(tops) - 1)
        (winner,) = (answer for answer in answers if answer.status == 201)
        got = await workers[0].manifest(NAME, "v1")
        assert got.header("Docker-Content-Digest") == winner.header("Docker-Content-Digest")


class TestHostileBodies:
    """Whatever is pushed: a refusal that says why, never a fault of ours."""

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 50_000,
            b'{"a":' * 50_000,
            b"[]" * 150_000,
            b'{"mediaType": NaN}',
            b'{"schemaVersion": ' + b"9" * 5000 + b"}",
            b"\xff\xfe\x00",
            b'{"mediaType": "\\ud800"}',
            json.dumps(
                {"mediaType": mediatype.OCI_MANIFEST, "config": {"digest": "x" * 100_000}}
            ).encode(),
        ],
        ids=[
            "deep-lists",
            "deep-objects",
            "many-lists",
            "nan",
            "digits",
            "bytes",
            "surrogate",
            "digest",
        ],
    )
    @pytest.mark.parametrize("content_type", ["", mediatype.OCI_MANIFEST, mediatype.OCI_INDEX])
    async def test_nothing_but_a_refusal(
        self, registry: Registry, body: bytes, content_type: str
    ) -> None:
        answer = await registry.put_manifest(NAME, "v1", body, content_type)
        answer.refused(400, "MANIFEST_INVALID")

    async def test_texts_that_are_no_unicode_do_no_harm(self, registry: Registry) -> None:
        body = (
            b'{"mediaType": "%b", "manifests": [], "annotations": {"\\ud800": "\\udfff"},'
            b' "artifactType": "\\udfff", "subject": %b}'
            % (mediatype.OCI_INDEX.encode(), json.dumps(OCI.manifest.descriptor()).encode())
        )
        (await registry.put_manifest(NAME, "v1", body)).expect(201)
        assert (await registry.manifest(NAME, "v1")).body == body
        listed = await registry.send("GET", f"v2/{NAME}/referrers/{OCI.digest}")
        assert len(listed.expect(200).json()["manifests"]) == 1


async def test_pushes_at_once_by_several_workers_all_arrive(make: MakeRegistry) -> None:
    workers = [make(), make()]
    tops = [image(f"{number}", layers=1) for number in range(8)]

    async def push(number: int, tops: Sequence[Image]) -> None:
        for top in tops:
            await workers[number].push(NAME, top, "latest", f"v{tops.index(top)}")

    await asyncio.gather(push(0, tops), push(1, tops[::-1]))
    for top in tops:
        for worker in workers:
            (await worker.manifest(NAME, top.digest)).expect(200)
    latest = await workers[0].manifest(NAME, "latest")
    assert latest.header("Docker-Content-Digest") in {tops[0].digest, tops[-1].digest}
