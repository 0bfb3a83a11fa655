"""Header fields that try to become part of an answer, or of another request."""

import re
from typing import Final

import pytest

from tests.hostile.conftest import NAME
from tests.hostile.test_targets import ask, request
from tests.live import LiveRegistry
from tests.parts.images import OCI_MANIFEST


LOCATION: Final = re.compile(
    r"(?:https?://[A-Za-z0-9._~:\[\]-]+)?/v2/hostile/kept/blobs/uploads/[0-9a-f.-]+"
)
"""All that a Location may be: text of the client's is in it as a plain host only."""

HOSTS: Final = {
    "crlf-encoded": "evil%0d%0aX-Injected: yes",
    "path": "evil.example/v2/",
    "query": "evil.example?a=b",
    "user": "user:secret@evil.example",
    "space": "evil.example x",
    "quote": 'evil.example"',
    "less-than": "<script>",
    "tab": "evil\texample",
    "latin": "ev\xefl.example",
    "backslash": "evil\\example",
    "comma": "evil.example, other.example",
    "only-comma": ",",
    "empty": "",
    "long": "a" * 5000,
    "brackets": "[[[[",
    "fragment": "evil#x",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
@pytest.mark.parametrize(
    "field",
    [
        "X-Forwarded-Host: {}", "Forwarded: host={};proto=https", 'Forwarded: host="{}"',
        "Forwarded: for=1;host={},host=b", "X-Forwarded-Proto: {}", "Forwarded: proto={}",
        "X-Forwarded-For: {}", "X-Real-Ip: {}", "X-Request-Id: {}", "Referer: {}", "User-Agent: {}",
    ],
)  # fmt: skip
def test_a_location_is_what_it_should_be(registry: LiveRegistry, field: str, host: str) -> None:
    response = ask(registry, request("POST", f"/v2/{NAME}/blobs/uploads/", field.format(host)))
    assert response.status == 202
    assert LOCATION.fullmatch(response.header("Location")), response.header("Location")
    assert re.fullmatch(r"[0-9a-f]{16,}", response.header("X-Request-Id"))


def test_a_host_is_repeated_as_it_is(registry: LiveRegistry) -> None:
    fields = ("X-Forwarded-Host: registry.example:8443", "X-Forwarded-Proto: https")
    response = ask(registry, request("POST", f"/v2/{NAME}/blobs/uploads/", *fields))
    assert response.header("Location").startswith(f"https://registry.example:8443/v2/{NAME}/")


@pytest.mark.parametrize(
    "field",
    [
        "Host: b", "host: b", "Content-Length: 7", "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity", "Content-Length : 0", "Host : a", "X\0: a", "X: a\0",
        "X: a\rb", " folded", "\tfolded", "X: a\n folded", ": a", "X", "X Y: a", "Expect: more",
    ],
    ids=repr,
)  # fmt: skip
def test_fields_that_could_be_read_in_two_ways_are_refused(
    registry: LiveRegistry, field: str
) -> None:
    response = ask(registry, request("GET", "/v2/", field))
    assert response.status in {400, 417}
    assert response.header("Connection") == "close"


VALUES: Final = (
    "", " ", "\t", "*", ",", ";", '"', '""', "=", "-", "0-", "-0", "bytes=", "bytes=-", "bytes=0-0",
    "bytes=0-18446744073709551616", "bytes=" + "0-1," * 1000, "bytes=a-b", "0-18446744073709551616",
    "5-1", "W/", '"' * 500, "a/b;q=", "a/b;q=nan", "a/b;q=1e400", "*/*;q=0", "q" * 8000, "\xff\xfe",
    "a," * 4000, ";" * 8000, "application/json; charset=" + "x" * 3000, "/" * 2000, "a/b/c", "\x7f",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "Range", "Content-Range", "If-Match", "If-None-Match", "If-Range", "Accept", "Content-Type",
        "Accept-Encoding", "Authorization", "Cookie", "X-Forwarded-For", "Forwarded", "Via", "TE",
        "Upgrade", "HTTP2-Settings", "Connection", "Keep-Alive", "Trailer", "Origin",
        "X-HTTP-Method-Override", "Content-Encoding", "Digest", "Want-Digest",
    ],
)  # fmt: skip
def test_odd_values_are_answered(registry: LiveRegistry, name: str) -> None:
    targets = [
        ("GET", f"/v2/{NAME}/manifests/v1", b""),
        ("GET", f"/v2/{NAME}/blobs/sha256:{'0' * 64}", b""),
        ("PUT", f"/v2/{NAME}/manifests/odd", b"{}"),
        ("POST", f"/v2/{NAME}/blobs/uploads/", b""),
    ]
    for value in VALUES:
        for method, target, body in targets:
            fields = [f"{name}: {value}"]
            if method == "PUT" and name != "Content-Type":
                fields.append(f"Content-Type: {OCI_MANIFEST}")
            ask(registry, request(method, target, *fields, body=body))
