"""Answers that are given again, on real connections."""

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.serving.live_registry import LiveRegistry, live_registry, until


OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
SETTLED: Final = 1.2
"""Seconds after which what was written counts as settled, with some room."""

PIPELINED: Final = 300


def push(url: str, padding: int) -> bytes:
    """Push a manifest of about `padding` bytes to ``a:v1``; return it."""
    config = b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    where = f"{url}/v2/a/blobs/uploads/?digest={digest}"
    assert httpx.post(where, content=config).status_code == 201
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "a/b", "digest": digest, "size": len(config)},
        "layers": [],
        "annotations": {"padding": padding * "x"},
    }
    manifest = json.dumps(document).encode()
    headers = {"Content-Type": OCI_MANIFEST}
    answer = httpx.put(f"{url}/v2/a/manifests/v1", content=manifest, headers=headers)
    assert answer.status_code == 201
    time.sleep(SETTLED)
    return manifest


def request(method: str = "GET") -> bytes:
    return f"{method} /v2/a/manifests/v1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n".encode()


@contextmanager
def connected(registry: LiveRegistry) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", registry.port), 30) as connection:
        yield connection


class Reader:
    """Reads answers from a connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def answer(self, *, head: bool = False) -> tuple[bytes, bytes]:
        """Return the head and the body of the next answer; to HEAD there is no body."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        start, _, self._rest = self._rest.partition(b"\r\n\r\n")
        assert start.startswith(b"HTTP/1.1 200 OK\r\n"), start
        length = 0 if head else int(start.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return start, body

    def _more(self) -> None:
        data = self._connection.recv(1 << 20)
        assert data, "the connection was closed"
        self._rest += data


@pytest.mark.parametrize("padding", [10, 50_000])
def test_many_on_one_connection(tmp_path: Path, padding: int) -> None:
    """Whether they come one by one, all at once, or from who does not read for a while."""
    with live_registry(tmp_path, http={"debug": {"addr": "127.0.0.1:0"}}) as registry:
        manifest = push(registry.url, padding)
        lines_before = registry.log.count("response completed")
        with connected(registry) as connection:
            reader = Reader(connection)
            for _ in range(5):
                connection.sendall(request())
                assert reader.answer()[1] == manifest
            for _ in range(5):
                connection.sendall(request("HEAD"))
                assert reader.answer(head=True)[1] == b""
            connection.sendall(request() * PIPELINED)
            assert [reader.answer()[1] for _ in range(PIPELINED)] == PIPELINED * [manifest]
            for _ in range(PIPELINED):
                connection.sendall(request())
                time.sleep(0.0005)  # so that each is a packet of its own
            assert [reader.answer()[1] for _ in range(PIPELINED)] == PIPELINED * [manifest]
        total = 10 + 2 * PIPELINED
        until(lambda: registry.log.count("response completed") == lines_before + total)
        until(lambda: registry.access_log.count('"GET /v2/a/man') == total - 5)
        assert registry.access_log.count('"HEAD /v2/a/man') == 5
        identifiers = [
            line.partition("http.request.id=")[2].split()[0]
            for line in registry.log.splitlines()
            if "response completed" in line
        ]
        assert len(set(identifiers)) == len(identifiers)


def test_they_are_counted(tmp_path: Path) -> None:
    debug = {"addr": "127.0.0.1:0", "prometheus": {"enabled": True}}
    with live_registry(tmp_path, http={"debug": debug}) as registry:
        push(registry.url, 10)
        with connected(registry) as connection:
            reader = Reader(connection)
            for _ in range(20):
                connection.sendall(request())
                reader.answer()
        line = next(each for each in registry.log.splitlines() if "debug server" in each)
        port = line.rpartition(":")[2].split('"')[0]
        wanted = 'http_requests_total{code="200",handler="manifest",method="get"} 20'
        until(lambda: wanted in httpx.get(f"http://127.0.0.1:{port}/metrics").text)


def test_a_worker_that_ends_closes_the_connection(tmp_path: Path) -> None:
    """Who asks again and again must not keep a worker that is to end."""
    with live_registry(tmp_path) as registry:
        push(registry.url, 10)
        with connected(registry) as connection:
            reader = Reader(connection)
            for _ in range(4):
                connection.sendall(request())
                reader.answer()
            registry.process.terminate()
            with pytest.raises((AssertionError, ConnectionError)):
                _ask_on(connection, reader)
        assert registry.process.wait(10) == 0


def _ask_on(connection: socket.socket, reader: Reader) -> None:
    for _ in range(200):
        connection.sendall(request())
        reader.answer()
        time.sleep(0.02)
