"""Bodies that are more than they seem: deep, wide, huge, or for another grammar."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.hostile.conftest import KEPT, NAME
from tests.live import LiveRegistry, memory
from tests.parts.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, digest_of
from tests.registry_client import Answer, RegistryClient


LIMIT: Final = 4 << 20
PEAK: Final = 200 << 20
"""Bytes a worker may ever have had, with several of these bodies under way."""

CONFIG: Final = KEPT.blobs[0].descriptor()


def manifest(**fields: object) -> bytes:
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": []}
    return json.dumps({**document, **fields}, separators=(",", ":")).encode()


def filled(start: bytes, item: bytes, end: bytes) -> bytes:
    """Return `start`, as many of `item` as the limit allows, and `end`."""
    return start + item * ((LIMIT - len(start) - len(end)) // len(item)) + end


HOSTILE: Final = {
    "empty": b"",
    "nothing": b"null",
    "number": b"1",
    "text": b'"text"',
    "list": b"[]",
    "nul": b"\0" * 1000,
    "not-utf-8": b'{"a":"\xff\xfe"}',
    "utf-16": '{"schemaVersion":2}'.encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "deep-lists": b"[" * 1_000_000 + b"]" * 1_000_000,
    "deep-objects": b'{"a":' * 400_000 + b"1" + b"}" * 400_000,
    "deep-unclosed": b"[" * LIMIT,
    "deep-digest": manifest(config={"digest": 0, "size": 0}).replace(
        b'"digest":0', b'"digest":' + b"[" * 990 + b"]" * 990
    ),
    "wide-lists": filled(b'{"a":[', b"[],", b"[]]}"),
    "wide-objects": filled(b'{"a":[', b'{"":{}},', b"{}]}"),
    "wide-texts": filled(b'{"config":1,"manifests":1,"a":[', b'"",', b'""]}'),
    "wide-numbers": filled(b'{"config":1,"manifests":1,"a":[', b"0.5,", b"1]}"),
    "wide-layers": filled(b'{"config":1,"layers":[', b"{},", b"{}]}"),
    "one-long-number": filled(b'{"size":', b"9", b"}"),
    "one-long-text": filled(b'{"mediaType":"', b"x", b'"}'),
    "escaped-text": filled(b'{"mediaType":"', b"\\u0041", b'"}'),
    "not-a-number": manifest(config={**CONFIG, "size": float("nan")}),
    "infinity": manifest(config={**CONFIG, "size": float("inf")}),
    "exponent": manifest(config={**CONFIG, "size": 7}).replace(b":7", b":7e400"),
    "negative-size": manifest(config={**CONFIG, "size": -1}),
    "huge-size": manifest(config={**CONFIG, "size": 10**30}),
    "digest-elsewhere": manifest(config={**CONFIG, "digest": "sha256:../../../../etc/passwd"}),
    "long-digest": manifest(config={**CONFIG, "digest": "x" * 3_000_000}),
    "layers-no-list": manifest(layers={"a": 1}),
    "config-null-media-type": manifest(config={**CONFIG, "mediaType": 5}),
    "media-type-crlf": manifest(mediaType="a/b\r\nX-Injected: yes"),
    "media-type-list": manifest(mediaType=[]),
    "media-type-object": manifest(mediaType={"a": 1}),
    "annotations-list": manifest(annotations=[1]),
    "annotations-number": manifest(annotations={"a": 1}),
    "subject-text": manifest(subject="sha256:0"),
    "urls-number": manifest(layers=[{**CONFIG, "urls": 5}]),
    "schema-1": manifest(schemaVersion=1),
    "index-and-image": manifest(mediaType=OCI_INDEX, manifests=[]),
    "gzip": gzip.compress(manifest()),
    "gzip-bomb": gzip.compress(b"\0" * (100 << 20)),
    "xml-bomb": b'<!DOCTYPE a [<!ENTITY b "' + b"b" * 1000 + b'">]><a>' + b"&b;" * 1000 + b"</a>",
    "yaml-bomb": b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
    "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    "python": b"__import__('os').system('id')",
}

TYPES: Final = (
    OCI_MANIFEST,
    OCI_INDEX,
    "",
    "application/json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)


@pytest.fixture
def client(registry: LiveRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(registry.address) as connected:
        yield connected


def decent(answer: Answer) -> Answer:
    assert answer.status < 500, answer.body[:500]
    assert b"Traceback" not in answer.body
    assert len(answer.body) < 10_000, "a short answer to whatever it was"
    return answer


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_refused(
    registry: LiveRegistry, client: RegistryClient, name: str
) -> None:
    body = HOSTILE[name]
    for media_type in TYPES:
        answer = decent(client.push_manifest(NAME, name, body, media_type))
        assert answer.expect(400).codes() == ["MANIFEST_INVALID"], (media_type, answer.body)
    assert client.manifest(NAME, name).status == 404
    assert_peak(registry)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_manifest_of_unknown_type_may_hold_anything(
    registry: LiveRegistry, client: RegistryClient, name: str
) -> None:
    """It is taken or refused; if it is taken, it comes back as it went."""
    body, media_type = HOSTILE[name], "application/vnd.example.anything"
    answer = decent(client.push_manifest(NAME, "anything", body, media_type))
    if answer.status == 201:
        got = client.manifest(NAME, "anything", accept=["*/*"]).expect(200)
        assert got.body == body
        assert got.header("Content-Type") == media_type
        assert client.referrers(NAME, digest_of(body)) == []
        assert "anything" in client.tags(NAME)
        client.delete_manifest(NAME, digest_of(body)).expect(202)
    else:
        answer.expect(400)
    assert_peak(registry)


def assert_peak(registry: LiveRegistry) -> None:
    for pid in registry.workers:
        assert memory(pid, "VmHWM") < PEAK


@pytest.mark.parametrize("known", [True, False], ids=["one layer often", "all missing"])
def test_a_manifest_of_40_000_layers_keeps_nobody_waiting(
    registry: LiveRegistry, client: RegistryClient, *, known: bool
) -> None:
    digests = [KEPT.blobs[1].digest if known else digest_of(str(n).encode()) for n in range(40_000)]
    body = manifest(layers=[{"digest": digest, "size": 1} for digest in digests])
    assert len(body) < LIMIT
    waits: list[float] = []
    ending = threading.Event()

    def wait_in_line() -> None:
        with RegistryClient(registry.address) as other:
            while not ending.is_set():
                began = time.monotonic()
                other.request("GET", "/v2/").expect(200)
                waits.append(time.monotonic() - began)

    others = [threading.Thread(target=wait_in_line) for _ in range(4)]
    for other in others:
        other.start()
    try:
        for _ in range(3):
            answer = client.push_manifest(NAME, "wide", body, OCI_MANIFEST)
            answer.expect(201 if known else 400)
    finally:
        ending.set()
        for other in others:
            other.join(10)
    print(f"\nothers waited {max(waits) * 1000:.0f} ms at most")
    assert max(waits) < 2.0  # a tenth, where nothing else keeps the machine busy


@pytest.mark.parametrize("media_type", ["a/b\tc", "a", "a/b; x=\xff", ";", "a/" + "b" * 500])
def test_a_content_type_comes_back_clean(client: RegistryClient, media_type: str) -> None:
    answer = decent(client.push_manifest(NAME, "typed", b'{"a":1}', media_type))
    assert answer.status in {201, 400}
    if answer.status == 201:
        got = client.manifest(NAME, "typed", accept=["*/*"]).expect(200)
        assert got.body == b'{"a":1}'


def test_texts_of_a_manifest_cannot_break_a_list(client: RegistryClient) -> None:
    """What a manifest says of itself is repeated by the referrers API."""
    subject = {"mediaType": OCI_MANIFEST, "digest": KEPT.digest, "size": 1}
    odd = 'a"\r\n\0\ud800\u2028<script>'
    body = manifest(subject=subject, annotations={odd: odd}, artifactType=odd)
    client.push_manifest(NAME, digest_of(body), body, OCI_MANIFEST).expect(201)
    (found,) = client.referrers(NAME, KEPT.digest)
    assert found["digest"] == digest_of(body)
    assert found["artifactType"].startswith('a"\r\n\0')
    filtered = client.request(
        "GET", f"/v2/{NAME}/referrers/{KEPT.digest}?artifactType=a%22%0d%0aX-Injected:%20yes"
    )
    assert filtered.expect(200).json()["manifests"] == []
    assert not filtered.header("X-Injected")
    client.delete_manifest(NAME, digest_of(body)).expect(202)


def test_a_config_may_be_of_any_type(client: RegistryClient) -> None:
    config = {**CONFIG, "mediaType": OCI_CONFIG + "x" * 100_000}
    body = manifest(config=config)
    answer = decent(client.push_manifest(NAME, "config", body, OCI_MANIFEST))
    assert answer.status in {201, 400}
