"""An application that answers so that one sees what it was asked, and a raw client."""

import asyncio
import hashlib
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.request_log import RequestLog
from dockyard.server.acceptor import Acceptor
from dockyard.server.clear import HTTP2
from dockyard.server.limits import ConnectionLimits


SECONDS = 5.0
"""Longest wait for anything in these tests."""

LENGTH_2 = [(b"content-length", b"2")]

QUICK = ConnectionLimits(
    head_seconds=0.3,
    idle_seconds=0.3,
    body_window_seconds=0.3,
    body_window_bytes=1000,
    linger_seconds=0.5,
    linger_bytes=4 << 20,
    stall_seconds=0.4,
    sweep_seconds=0.02,
)


@dataclass
class Probe:
    """The application, and what it saw.

    Attributes:
        seen: method, path and Host of each request.
        bodies: length of each body read to its end.
        cut_off: requests whose client went away.
        gate: opened by the test; ``/gate`` waits for it.
    """

    seen: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    cut_off: int = 0
    sent: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"]).get(b"host", b"")
        self.seen.append((scope["method"], scope["raw_path"], host))
        await getattr(self, "_" + scope["path"].strip("/"), self._plain)(scope, receive, send)

    async def _plain(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, 200, b"ok\n")

    async def _early(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, 413, b"too much\n")

    async def _gate(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await self.gate.wait()
        await answer(send, 200, b"open\n")

    async def _odd(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"bc"})

    async def _split(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"x-a", b"1\r\nx-b: 2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _short(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ValueError("secret reason")

    async def _endless(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ValueError("secret reason")

    async def _eager(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"eager", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.cut_off += 1

    async def _rude(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"before the start"})

    async def _twice(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, 200, b"once\n")
        await answer(send, 200, b"twice\n")

    async def _long(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": LENGTH_2})
        await send({"type": "http.response.body", "body": b"long"})

    async def _less(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": LENGTH_2})
        await send({"type": "http.response.body", "body": b"l"})

    async def _coding(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"transfer-encoding", b"gzip")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _closing(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"connection", b"close"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    async def _boom(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("secret reason")

    async def _empty(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, 204, b"")

    async def _echo(self, _scope: Scope, receive: Receive, send: Send) -> None:
        digest, length = hashlib.sha256(), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut_off += 1
                return
            digest.update(message["body"])
            length += len(message["body"])
            if not message["more_body"]:
                break
        self.bodies.append(length)
        await answer(send, 200, f"{length} {digest.hexdigest()}\n".encode())

    async def _big(self, scope: Scope, _receive: Receive, send: Send) -> None:
        length = int(scope["query_string"])
        headers = [(b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunk = bytes(1 << 18)
        try:
            while length:
                part = chunk[:length]
                length -= len(part)
                await send({"type": "http.response.body", "body": part, "more_body": length > 0})
                self.sent += len(part)
        except OSError:
            self.cut_off += 1
            raise


async def answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Served:
    """A probe that is served.

    Attributes:
        port: of the loopback.
    """

    probe: Probe
    port: int
    acceptor: Acceptor

    async def connect(
        self, *, receive_buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)  # noqa: FBT003 -- its only parameter
        try:
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        except OSError:
            client.close()
            raise
        return await asyncio.open_connection(sock=client, limit=1 << 16)

    async def talk(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """Send `parts`, each in its own packet; return all that comes until the server closes."""
        reader, writer = await self.connect()
        try:
            for number, part in enumerate(parts):
                if number:
                    await asyncio.sleep(pause)
                writer.write(part)
                await writer.drain()
            return await asyncio.wait_for(reader.read(-1), SECONDS)
        finally:
            writer.close()

    async def ask(self, *parts: bytes) -> bytes:
        """Send `parts` on a connection that the client ends by closing its side."""
        reader, writer = await self.connect()
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            writer.write_eof()
            return await asyncio.wait_for(reader.read(-1), SECONDS)
        finally:
            writer.close()


@asynccontextmanager
async def serve(
    limits: ConnectionLimits = QUICK, *, bare: bool = False, http2: HTTP2 | None = None
) -> AsyncIterator[Served]:
    """Serve a probe on a free port of the loopback; `bare` without anything around it."""
    probe = Probe()
    listening = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(probe if bare else RequestLog(probe), limits, None, http2)
    await acceptor.start([listening])
    try:
        yield Served(probe, listening.getsockname()[1], acceptor)
    finally:
        await acceptor.stop(0.0, asyncio.Event())


async def eventually(claim: Callable[[], object]) -> None:
    """Wait until `claim` returns something true."""
    deadline = time.monotonic() + SECONDS
    while not claim():
        assert time.monotonic() < deadline, "too late"
        await asyncio.sleep(0.01)


def statuses(answers: bytes) -> list[int]:
    """Return the status of each response in `answers`."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
