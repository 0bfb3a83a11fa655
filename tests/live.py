"""What tests of faults need of a real ``registry serve``: processes, memory, log, and wire."""

import contextlib
import http.client
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from typing_extensions import override

from tests.parts.daemon import wait_for
from tests.parts.registries import RegistryUnderTest


TRACE: Final = re.compile(r"Traceback \(most recent call last\)|\bstack=|failed unexpectedly")
"""What a line of the log has only when something went wrong that nobody had thought of."""

WIRE_SECONDS: Final = 15.0
"""How long a raw connection may be silent: longer than a head may take, by default."""


class LiveRegistry(RegistryUnderTest):
    """A registry whose processes the test may look at and kill."""

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [child for child in children(self.pid) if is_running(child)]

    @property
    def messages(self) -> str:
        """All that was logged so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End all processes of the service at once, as SIGKILL does; return when they are gone."""
        everyone = [self.pid, *children(self.pid)]
        self.daemon.kill()
        wait_for(lambda: not any(map(is_running, everyone)), "the killed processes are gone")

    def wait_for_workers(self, count: int) -> None:
        """Return once `count` workers run."""
        wait_for(lambda: len(self.workers) == count, f"{count} workers")

    def assert_no_trace(self) -> None:
        """Assert that the log has no stack trace."""
        found = [line for line in self.messages.splitlines() if TRACE.search(line)]
        assert not found, "\n".join(found[:5])[:8000]

    @override
    def answers(self) -> bool:
        """Say whether the server answers ``GET /v2/``; a server that resets does not."""
        with contextlib.suppress(http.client.HTTPException):
            return super().answers()
        return False


def children(pid: int) -> list[int]:
    """Return the process ids of the children of `pid`."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_running(pid: int) -> bool:
    """Say whether the process exists and is no zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def memory(pid: int, field: str = "VmRSS") -> int:
    """Return a field of ``/proc/PID/status`` in bytes: `VmRSS` is now, `VmHWM` the most ever."""
    match = re.search(
        rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    assert match is not None
    return int(match[1]) << 10


def listing(folder: Path, *, without: Path | None = None) -> set[str]:
    """Return the paths of everything below `folder` but what is below `without`."""
    found: set[str] = set()
    for parent, folders, files in os.walk(folder):
        if without is not None and Path(parent) == without:
            folders.clear()
            continue
        found.update(str(Path(parent, name)) for name in (*folders, *files))
    return found


@contextlib.contextmanager
def serving(folder: Path, settings: Mapping[str, Any] | None = None) -> Iterator[LiveRegistry]:
    """Serve from `folder` with `settings`; at the end the log must be free of stack traces."""
    with LiveRegistry(folder, settings=settings) as registry:
        yield registry
    registry.assert_no_trace()


@dataclass(frozen=True, slots=True)
class RawResponse:
    """One response as it came over the wire.

    Attributes:
        status: its status.
        headers: names in lower case, in order.
        body: the body, chunks joined.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """Return the first header called `name`, or an empty text."""
        return next((value for key, value in self.headers if key == name.lower()), "")


class Wire:
    """One TCP connection, byte by byte.

    Attributes:
        received: all that `read_all` has read.
    """

    def __init__(self, port: int, *, seconds: float = WIRE_SECONDS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send `data`; what a server that closed does not take is dropped."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.socket.sendall(data)

    def end(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read_all(self) -> bytes:
        """Return all that comes until the server closes.

        Raises:
            TimeoutError: it did not close in time; what came is in `received`.
        """
        with contextlib.suppress(ConnectionError):  # a reset is an end too
            while data := self.socket.recv(1 << 16):
                self.received += data
        return bytes(self.received)


def talk(port: int, request: bytes) -> list[RawResponse]:
    """Send `request` on a connection of its own, end our side, and return all that was answered."""
    with Wire(port) as wire:
        wire.send(request)
        wire.end()
        return parse_responses(wire.read_all())


def parse_responses(data: bytes) -> list[RawResponse]:
    """Return the responses in `data`, which must be nothing but whole, well-formed responses.

    Interim ones (100) are left out. The answers to HEAD can't be told apart here, so don't send it.
    """
    found: list[RawResponse] = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        assert separator, f"half a head: {data[:200]!r}"
        line, *fields = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [ -~]*", line)
        assert match is not None, f"no status line: {line[:200]!r}"
        pairs = [field.partition(":") for field in fields]
        assert all(re.fullmatch(r"[!-9;-~]+", name) for name, _, _ in pairs), fields
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        status = int(match[1])
        body, data = _split_body(status, dict(headers), rest)
        if status != http.HTTPStatus.CONTINUE:
            found.append(RawResponse(status, headers, body))
    return found


def _split_body(status: int, headers: dict[str, str], data: bytes) -> tuple[bytes, bytes]:
    if status < http.HTTPStatus.OK or status in {204, 304}:
        return b"", data
    if headers.get("transfer-encoding") == "chunked":
        return _split_chunks(data)
    length = int(headers["content-length"])
    assert len(data) >= length, f"{len(data)} of {length} bytes of a body"
    return data[:length], data[length:]


def _split_chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        body, end, data = body + data[:size], data[size : size + 2], data[size + 2 :]
        assert end == b"\r\n"
        if not size:
            return body, data
