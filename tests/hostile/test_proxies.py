"""Behind a proxy: whatever a client sends, the proxy and we read the same requests in it.

A proxy that keeps connections to us open puts requests of several clients into one of them. If it
and we saw different ends in the same bytes, one client could put words into another's mouth.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from tests.hostile.proxies import Proxy, haproxy, nginx
from tests.live import LiveRegistry, RawResponse, Wire, parse_responses, serving
from tests.parts.daemon import wait_for
from tests.parts.images import image
from tests.registry_client import RegistryClient, assert_served


START: Final[Mapping[str, Callable[[Path, int], AbstractContextManager[Proxy]]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
}

SMUGGLED: Final = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: a\r\n\r\n"

LENGTH: Final = len(SMUGGLED)


def post(*fields: str, body: str = "") -> str:
    """Return a request to begin an upload with `fields` and `body`."""
    return "\r\n".join(["POST /v2/outer/blobs/uploads/ HTTP/1.1", "Host: a", *fields, "", body])


CASES: Final = {
    "honest": post("Content-Length: 0"),
    "honest-length": post("Content-Length: 3", body="abc"),
    "honest-chunks": post("Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n"),
    "cl-te": post("Content-Length: 6", "Transfer-Encoding: chunked", body="0\r\n\r\nX"),
    "cl-te-request": post(
        f"Content-Length: {LENGTH + 5}", "Transfer-Encoding: chunked", body="0\r\n\r\n" + SMUGGLED
    ),
    "te-cl": post(
        "Transfer-Encoding: chunked",
        "Content-Length: 4",
        body=f"{LENGTH:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
    ),
    "two-cl": post("Content-Length: 0", f"Content-Length: {LENGTH}", body=SMUGGLED),
    "two-cl-other-way": post(f"Content-Length: {LENGTH}", "Content-Length: 0", body=SMUGGLED),
    "equal-cl": post("Content-Length: 3", "Content-Length: 3", body="abc"),
    "cl-list": post("Content-Length: 3, 3", body="abc"),
    "cl-plus": post("Content-Length: +3", body="abc"),
    "cl-zeros": post("Content-Length: 0000000003", body="abc"),
    "cl-hex": post(f"Content-Length: 0x{LENGTH:x}", body=SMUGGLED),
    "cl-blank-inside": post("Content-Length: 3 0", body="abc"),
    "cl-space-before-colon": post(f"Content-Length : {LENGTH}", body=SMUGGLED),
    "cl-tab": post("Content-Length:\t3", body="abc"),
    "cl-nul": post(f"Content-Length: {LENGTH}\0", body=SMUGGLED),
    "cl-newline-before": post(f"X: a\nContent-Length: {LENGTH}", body=SMUGGLED),
    "te-space-before-colon": post("Transfer-Encoding : chunked", body="0\r\n\r\n"),
    "te-tab": post("Transfer-Encoding:\tchunked", body="0\r\n\r\n"),
    "te-vertical-tab": post(
        "Transfer-Encoding: \x0bchunked",
        f"Content-Length: {LENGTH + 5}",
        body="0\r\n\r\n" + SMUGGLED,
    ),
    "te-capitals": post("TRANSFER-ENCODING: CHUNKED", body="0\r\n\r\n"),
    "te-x": post("Transfer-Encoding: xchunked", "Content-Length: 5", body="0\r\n\r\n"),
    "te-list": post("Transfer-Encoding: identity, chunked", body="0\r\n\r\n"),
    "te-list-other-way": post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n"),
    "te-twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "te-twice-different": post(
        "Transfer-Encoding: chunked", "Transfer-Encoding: x", body="0\r\n\r\n"
    ),
    "te-quoted": post('Transfer-Encoding: "chunked"', "Content-Length: 5", body="0\r\n\r\n"),
    "te-folded": post("Transfer-Encoding:\r\n chunked", "Content-Length: 5", body="0\r\n\r\n"),
    "te-comma": post("Transfer-Encoding: ,chunked", body="0\r\n\r\n"),
    "te-10": post("Transfer-Encoding: chunked", body="0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
    "te-cl-10": post(
        "Transfer-Encoding: chunked", f"Content-Length: {LENGTH}", body=SMUGGLED
    ).replace("uploads/ HTTP/1.1", "uploads/ HTTP/1.0"),
    "bare-lf": post("Content-Length: 3", body="abc").replace("\r\n", "\n"),
    "bare-lf-in-field": post("X: a\nY: b", "Content-Length: 3", body="abc"),
    "bare-cr-in-field": post("X: a\rContent-Length: 9", "Content-Length: 3", body="abc"),
    "obs-fold": post("X: a\r\n b", "Content-Length: 3", body="abc"),
    "obs-fold-length": post(
        f"X: a\r\n Content-Length: {LENGTH}", "Content-Length: 0", body=SMUGGLED
    ),
    "nul-in-value": post("X: a\0b", "Content-Length: 3", body="abc"),
    "nul-in-name": post("X\0: a", "Content-Length: 3", body="abc"),
    "name-with-space": post("X Y: a", "Content-Length: 3", body="abc"),
    "no-colon": post("X", "Content-Length: 3", body="abc"),
    "empty-name": post(": a", "Content-Length: 3", body="abc"),
    "underscore": post(f"Content_Length: {LENGTH}", "Content-Length: 0", body=SMUGGLED),
    "two-hosts": post("Host: b", "Content-Length: 3", body="abc"),
    "absolute": post("Content-Length: 0").replace("POST /", "POST http://b/"),
    "absolute-other-host": post("Content-Length: 3", body="abc").replace(
        "POST /", "POST http://b:1/"
    ),
    "get-with-body": post(f"Content-Length: {LENGTH}", body=SMUGGLED).replace("POST", "GET"),
    "delete-with-body": post(f"Content-Length: {LENGTH}", body=SMUGGLED).replace("POST", "DELETE"),
    "expect": post("Expect: 100-continue", "Content-Length: 3", body="abc"),
    "expect-odd": post("Expect: 100-continue, x", "Content-Length: 3", body="abc"),
    "upgrade": post("Connection: upgrade", "Upgrade: h2c", "Content-Length: 3", body="abc"),
    "upgrade-websocket": post(
        "Connection: upgrade", "Upgrade: websocket", f"Content-Length: {LENGTH}", body=SMUGGLED
    ),
    "connection-names-length": post(
        "Connection: content-length", f"Content-Length: {LENGTH}", body=SMUGGLED
    ),
    "connection-names-te": post(
        "Connection: transfer-encoding", "Transfer-Encoding: chunked", body="0\r\n\r\n"
    ),
    "chunk-not-hex": post("Transfer-Encoding: chunked", body="xyz\r\nabc\r\n0\r\n\r\n"),
    "chunk-minus": post("Transfer-Encoding: chunked", body="-3\r\nabc\r\n0\r\n\r\n"),
    "chunk-0x": post("Transfer-Encoding: chunked", body="0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk-overflow": post(
        "Transfer-Encoding: chunked", body="10000000000000003\r\nabc\r\n0\r\n\r\n"
    ),
    "chunk-lf": post("Transfer-Encoding: chunked", body="3\nabc\n0\n\n"),
    "chunk-long": post("Transfer-Encoding: chunked", body="3\r\nabcd\r\n0\r\n\r\n"),
    "chunk-short": post("Transfer-Encoding: chunked", body="4\r\nabc\r\n0\r\n\r\n"),
    "chunk-space": post("Transfer-Encoding: chunked", body="3 \r\nabc\r\n0\r\n\r\n"),
    "chunk-extension": post("Transfer-Encoding: chunked", body='3;a="b\r\nabc\r\n0\r\n\r\n'),
    "chunk-extension-lf": post(
        "Transfer-Encoding: chunked", body=f"0;a\n\r\n{LENGTH:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"
    ),
    "chunk-trailer": post(
        "Transfer-Encoding: chunked",
        body="0\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "chunk-trailer-lf": post("Transfer-Encoding: chunked", body=f"0\r\nX: y\n\n{SMUGGLED}"),
    "chunk-no-last": post("Transfer-Encoding: chunked", body="3\r\nabc\r\n"),
    "pipelined": post("Content-Length: 0") + SMUGGLED + SMUGGLED,
}
"""Each is followed by one more honest request on the same connection."""

AFTERWARDS: Final = "GET /v2/afterwards/tags/list HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

TARGETS: Final = {
    "/v2/outer/blobs/uploads/",
    "/v2/smuggled/tags/list",
    "/v2/afterwards/tags/list",
    "/v2/probe/tags/list",
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    with serving(tmp_path_factory.mktemp("backend"), {"http": {"workers": 1}}) as running:
        yield running


@pytest.fixture(scope="module", params=list(START))
def proxy(
    request: pytest.FixtureRequest,
    registry: LiveRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    with START[request.param](
        tmp_path_factory.mktemp("proxy") / request.param, registry.port
    ) as running:
        yield running


def logged_since(registry: LiveRegistry, position: int) -> dict[str, str]:
    """Return the requests that reached us since the log was `position` long: targets by id."""
    lines = registry.messages[position:].splitlines()
    found = {}
    for line in lines:
        request = re.search(r"http\.request\.id=(\w+)", line)
        target = re.search(r'http\.request\.uri="?([^" ]+)', line)
        if request and target and "response completed" in line:
            found[request[1]] = target[1]
    return found


def ask(proxy: Proxy, data: str) -> list[RawResponse]:
    """Send `data` through the proxy and return the responses."""
    with Wire(proxy.port, seconds=1.0) as wire:
        wire.send(data.encode("latin-1"))
        try:
            received = wire.read_all()
        except TimeoutError:  # the proxy waits for the rest of a request
            received = bytes(wire.received)
    return parse_responses(received)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_proxy_and_we_see_the_same_requests(
    registry: LiveRegistry, proxy: Proxy, case: str
) -> None:
    position = len(registry.messages)
    responses = ask(proxy, case + AFTERWARDS)
    ours = [response for response in responses if response.header("X-Request-Id")]
    # Whoever comes next on the same connection to us gets the answer to its own question.
    (probe,) = ask(proxy, AFTERWARDS.replace("afterwards", "probe"))
    assert probe.status == 404
    assert b'"name":"probe"' in probe.body
    expected = [each.header("X-Request-Id") for each in (*ours, probe)]
    wait_for(lambda: {*expected} <= logged_since(registry, position).keys(), "the log")
    seen = logged_since(registry, position)
    assert set(seen.values()) <= TARGETS, "a part of a body was taken for a request"
    answered = {response.header("X-Request-Id"): response for response in ours}
    # Each answer is to the request that the proxy passed on, in order; none is left over.
    assert answered.keys() <= seen.keys()
    unanswered = [seen[each] for each in seen.keys() - answered.keys()]
    unanswered.remove("/v2/probe/tags/list")
    assert len(unanswered) <= 1, "answers that nobody got"
    for identifier, response in answered.items():
        name = seen[identifier].split("/")[2]
        if seen[identifier].endswith("tags/list"):
            assert f'"name":"{name}"'.encode() in response.body
    honest = case in {CASES["honest"], CASES["honest-length"], CASES["honest-chunks"]}
    assert not honest or [response.status for response in responses] == [202, 404]


def test_images_are_pushed_and_pulled_through_it(registry: LiveRegistry, proxy: Proxy) -> None:
    """With its address in every Location, in chunks of known and of unknown length."""
    name, top = f"proxied/{proxy.name}", image(proxy.name, layers=3)
    with RegistryClient(proxy.address) as client:
        client.push_image(name, top, "v1")
        assert_served(client, name, top, "v1")
        assert client.start_upload(name).startswith(f"http://{proxy.address}/v2/{name}/")
        body = os.urandom(3_000_000)
        digest = client.push_blob_in_chunks(name, body, 1_000_000)
        assert client.blob(name, digest).expect(200).body == body
        location = client.start_upload(name)
        pieces = (body[start : start + 70_000] for start in range(0, len(body), 70_000))
        answer = client.request("PATCH", location, body=pieces).expect(202)
        assert answer.header("Range") == f"0-{len(body) - 1}"
    with RegistryClient(registry.address) as client:
        assert_served(client, name, top, "v1")


def test_a_client_that_leaves_is_noticed_through_it(proxy: Proxy) -> None:
    """Its upload is not held for ever: the next request for it finds out how much came."""
    with RegistryClient(proxy.address) as client:
        location = client.start_upload("proxied/left")
    path = location.partition("/v2/")[2]
    with Wire(proxy.port) as wire:
        wire.send(
            f"PATCH /v2/{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n".encode()
        )
        wire.send(b"x" * 300_000)
        wire.reset()
    deadline = time.monotonic() + 10
    with RegistryClient(proxy.address) as client:
        while True:
            answer = client.request("PATCH", location.rpartition(".")[0], body=b"y")
            if answer.status == 202 or time.monotonic() > deadline:
                break
        assert answer.status == 202
