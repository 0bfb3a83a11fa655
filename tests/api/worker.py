"""A worker of a registry in this process, whose requests are heads as HTTP/1.1 has them."""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import structlog

from dockyard.config import load
from dockyard.http.messages import Message, Scope
from dockyard.http.replays import HEAD, Head
from dockyard.http.request_log import RequestLog
from dockyard.server.build import build_app
from dockyard.server.exchange import pack_fields
from dockyard.telemetry import configure
from dockyard.telemetry.lines import Lines
from tests.api.entrance import basic
from tests.inprocess import BASE, write_config
from tests.parts.images import DOCKER_MANIFEST, Image


if TYPE_CHECKING:
    from dockyard.config.access import AccessSettings


CLIENT: Final = ("192.0.2.7", 4711)
DATE: Final = b"Date: today\r\n"
REPOSITORY: Final = "team/a"


class Worker:
    """A worker of a registry, and a client that sends it heads."""

    def __init__(self, folder: Path, **sections: object) -> None:
        self.folder = folder
        settings = load(write_config(folder, **sections), {}).settings
        self.lines, self.access = folder / "stderr", folder / "stdout"
        self._descriptors = [
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for path in (self.lines, self.access)
        ]
        configure(settings.log, self._descriptors[0], {"instance.id": "100%s"})
        self.offered: AccessSettings | None = None
        self.registry = registry = build_app(settings, offered=lambda: self.offered)
        self.log = RequestLog(registry, access=Lines(self._descriptors[1]), known=registry.replays)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    async def push(self, image: Image, *tags: str, login: str = "") -> None:
        transport = httpx.ASGITransport(self.log)
        async with httpx.AsyncClient(
            transport=transport, base_url=BASE, headers=basic(login)
        ) as client:
            for blob in image.blobs:
                where = f"/v2/{REPOSITORY}/blobs/uploads/?digest={blob.digest}"
                assert (await client.post(where, content=blob.body)).status_code == 201
            for tag in tags:
                answer = await client.put(
                    f"/v2/{REPOSITORY}/manifests/{tag}",
                    content=image.manifest.body,
                    headers={"Content-Type": image.manifest.media_type},
                )
                assert answer.status_code == 201, answer.text

    async def ask(self, head: bytes, *, reload: bool = False) -> bytes:
        """Let the application answer a request; return the answer as it would be sent.

        With `reload` the rules are replaced while it is being sent.
        """
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)
            await asyncio.sleep(0)
            if reload:
                await self.registry.reload()

        await self.log(scope_of(head), receive, send)
        start, *bodies = sent
        lines = [b"%b: %b\r\n" % field for field in start["headers"]]
        body = b"".join(message["body"] for message in bodies)
        return b"HTTP/1.1 %d OK\r\n" % start["status"] + DATE + b"".join(lines) + b"\r\n" + body

    def again(self, head: bytes, client: tuple[str, int] = CLIENT) -> bytes | None:
        """Return what is answered to a head at once, if anything is."""
        sent: list[bytes] = []

        def send(fields: bytes, last: bytes, body: bytes) -> bool:
            sent.append(b"".join((b"HTTP/1.1 200 OK\r\n", DATE, fields, last, b"\r\n\r\n", body)))
            return True

        if not self.log.answer_at_once(head, client, send):
            assert not sent
            return None
        (answer,) = sent
        return answer

    async def learn(self, head: bytes) -> bytes:
        """Ask until the answer is given again; return it as it was given the ordinary way."""
        await self.ask(head)
        answer = await self.ask(head)
        assert without_identifier(self.again(head)) == without_identifier(answer)
        return answer


def scope_of(head: bytes) -> Scope:
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, target, _ = line.split(b" ")
    path, _, query = target.partition(b"?")
    fields = [field.split(b": ", 1) for field in lines]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method.decode(),
        "scheme": "http",
        "path": path.decode(),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in fields],
        "client": CLIENT,
        HEAD: Head(head, pack_fields),
    }


def without_identifier(answer: bytes | None) -> bytes | None:
    return answer and re.sub(rb"X-Request-Id: [0-9a-f]{28}\r\n", b"", answer)


def head_of(what: str, method: str = "GET", fields: Mapping[str, str] | None = None) -> bytes:
    given = {"Host": "registry", "User-Agent": "docker/28 100%", "Accept": DOCKER_MANIFEST}
    lines = [f"{name}: {value}" for name, value in {**given, **(fields or {})}.items()]
    request = f"{method} /v2/{REPOSITORY}/{what} HTTP/1.1"
    return "\r\n".join([request, *lines, "", ""]).encode()


@contextmanager
def working(folder: Path, **sections: object) -> Iterator[Worker]:
    worker = Worker(folder, **sections)
    try:
        yield worker
    finally:
        worker.close()
        structlog.reset_defaults()


def unique(line: str) -> str:
    """Return a line without what differs from request to request."""
    line = re.sub(r'"?(time|@timestamp)"?[=:] ?"[^"]*"', "", line)
    line = re.sub(r'(http.request.id"?[=:] ?)"?[0-9a-f]+"?', r"\1", line)
    return re.sub(r'(http.response.duration"?[=:] ?)"?[^ ,]+"?', r"\1", line)
