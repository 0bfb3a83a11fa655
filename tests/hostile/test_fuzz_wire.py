"""A live server, sent anything: whole and well-formed responses below 500, then the end."""

import json
import re
from typing import Final

from hypothesis import assume, given, strategies as st

from tests.hostile.conftest import KEPT, NAME
from tests.hostile.fuzzing import bounded, headers, methods, queries, raw_paths
from tests.live import LiveRegistry, RawResponse, Wire, parse_responses
from tests.parts.images import OCI_MANIFEST, digest_of
from tests.registry_client import RegistryClient


OURS_TO_ANSWER: Final = frozenset({501, 505})
"""No such method, no such version of HTTP: faults of who asks."""

TEMPLATES: Final = (
    b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v2/_catalog?n=5&last=a HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    f"GET /v2/{NAME}/manifests/v1 HTTP/1.1\r\nHost: a\r\nAccept: {OCI_MANIFEST}\r\n\r\n".encode(),
    f"GET /v2/{NAME}/blobs/{KEPT.blobs[0].digest} HTTP/1.1\r\nHost: a\r\n"
    "Range: bytes=1-5\r\n\r\n".encode(),
    f"POST /v2/{NAME}/blobs/uploads/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode(),
    f"POST /v2/{NAME}/blobs/uploads/?digest={digest_of(b'abc')} HTTP/1.1\r\nHost: a\r\n"
    "Content-Length: 3\r\n\r\nabc".encode(),
    f"POST /v2/{NAME}/blobs/uploads/?digest={digest_of(b'abc')} HTTP/1.1\r\nHost: a\r\n"
    "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\nX: y\r\n\r\n".encode(),
    f"PUT /v2/{NAME}/manifests/new HTTP/1.1\r\nHost: a\r\nContent-Type: {OCI_MANIFEST}\r\n"
    "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}".encode(),
)

FRAGMENTS: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"\r\n\r\n",
    b"%00",
    b"..",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"Host: b\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"\xff",
    b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
)

mutations = st.lists(
    st.tuples(
        st.sampled_from(["insert", "replace", "delete", "repeat", "cut"]),
        st.integers(0, 400),
        st.sampled_from(FRAGMENTS) | st.binary(max_size=4),
    ),
    max_size=4,
)


def mutate(data: bytes, steps: list[tuple[str, int, bytes]]) -> bytes:
    for kind, position, fragment in steps:
        at = position % (len(data) + 1)
        match kind:
            case "insert":
                data = data[:at] + fragment + data[at:]
            case "replace":
                data = data[:at] + fragment + data[at + len(fragment) :]
            case "delete":
                data = data[:at] + data[at + max(len(fragment), 1) :]
            case "repeat":
                data = data[:at] + data[max(at - 20, 0) :]
            case _:
                data = data[:at]
    return data


def exchange(registry: LiveRegistry, data: bytes, cuts: list[int]) -> list[RawResponse]:
    """Send `data` in pieces, end our side, and return the responses, which must be decent."""
    with Wire(registry.port, seconds=1.0) as wire:
        start = 0
        for cut in sorted(cut % (len(data) + 1) for cut in cuts):
            wire.send(data[start:cut])
            start = cut
        wire.send(data[start:])
        wire.end()
        try:
            received = wire.read_all()
        except TimeoutError:
            # Half a request behind a whole one has its time to become whole, also when no more can
            # come; half a request alone has not.
            assert wire.received
            received = bytes(wire.received)
    responses = parse_responses(received)
    for response in responses:
        assert response.status < 500 or response.status in OURS_TO_ANSWER, response
        assert b"Traceback" not in response.body
        if response.header("content-type") == "application/json":
            json.loads(response.body)
    return responses


@bounded(500)
@given(
    picked=st.lists(st.sampled_from(TEMPLATES), min_size=1, max_size=3),
    steps=mutations,
    cuts=st.lists(st.integers(0, 2000), max_size=3),
)
def test_nearly_right_requests_are_answered_or_refused(
    registry: LiveRegistry,
    picked: list[bytes],
    steps: list[tuple[str, int, bytes]],
    cuts: list[int],
) -> None:
    data = mutate(b"".join(picked), steps)
    assume(b"HEAD" not in data)  # whose answers have no body, whatever they say
    responses = exchange(registry, data, cuts)
    if not steps:
        assert len(responses) == len(picked)
    # Not more answers than there are beginnings of requests.
    assert len(responses) <= 1 + len(re.findall(rb"HTTP/", data))


@bounded(200)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=2))
def test_noise_is_refused(registry: LiveRegistry, data: bytes, cuts: list[int]) -> None:
    assert len(exchange(registry, data, cuts)) <= 1


@bounded(300)
@given(
    method=methods, raw_path=raw_paths, query=queries, fields=headers, body=st.binary(max_size=99)
)
def test_any_request_is_answered_once(
    registry: LiveRegistry,
    method: str,
    raw_path: str,
    query: str,
    fields: list[tuple[str, str]],
    body: bytes,
) -> None:
    lines = [f"{method} {raw_path}{'?' if query else ''}{query} HTTP/1.1", "Host: a"]
    lines += [f"{name}: {value}" for name, value in fields]
    lines += [f"Content-Length: {len(body)}", "", ""]
    data = "\r\n".join(lines).encode("latin-1") + body
    assert len(exchange(registry, data, [])) == 1


@bounded(150)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    extensions=st.lists(st.sampled_from(["", ";a", ";a=b", ' ; a="b"']), min_size=9, max_size=9),
    trailer=st.sampled_from(["", "X: y\r\n", "Content-Length: 5\r\nHost: b\r\n"]),
    zeros=st.integers(0, 5),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_a_chunked_body_is_the_same_however_it_is_cut(
    registry: LiveRegistry,
    pieces: list[bytes],
    extensions: list[str],
    trailer: str,
    zeros: int,
    cuts: list[int],
) -> None:
    body = b"".join(pieces)
    head = (
        f"POST /v2/{NAME}/blobs/uploads/?digest={digest_of(body)} HTTP/1.1\r\nHost: a\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    data = head.encode()
    for piece, extension in zip(pieces, extensions, strict=False):
        data += f"{'0' * zeros}{len(piece):x}{extension}\r\n".encode() + piece + b"\r\n"
    data += f"0\r\n{trailer}\r\n".encode()
    second = f"GET /v2/{NAME}/blobs/{digest_of(body)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    pushed, pulled = exchange(registry, data + second, cuts)
    assert pushed.status == 201
    assert (pulled.status, pulled.body) == (200, body)


@bounded(60)
@given(size=st.integers(1, 300_000), sent=st.integers(0, 300_000), reset=st.booleans())
def test_who_leaves_within_a_body_leaves_nothing_behind(
    registry: LiveRegistry, size: int, sent: int, *, reset: bool
) -> None:
    body = b"x" * min(sent, size - 1)
    digest = digest_of(b"x" * size)
    with Wire(registry.port) as wire:
        head = f"POST /v2/{NAME}/left/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: a\r\n"
        wire.send(f"{head}Content-Length: {size}\r\n\r\n".encode() + body)
        if reset:
            wire.reset()
        else:
            wire.end()
            assert wire.read_all() == b""
    with RegistryClient(registry.address) as client:
        client.blob(f"{NAME}/left", digest).expect(404)
