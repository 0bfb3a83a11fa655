"""Answers that are given again, over HTTP/2: the same as before, and past the library safely."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from h2.errors import ErrorCodes
from h2.events import ResponseReceived
from h2.settings import SettingCodes
from hpack import Decoder
from hyperframe.frame import PingFrame, RstStreamFrame, WindowUpdateFrame

from dockyard.config.access import AccessSettings
from dockyard.http import replays
from dockyard.http.messages import Receive, Scope, Send
from dockyard.oci.digest import Digest
from dockyard.server.acceptor import Acceptor
from dockyard.server.http2.again import pack_fields
from dockyard.server.http2.connection import HTTP2Connection
from dockyard.server.limits import HTTP2Limits
from dockyard.storage import layout, witness
from tests.api.entrance import HASH, basic
from tests.api.worker import REPOSITORY, Worker, head_of, unique, working
from tests.parts.images import DOCKER_LAYER, DOCKER_MANIFEST, Content, Image, image as make_image
from tests.serving.http2_client import Client, Field, block, fields_of, get, headers_frame
from tests.serving.live_registry import live_registry, until
from tests.serving.probe import eventually
from tests.serving.test_http2 import FEW, PATIENT
from tests.serving.test_replays import push


ACCEPT: Final = ("accept", DOCKER_MANIFEST)
PUSHER: Final = {"repositories": ["**"], "actions": ["*"], "who": ["user:pusher"]}
READER: Final = {"repositories": ["**"], "actions": ["pull"], "who": ["user:reader"]}


@dataclass
class Site:
    """A worker that is served.

    Attributes:
        ordinary: requests that came to the application.
    """

    worker: Worker
    port: int
    ordinary: int = 0
    acceptor: Acceptor = field(init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.ordinary += 1
        await self.worker.log(scope, receive, send)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        client.start()
        try:
            yield client
        finally:
            await client.close()

    async def learn(self, head: list[Field]) -> None:
        """Ask until the answer is given again."""
        async with self.connected() as client:
            for _ in range(2):
                assert (await client.answer(client.ask(*head)))[0] == 200
            assert (await self.again(client, head))[0] == 200

    async def again(self, client: Client, head: list[Field]) -> tuple[int, bytes]:
        """Return an answer that does not come from the application."""
        before = self.ordinary
        answer = await client.answer(client.ask(*head))
        assert self.ordinary == before
        return answer

    async def anew(self, client: Client, head: list[Field]) -> tuple[int, bytes]:
        """Return an answer that comes from the application."""
        before = self.ordinary
        answer = await client.answer(client.ask(*head))
        assert self.ordinary == before + 1
        return answer


@asynccontextmanager
async def served(worker: Worker, own: HTTP2Limits | None = None) -> AsyncIterator[Site]:
    listening = socket.create_server(("127.0.0.1", 0))
    found = Site(worker, listening.getsockname()[1])
    http2 = partial(HTTP2Connection, limits=own)
    found.acceptor = Acceptor(found, PATIENT, http2=http2, at_once=worker.log.answer_at_once)
    await found.acceptor.start([listening])
    try:
        yield found
    finally:
        await found.acceptor.stop(0.0, asyncio.Event())


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """What was written a moment ago counts as settled."""
    monkeypatch.setattr(witness, "SETTLED", 0)
    with working(tmp_path) as worker:
        yield worker


@pytest.fixture
async def site(worker: Worker) -> AsyncIterator[Site]:
    async with served(worker) as site:
        yield site


@pytest.fixture
def image() -> Image:
    return make_image("seed", docker=True)


@pytest.fixture
async def pushed(worker: Worker, image: Image) -> Image:
    await worker.push(image, "v1")
    return image


def asked(what: str = "manifests/v1", *more: Field, method: str = "GET") -> list[Field]:
    return get(f"/v2/{REPOSITORY}/{what}", ACCEPT, ("user-agent", "Go 100%"), *more, method=method)


def seen_in(client: Client, stream: int) -> tuple[list[Field], bool]:
    """Return a head as a client sees it, and whether it has a date and an identifier."""
    (response,) = client.of(ResponseReceived, stream)
    fields = fields_of(response)
    identifier, date = fields.pop("x-request-id", ""), fields.pop("date", "")
    is_whole = re.fullmatch("[0-9a-f]{28}", identifier) and date.endswith(" GMT")
    return list(fields.items()), bool(is_whole)


class TestTheSame:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("what", ["tag", "digest"])
    async def test_manifests(self, site: Site, pushed: Image, method: str, what: str) -> None:
        reference = "v1" if what == "tag" else pushed.digest
        await self._is_the_same(site, asked(f"manifests/{reference}", method=method))

    async def test_a_small_blob(self, site: Site, pushed: Image) -> None:
        body = await self._is_the_same(site, asked(f"blobs/{pushed.blobs[0].digest}"))
        assert body == pushed.blobs[0].body

    async def test_a_body_of_several_frames(self, site: Site) -> None:
        large = Content(DOCKER_LAYER, bytes(range(250)) * 200)
        await site.worker.push(Image(large, (large,)))
        assert await self._is_the_same(site, asked(f"blobs/{large.digest}")) == large.body

    async def _is_the_same(self, site: Site, head: list[Field]) -> bytes:
        async with site.connected() as client:
            await site.anew(client, head)  # on stream 1
            before = await site.anew(client, head)
            again = await site.again(client, head)
            assert before == again
            fields, named = seen_in(client, 3)
            assert (fields, named) == seen_in(client, 5)
            assert named
            assert await client.answer(client.ask(*get("/v2/")))  # heads are still unpacked well
            return again[1]

    @pytest.mark.usefixtures("pushed")
    async def test_the_lines_of_the_logs(self, site: Site) -> None:
        async with site.connected() as client:
            for _ in range(2):
                await site.anew(client, asked())
            await site.again(client, asked())
        await asyncio.sleep(0.01)
        lines = site.worker.lines.read_text().splitlines()[-2:]
        before, again = map(unique, lines)
        assert before == again
        assert "response completed" in again
        identifiers = {line.partition("http.request.id=")[2].split()[0] for line in lines}
        assert len(identifiers) == 2
        (response, *_) = reversed(client.of(ResponseReceived))
        assert fields_of(response)["x-request-id"] in identifiers
        *_, before, again = site.worker.access.read_text().splitlines()
        assert re.sub(r"\[[^]]*]", "", before) == re.sub(r"\[[^]]*]", "", again)
        assert '" 200 ' in again
        assert " HTTP/2.0" in again

    async def test_both_versions_on_one_port(self, site: Site, pushed: Image) -> None:
        """What one has learnt is not sent in the other's form."""
        old = head_of("manifests/v1")
        async with site.connected() as client:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
                writer.write(old)
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
                assert await reader.readexactly(len(pushed.manifest.body)) == pushed.manifest.body
                writer.close()
                assert await client.answer(client.ask(*asked())) == (200, pushed.manifest.body)
        assert site.ordinary == 4

    async def test_the_first_request_of_a_connection(self, site: Site, pushed: Image) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            assert await site.again(client, asked()) == (200, pushed.manifest.body)
            client.send(RstStreamFrame(1, error_code=8))  # too late, and no fault
            assert await site.again(client, asked()) == (200, pushed.manifest.body)
            assert (await site.anew(client, get("/v2/")))[0] == 200

    async def test_beside_one_that_takes_long(self, site: Site, pushed: Image) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            put = get(
                f"/v2/{REPOSITORY}/manifests/v2", ("content-type", DOCKER_MANIFEST), method="PUT"
            )
            upload = client.ask(*put, ends=False)
            await eventually(lambda: site.ordinary == 3)
            assert await site.again(client, asked()) == (200, pushed.manifest.body)
            await client.upload(upload, pushed.manifest.body)
            assert (await client.answer(upload))[0] == 201
            assert await site.again(client, asked()) == (200, pushed.manifest.body)
            upload = client.ask(*put, ends=False)  # not looked at: the library unpacks it alone
            await client.upload(upload, pushed.manifest.body)
            assert (await client.answer(upload))[0] == 201

    def test_they_are_counted(self, tmp_path: Path) -> None:
        http = {
            "debug": {"addr": "127.0.0.1:0", "prometheus": {"enabled": True}},
            "h2c": {"enabled": True},
        }
        with live_registry(tmp_path, http=http) as registry:
            manifest = push(registry.url, 10)
            asyncio.run(self._ask(registry.port, manifest))
            line = next(each for each in registry.log.splitlines() if "debug server" in each)
            port = line.rpartition(":")[2].split('"')[0]
            wanted = 'http_requests_total{code="200",handler="manifest",method="get"} 20'
            until(lambda: wanted in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
            until(lambda: registry.access_log.count('"GET /v2/a/manifests/v1 HTTP/2.0" 200') == 20)

    async def _ask(self, port: int, manifest: bytes) -> None:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        client.start()
        for _ in range(20):
            head = get("/v2/a/manifests/v1", ("accept", "*/*"))
            assert await client.answer(client.ask(*head)) == (200, manifest)
        await client.close()


class TestNotTrueAnyMore:
    @pytest.mark.usefixtures("pushed")
    async def test_the_tag_moved(self, site: Site) -> None:
        other = make_image("other", docker=True)
        async with site.connected() as client:
            await site.learn(asked())
            await site.worker.push(other, "v1")
            assert await site.anew(client, asked()) == (200, other.manifest.body)

    @pytest.mark.parametrize("what", ["tag", "revision"])
    async def test_a_link_is_removed(self, site: Site, pushed: Image, what: str) -> None:
        links = {
            "tag": layout.tag_current(REPOSITORY, "v1"),
            "revision": layout.revision_link(REPOSITORY, Digest.parse(pushed.digest)),
        }
        await site.learn(asked())
        (site.worker.folder / "root" / links[what]).unlink()
        async with site.connected() as client:
            assert (await site.anew(client, asked()))[0] == 404

    async def test_the_file_of_a_blob_is_replaced(self, site: Site, pushed: Image) -> None:
        blob = pushed.blobs[0]
        head = asked(f"blobs/{blob.digest}")
        await site.learn(head)
        file = site.worker.folder / "root" / layout.blob(Digest.parse(blob.digest))
        file.write_bytes(bytes(len(blob.body)))
        async with site.connected() as client:
            await site.anew(client, head)


class TestNotKept:
    @pytest.mark.parametrize(
        ("what", "more"),
        [
            ("manifests/v1", ("if-none-match", '"sha256:' + 64 * "0" + '"')),
            ("manifests/v1", ("range", "bytes=0-3")),
            ("manifests/v1", ("cookie", "a=b")),
            ("manifests/v1?a=b", ("accept", "*/*")),
        ],
    )
    @pytest.mark.usefixtures("pushed")
    async def test_what_may_mean_more(self, site: Site, what: str, more: Field) -> None:
        async with site.connected() as client:
            for _ in range(4):
                await site.anew(client, asked(what, more))

    async def test_conditions_are_looked_at(self, site: Site, pushed: Image) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            head = asked("manifests/v1", ("if-none-match", f'"{pushed.digest}"'))
            assert await site.anew(client, head) == (304, b"")

    async def test_requests_with_a_body(self, site: Site, pushed: Image) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            before = site.ordinary
            stream = client.ask(*asked(), ends=False)
            assert await client.answer(stream) == (200, pushed.manifest.body)
            assert site.ordinary == before + 1

    @pytest.mark.usefixtures("pushed")
    async def test_the_form_of_one_field_in_another(self, site: Site) -> None:
        """A line feed within a value is malformed; it must not be taken for the end of one."""
        await site.learn(asked())
        *others, (name, value), (last_name, last) = asked()
        joined = (name, f"{value}\n{last_name}\n{last}")
        async with site.connected() as client:
            assert await client.reset(client.ask(*others, joined)) == ErrorCodes.PROTOCOL_ERROR
            assert (await site.again(client, asked()))[0] == 200


class TestGuarded:
    @pytest.fixture
    async def closed(
        self, tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Site]:
        monkeypatch.setattr(witness, "SETTLED", 0)
        users = tmp_path / "htpasswd"
        users.write_text(f"reader:{HASH}\npusher:{HASH}\n")
        sections: dict[str, Any] = {
            "auth": {"htpasswd": {"realm": "registry", "path": str(users)}},
            "access": {"rules": [READER, PUSHER]},
        }
        with working(tmp_path, **sections) as worker:
            await worker.push(image, "v1", login="pusher")
            async with served(worker) as site:
                yield site

    def _asked(self, *login: str) -> list[Field]:
        return asked("manifests/v1", ("authorization", basic(*login)["Authorization"]))

    async def test_who_may_and_nobody_else(self, closed: Site) -> None:
        await closed.learn(self._asked("reader"))
        async with closed.connected() as client:
            for other in (asked(), self._asked("reader", "wrong"), self._asked("stranger")):
                assert (await closed.anew(client, other))[0] == 401
            assert (await closed.again(client, self._asked("reader")))[0] == 200
        known = closed.worker.log._known()  # noqa: SLF001 -- nothing else shows what is kept
        assert known is not None
        assert not known._open  # noqa: SLF001 -- likewise

    async def test_a_changed_rule_holds_at_once(self, closed: Site) -> None:
        await closed.learn(self._asked("reader"))
        closed.worker.offered = AccessSettings.model_validate({"rules": [PUSHER]})
        await closed.worker.registry.reload()
        async with closed.connected() as client:
            assert (await closed.anew(client, self._asked("reader")))[0] == 403

    async def test_the_gate_looks_again(
        self, closed: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replays, "ADMITTED", 0.2)
        await closed.learn(self._asked("reader"))
        (closed.worker.folder / "htpasswd").write_text(f"pusher:{HASH}\n")
        await asyncio.sleep(0.25)
        async with closed.connected() as client:
            assert (await closed.anew(client, self._asked("reader")))[0] == 401


class TestProtocol:
    async def test_a_small_window_is_waited_for(self, site: Site, pushed: Image) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            client.allow = False
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
            before = site.ordinary
            stream = client.ask(*asked())
            await client.until(lambda: client.of(ResponseReceived, stream))
            assert site.ordinary == before + 1
            client.h2.increment_flow_control_window(1 << 16, stream)
            client.flush()
            assert await client.answer(stream) == (200, pushed.manifest.body)

    @pytest.mark.usefixtures("pushed")
    async def test_the_window_of_the_connection_is_heeded(self, site: Site) -> None:
        """The client's library ends the connection if it is not."""
        large = Content(DOCKER_LAYER, bytes(30_000))
        await site.worker.push(Image(large, (large,)))
        head = asked(f"blobs/{large.digest}")
        await site.learn(head)
        async with site.connected() as client:
            client.allow = False
            streams = [client.ask(*head) for _ in range(5)]
            for stream in streams[:2]:
                assert await client.answer(stream) == (200, large.body)
            client.h2.increment_flow_control_window(1 << 20)
            client.flush()
            for stream in streams[2:]:
                assert await client.answer(stream) == (200, large.body)
            assert await site.again(client, head) == (200, large.body)

    async def test_windows_may_be_opened_for_what_was_sent(self, worker: Worker) -> None:
        large = Content(DOCKER_LAYER, bytes(30_000))
        await worker.push(Image(large, (large,)))
        head = asked(f"blobs/{large.digest}")
        async with served(worker, FEW) as site:
            await site.learn(head)
            async with site.connected() as client:
                for _ in range(FEW.idle_frames + 20):
                    client.send(WindowUpdateFrame(0, window_increment=1))
                    assert await site.again(client, head) == (200, large.body)

    async def test_a_client_that_reads_nothing_costs_little(self, worker: Worker) -> None:
        large = Content(DOCKER_LAYER, bytes(60_000))
        await worker.push(Image(large, (large,)))
        head = asked(f"blobs/{large.digest}")
        async with served(worker, HTTP2Limits(streams=400)) as site:
            await site.learn(head)
            before = site.ordinary
            client = Client(*await asyncio.open_connection("127.0.0.1", site.port))
            client.h2.initiate_connection()
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30})
            client.h2.increment_flow_control_window(1 << 30)
            client.flush()
            await asyncio.sleep(0.1)  # for the windows to be open before
            streams = range(1, 801, 2)
            for stream in streams:
                client.h2.send_headers(stream, head, end_stream=True)
            client.flush()  # one packet
            await eventually(lambda: site.ordinary > before)
            await asyncio.sleep(0.1)
            (connection,) = site.acceptor.connections
            assert connection.transport.get_write_buffer_size() < 1 << 20
            client.start(greet=False)
            for stream in streams:
                assert await client.answer(stream) == (200, large.body)
            await client.close()

    @pytest.mark.parametrize("octets", [0, 100, 1 << 16])
    async def test_the_clients_table(self, site: Site, pushed: Image, octets: int) -> None:
        """What is said of its size comes first; else the client's library ends the connection."""
        await site.learn(asked())
        async with site.connected() as client:
            client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: octets})
            client.flush()
            assert await site.again(client, asked()) == (200, pushed.manifest.body)
            for _ in range(2):
                assert (await site.anew(client, get("/v2/")))[0] == 200
            assert await site.again(client, asked()) == (200, pushed.manifest.body)

    async def test_more_at_once_than_streams(self, worker: Worker, pushed: Image) -> None:
        async with served(worker, FEW) as site:
            await site.learn(asked())
            async with site.connected() as client:
                before, streams = site.ordinary, []
                for _ in range(2 * FEW.streams):
                    streams.append(client.h2.get_next_available_stream_id())
                    client.h2.send_headers(streams[-1], asked(), end_stream=True)
                client.flush()  # one packet
                for stream in streams:
                    assert await client.answer(stream) == (200, pushed.manifest.body)
                assert site.ordinary == before + FEW.streams

    @pytest.mark.usefixtures("pushed")
    async def test_many_more_at_once_end_the_connection(self, worker: Worker) -> None:
        async with served(worker, FEW) as site:
            await site.learn(asked())
            async with site.connected() as client:
                for _ in range(2 * FEW.streams + FEW.resets + 1):
                    number = client.h2.get_next_available_stream_id()
                    client.h2.send_headers(number, asked(), end_stream=True)
                client.flush()
                assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    @pytest.mark.usefixtures("pushed")
    async def test_a_stream_is_asked_for_once(self, site: Site) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            await site.again(client, asked())
            client.send(headers_frame(1, block(asked()), "END_HEADERS", "END_STREAM"))
            assert await client.goaway() == ErrorCodes.STREAM_CLOSED

    @pytest.mark.usefixtures("pushed")
    async def test_an_even_stream_is_none_of_the_clients(self, site: Site) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            await site.again(client, asked())
            client.send(headers_frame(4, block(asked()), "END_HEADERS", "END_STREAM"))
            assert await client.goaway() == ErrorCodes.PROTOCOL_ERROR

    @pytest.mark.parametrize(
        "octets",
        [
            b"\xff",  # half a number
            b"\x40\x01a\x01b\xbe\xbf",  # adds a field, then names it and one that is not there
        ],
    )
    async def test_what_can_not_be_unpacked(self, site: Site, octets: bytes) -> None:
        async with site.connected() as client:
            client.send(headers_frame(1, octets, "END_HEADERS", "END_STREAM"))
            assert await client.goaway() == ErrorCodes.PROTOCOL_ERROR
        assert site.ordinary == 0

    async def test_a_head_too_large_once_unpacked(self, site: Site) -> None:
        async with site.connected() as client:
            large = b"\x40\x01a\x7f\xe1\x16" + bytes(3040) + 100 * b"\xbe"
            client.send(headers_frame(1, large, "END_HEADERS", "END_STREAM"))
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    @pytest.mark.usefixtures("pushed")
    async def test_a_connection_that_is_to_end_does(self, site: Site) -> None:
        """Who asks again and again must not keep a worker that is to end."""
        await site.learn(asked())
        async with site.connected() as client:
            await site.again(client, asked())
            stopping = asyncio.create_task(site.acceptor.stop(5, asyncio.Event()))
            await client.until(lambda: client.goaways)
            await site.anew(client, asked())
            while not client.ended:
                client.ask(*asked())
                await asyncio.sleep(0.02)
            await stopping

    @pytest.mark.usefixtures("pushed")
    async def test_after_the_clients_goaway_none_is_taken_at_once(self, site: Site) -> None:
        await site.learn(asked())
        async with site.connected() as client:
            client.send(PingFrame(0, bytes(8)))
            await site.again(client, asked())
        await eventually(lambda: not site.acceptor.connections)


def test_long_values_are_packed_with_their_length() -> None:
    fields = [(b"A", b"1"), (b"Connection", b"close")]
    fields += [(b"b%d" % size, size * b"x") for size in (0, 126, 127, 128, 254, 255, 300, 16_511)]
    packed = pack_fields([*fields, (b"X-Last", b"")]) + b"\x01z"
    decoder = Decoder(1 << 20)
    found = decoder.decode(packed, raw=True)
    assert list(found) == [(b"a", b"1"), *fields[2:], (b"x-last", b"z")]
    assert not decoder.header_table.dynamic_entries
