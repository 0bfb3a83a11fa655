"""Uploads belong to no process: they go on after a restart and on another worker."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.live import LiveRegistry, serving
from tests.parts.images import digest_of
from tests.registry_client import OCTETS, Answer, RegistryClient, with_query


NAME: Final = "sessions/one"
CHUNKS: Final = 8
CHUNK: Final = 200_000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LiveRegistry]:
    with serving(tmp_path, {"http": {"workers": 2}}) as running:
        yield running


class Hopper:
    """A client that opens a connection for each request, so that any worker may get it.

    Attributes:
        instances: the workers that answered.
    """

    def __init__(self, registry: LiveRegistry) -> None:
        self.instances: set[str] = set()
        self._registry = registry

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        fields = {**OCTETS, "Connection": "close"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        with RegistryClient(self._registry.address) as client:
            answer = client.request(method, target, body=body, headers=fields)
        self.instances.add(answer.header("X-Request-Id")[:16])
        return answer


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("keeps_query", [True, False], ids=["Location whole", "path alone"])
def test_an_upload_moves_between_workers(
    registry: LiveRegistry, algorithm: str, *, keeps_query: bool
) -> None:
    hopper = Hopper(registry)
    for _ in range(4):  # both workers take part, by the kernel's choice
        body = os.urandom(CHUNKS * CHUNK)
        location = begin(hopper)
        for start in range(0, len(body), CHUNK):
            if not keeps_query:
                location = location.partition("?")[0]
            chunk = body[start : start + CHUNK]
            answer = hopper.request(
                "PATCH", location, chunk, Content_Range=f"{start}-{start + len(chunk) - 1}"
            )
            location = answer.expect(202).header("Location")
            status = hopper.request("GET", location).expect(204)
            assert status.header("Range") == f"0-{start + len(chunk) - 1}"
        digest = digest_of(body, algorithm)
        hopper.request("PUT", with_query(location, digest=digest)).expect(201)
        assert hopper.request("GET", f"/v2/{NAME}/blobs/{digest}").expect(200).body == body
        if len(hopper.instances) > 1:
            return
    pytest.fail("one worker answered everything")


def begin(hopper: Hopper) -> str:
    answer = hopper.request("POST", f"/v2/{NAME}/blobs/uploads/")
    return answer.expect(202).header("Location")


def test_a_wrong_digest_is_noticed_whichever_workers_took_the_bytes(registry: LiveRegistry) -> None:
    hopper = Hopper(registry)
    body = os.urandom(CHUNK)
    for _ in range(10):
        location = begin(hopper)
        location = hopper.request("PATCH", location, body).expect(202).header("Location")
        target = with_query(location, digest=digest_of(body + b"!"))
        refused = hopper.request("PUT", target)
        assert refused.expect(400).codes() == ["DIGEST_INVALID"]
    assert hopper.request("GET", f"/v2/{NAME}/blobs/{digest_of(body)}").status == 404


@pytest.mark.parametrize(
    "restart",
    [pytest.param(LiveRegistry.restart, id="SIGTERM"), pytest.param(None, id="SIGKILL")],
)
def test_an_upload_survives_a_restart(
    registry: LiveRegistry, restart: Callable[[LiveRegistry], None] | None
) -> None:
    body = os.urandom(3 * CHUNK)
    with RegistryClient(registry.address) as client:
        location = client.start_upload(NAME)
        for start in range(0, len(body), CHUNK):
            if restart is None:
                registry.kill()
                registry.start()
            else:
                restart(registry)
            chunk = body[start : start + CHUNK]
            headers = {**OCTETS, "Content-Range": f"{start}-{start + len(chunk) - 1}"}
            answer = client.request("PATCH", location, body=chunk, headers=headers)
            location = answer.expect(202).header("Location")
        registry.restart()
        target = with_query(location, digest=digest_of(body))
        client.request("PUT", target, body=b"").expect(201)
        assert client.blob(NAME, digest_of(body)).expect(200).body == body


def test_a_chunk_whose_client_left_counts_as_far_as_it_came(registry: LiveRegistry) -> None:
    """The client asks how far that is, and goes on from there, here on whichever worker."""
    hopper = Hopper(registry)
    body = os.urandom(3 * CHUNK)
    location = begin(hopper)
    path = location.removeprefix(registry.url)
    head = f"PATCH {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    with RegistryClient(registry.address) as client:
        client.request("GET", "/v2/")
        connection = client._connection.sock  # noqa: SLF001 -- to break off within a body
        connection.sendall(head.encode() + body[:CHUNK])
    received = 0
    while received < CHUNK:
        status = hopper.request("GET", location).expect(204)
        last = status.header("Range").removeprefix("0-")
        received = int(last) + 1 if last != "0" else 0
    while True:
        answer = hopper.request(
            "PATCH", location, body[received:], Content_Range=f"{received}-{len(body) - 1}"
        )
        if answer.status != 409:  # until the other request has noticed that its client left
            break
    location = answer.expect(202).header("Location")
    hopper.request("PUT", with_query(location, digest=digest_of(body))).expect(201)
    assert hopper.request("GET", f"/v2/{NAME}/blobs/{digest_of(body)}").expect(200).body == body
