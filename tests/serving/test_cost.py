"""What a request costs, as a multiple of the least it can cost: a guard against growing slow.

Both servers are measured in turns in the same run, by the CPU they use and not by the time that
passes, and the best of several looks counts: a busy machine makes a look worse, never better. So
the ratio depends little on the machine, and only on it does the test depend.

Lower `MEASURED` when the code has become faster. To see it fail, put ``sum(range(10_000))`` into
`dockyard.http.app`.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from benchmarks.content import Content
from tests.serving.live_registry import live_registry


REQUESTS: Final = 2_000
"""Of each look: tens of milliseconds of CPU, which the clock counts in nanoseconds."""

CONNECTIONS: Final = 8
LOOKS: Final = 5
ROOM: Final = 1.6
"""For noise, and for other processors and Pythons."""

MEASURED: Final = {"manifest by tag": 2.4, "small blob": 2.4, "manifest, not given again": 8.0}
"""The multiples when they were last measured."""


def cpu(process: int) -> int:
    """Return the nanoseconds of CPU that a process has used, in all its threads.

    Source: clock_getcpuclockid(3), as the GNU C library makes the number of the clock.
    """
    return time.clock_gettime_ns((~process << 3) | 2)


class Client:
    """Some connections, and the same request on all of them."""

    def __init__(self, stack: ExitStack, port: int, path: str, field: str = "") -> None:
        fields = f"Host: a\r\nAccept: */*\r\n{field}"
        self._request = f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()
        self._sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            for _ in range(CONNECTIONS)
        ]

    def ask(self, times: int) -> None:
        for _ in range(times // CONNECTIONS):
            for each in self._sockets:
                each.sendall(self._request)
            for each in self._sockets:
                receive(each)


def receive(connection: socket.socket) -> None:
    """Read one answer, which must be 200."""
    data = more(connection)
    while b"\r\n\r\n" not in data:
        data += more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    _, _, rest = head.lower().partition(b"content-length:")
    missing = int(rest.split(b"\r\n")[0]) - len(body)
    while missing:
        missing -= len(more(connection))


def more(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    assert data, "the connection was closed"
    return data


@contextmanager
def reference(folder: Path) -> Iterator["tuple[subprocess.Popen[bytes], int]"]:
    """Run the reference; yield its process and its port."""
    files = [folder / "one", folder / "other"]
    for file in files:
        file.write_text("sha256:" + 64 * "0")
    program = [sys.executable, str(Path(__file__).with_name("reference_server.py"))]
    process = subprocess.Popen([*program, *map(str, files)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate()


def look(client: Client, process: int) -> float:
    """Return the nanoseconds of CPU of a request."""
    before = cpu(process)
    client.ask(REQUESTS)
    return (cpu(process) - before) / REQUESTS


@pytest.mark.parametrize("kind", MEASURED)
def test_a_request_costs_little_more_than_the_least(kind: str, tmp_path: Path) -> None:
    content = Content(tmp_path / "data")
    layer = content.layer("bench/image", bytes(range(256)) * 8)
    content.image("bench/image", "v1", [layer])
    what = f"blobs/{layer['digest']}" if kind == "small blob" else "manifests/v1"
    bound = MEASURED[kind] * ROOM
    with (
        reference(tmp_path) as (ruler, ruler_port),
        live_registry(tmp_path) as registry,
        ExitStack() as stack,
    ):
        (worker,) = registry.workers()
        theirs = Client(stack, ruler_port, "/")
        unknown = "X-Unknown: a\r\n" if "not given again" in kind else ""
        ours = Client(stack, registry.port, f"/v2/bench/image/{what}", unknown)
        ours.ask(REQUESTS)
        least = best = float("inf")
        for _ in range(LOOKS):
            least = min(least, look(theirs, ruler.pid))
            best = min(best, look(ours, worker))
            if best / least <= bound:
                break
        print(f"{kind}: {best / 1000:.1f} µs, {best / least:.2f} times {least / 1000:.1f} µs")
        assert best / least <= bound, f"{best / 1000:.1f} µs is {best / least:.1f} times the least"
