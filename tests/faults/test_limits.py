"""Requests over a limit: refused in words that real clients get to read."""

import resource
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from tests.live import LiveRegistry, serving
from tests.parts.images import OCI_MANIFEST, image
from tests.parts.programs import attempt, require
from tests.registry_client import RegistryClient, assert_served


MANIFEST_LIMIT: Final = 4 << 20
SLOW_CLIENTS: Final = 800
HEAD_SECONDS: Final = 10.0
"""How long a head may take, by default."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    with serving(tmp_path_factory.mktemp("limits"), {"http": {"workers": 2}}) as running:
        yield running


@pytest.mark.parametrize("megabytes", [5, 100])
@pytest.mark.parametrize(
    "header",
    [
        pytest.param("X-Plain: length", id="length"),
        pytest.param("Transfer-Encoding: chunked", id="chunked"),
        pytest.param("Expect: 100-continue", id="expects continue"),
        pytest.param("Expect:", id="expects nothing"),
    ],
)
def test_a_manifest_over_the_limit_is_413(
    registry: LiveRegistry, tmp_path: Path, megabytes: int, header: str
) -> None:
    body = tmp_path / "manifest"
    with body.open("wb") as file:
        file.truncate(megabytes << 20)
    done = attempt(
        require("curl"), "-s", "-S", "-X", "PUT", "-T", body, "-H", header,
        "-H", f"Content-Type: {OCI_MANIFEST}", "-w", "\n%{http_code}",
        f"{registry.url}/v2/limits/one/manifests/v1",
    )  # fmt: skip
    answer, _, status = done.stdout.rpartition("\n")
    assert (done.returncode, status) == (0, "413"), done
    assert '"code":"MANIFEST_INVALID"' in answer
    assert str(MANIFEST_LIMIT) in answer


def test_a_manifest_at_the_limit_is_taken(registry: LiveRegistry) -> None:
    small = image("large", annotations={"padding": ""})
    room = MANIFEST_LIMIT - len(small.manifest.body)
    large = image("large", annotations={"padding": "x" * room})
    assert len(large.manifest.body) == MANIFEST_LIMIT
    with RegistryClient(registry.address) as client:
        client.push_image("limits/one", large, "large")
        assert_served(client, "limits/one", large, "large")


class SlowClients:
    """Connections that send one byte of their head now and then."""

    def __init__(self, port: int, count: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < count + 200:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 1000), hard))
        self._selector = selectors.DefaultSelector()
        self.open: set[socket.socket] = set()
        self.answers: list[bytes] = []
        self.closed_after: list[float] = []
        self._began = time.monotonic()
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            client.setblocking(False)  # noqa: FBT003 -- its only parameter
            self.open.add(client)
            self._selector.register(client, selectors.EVENT_READ)

    def turn(self, pause: float) -> None:
        """Send a byte on each connection, and note which the server closed within `pause`."""
        for client in tuple(self.open):
            try:
                client.send(b"x")
            except OSError:
                self._closed(client)
        end = time.monotonic() + pause
        while self.open and (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                self._read(key.fileobj)

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(4096)
        except OSError:
            data = b""
        if data:
            self.answers.append(data)
        else:
            self._closed(client)

    def _closed(self, client: socket.socket) -> None:
        self.closed_after.append(time.monotonic() - self._began)
        self._selector.unregister(client)
        self.open.discard(client)
        client.close()

    def close(self) -> None:
        for client in tuple(self.open):
            self._closed(client)
        self._selector.close()


def test_slow_heads_of_800_clients_are_closed_and_keep_nobody_waiting(
    registry: LiveRegistry,
) -> None:
    waits: list[float] = []
    slow = SlowClients(registry.port, SLOW_CLIENTS)
    end = time.monotonic() + HEAD_SECONDS + 5
    try:
        while slow.open and time.monotonic() < end:
            slow.turn(0.5)
            for _ in range(5):
                with RegistryClient(registry.address) as client:
                    began = time.monotonic()
                    client.request("GET", "/v2/").expect(200)
                    waits.append(time.monotonic() - began)
        assert not slow.open, f"{len(slow.open)} of {SLOW_CLIENTS} are still open"
    finally:
        slow.close()
    first, last = min(slow.closed_after), max(slow.closed_after)
    print(
        f"\n{SLOW_CLIENTS} closed after {first:.1f} to {last:.1f} s; {len(waits)} others waited "
        f"{median(waits) * 1000:.1f} ms, at most {max(waits) * 1000:.1f} ms"
    )
    assert first >= HEAD_SECONDS - 0.5
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in slow.answers)
    assert len(slow.answers) == SLOW_CLIENTS
    assert median(waits) < 0.05
    assert max(waits) < 2.0  # some milliseconds, where nothing else keeps the machine busy
