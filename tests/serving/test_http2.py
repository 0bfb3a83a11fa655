"""HTTP/2 by raw frames: the same answers as by HTTP/1.1, and every bound."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamReset
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from dockyard.server.http2.frames import LARGEST_WINDOW, PREFACE
from dockyard.server.http2.library import CLOSED_STREAMS
from dockyard.server.limits import ConnectionLimits, HTTP2Limits
from tests.serving.http2_client import (
    Client,
    Field,
    block,
    connected,
    fields_of,
    get,
    headers_frame,
    served_http2,
)
from tests.serving.probe import QUICK, SECONDS, Served, eventually, statuses


FEW = HTTP2Limits(
    streams=4, idle_frames=50, idle_frames_per_second=1, resets=10, resets_per_second=1
)
"""Bounds that are soon met."""

PATIENT = replace(
    QUICK, head_seconds=5.0, idle_seconds=5.0, body_window_seconds=5.0, stall_seconds=5.0
)
"""For tests that are not about time."""

PATHS = {
    "a pseudo-field twice": [*get(), (":path", "/b")],
    "a pseudo-field late": [*get("/")[:3], ("x-a", "b"), (":path", "/")],
    "an unknown pseudo-field": [*get(), (":protocol", "websocket")],
    "the status of a response": [*get(), (":status", "200")],
    "no method": get()[1:],
    "no scheme": [field for field in get() if field[0] != ":scheme"],
    "no path": get()[:3],
    "another scheme": [(name, "ftp" if name == ":scheme" else value) for name, value in get()],
    "no authority": [field for field in get() if field[0] != ":authority"],
    "an empty authority": [(name, value.replace("a", "")) for name, value in get()],
    "an authority with a user": [(n, "u@a" if n == ":authority" else v) for n, v in get()],
    "a host that contradicts": get("/", ("host", "b")),
    "two hosts": get("/", ("host", "a"), ("host", "a")),
    "an empty path": get(""),
    "a path without a slash": get("a"),
    "an absolute path": get("http://a/"),
    "an asterisk": get("*"),
    "a fragment": get("/#a"),
    "a space in the path": get("/a b"),
    "a line break in the path": get("/\r\nx: y"),
    "a byte above ASCII in the path": get("/\xe9"),
    "a method in lower case": get(method="get"),
    "a method with a space": get(method="GET /"),
    "CONNECT": [(":method", "CONNECT"), (":authority", "a:1")],
    "a name in upper case": get("/", ("X-A", "b")),
    "an empty name": get("/", ("", "b")),
    "a name with a colon": get("/", ("x:a", "b")),
    "a name with a space": get("/", ("x a", "b")),
    "a name with a line break": get("/", ("x\r\nb", "c")),
    "a value with CR": get("/", ("x-a", "b\rc")),
    "a value with LF": get("/", ("x-a", "b\nc")),
    "a value with NUL": get("/", ("x-a", "b\0c")),
    "a value with DEL": get("/", ("x-a", "b\x7fc")),
    "a value that begins with a space": get("/", ("x-a", " b")),
    "a value that ends with a tab": get("/", ("x-a", "b\t")),
    "connection": get("/", ("connection", "close")),
    "keep-alive": get("/", ("keep-alive", "timeout=5")),
    "proxy-connection": get("/", ("proxy-connection", "close")),
    "transfer-encoding": get("/", ("transfer-encoding", "chunked")),
    "upgrade": get("/", ("upgrade", "h2c")),
    "te with gzip": get("/", ("te", "gzip")),
    "content-length without a body": get("/", ("content-length", "1")),
    "content-length twice": get("/", ("content-length", "0"), ("content-length", "0")),
}
"""Heads that break a rule; each resets its stream and nothing else."""


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with served_http2(PATIENT) as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    async with connected(served) as client:
        yield client


class TestRequests:
    async def test_a_request_is_answered(self, served: Served, client: Client) -> None:
        assert await client.answer(client.ask(*get("/a?b=c"))) == (200, b"ok\n")
        assert served.probe.seen == [("GET", b"/a", b"a")]

    async def test_requests_share_a_connection(self, served: Served, client: Client) -> None:
        waits = client.ask(*get("/gate"))
        assert await client.works()
        served.probe.gate.set()
        assert await client.answer(waits) == (200, b"open\n")
        assert len(served.acceptor.connections) == 1

    async def test_host_may_stand_for_authority(self, served: Served, client: Client) -> None:
        head = [field for field in get() if field[0] != ":authority"]
        assert (await client.answer(client.ask(*head, ("host", "b"))))[0] == 200
        assert served.probe.seen == [("GET", b"/", b"b")]

    async def test_a_body_arrives_whole(self, client: Client) -> None:
        body = bytes(range(256)) * 20_000
        stream = client.ask(*get("/echo", method="PUT"), ends=False)
        await client.upload(stream, body)
        digest = hashlib.sha256(body).hexdigest()
        assert await client.answer(stream) == (200, f"{len(body)} {digest}\n".encode())

    async def test_padding_is_no_part_of_a_body(self, client: Client) -> None:
        length = ("content-length", "3000")
        stream = client.ask(*get("/echo", length, method="PUT"), ends=False)
        for number in range(300):
            client.h2.send_data(stream, bytes(10), end_stream=number == 299, pad_length=255)
        client.flush()
        assert (await client.answer(stream))[1].startswith(b"3000 ")

    async def test_a_response_is_as_long_as_it_says(self, client: Client) -> None:
        status, body = await client.answer(client.ask(*get("/big?3000001")))
        assert (status, len(body)) == (200, 3_000_001)

    async def test_head_and_204_have_no_body(self, client: Client) -> None:
        head = client.ask(*get("/big?100", method="HEAD"))
        assert await client.answer(head) == (200, b"")
        assert fields_of(client.of(ResponseReceived, head)[0])["content-length"] == "100"
        assert await client.answer(client.ask(*get("/empty"))) == (204, b"")

    async def test_no_fields_of_connections_in_responses(self, client: Client) -> None:
        stream = client.ask(*get("/closing"))
        assert (await client.answer(stream))[0] == 200
        assert set(fields_of(client.of(ResponseReceived, stream)[0])) == {
            ":status",
            "date",
            "content-length",
            "x-request-id",
        }

    async def test_100_continue_when_the_body_is_wanted(self, client: Client) -> None:
        expect = ("expect", "100-continue")
        stream = client.ask(*get("/echo", expect, method="PUT"), ends=False)
        await client.until(lambda: client.continues(stream))
        await client.upload(stream, b"abc")
        assert (await client.answer(stream))[1].startswith(b"3 ")
        early = client.ask(*get("/early", expect, method="PUT"), ends=False)
        assert (await client.answer(early))[0] == 413
        assert not client.continues(early)

    async def test_trailers_are_dropped(self, client: Client) -> None:
        stream = client.ask(*get("/echo", method="PUT"), ends=False)
        await client.upload(stream, b"abc", ends=False)
        client.h2.send_headers(stream, [("x-a", "b")], end_stream=True)
        client.flush()
        assert (await client.answer(stream))[1].startswith(b"3 ")

    async def test_small_requests_are_answered_beside_large_ones(self, client: Client) -> None:
        large = [client.ask(*get("/big?20000000")) for _ in range(3)]
        assert await client.works()
        for stream in large:
            assert len((await client.answer(stream))[1]) == 20_000_000

    async def test_what_a_client_gives_up_is_told_to_the_application(
        self, served: Served, client: Client
    ) -> None:
        stream = client.ask(*get("/eager"))
        await client.until(lambda: client.of(ResponseReceived, stream))
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        await eventually(lambda: served.probe.cut_off == 1)
        assert await client.works()

    async def test_after_the_clients_goaway_what_was_asked_is_answered(
        self, served: Served, client: Client
    ) -> None:
        stream = client.ask(*get("/gate"))
        await eventually(lambda: served.probe.seen)
        client.send(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0")
        served.probe.gate.set()
        assert await client.answer(stream) == (200, b"open\n")
        await client.end()


class TestFailures:
    async def test_a_failure_before_the_response_is_500(self, client: Client) -> None:
        assert await client.answer(client.ask(*get("/boom"))) == (
            500,
            b'{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}\n',
        )

    @pytest.mark.parametrize("path", ["/boom", "/rude", "/split", "/long", "/coding", "/less"])
    async def test_without_the_log_around_it_too(self, path: str) -> None:
        async with served_http2(PATIENT, bare=True) as served, connected(served) as client:
            assert await client.answer(client.ask(*get(path))) == (500, b"Internal Server Error\n")

    @pytest.mark.parametrize("path", ["/short", "/endless"])
    async def test_a_failure_within_it_resets_the_stream(self, client: Client, path: str) -> None:
        stream = client.ask(*get(path))
        assert await client.reset(stream) == ErrorCodes.INTERNAL_ERROR
        assert await client.works()


class TestMalformed:
    @pytest.mark.parametrize("head", PATHS.values(), ids=PATHS.keys())
    async def test_a_malformed_head_resets_its_stream_alone(
        self, served: Served, client: Client, head: list[Field]
    ) -> None:
        waits = client.ask(*get("/gate"))
        assert await client.reset(client.ask(*head)) == ErrorCodes.PROTOCOL_ERROR
        assert [path for _, path, _ in served.probe.seen] == [b"/gate"]
        served.probe.gate.set()
        assert (await client.answer(waits))[0] == 200

    @pytest.mark.parametrize(("body", "ends"), [(b"abcd", False), (b"abcd", True), (b"ab", True)])
    async def test_a_body_of_another_length_resets_its_stream_alone(
        self, served: Served, client: Client, body: bytes, *, ends: bool
    ) -> None:
        length = ("content-length", "3")
        stream = client.ask(*get("/echo", length, method="PUT"), ends=False)
        client.h2.send_data(stream, body, end_stream=ends)
        client.flush()
        assert await client.reset(stream) == ErrorCodes.PROTOCOL_ERROR
        await eventually(lambda: served.probe.cut_off == 1)
        assert served.probe.bodies == []
        assert await client.works()

    async def test_a_body_ended_too_early_by_a_trailer_resets_its_stream(
        self, client: Client
    ) -> None:
        length = ("content-length", "3")
        stream = client.ask(*get("/echo", length, method="PUT"), ends=False)
        client.h2.send_headers(stream, [("x-a", "b")], end_stream=True)
        client.flush()
        assert await client.reset(stream) == ErrorCodes.PROTOCOL_ERROR

    @pytest.mark.parametrize("trailer", [(":path", "/"), ("connection", "close"), ("x-a", "\n")])
    async def test_a_malformed_trailer_resets_its_stream(
        self, client: Client, trailer: Field
    ) -> None:
        stream = client.ask(*get("/echo", method="PUT"), ends=False)
        client.h2.send_headers(stream, [trailer], end_stream=True)
        client.flush()
        assert await client.reset(stream) == ErrorCodes.PROTOCOL_ERROR
        assert await client.works()

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (get("/" + "a" * 9000), 414),
            (get("/", ("x-a", "b" * 30_000), ("x-b", "c" * 3000)), 431),
            (get("/", *[(f"x-{number}", "a") for number in range(101)]), 431),
        ],
        ids=["path", "bytes", "fields"],
    )
    async def test_a_large_head_is_answered_as_by_http_1_1(
        self, client: Client, head: list[Field], status: int
    ) -> None:
        assert (await client.answer(client.ask(*head)))[0] == status
        assert await client.works()

    async def test_other_expectations_are_417(self, client: Client) -> None:
        stream = client.ask(*get("/", ("expect", "a"), method="PUT"), ends=False)
        assert (await client.answer(stream))[0] == 417
        assert await client.reset(stream) == ErrorCodes.NO_ERROR


class TestWindows:
    async def test_a_stalled_reader_costs_little(self, served: Served) -> None:
        async with connected(served, receive_buffer=4096) as client:
            client.allow = False
            client.ask(*get("/big?240000000"))
            await asyncio.sleep(0.3)
            assert served.probe.sent <= 1 << 20

    @pytest.mark.parametrize("requests", [1, 4])
    async def test_a_client_that_reads_nothing_is_given_up(self, requests: int) -> None:
        """Its windows are as large as can be, so only its reading holds the server up."""
        async with served_http2(QUICK) as served:
            reader, writer = await served.connect(receive_buffer=4096)
            client = Client(reader, writer)
            client.h2.initiate_connection()
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: LARGEST_WINDOW})
            client.h2.increment_flow_control_window(LARGEST_WINDOW - 65_535)
            for _ in range(requests):
                client.ask(*get("/big?240000000"))
            await eventually(lambda: served.probe.cut_off == requests)
            assert served.probe.sent <= 4 << 20  # the kernel's buffers, and one piece
            await eventually(lambda: not served.acceptor.connections)
            await client.close()

    async def test_a_stream_without_window_does_not_hold_others_up(self, client: Client) -> None:
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        client.allow = False
        stalled = client.ask(*get("/big?60000"))
        assert await client.works()
        assert sum(len(event.data) for event in client.of(DataReceived, stalled)) == 10

    async def test_a_zero_window_is_given_up(self) -> None:
        async with served_http2(QUICK) as served, connected(served) as client:
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
            stream = client.ask(*get("/big?100"))
            assert await client.reset(stream) == ErrorCodes.CANCEL
            await eventually(lambda: served.probe.cut_off == 1)

    async def test_a_body_waits_for_the_application(self, served: Served, client: Client) -> None:
        own = HTTP2Limits()
        stream = client.ask(*get("/gate", method="PUT"), ends=False)
        await client.until(lambda: client.h2.local_flow_control_window(stream) > 65_535)
        body = bytes(own.stream_window_bytes)
        await client.upload(stream, body, ends=False)
        await asyncio.sleep(0.1)
        assert client.h2.local_flow_control_window(stream) == 0
        assert await client.works()
        served.probe.gate.set()
        assert (await client.answer(stream))[0] == 200

    async def test_a_window_too_large_resets_its_stream(
        self, served: Served, client: Client
    ) -> None:
        stream = client.ask(*get("/gate"))
        client.send(*[WindowUpdateFrame(stream, LARGEST_WINDOW)] * 2)
        assert await client.reset(stream) == ErrorCodes.FLOW_CONTROL_ERROR
        served.probe.gate.set()
        assert await client.works()

    async def test_a_window_of_the_connection_too_large_ends_it(self, client: Client) -> None:
        client.send(*[WindowUpdateFrame(0, LARGEST_WINDOW)] * 2)
        assert await client.goaway() == ErrorCodes.FLOW_CONTROL_ERROR

    async def test_a_window_of_a_stream_that_is_over_is_no_matter(self, client: Client) -> None:
        assert await client.works()
        client.send(WindowUpdateFrame(1, 100))
        assert await client.works()
        client.send(WindowUpdateFrame(101, 100))
        assert await client.goaway() == ErrorCodes.PROTOCOL_ERROR

    async def test_more_than_the_window_ends_the_connection(self, client: Client) -> None:
        stream = client.ask(*get("/gate", method="PUT"), ends=False)
        client.send(*[DataFrame(stream, bytes(16_384)) for _ in range(33)])
        assert await client.goaway() == ErrorCodes.FLOW_CONTROL_ERROR

    async def test_bodies_that_nobody_reads_are_bounded_together(self, client: Client) -> None:
        streams = [client.ask(*get("/gate", method="PUT"), ends=False) for _ in range(6)]
        await client.until(lambda: client.h2.local_flow_control_window(1) > 65_535)
        for stream in streams[:4]:
            await client.upload(stream, bytes(512 << 10), ends=False)
        await asyncio.sleep(0.1)
        assert client.h2.local_flow_control_window(streams[4]) == 0

    async def test_an_unwanted_body_is_stopped(self, client: Client) -> None:
        length = ("content-length", "100000000")
        stream = client.ask(*get("/early", length, method="PUT"), ends=False)
        assert await client.answer(stream) == (413, b"too much\n")
        assert await client.reset(stream) == ErrorCodes.NO_ERROR
        assert await client.works()

    async def test_a_small_unwanted_body_is_taken(self, client: Client) -> None:
        stream = client.ask(*get("/early", ("content-length", "3"), method="PUT"), ends=False)
        assert await client.answer(stream) == (413, b"too much\n")
        await client.upload(stream, b"abc")
        assert await client.works()
        assert not client.of(StreamReset)

    async def test_all_windows_come_back(self, client: Client) -> None:
        for _ in range(12):
            stream = client.ask(*get("/echo", method="PUT"), ends=False)
            await client.upload(stream, bytes(500_000))
            assert (await client.answer(stream))[1].startswith(b"500000 ")


class TestTime:
    async def test_a_connection_without_preface_is_closed(self) -> None:
        async with served_http2(QUICK) as served:
            assert await served.talk(b"PRI * HTTP/2.0\r\n") == b""

    async def test_an_idle_connection_is_closed(self) -> None:
        async with served_http2(QUICK) as served, connected(served) as client:
            assert await client.works()
            assert await client.goaway() == ErrorCodes.NO_ERROR
            await client.end()

    async def test_pings_do_not_keep_it_open(self) -> None:
        async with served_http2(QUICK) as served, connected(served) as client:
            while not client.ended:
                client.send(PingFrame(0, b"12345678"))
                await asyncio.sleep(0.05)
            assert client.goaways == [ErrorCodes.NO_ERROR]

    async def test_a_slow_head_ends_the_connection(self) -> None:
        async with served_http2(QUICK) as served, connected(served) as client:
            assert await client.works()
            client.send(headers_frame(3, block(get("/slow"))))
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM
            assert len(served.probe.seen) == 1

    async def test_a_slow_frame_ends_the_connection(self) -> None:
        async with served_http2(QUICK) as served, connected(served) as client:
            client.send(b"\0\0\x08\x06\0\0\0")
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_a_slow_body_is_408(self) -> None:
        async with served_http2(QUICK) as served, connected(served) as client:
            stream = client.ask(*get("/echo", method="PUT"), ends=False)
            assert (await client.answer(stream))[0] == 408
            await eventually(lambda: served.probe.cut_off == 1)
            assert await client.works()

    async def test_a_body_that_waits_for_the_application_is_not_slow(self) -> None:
        async with served_http2(QUICK) as served, connected(served) as client:
            stream = client.ask(*get("/gate", method="PUT"), ends=False)
            await client.upload(stream, bytes(2000), ends=False)
            await asyncio.sleep(1.0)
            served.probe.gate.set()
            assert (await client.answer(stream))[0] == 200


class TestFloods:
    """More than an honest client sends ends the connection, before it costs much."""

    @pytest.mark.parametrize(
        "frame",
        [
            SettingsFrame(0, settings={SettingCodes.MAX_FRAME_SIZE: 16_384}),
            PingFrame(0, b"12345678"),
            PriorityFrame(1),
            WindowUpdateFrame(0, 1),
            ExtensionFrame(0xFA, 0),
        ],
        ids=["settings", "ping", "priority", "window", "unknown"],
    )
    async def test_frames_that_ask_for_nothing(self, frame: Frame) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            client.send(*[frame] * 40)
            assert await client.works()
            client.send(*[frame] * 40)
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_resets_of_what_is_over(self) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            assert await client.works()
            client.send(*[RstStreamFrame(1, ErrorCodes.CANCEL)] * 40)
            assert await client.works()
            client.send(*[RstStreamFrame(1, ErrorCodes.CANCEL)] * 40)
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_empty_data_frames(self) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            stream = client.ask(*get("/echo", method="PUT"), ends=False)
            client.send(*[DataFrame(stream)] * 80)
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_a_body_in_small_pieces_is_no_flood(self) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            stream = client.ask(*get("/echo", method="PUT"), ends=False)
            for _ in range(250):
                client.h2.send_data(stream, bytes(240))
            client.h2.end_stream(stream)
            client.flush()
            assert (await client.answer(stream))[1].startswith(b"60000 ")

    async def test_windows_opened_in_small_steps_are_no_flood(self) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            client.allow = False
            stream = client.ask(*get("/big?2000000"))
            for _ in range(60):
                await asyncio.sleep(0.005)
                client.send(*[WindowUpdateFrame(s, 4096) for s in (0, stream)] * 10)
            client.send(*[WindowUpdateFrame(s, 4 << 20) for s in (0, stream)])
            await client.until(lambda: client.h2.remote_flow_control_window is not None)
            assert not client.goaways

    async def test_requests_that_are_given_up_at_once(self) -> None:
        """CVE-2023-44487."""
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            for _ in range(30):
                stream = client.ask(*get("/gate"))
                client.send(RstStreamFrame(stream, ErrorCodes.CANCEL))
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM
            assert len(served.probe.seen) <= FEW.streams

    async def test_more_requests_than_allowed_are_refused_singly(self) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            streams = [client.ask(*get("/gate")) for _ in range(FEW.streams + 2)]
            for refused in streams[FEW.streams :]:
                assert await client.reset(refused) == ErrorCodes.REFUSED_STREAM
            served.probe.gate.set()
            for stream in streams[: FEW.streams]:
                assert (await client.answer(stream))[0] == 200
            assert await client.works()

    async def test_what_is_given_up_counts_while_its_work_goes_on(self) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            for _ in range(FEW.streams):
                client.h2.reset_stream(client.ask(*get("/gate")), ErrorCodes.CANCEL)
            client.flush()
            assert await client.reset(client.ask(*get())) == ErrorCodes.REFUSED_STREAM
            served.probe.gate.set()
            await eventually(lambda: not served.acceptor._state.tasks)  # noqa: SLF001
            assert await client.works()

    async def test_all_connections_together_have_as_many_requests_as_connections(self) -> None:
        async with (
            served_http2(replace(PATIENT, connections=3)) as served,
            connected(served) as first,
            connected(served) as second,
        ):
            streams = [first.ask(*get("/gate")) for _ in range(3)]
            await eventually(lambda: len(served.probe.seen) == 3)
            assert await second.reset(second.ask(*get())) == ErrorCodes.REFUSED_STREAM
            served.probe.gate.set()
            for stream in streams:
                assert (await first.answer(stream))[0] == 200

    async def test_malformed_requests(self) -> None:
        async with served_http2(PATIENT, FEW) as served, connected(served) as client:
            for _ in range(30):
                client.ask(*get("a"))
            assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_continuations(self, client: Client) -> None:
        assert await client.works()
        client.send(headers_frame(3, block(get())))
        client.send(*[ContinuationFrame(3, b"")] * 20)
        assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_a_long_packed_head(self, client: Client) -> None:
        data = block(get("/", ("x-a", "\x01" * 60_000)))
        assert await client.works()
        client.send(headers_frame(3, data[:16_384]))
        pieces = [data[start : start + 16_384] for start in range(16_384, len(data), 16_384)]
        client.send(*[ContinuationFrame(3, piece) for piece in pieces])
        assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_a_head_that_grows_when_unpacked(self, client: Client) -> None:
        """An HPACK bomb: a long field is remembered, then named by one byte each."""
        encoder_first = block(get("/", ("x-a", "b" * 4000)))
        client.send(headers_frame(1, encoder_first + b"\xbe" * 10_000, "END_HEADERS"))
        assert await client.goaway() == ErrorCodes.ENHANCE_YOUR_CALM

    async def test_a_long_frame_is_refused_before_it_has_come(self, client: Client) -> None:
        client.send(b"\x00\x40\x01\x06\0\0\0\0\0")
        assert await client.goaway() == ErrorCodes.FRAME_SIZE_ERROR

    async def test_what_is_remembered_for_packing_is_bounded(self, served: Served) -> None:
        async with connected(served) as client:
            client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 1 << 30})
            assert await client.works()
            (connection,) = served.acceptor.connections
            assert connection._h2.encoder.header_table_size == 4096  # type: ignore[attr-defined] # noqa: SLF001

    async def test_what_is_remembered_of_old_streams_is_bounded(self, served: Served) -> None:
        async with connected(served) as client:
            for _ in range(60):
                for stream in [client.ask(*get()) for _ in range(20)]:
                    assert (await client.answer(stream))[0] == 200
            (connection,) = served.acceptor.connections
            remembered = connection._h2._closed_streams  # type: ignore[attr-defined] # noqa: SLF001
            assert 1000 < len(remembered) <= CLOSED_STREAMS


class TestEnd:
    async def test_requests_under_way_are_finished_when_draining(self, served: Served) -> None:
        async with connected(served) as client:
            stream = client.ask(*get("/gate"))
            await eventually(lambda: served.probe.seen)
            loop = asyncio.get_running_loop()
            stopping = loop.create_task(served.acceptor.stop(5, asyncio.Event()))
            await client.until(lambda: client.goaways)
            late = client.ask(*get())
            assert (await client.answer(late))[0] == 200
            await client.until(lambda: len(client.goaways) == 2)
            served.probe.gate.set()
            assert await client.answer(stream) == (200, b"open\n")
            await stopping
            assert client.goaways == [ErrorCodes.NO_ERROR, ErrorCodes.NO_ERROR, ErrorCodes.NO_ERROR]

    async def test_without_tls_one_connection_too_many_is_told_so_by_http_1_1(self) -> None:
        async with (
            served_http2(replace(PATIENT, connections=1)) as served,
            connected(served) as client,
        ):
            assert await client.works()
            assert statuses(await served.talk(PREFACE)) == [503]
            assert await client.works()

    async def test_garbage_after_the_preface_ends_the_connection(self, client: Client) -> None:
        client.send(b"\x00\x00\x01\x04\x00\x00\x00\x00\x00a")
        assert await client.goaway() == ErrorCodes.FRAME_SIZE_ERROR


UPGRADE = (
    b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: %b\r\nX-A: b\r\n\r\n"
)


class TestUpgrade:
    async def upgraded(self, served: Served, path: bytes = b"") -> Client:
        """Return a client whose stream 1 is a request of HTTP/1.1."""
        reader, writer = await served.connect()
        client = Client(reader, writer)
        settings = client.h2.initiate_upgrade_connection()
        assert settings is not None
        writer.write(UPGRADE % (path, settings.rstrip(b"=")))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
        assert head == (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        client.start(greet=False)
        client.flush()
        return client

    async def test_the_request_is_answered_by_http_2(self, served: Served) -> None:
        client = await self.upgraded(served, b"a?b=c")
        assert await client.answer(1) == (200, b"ok\n")
        assert served.probe.seen == [("GET", b"/a", b"a")]
        assert await client.works()
        await client.close()

    async def test_a_long_response_is_whole(self, served: Served) -> None:
        client = await self.upgraded(served, b"big?3000000")
        assert len((await client.answer(1))[1]) == 3_000_000
        await client.close()

    @pytest.mark.parametrize("settings", [b"A", b"AAMAAABk AAA", b"AAM", b"?"])
    async def test_malformed_settings_are_400(self, served: Served, settings: bytes) -> None:
        assert statuses(await served.talk(UPGRADE % (b"", settings))) == [400]

    async def test_settings_twice_are_400(self, served: Served) -> None:
        request = UPGRADE % (b"", b"\r\nHTTP2-Settings: ")
        assert statuses(await served.talk(request)) == [400]

    async def test_a_request_with_a_body_is_answered_as_it_came(self, served: Served) -> None:
        length = b"Content-Length: 3\r\nX-A:"
        request = (UPGRADE % (b"echo", b"")).replace(b"X-A:", length) + b"abc"
        assert statuses(await served.talk(request)) == [200]
        assert served.probe.bodies == [3]

    async def test_without_the_settings_it_is_answered_as_it_came(self, served: Served) -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        assert statuses(await served.talk(request)) == [200]

    @pytest.mark.parametrize("cut", [1, 3, 20, len(PREFACE)])
    async def test_the_preface_may_come_in_pieces(self, served: Served, cut: int) -> None:
        reader, writer = await served.connect()
        client = Client(reader, writer)
        client.h2.initiate_connection()
        data = client.h2.data_to_send()
        writer.write(data[:cut])
        await asyncio.sleep(0.02)
        writer.write(data[cut:])
        client.start(greet=False)
        assert await client.works()
        await client.close()

    async def test_http_1_1_is_spoken_too(self, served: Served) -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert statuses(await served.talk(request[:1], request[1:])) == [200]


def test_the_bounds_are_those_of_the_settings() -> None:
    limits, own = ConnectionLimits(), HTTP2Limits()
    assert own.list_bytes > limits.head_bytes
    assert own.connection_window_bytes >= 4 * own.stream_window_bytes
