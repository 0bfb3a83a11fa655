"""Referrers: end-12."""

import json
from typing import Any

import pytest

from dockyard.core import referrers
from dockyard.oci import mediatype
from tests.api.client import Answer
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import Image, artifact, digest_of, image, index, manifest


NAME = "team/app"
SUBJECT = image("subject")
OTHER = image("other subject")
SBOM = "application/vnd.example.sbom.v1"
SIGNATURE = "application/vnd.example.signature.v1"


def referrer(seed: str, kind: str = SBOM, to: Image = SUBJECT, **fields: Any) -> Image:  # noqa: ANN401 -- JSON
    return artifact(seed, artifact_type=kind, subject=to.manifest.descriptor(), **fields)


async def ask(registry: Registry, digest: str = SUBJECT.digest, query: str = "") -> Answer:
    return (await registry.send("GET", f"v2/{NAME}/referrers/{digest}{query}")).expect(200)


async def digests(registry: Registry, digest: str = SUBJECT.digest, query: str = "") -> set[str]:
    """Return the digests of all pages."""
    pages = await registry.pages(f"v2/{NAME}/referrers/{digest}{query}")
    return {entry["digest"] for page in pages for entry in page.json()["manifests"]}


async def test_end_12_a_referrer_is_described(registry: Registry) -> None:
    await registry.push(NAME, SUBJECT, "v1")
    top = referrer("sbom", annotations={"made.by": "me", "\u00e4": "\U0001f433"})
    await registry.push(NAME, top)
    answer = await ask(registry)
    assert answer.header("Content-Type") == mediatype.OCI_INDEX
    assert answer.header("OCI-Filters-Applied") is None
    assert answer.json() == {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [
            {
                "mediaType": mediatype.OCI_MANIFEST,
                "digest": top.digest,
                "size": len(top.manifest.body),
                "annotations": {"made.by": "me", "\u00e4": "\U0001f433"},
                "artifactType": SBOM,
            }
        ],
    }


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        pytest.param(referrer("says", SIGNATURE), SIGNATURE, id="artifact-type"),
        pytest.param(
            image("config says", subject=SUBJECT.manifest.descriptor()),
            "application/vnd.oci.image.config.v1+json",
            id="config-type",
        ),
        pytest.param(
            index([], subject=SUBJECT.manifest.descriptor(), artifactType=SBOM), SBOM, id="index"
        ),
        pytest.param(
            index([], subject=SUBJECT.manifest.descriptor()), None, id="index-without-type"
        ),
        pytest.param(
            Image(
                manifest(
                    "application/vnd.example+json",
                    subject=SUBJECT.manifest.descriptor(),
                    artifactType=SBOM,
                )
            ),
            SBOM,
            id="unknown-type",
        ),
    ],
)
async def test_end_12_the_artifact_type(
    registry: Registry, top: Image, expected: str | None
) -> None:
    await registry.push(NAME, top)
    (described,) = (await ask(registry)).json()["manifests"]
    assert described.get("artifactType") == expected
    assert described["mediaType"] == top.manifest.media_type
    assert "annotations" not in described


@pytest.mark.parametrize("name", [NAME, "nothing/here"])
async def test_end_12_nothing_refers_to_it(registry: Registry, name: str) -> None:
    await registry.push(NAME, SUBJECT, "v1")
    for digest in (SUBJECT.digest, digest_of(b"unknown"), digest_of(b"unknown", "sha512")):
        answer = (await registry.send("GET", f"v2/{name}/referrers/{digest}")).expect(200)
        assert answer.header("Content-Type") == mediatype.OCI_INDEX
        assert answer.json()["manifests"] == []


@pytest.mark.parametrize("digest", ["nonsense", "sha256:zz", "md5:" + "a" * 32, "v1"])
async def test_end_12_a_digest_that_is_none(registry: Registry, digest: str) -> None:
    answer = await registry.send("GET", f"v2/{NAME}/referrers/{digest}")
    answer.refused(400, "DIGEST_INVALID")


async def test_end_12_a_subject_that_was_never_pushed_has_referrers(registry: Registry) -> None:
    top = referrer("early")
    await registry.push(NAME, top)
    assert await digests(registry) == {top.digest}
    await registry.push(NAME, SUBJECT, "v1")
    assert await digests(registry) == {top.digest}


async def test_end_12_referrers_are_of_their_subject_and_repository(registry: Registry) -> None:
    ours, others = referrer("ours"), referrer("others", to=OTHER)
    await registry.push(NAME, ours)
    await registry.push(NAME, others)
    await registry.push("elsewhere", referrer("elsewhere"))
    assert await digests(registry) == {ours.digest}
    assert await digests(registry, OTHER.digest) == {others.digest}


async def test_end_12_referrers_of_referrers(registry: Registry) -> None:
    first = referrer("first")
    second = referrer("second", to=first)
    for top in (first, second):
        await registry.push(NAME, top)
    assert await digests(registry) == {first.digest}
    assert await digests(registry, first.digest) == {second.digest}


class TestFilter:
    async def test_by_artifact_type(self, registry: Registry) -> None:
        tops = [referrer("1"), referrer("2", SIGNATURE), referrer("3")]
        for top in tops:
            await registry.push(NAME, top)
        for kind, expected in ((SBOM, {0, 2}), (SIGNATURE, {1}), ("a/b", set())):
            query = f"?artifactType={kind.replace('/', '%2F').replace('+', '%2B')}"
            answer = await ask(registry, query=query)
            assert answer.header("OCI-Filters-Applied") == "artifactType"
            found = {entry["digest"] for entry in answer.json()["manifests"]}
            assert found == {tops[number].digest for number in expected}

    async def test_an_empty_filter_is_none(self, registry: Registry) -> None:
        await registry.push(NAME, referrer("1"))
        answer = await ask(registry, query="?artifactType=")
        assert answer.header("OCI-Filters-Applied") is None
        assert len(answer.json()["manifests"]) == 1


class TestPages:
    @pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
    async def test_they_follow_one_another(self, registry: Registry, size: int) -> None:
        tops = [referrer(f"{number}") for number in range(5)]
        for top in tops:
            await registry.push(NAME, top)
        pages = await registry.pages(f"v2/{NAME}/referrers/{SUBJECT.digest}?n={size}")
        listed = [entry["digest"] for page in pages for entry in page.json()["manifests"]]
        assert listed == sorted(top.digest for top in tops)
        assert len(pages) == -(-5 // size)
        assert all(page.header("Content-Type") == mediatype.OCI_INDEX for page in pages)

    async def test_the_filter_goes_with_them(self, registry: Registry) -> None:
        signed = []
        for number in range(3):
            await registry.push(NAME, referrer(f"sbom {number}"))
            signed.append(await registry.push(NAME, referrer(f"{number}", SIGNATURE)))
        target = f"v2/{NAME}/referrers/{SUBJECT.digest}?n=1&artifactType={SIGNATURE}"
        pages = await registry.pages(target)
        assert len(pages) == 3
        assert all(page.header("OCI-Filters-Applied") == "artifactType" for page in pages)
        listed = [entry["digest"] for page in pages for entry in page.json()["manifests"]]
        assert listed == sorted(signed)

    async def test_no_page_is_larger_than_the_limit(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(referrers, "PAGE", 2)
        monkeypatch.setattr("dockyard.http.lists.PAGE", 2)
        tops = [await registry.push(NAME, referrer(f"{number}")) for number in range(5)]
        for query in ("", "?n=0", "?n=100"):
            pages = await registry.pages(f"v2/{NAME}/referrers/{SUBJECT.digest}{query}")
            assert [len(page.json()["manifests"]) for page in pages] == [2, 2, 1]
        assert await digests(registry) == set(tops)

    @pytest.mark.parametrize("number", ["-1", "abc"])
    async def test_a_number_that_is_none(self, registry: Registry, number: str) -> None:
        answer = await registry.send("GET", f"v2/{NAME}/referrers/{SUBJECT.digest}?n={number}")
        answer.refused(400, "PAGINATION_NUMBER_INVALID")


class TestChanges:
    """What any worker, distribution or ``rm`` did is seen at once."""

    async def test_a_push_and_a_deletion_by_another_worker(self, make: MakeRegistry) -> None:
        workers = [make(), make()]
        tops = [referrer(f"{number}") for number in range(3)]
        there: set[str] = set()
        for top in tops:
            await workers[0].push(NAME, top)
            there.add(top.digest)
            for worker in workers:
                assert await digests(worker) == there
        for top in tops:
            (await workers[1].send("DELETE", f"v2/{NAME}/manifests/{top.digest}")).expect(202)
            there.discard(top.digest)
            for worker in workers:
                assert await digests(worker) == there

    async def test_the_subject_may_go(self, registry: Registry) -> None:
        await registry.push(NAME, SUBJECT, "v1")
        top = referrer("stays")
        await registry.push(NAME, top)
        (await registry.send("DELETE", f"v2/{NAME}/manifests/{SUBJECT.digest}")).expect(202)
        assert await digests(registry) == {top.digest}

    async def test_the_repository_may_go(self, registry: Registry) -> None:
        await registry.push(NAME, referrer("gone"))
        assert len(await digests(registry)) == 1
        await registry.storage.delete(f"docker/registry/v2/repositories/{NAME}")
        assert await digests(registry) == set()
        await registry.push(NAME, referrer("anew"))
        assert len(await digests(registry)) == 1


class TestReferrersTag:
    """Older clients keep an index under the tag ``sha256-<hex>``."""

    TAG = SUBJECT.digest.replace(":", "-")

    async def test_what_it_lists_is_listed(self, registry: Registry) -> None:
        top = referrer("from before")
        await registry.push(NAME, top)
        fallback = index([Image(top.manifest)])
        await registry.push(NAME, fallback, self.TAG)
        assert await digests(registry) == {top.digest}
        got = await registry.manifest(NAME, self.TAG)
        assert got.expect(200).body == fallback.manifest.body

    async def test_what_does_not_name_the_subject_is_not(self, registry: Registry) -> None:
        stranger = artifact("no subject")
        await registry.push(NAME, stranger)
        await registry.push(NAME, index([Image(stranger.manifest)]), self.TAG)
        assert await digests(registry) == set()


async def test_manifests_that_can_not_refer_are_passed_over(registry: Registry) -> None:
    top = referrer("good")
    await registry.push(NAME, top)
    (await registry.put_manifest(NAME, "binary", b"\xff\x00", "application/a.b")).expect(201)
    (await registry.put_manifest(NAME, "text", b"[1]", "application/a.b")).expect(201)
    schema1 = json.dumps({"schemaVersion": 1}).encode()
    digest = digest_of(schema1)
    base = "docker/registry/v2"
    hexadecimals = digest.removeprefix("sha256:")
    blob = f"{base}/blobs/sha256/{hexadecimals[:2]}/{hexadecimals}/data"
    link = f"{base}/repositories/{NAME}/_manifests/revisions/sha256/{hexadecimals}/link"
    await registry.storage.put(blob, schema1)
    await registry.storage.put(link, digest.encode())
    stray = f"{base}/repositories/{NAME}/_manifests/revisions/sha256/stray/link"
    await registry.storage.put(stray, digest.encode())
    assert await digests(registry) == {top.digest}
    answer = await registry.manifest(NAME, digest)
    assert "skopeo" in answer.refused(400, "MANIFEST_INVALID")["message"]
