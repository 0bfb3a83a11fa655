"""Manifests: end-3 (GET, HEAD), end-9 (DELETE), and what PUT (end-7) leaves to be read."""

import json
from collections.abc import Sequence

import pytest

from dockyard.oci import mediatype
from dockyard.storage.inmemory import InMemoryStorage
from tests.api.client import BASE, Client
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import (
    ACCEPT_ALL,
    Content,
    Image,
    artifact,
    digest_of,
    image,
    index,
    manifest,
    multi_platform,
)


NAME = "team/app"
UNKNOWN = digest_of(b"never pushed")
NO_OCI_IMAGE = "OCI manifest found, but accept header does not support OCI manifests"
NO_OCI_INDEX = "OCI index found, but accept header does not support OCI indexes"

OCI = image("oci")
DOCKER = image("docker", docker=True)
INDEX = multi_platform("index")
LIST = multi_platform("list", docker=True)
KINDS = {
    "oci-image": OCI,
    "docker-image": DOCKER,
    "oci-index": INDEX,
    "docker-list": LIST,
    "nested-index": index([INDEX, OCI]),
    "empty-index": index([]),
    "image-without-layers": image("no layers", layers=0),
    "artifact": artifact("artifact"),
    "artifact-of-nobody": artifact("referrer", subject=OCI.manifest.descriptor()),
    "unknown-fields": image(
        "x", extra={"nested": [None, 1.5]}, annotations={"a": "\u00e4\U0001f433"}
    ),
}
OF = {"image": OCI, "index": INDEX, "docker": DOCKER, "list": LIST}
EACH_KIND = pytest.mark.parametrize("top", KINDS.values(), ids=KINDS)


@EACH_KIND
async def test_end_3_what_was_pushed_is_served_byte_for_byte(
    registry: Registry, top: Image
) -> None:
    await registry.push(NAME, top, "v1")
    for reference in ("v1", top.digest):
        got = (await registry.manifest(NAME, reference)).expect(200)
        assert got.body == top.manifest.body
        assert got.header("Content-Type") == top.manifest.media_type
        assert got.header("Content-Length") == str(len(top.manifest.body))
        assert got.header("Docker-Content-Digest") == top.digest
        assert got.header("Etag") == f'"{top.digest}"'
        head = (await registry.manifest(NAME, reference, "HEAD")).expect(200)
        assert head.headers == got.headers


@EACH_KIND
async def test_another_worker_serves_it_too(make: MakeRegistry, top: Image) -> None:
    await make().push(NAME, top, "v1")
    got = (await make().manifest(NAME, "v1")).expect(200)
    assert got.body == top.manifest.body
    assert got.header("Content-Type") == top.manifest.media_type


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("reference", "status", "code", "detail"),
    [
        ("v1", 404, "MANIFEST_UNKNOWN", "unknown tag=v1"),
        (UNKNOWN, 404, "MANIFEST_UNKNOWN", f"unknown manifest={UNKNOWN}"),
        ("sha256:baddigeststring", 400, "DIGEST_INVALID", None),
        ("sha384:" + "a" * 96, 400, "DIGEST_INVALID", None),
    ],
    ids=["tag", "digest", "malformed", "algorithm"],
)
async def test_end_3_what_is_not_there(
    registry: Registry, method: str, reference: str, status: int, code: str, detail: str | None
) -> None:
    await registry.push(NAME, OCI, "other")
    answer = (await registry.manifest(NAME, reference, method)).expect(status)
    if method == "GET":
        error = answer.refused(status, code)
        assert detail is None or error["detail"] == detail


async def test_a_manifest_is_of_its_repository_only(registry: Registry) -> None:
    await registry.push(NAME, OCI, "v1")
    (await registry.manifest("other", OCI.digest)).refused(404, "MANIFEST_UNKNOWN")
    (await registry.blob(NAME, OCI.digest)).refused(404, "BLOB_UNKNOWN")


class TestAccept:
    """What a client says it takes, and what it gets."""

    @pytest.fixture
    async def filled(self) -> Registry:
        registry = Registry(InMemoryStorage())  # negotiation knows no driver
        for tag, top in OF.items():
            await registry.push(NAME, top, tag)
        return registry

    @pytest.mark.parametrize(
        "accept",
        [
            pytest.param([], id="absent"),
            pytest.param(["*/*"], id="anything"),
            pytest.param(["application/*"], id="any-application"),
            pytest.param(list(ACCEPT_ALL), id="several-lines"),
            pytest.param([", ".join(ACCEPT_ALL)], id="one-line"),
            pytest.param([f"{kind};q=0.1" for kind in ACCEPT_ALL], id="low-quality"),
            pytest.param(["text/html, */*;q=0.8"], id="browser"),
        ],
    )
    @pytest.mark.parametrize("tag", ["image", "index", "docker"])
    async def test_everything_is_served_to_who_takes_it(
        self, filled: Registry, tag: str, accept: Sequence[str]
    ) -> None:
        for reference in (tag, OF[tag].digest):
            got = (await filled.manifest(NAME, reference, accept=accept)).expect(200)
            assert got.body == OF[tag].manifest.body

    @pytest.mark.parametrize(
        "accept",
        [
            pytest.param([mediatype.DOCKER_MANIFEST], id="docker-only"),
            pytest.param([mediatype.DOCKER_SCHEMA1_SIGNED, "application/json"], id="ancient"),
            pytest.param(["text/*"], id="text"),
            pytest.param(
                [f"{mediatype.OCI_MANIFEST};q=0, {mediatype.OCI_INDEX};q=0, */*"], id="anything-but"
            ),
            pytest.param(["*/*;q=0"], id="nothing"),
        ],
    )
    @pytest.mark.parametrize(("tag", "message"), [("image", NO_OCI_IMAGE), ("index", NO_OCI_INDEX)])
    async def test_oci_is_refused_to_who_does_not_take_it(
        self, filled: Registry, tag: str, message: str, accept: Sequence[str]
    ) -> None:
        for reference in (tag, OF[tag].digest):
            answer = await filled.manifest(NAME, reference, accept=accept)
            error = answer.refused(404, "MANIFEST_UNKNOWN")
            assert error["message"] == message
            (await filled.manifest(NAME, reference, "HEAD", accept)).expect(404)

    @pytest.mark.parametrize("accept", [["text/html"], [mediatype.OCI_MANIFEST]], ids=str)
    async def test_docker_images_are_always_served(
        self, filled: Registry, accept: Sequence[str]
    ) -> None:
        got = (await filled.manifest(NAME, "docker", accept=accept)).expect(200)
        assert got.body == DOCKER.manifest.body

    @pytest.mark.parametrize(
        "accept",
        [[], [mediatype.DOCKER_MANIFEST], [mediatype.OCI_INDEX], ["text/plain"]],
        ids=str,
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_a_list_by_tag_is_its_amd64_image_to_older_clients(
        self, filled: Registry, method: str, accept: Sequence[str]
    ) -> None:
        child = LIST.children[0]
        assert child.platform == "linux/amd64"
        got = (await filled.manifest(NAME, "list", method, accept)).expect(200)
        assert got.header("Docker-Content-Digest") == child.digest
        assert got.header("Content-Type") == child.manifest.media_type
        assert got.header("Content-Length") == str(len(child.manifest.body))
        assert got.body in {child.manifest.body, b""}

    @pytest.mark.parametrize("accept", [[], [mediatype.DOCKER_MANIFEST]], ids=str)
    async def test_a_list_by_digest_is_itself(
        self, filled: Registry, accept: Sequence[str]
    ) -> None:
        got = (await filled.manifest(NAME, LIST.digest, accept=accept)).expect(200)
        assert got.body == LIST.manifest.body

    @pytest.mark.parametrize("accept", [["*/*"], [mediatype.DOCKER_MANIFEST_LIST]], ids=str)
    async def test_a_list_by_tag_is_itself_to_who_takes_it(
        self, filled: Registry, accept: Sequence[str]
    ) -> None:
        got = (await filled.manifest(NAME, "list", accept=accept)).expect(200)
        assert got.body == LIST.manifest.body

    async def test_a_list_without_amd64_has_nothing_for_older_clients(
        self, registry: Registry
    ) -> None:
        top = index([image("arm", docker=True, platform="linux/arm64")], docker=True)
        await registry.push(NAME, top, "arm")
        (await registry.manifest(NAME, "arm", accept=[])).refused(404, "MANIFEST_UNKNOWN")


class TestNotModified:
    """RFC 9110, section 13.1.2."""

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("form", ['"{}"', "{}", 'W/"{}"', '"x", "{}"', "*"])
    async def test_a_client_that_has_it_is_told_so(
        self, registry: Registry, method: str, form: str
    ) -> None:
        await registry.push(NAME, OCI, "v1")
        condition = form.format(OCI.digest)
        answer = await registry.manifest(NAME, "v1", method, if_none_match=condition)
        answer.expect(304)
        assert answer.header("Etag") == f'"{OCI.digest}"'
        assert answer.header("Docker-Content-Digest") == OCI.digest
        assert answer.header("Content-Type") is None

    async def test_a_client_that_has_another_gets_it(self, registry: Registry) -> None:
        await registry.push(NAME, OCI, "v1")
        condition = f'"{UNKNOWN}"'
        (await registry.manifest(NAME, "v1", if_none_match=condition)).expect(200)

    async def test_the_condition_may_be_on_several_lines(self, registry: Registry) -> None:
        await registry.push(NAME, OCI, "v1")
        headers = [("If-None-Match", f'"{digest}"') for digest in (UNKNOWN, OCI.digest)]
        target = f"v2/{NAME}/manifests/v1"
        (await registry.send("GET", target, headers=headers)).expect(304)


class TestDelete:
    """end-9."""

    async def test_a_tag_goes_and_its_manifest_stays(self, registry: Registry) -> None:
        await registry.push(NAME, OCI, "v1", "v2")
        answer = (await registry.send("DELETE", f"v2/{NAME}/manifests/v1")).expect(202)
        assert answer.body == b""
        (await registry.manifest(NAME, "v1")).refused(404, "MANIFEST_UNKNOWN")
        (await registry.manifest(NAME, "v2")).expect(200)
        (await registry.manifest(NAME, OCI.digest)).expect(200)

    async def test_a_manifest_goes_with_every_tag_of_it(self, registry: Registry) -> None:
        await registry.push(NAME, OCI, "v1", "v2")
        await registry.push(NAME, DOCKER, "other")
        target = f"v2/{NAME}/manifests/{OCI.digest}"
        (await registry.send("DELETE", target)).expect(202)
        for reference in ("v1", "v2", OCI.digest):
            (await registry.manifest(NAME, reference)).refused(404, "MANIFEST_UNKNOWN")
        assert (await registry.send("GET", f"v2/{NAME}/tags/list")).json()["tags"] == ["other"]
        (await registry.send("DELETE", target)).refused(404, "MANIFEST_UNKNOWN")

    async def test_a_tag_that_moved_on_stays(self, registry: Registry) -> None:
        await registry.push(NAME, OCI, "v1")
        await registry.push(NAME, DOCKER, "v1")
        (await registry.send("DELETE", f"v2/{NAME}/manifests/{OCI.digest}")).expect(202)
        (await registry.manifest(NAME, "v1")).expect(200)

    async def test_what_was_deleted_can_be_pushed_again(self, registry: Registry) -> None:
        for _ in range(2):
            await registry.push(NAME, OCI, "v1")
            (await registry.manifest(NAME, "v1")).expect(200)
            (await registry.send("DELETE", f"v2/{NAME}/manifests/{OCI.digest}")).expect(202)

    async def test_a_deletion_is_seen_by_every_worker_at_once(self, make: MakeRegistry) -> None:
        workers = [make(), make()]
        await workers[0].push(NAME, OCI, "v1")
        for worker in workers:
            (await worker.manifest(NAME, "v1")).expect(200)
        (await workers[0].send("DELETE", f"v2/{NAME}/manifests/{OCI.digest}")).expect(202)
        for worker in workers:
            (await worker.manifest(NAME, "v1", "HEAD")).expect(404)
            (await worker.manifest(NAME, OCI.digest, "HEAD")).expect(404)

    @pytest.mark.parametrize(
        ("reference", "status", "code"),
        [
            ("v1", 404, "MANIFEST_UNKNOWN"),
            (UNKNOWN, 404, "MANIFEST_UNKNOWN"),
            ("sha256:zz", 400, "DIGEST_INVALID"),
        ],
        ids=["tag", "digest", "malformed"],
    )
    async def test_what_is_not_there_is_unknown(
        self, registry: Registry, reference: str, status: int, code: str
    ) -> None:
        answer = await registry.send("DELETE", f"v2/{NAME}/manifests/{reference}")
        assert "docker/registry" not in answer.refused(status, code).get("detail", "")

    @pytest.mark.parametrize("reference", ["v1", OCI.digest, UNKNOWN, "sha256:zz"])
    async def test_it_can_be_switched_off(self, make: MakeRegistry, reference: str) -> None:
        registry = make(delete_enabled=False)
        await registry.push(NAME, OCI, "v1")
        answer = await registry.send("DELETE", f"v2/{NAME}/manifests/{reference}")
        error = answer.refused(405, "UNSUPPORTED")
        assert error["message"] == "The operation is unsupported."
        (await registry.manifest(NAME, "v1")).expect(200)


BODIES = {
    "json": b'{"any": "thing"}',
    "json-list": b"[1, 2]",
    "binary": b"\x00\xff\xfe manifest",
    "empty": b"",
    "says-its-type": b'{"mediaType": "application/vnd.example.thing+json"}',
    "like-an-image": OCI.manifest.body.replace(
        mediatype.OCI_MANIFEST.encode(), b"application/vnd.example.thing+json"
    ),
}


class TestUnknownTypes:
    """Manifests of types that nobody here knows are kept byte for byte."""

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
    async def test_they_come_back_with_their_type(self, make: MakeRegistry, body: bytes) -> None:
        kind = "application/vnd.example.thing+json"
        digest = digest_of(body)
        worker, other = make(), make()
        (await worker.put_manifest(NAME, "v1", body, f"{kind}; charset=utf-8")).expect(201)
        for registry in (worker, other):
            for reference in ("v1", digest):
                got = (await registry.manifest(NAME, reference)).expect(200)
                assert (got.body, got.header("Content-Type")) == (body, kind)
                assert got.header("Docker-Content-Digest") == digest

    async def test_an_image_that_does_not_say_its_type_keeps_the_one_given(
        self, registry: Registry
    ) -> None:
        document = json.loads(DOCKER.manifest.body)
        del document["mediaType"]
        bare = Image(
            Content(mediatype.DOCKER_MANIFEST, json.dumps(document).encode()), DOCKER.blobs
        )
        await registry.push(NAME, bare, "v1")
        got = (await registry.manifest(NAME, "v1")).expect(200)
        assert got.header("Content-Type") == mediatype.DOCKER_MANIFEST

    async def test_an_oci_image_need_not_say_its_type(self, registry: Registry) -> None:
        document = json.loads(OCI.manifest.body)
        del document["mediaType"]
        content = json.dumps(document).encode()
        for blob in OCI.blobs:
            await registry.push_blob(NAME, blob.body)
        (await registry.put_manifest(NAME, "v1", content)).expect(201)
        got = (await registry.manifest(NAME, "v1")).expect(200)
        assert got.header("Content-Type") == mediatype.OCI_MANIFEST

    async def test_the_same_bytes_may_have_another_type_elsewhere(self, registry: Registry) -> None:
        for name, kind in (("one", "application/a"), ("two", "application/b")):
            (await registry.put_manifest(name, "v1", b"same", kind)).expect(201)
        for name, kind in (("one", "application/a"), ("two", "application/b")):
            assert (await registry.manifest(name, "v1")).header("Content-Type") == kind


class TestSha512:
    async def test_an_image_is_pushed_and_pulled_under_it(self, registry: Registry) -> None:
        layer = b"layer"
        blob = await registry.push_blob(NAME, layer, "sha512")
        described = {"mediaType": "a/b", "size": len(layer), "digest": blob}
        top = manifest(mediatype.OCI_MANIFEST, config=described, layers=[described])
        digest = digest_of(top.body, "sha512")
        pushed = await registry.put_manifest(NAME, digest, top.body, top.media_type)
        pushed.expect(201)
        assert pushed.header("Docker-Content-Digest") == digest
        assert pushed.location == f"{BASE}/v2/{NAME}/manifests/{digest}"
        (await registry.put_manifest(NAME, f"{digest}?tag=v1", top.body)).expect(201)
        for reference in ("v1", digest):
            for method in ("GET", "HEAD"):
                got = (await registry.manifest(NAME, reference, method)).expect(200)
                assert got.header("Docker-Content-Digest") == digest
                assert got.header("Etag") == f'"{digest}"'
        (await registry.manifest(NAME, top.digest)).refused(404, "MANIFEST_UNKNOWN")
        (await registry.send("DELETE", f"v2/{NAME}/manifests/{digest}")).expect(202)
        (await registry.manifest(NAME, "v1")).refused(404, "MANIFEST_UNKNOWN")

    async def test_both_digests_of_one_manifest_can_be_there(self, registry: Registry) -> None:
        await registry.push(NAME, OCI, "v1")
        other = digest_of(OCI.manifest.body, "sha512")
        (await registry.put_manifest(NAME, other, OCI.manifest.body)).expect(201)
        got = await registry.manifest(NAME, "v1")
        assert got.header("Docker-Content-Digest") == OCI.digest
        (await registry.send("DELETE", f"v2/{NAME}/manifests/{other}")).expect(202)
        (await registry.manifest(NAME, OCI.digest)).expect(200)


async def test_a_manifest_of_the_largest_size_is_taken_and_served(registry: Registry) -> None:
    top = image("large", annotations={"pad": "x" * (4 << 20)})
    pad = 4 * (1 << 20) - (len(top.manifest.body) - (4 << 20))
    top = image("large", annotations={"pad": "x" * pad})
    assert len(top.manifest.body) == 4 << 20
    await registry.push(NAME, top, "v1")
    assert (await registry.manifest(NAME, "v1")).body == top.manifest.body


async def test_a_client_is_served_while_others_push(registry: Registry) -> None:
    client: Client = registry
    await client.push(NAME, OCI, "v1")
    for number in range(3):
        await client.push(NAME, image(f"{number}"), "v1")
        assert (await client.manifest(NAME, OCI.digest)).body == OCI.manifest.body
