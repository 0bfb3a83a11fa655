"""Bytes that two servers could read in two ways. We read them in one way or not at all.

Each case is followed, on the same connection, by a second request that must not be seen when the
first one is refused: `/smuggled`.
"""

import pytest

from tests.serving.probe import Served, statuses


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def post(*fields: bytes, body: bytes = b"", target: bytes = b"/echo") -> bytes:
    return b"\r\n".join((b"POST " + target + b" HTTP/1.1", b"Host: a", *fields, b"", body))


REFUSED = {
    "cl-te": (400, post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "te-cl": (400, post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n")),
    "two-cl": (400, post(b"Content-Length: 3", b"Content-Length: 5", body=b"abc")),
    "two-equal-cl": (400, post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc")),
    "cl-list": (400, post(b"Content-Length: 3, 3", body=b"abc")),
    "cl-plus": (400, post(b"Content-Length: +3", body=b"abc")),
    "cl-minus": (400, post(b"Content-Length: -3", body=b"abc")),
    "cl-hex": (400, post(b"Content-Length: 0x3", body=b"abc")),
    "cl-underscore": (400, post(b"Content-Length: 1_0", body=b"abc")),
    "cl-empty": (400, post(b"Content-Length:", body=b"abc")),
    "cl-arabic": (400, post("Content-Length: \u0663".encode(), body=b"abc")),
    "cl-huge": (400, post(b"Content-Length: " + b"9" * 30, body=b"abc")),
    "te-twice": (
        400,
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    "te-x": (400, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "te-identity": (400, post(b"Transfer-Encoding: identity", body=b"")),
    "te-gzip": (400, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "te-chunked-identity": (400, post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "te-quoted": (400, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "te-vt": (400, post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "te-space-before-colon": (400, post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "te-empty": (400, post(b"Transfer-Encoding:", body=b"")),
    "te-10": (
        400,
        b"POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "bare-lf-everywhere": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare-lf-in-line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare-lf-in-field": (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "bare-cr": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n"),
    "cr-cr-lf": (400, b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    "obs-fold": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
    "obs-fold-first": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "nul-in-value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n"),
    "nul-in-name": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n"),
    "nul-in-target": (400, b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space-before-colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "no-colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    "empty-name": (400, b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    "no-host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "empty-host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "two-hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "host-with-space": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "host-with-path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "host-with-user": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "host-list": (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "lower-method": (400, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "unknown-method": (501, b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "connect": (400, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "asterisk": (400, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "relative-target": (400, b"GET v2/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fragment": (400, b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "raw-utf8-target": (400, "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode()),
    "ftp-target": (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-with-user": (400, b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-without-host": (400, b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two-spaces": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "trailing-space": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "http-0.9": (400, b"GET /\r\n\r\n"),
    "http-1.2": (400, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "http-2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "http-lower": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "tls-hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"),
    "expect-other": (417, post(b"Expect: payment", b"Content-Length: 3", body=b"abc")),
}

BAD_CHUNKS = {
    "not-hex": b"xyz\r\nabc\r\n0\r\n\r\n",
    "empty-size": b"\r\nabc\r\n0\r\n\r\n",
    "minus": b"-3\r\nabc\r\n0\r\n\r\n",
    "plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "space-after-size": b"3 \r\nabc\r\n0\r\n\r\n",
    "space-before-size": b" 3\r\nabc\r\n0\r\n\r\n",
    "overflow": b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
    "size-lf": b"3\nabc\r\n0\r\n\r\n",
    "end-lf": b"3\r\nabc\n0\r\n\r\n",
    "too-long-chunk": b"3\r\nabcd\r\n0\r\n\r\n",
    "too-short-chunk": b"4\r\nabc\r\n0\r\n\r\n",
    "last-lf": b"3\r\nabc\r\n0\n\n",
    "trailer-without-colon": b"3\r\nabc\r\n0\r\nX\r\n\r\n",
    "trailer-fold": b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
    "trailer-lf": b"3\r\nabc\r\n0\r\nX: y\n\r\n",
    "endless-extension": b"3;" + b"a" * 70_000 + b"\r\nabc\r\n0\r\n\r\n",
    "endless-trailer": b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    "extension-nul": b"3;a=\0\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize(("status", "request_"), REFUSED.values(), ids=REFUSED)
async def test_ambiguous_requests_are_refused(served: Served, status: int, request_: bytes) -> None:
    answers = await served.talk(request_ + SMUGGLED)
    assert statuses(answers) == [status]
    assert b"\r\nConnection: close\r\n" in answers
    assert served.probe.seen == []


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
async def test_broken_chunks_end_the_connection(served: Served, chunks: bytes) -> None:
    answers = await served.talk(post(b"Transfer-Encoding: chunked", body=chunks + SMUGGLED))
    assert statuses(answers) == [400]
    assert b"\r\nConnection: close\r\n" in answers
    assert [path for _, path, _ in served.probe.seen] in ([b"/echo"], [])
    assert served.probe.bodies == []


@pytest.mark.parametrize("split", [1, 2, 3, 7, 1000])
async def test_packets_do_not_matter(served: Served, split: int) -> None:
    body = b'5\r\nhello\r\nA;name="value"\r\n, 0123456\n\r\n0\r\nX-Trailer: dropped\r\n\r\n'
    whole = post(b"Transfer-Encoding: Chunked", body=body)
    whole += post(b"Content-Length: 3", body=b"abc")
    whole += b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    parts = [whole[start : start + split] for start in range(0, len(whole), split)]
    answers = await served.talk(*parts)
    assert statuses(answers) == [200, 200, 200]
    assert served.probe.bodies == [15, 3]
    assert [path for _, path, _ in served.probe.seen] == [b"/echo", b"/echo", b"/last"]


async def test_trailer_fields_are_never_header_fields(served: Served) -> None:
    body = b"0\r\nAuthorization: Basic eA==\r\nContent-Length: 30\r\n\r\n"
    answers = await served.ask(post(b"Transfer-Encoding: chunked", body=body), SMUGGLED)
    assert statuses(answers) == [200, 200]
    assert served.probe.bodies == [0]


async def test_an_absolute_target_replaces_the_host_and_ends_the_connection(
    served: Served,
) -> None:
    request = b"GET http://real:5000/path?q=1 HTTP/1.1\r\nHost: other\r\n\r\n"
    answers = await served.talk(request + SMUGGLED)
    assert statuses(answers) == [200]
    assert served.probe.seen == [("GET", b"/path", b"real:5000")]


async def test_an_upgrade_is_not_taken_and_ends_the_connection(served: Served) -> None:
    request = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answers = await served.talk(request + SMUGGLED)
    assert statuses(answers) == [200]
    assert served.probe.seen == [("GET", b"/x", b"a")]


async def test_one_empty_line_before_a_request_is_skipped(served: Served) -> None:
    answers = await served.ask(b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert statuses(answers) == [200]
    assert statuses(await served.talk(b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n")) == [400]


async def test_http_1_0_needs_no_host_and_is_closed(served: Served) -> None:
    answers = await served.talk(b"GET /odd HTTP/1.0\r\n\r\n" + SMUGGLED)
    assert answers.endswith(b"Connection: close\r\n\r\nabc")
    assert b"chunked" not in answers
    assert served.probe.seen == [("GET", b"/odd", b"")]
