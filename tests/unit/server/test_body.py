from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given, strategies as st

from dockyard.server.body import BodyDecoder, ChunkedDecoder, LengthDecoder
from dockyard.server.head import RefusedError
from dockyard.server.limits import ConnectionLimits


if TYPE_CHECKING:
    from dockyard.storage.interface import Piece


REST = b"GET / HTTP/1.1\r\n"
CHUNKS = st.lists(st.binary(min_size=1, max_size=50), max_size=6)
EXTENSIONS = st.sampled_from([b"", b";a", b" ; a=b", b';a="\xff"'])
TRAILERS = st.sampled_from([b"", b"X: y\r\n", b"A:\r\nB: \xff\r\n"])


def encode(chunks: list[bytes], extension: bytes, trailer: bytes) -> bytes:
    body = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return body + b"0\r\n" + trailer + b"\r\n"


def decode(decoder: BodyDecoder, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Feed `data` cut at `cuts`; return the body and what was left behind it."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    body, left = b"", b""
    for start, stop in pairwise(edges):
        if decoder.complete:
            left += data[start:stop]
        else:
            pieces, rest = decoder.feed(data[start:stop])
            body += b"".join(pieces)
            left += rest
    return body, left


class TestChunked:
    @given(CHUNKS, EXTENSIONS, TRAILERS, st.lists(st.integers(0, 1000), max_size=12))
    def test_the_body_is_the_same_however_it_is_cut(
        self, chunks: list[bytes], extension: bytes, trailer: bytes, cuts: list[int]
    ) -> None:
        decoder = ChunkedDecoder(ConnectionLimits())
        body, left = decode(decoder, encode(chunks, extension, trailer) + REST, cuts)
        assert decoder.complete
        assert body == b"".join(chunks)
        assert left == REST

    @given(st.lists(st.sampled_from([1, 4095, 4096, 4097]), max_size=6), st.integers(1, 9000))
    def test_large_pieces_are_views_and_small_ones_copies(
        self, sizes: list[int], packet: int
    ) -> None:
        chunks = [bytes([number]) * size for number, size in enumerate(sizes)]
        data = encode(chunks, b"", b"")
        decoder = ChunkedDecoder(ConnectionLimits())
        taken: list[Piece] = []
        for start in range(0, len(data), packet):
            pieces, rest = decoder.feed(data[start : start + packet])
            assert not rest
            assert all(isinstance(piece, memoryview) == (len(piece) >= 4096) for piece in pieces)
            taken += pieces
        assert decoder.complete
        assert b"".join(taken) == b"".join(chunks)

    @given(CHUNKS, st.integers(1, 60))
    def test_it_is_not_complete_before_its_last_byte(self, chunks: list[bytes], less: int) -> None:
        data = encode(chunks, b"", b"")
        decoder = ChunkedDecoder(ConnectionLimits())
        decoder.feed(data[: max(len(data) - less, 0)])
        assert not decoder.complete

    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
    def test_garbage_reads_the_same_however_it_is_cut(self, data: bytes, cuts: list[int]) -> None:
        def outcome(where: list[int]) -> object:
            decoder = ChunkedDecoder(ConnectionLimits())
            try:
                return (*decode(decoder, data, where), decoder.complete)
            except RefusedError:
                return RefusedError

        assert outcome(cuts) == outcome([])

    @given(st.lists(st.binary(min_size=1, max_size=64), min_size=1, max_size=200))
    def test_what_it_remembers_is_bounded(self, parts: list[bytes]) -> None:
        limits = ConnectionLimits(chunk_line_bytes=20, trailer_bytes=30)
        decoder = ChunkedDecoder(limits)
        with suppress(RefusedError):
            for part in parts:
                decoder.feed(part)
                assert decoder.remembered <= 32


class TestLength:
    @given(st.binary(max_size=100), st.lists(st.integers(0, 200), max_size=6))
    def test_it_takes_exactly_its_bytes(self, content: bytes, cuts: list[int]) -> None:
        decoder = LengthDecoder(len(content))
        assert decode(decoder, content + REST, cuts) == (content, REST)
        assert decoder.complete
        assert decoder.remaining == 0
