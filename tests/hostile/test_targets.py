"""Paths and queries that lead elsewhere, or are too much, over a real socket."""

import json
from typing import Final

import pytest

from tests.hostile.conftest import NAME
from tests.live import LiveRegistry, RawResponse, talk
from tests.parts.images import OCI_MANIFEST


DIGEST: Final = "sha256:" + "0" * 64

NAMES: Final = {
    "dot-dot": "..",
    "dot-dot-inside": "a/../../b",
    "dot-dot-to-the-root": "../../../../../../../../etc",
    "dot": "a/./b",
    "encoded-dots": "%2e%2e/%2e%2e/%2e%2e/etc",
    "encoded-slash": "..%2f..%2f..%2fetc",
    "encoded-slash-inside": "a%2f..%2f..%2f..%2fb",
    "doubly-encoded": "%252e%252e%252f%252e%252e",
    "overlong-utf-8": "%c0%ae%c0%ae%c0%af%c0%ae%c0%ae",
    "overlong-3": "%e0%80%ae%e0%80%ae",
    "backslash": "..\\..\\windows",
    "encoded-backslash": "..%5c..%5cwindows",
    "encoded-nul": "a%00b",
    "encoded-nul-at-the-end": "a%00",
    "encoded-crlf": "a%0d%0aX-Injected:%20yes",
    "encoded-lf": "a%0a",
    "encoded-tab": "a%09b",
    "encoded-space": "a%20b",
    "encoded-del": "a%7fb",
    "bad-escape": "a%zzb",
    "half-escape": "a%2",
    "not-utf-8": "%ff%fe",
    "surrogate": "%ed%a0%80",
    "wide-digits": "%ef%bc%91",
    "dotless-i": "%c4%b1",
    "right-to-left": "%e2%80%ae",
    "capital": "a/B",
    "empty-component": "a//b",
    "leading-slash": "/a",
    "trailing-slash": "a/",
    "underscore-first": "_layers/a",
    "underscore-inside": "a/_manifests/b",
    "private": ".dockyard/tmp",
    "semicolon": "a;b",
    "colon": "a:b",
    "at": "a@b",
    "tilde": "~root",
    "drive": "c:/windows",
    "long-component": "a" * 300,
    "long": "/".join(["abc"] * 100),
    "1000-segments": "/".join("a" * 1000),
    "3900-segments": "/".join("a" * 3900),
}
"""Names of repositories as they stand in a path; none of them may be one."""

ENDS: Final = {
    "manifest": "manifests/latest",
    "manifest-by-digest": f"manifests/{DIGEST}",
    "blob": f"blobs/{DIGEST}",
    "upload": "blobs/uploads/",
    "upload-whole": f"blobs/uploads/?digest={DIGEST}",
    "session": "blobs/uploads/00000000-0000-0000-0000-000000000000",
    "tags": "tags/list",
    "referrers": f"referrers/{DIGEST}",
}

METHODS: Final = ("GET", "PUT", "POST", "PATCH", "DELETE")


def request(method: str, target: str, *fields: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ask(registry: LiveRegistry, data: bytes) -> RawResponse:
    """Return the one response to the request in `data`, which must be a decent one."""
    responses = talk(registry.port, data)
    assert len(responses) == 1, responses
    (response,) = responses
    assert response.status < 500, response
    assert_decent(response)
    return response


def assert_decent(response: RawResponse) -> None:
    """Assert that the response tells nothing of our insides and holds no field of the client's."""
    assert b"Traceback" not in response.body
    assert b"docker/registry" not in response.body
    assert b"root:" not in response.body
    assert not response.header("X-Injected")
    if response.header("Content-Type") == "application/json" and response.status >= 400:
        assert json.loads(response.body)["errors"]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_what_is_no_name_leads_nowhere(registry: LiveRegistry, name: str) -> None:
    for end in ENDS.values():
        for method in METHODS:
            for target in (f"/v2/{name}/{end}", f"http://h/v2/{name}/{end}"):
                body = b"{}" if method == "PUT" else b""
                fields = (f"Content-Type: {OCI_MANIFEST}",)
                response = ask(registry, request(method, target, *fields, body=body))
                assert response.status in {400, 404, 405, 414}, (method, target)


@pytest.mark.parametrize("segments", [10_000, 500_000], ids=str)
def test_endless_names_are_414(registry: LiveRegistry, segments: int) -> None:
    target = "/v2/" + "a/" * segments + "tags/list"
    assert ask(registry, request("GET", target)).status == 414


DIGESTS: Final = {
    "dot-dot": "..",
    "dot-dot-deep": "sha256:../../../../etc/passwd",
    "encoded": "sha256:%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "encoded-once-more": "sha256:%252e%252e%252f",
    "algorithm": f"..%2f:{'0' * 64}",
    "unknown-algorithm": f"md5:{'0' * 32}",
    "capitals": f"SHA256:{'A' * 64}",
    "short": "sha256:0",
    "long": f"sha256:{'0' * 65}",
    "very-long": f"sha256:{'0' * 5000}",
    "nul": f"sha256:{'0' * 63}%00",
    "newline": f"sha256:{'0' * 64}%0a",
    "crlf": f"sha256:{'0' * 64}%0d%0aX-Injected:%20yes",
    "colons": ":::",
    "only-algorithm": "sha256:",
    "wide-digits": "sha256:" + "%ef%bc%90" * 64,
}


@pytest.mark.parametrize("digest", DIGESTS.values(), ids=DIGESTS)
def test_what_is_no_digest_leads_nowhere(registry: LiveRegistry, digest: str) -> None:
    targets = {
        "GET": [f"manifests/{digest}", f"blobs/{digest}", f"referrers/{digest}"],
        "PUT": [f"manifests/{digest}"],
        "DELETE": [f"manifests/{digest}", f"blobs/{digest}"],
        "POST": [
            f"blobs/uploads/?digest={digest}",
            f"blobs/uploads/?mount={digest}",
            f"blobs/uploads/?mount={digest}&from={NAME}",
        ],
    }
    for method, ends in targets.items():
        for end in ends:
            response = ask(registry, request(method, f"/v2/{NAME}/{end}", body=b"{}"))
            assert response.status in {400, 404, 405, 414}, (method, end)


SESSIONS: Final = (
    "..", "../../../_layers", "%2e%2e", "..%2f..%2f_layers", "%00", "0" * 36, "-" * 36,
    "00000000-0000-0000-0000-000000000000.-1", "00000000-0000-0000-0000-000000000000.1e9",
    "00000000-0000-0000-0000-000000000000.999999999999999999",
    "00000000-0000-0000-0000-000000000000.9999999999999999999999",
    "00000000-0000-0000-0000-000000000000.0.md5", "00000000-0000-0000-0000-000000000000%0a",
    "a" * 4000,
)  # fmt: skip


@pytest.mark.parametrize("session", SESSIONS, ids=range(len(SESSIONS)))
def test_what_is_no_session_leads_nowhere(registry: LiveRegistry, session: str) -> None:
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        query = f"?digest={DIGEST}" if method == "PUT" else ""
        target = f"/v2/{NAME}/blobs/uploads/{session}{query}"
        response = ask(registry, request(method, target, body=b"x"))
        assert response.status in {400, 404, 405, 414}, method


QUERIES: Final = {
    "mount-from-elsewhere": f"POST /v2/{NAME}/blobs/uploads/?mount={DIGEST}&from=../../../etc",
    "mount-from-encoded": f"POST /v2/{NAME}/blobs/uploads/?mount={DIGEST}&from=..%2f..%2fetc",
    "mount-from-nul": f"POST /v2/{NAME}/blobs/uploads/?mount={DIGEST}&from=a%00b",
    "mount-from-long": f"POST /v2/{NAME}/blobs/uploads/?mount={DIGEST}&from={'a/' * 3000}a",
    "algorithm-elsewhere": f"POST /v2/{NAME}/blobs/uploads/?digest-algorithm=../../etc",
    "algorithm-unknown": f"POST /v2/{NAME}/blobs/uploads/?digest-algorithm=shake_128",
    "tag-elsewhere": f"PUT /v2/{NAME}/manifests/{DIGEST}?tag=../../../etc",
    "tag-encoded": f"PUT /v2/{NAME}/manifests/{DIGEST}?tag=..%2f..%2fetc",
    "tag-crlf": f"PUT /v2/{NAME}/manifests/{DIGEST}?tag=a%0d%0aX-Injected:%20yes",
    "tag-nul": f"PUT /v2/{NAME}/manifests/{DIGEST}?tag=a%00",
    "tags-101": f"PUT /v2/{NAME}/manifests/{DIGEST}?" + "tag=a&" * 101,
    "tags-1000": f"PUT /v2/{NAME}/manifests/{DIGEST}?" + "tag=a&" * 1000,
    "page-negative": "GET /v2/_catalog?n=-1",
    "page-text": "GET /v2/_catalog?n=many",
    "page-huge": "GET /v2/_catalog?n=99999999999999999999999999",
    "page-wide-digits": "GET /v2/_catalog?n=%ef%bc%91",
    "page-exponent": f"GET /v2/{NAME}/tags/list?n=1e9",
    "page-float": f"GET /v2/{NAME}/tags/list?n=1.0",
    "last-elsewhere": "GET /v2/_catalog?last=../../../../etc",
    "last-nul": "GET /v2/_catalog?last=%00",
    "last-not-utf-8": f"GET /v2/{NAME}/tags/list?last=%ff%fe",
    "last-many-slashes": "GET /v2/_catalog?last=" + "/" * 7000,
    "type-crlf": f"GET /v2/{NAME}/referrers/{DIGEST}?artifactType=a%0d%0aX-Injected:%20yes",
    "type-nul": f"GET /v2/{NAME}/referrers/{DIGEST}?artifactType=%00&n=1",
    "last-no-digest": f"GET /v2/{NAME}/referrers/{DIGEST}?last=../..&n=1",
    "many-fields": "GET /v2/_catalog?" + "a&" * 4000,
    "many-equals": "GET /v2/_catalog?" + "=" * 8000,
    "many-escapes": "GET /v2/_catalog?" + "%41" * 2600,
    "bad-escapes": "GET /v2/_catalog?%zz=%&%%%",
}


@pytest.mark.parametrize("case", QUERIES.values(), ids=QUERIES)
def test_odd_queries_are_answered(registry: LiveRegistry, case: str) -> None:
    method, _, target = case.partition(" ")
    fields = (f"Content-Type: {OCI_MANIFEST}",)
    body = b"{}" if method == "PUT" else b""
    response = ask(registry, request(method, target, *fields, body=body))
    assert response.status in {200, 202, 400, 404, 405, 414}


@pytest.mark.parametrize("field", ["tag=a&", "tag=a%26", "&", "a"], ids=repr)
def test_a_megabyte_of_query_is_414(registry: LiveRegistry, field: str) -> None:
    """With 100 000 tags, for one."""
    count = (1 << 20) // len(field)
    target = f"/v2/{NAME}/manifests/{DIGEST}?{field * count}"
    assert ask(registry, request("PUT", target)).status == 414


@pytest.mark.parametrize(
    "target",
    [
        "http://a/v2/", "http://a:5000/v2/", "HTTP://A/v2/", "https://a/v2/", "http://[::1]:5/v2/",
    ],
)  # fmt: skip
def test_absolute_targets_are_read(registry: LiveRegistry, target: str) -> None:
    assert ask(registry, request("GET", target)).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "//v2/", "///v2/", "/./v2/", "/x/../v2/", "/%76%32/../etc", "/v2/%2e%2e/%2e%2e/etc/passwd",
        "/v2/../../../../etc/passwd", "/etc/passwd", "/..;/v2/", "/v2/..%00/", "/%2e%2e%2f",
        "file:///etc/passwd", "http://a/../../etc/passwd", "/v2/_catalog/../../../etc/passwd",
    ],
)  # fmt: skip
def test_other_targets_are_not_there(registry: LiveRegistry, target: str) -> None:
    assert ask(registry, request("GET", target)).status in {400, 404}
