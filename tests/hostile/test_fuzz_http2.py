"""A live server, sent any frames of HTTP/2: it ends streams and connections, and never fails."""

from collections.abc import Iterator
from contextlib import closing
from socket import SHUT_WR, create_connection
from typing import Final

import pytest
from hpack import Encoder
from hypothesis import given, strategies as st

from dockyard.server.http2.frames import PREFACE, Frame
from tests.hostile.fuzzing import bounded
from tests.live import LiveRegistry
from tests.registry_client import RegistryClient


SECONDS: Final = 5.0

SETTINGS: Final = Frame(4, 0, 0, b"")

NAMES: Final = (
    ":method",
    ":path",
    ":scheme",
    ":authority",
    ":status",
    "host",
    "content-length",
    "te",
    "expect",
    "connection",
    "x-a",
    "X",
    "",
)
VALUES: Final = (
    "GET",
    "PUT",
    "POST",
    "/v2/",
    "/v2/fuzz/blobs/uploads/",
    "http",
    "a",
    "3",
    "-1",
    "trailers",
    "100-continue",
    "\r\n",
    "é",
    "",
)

PROPER: Final = ((":scheme", "http"), (":authority", "a"))

fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5)
heads = st.one_of(
    st.builds(
        lambda method, path, more: Encoder().encode(
            [(":method", method), (":path", path), *PROPER, *more]
        ),
        st.sampled_from(["GET", "PUT", "POST", "HEAD"]),
        st.sampled_from(["/v2/", "/v2/fuzz/blobs/uploads/", "/v2/fuzz/tags/list"]),
        fields,
    ),
    fields.map(lambda made: Encoder().encode(made)),
    st.binary(max_size=40),
)
streams = st.sampled_from([0, 1, 3, 5, 7, 2, (1 << 31) - 1])
flags = st.sampled_from([0x0, 0x1, 0x4, 0x5, 0x8, 0xD, 0x20, 0x25, 0xFF])
numbers = st.sampled_from([0, 1, 5, 8, 65_535, (1 << 31) - 1, (1 << 32) - 1]).map(
    lambda number: number.to_bytes(4)
)
payloads = st.one_of(heads, numbers, st.binary(max_size=40), st.just(b"12345678"))
frames = st.one_of(
    st.builds(Frame, st.just(1), st.sampled_from([0x4, 0x5, 0x5, 0x0]), streams, heads),
    st.builds(Frame, st.just(9), flags, streams, heads),
    st.builds(Frame, st.just(0), flags, streams, st.binary(max_size=40)),
    st.builds(Frame, st.sampled_from([3, 8]), flags, streams, numbers),
    st.builds(Frame, st.just(4), flags, streams, st.binary(min_size=6, max_size=12)),
    st.builds(Frame, st.integers(0, 12), flags, streams, payloads),
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    folder = tmp_path_factory.mktemp("http2") / "registry"
    with LiveRegistry(
        folder, settings={"http": {"workers": 1, "h2c": {"enabled": True}}}
    ) as running:
        workers = running.workers
        yield running
        assert running.workers == workers, "a worker died"
        with RegistryClient(running.address) as client:
            client.request("GET", "/v2/").expect(200)
    running.assert_no_trace()


def exchange(registry: LiveRegistry, data: bytes) -> None:
    """Send `data`, end our side, and read until the server ends its own, which it must."""
    with closing(create_connection(("127.0.0.1", registry.port), SECONDS)) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(SHUT_WR)
            while connection.recv(1 << 16):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass


@bounded(500)
@given(sent=st.lists(frames, max_size=8))
def test_any_frames_end_well(registry: LiveRegistry, sent: list[Frame]) -> None:
    exchange(registry, PREFACE + b"".join(frame.raw for frame in (SETTINGS, *sent)))


@bounded(200)
@given(data=st.binary(max_size=200))
def test_noise_behind_the_preface_ends_the_connection(registry: LiveRegistry, data: bytes) -> None:
    exchange(registry, PREFACE + data)
