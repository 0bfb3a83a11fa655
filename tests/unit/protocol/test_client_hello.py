import ssl

import pytest
from hypothesis import given, strategies as st

from dockyard.protocol.client_hello import (
    HELLO_LIMIT,
    ClientHello,
    HelloInvalidError,
    parse_client_hello,
)


def hello(server_name: str | None = "Registry.example.com", *protocols: str) -> bytes:
    """Return what OpenSSL says first."""
    context = ssl.create_default_context()
    if server_name is None:
        context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """Return the message of one record, cut into records of `size` bytes."""
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_what_openssl_says_is_understood() -> None:
    found = parse_client_hello(hello("Registry.example.com", "h2", "http/1.1"))
    assert found == ClientHello("registry.example.com", (b"h2", b"http/1.1"))


def test_a_client_need_not_say_much() -> None:
    assert parse_client_hello(hello(None)) == ClientHello()


def test_it_may_come_in_pieces_and_several_records() -> None:
    whole = hello("a.example", "acme-tls/1")
    for data in (whole, in_records(whole, 100)):
        for end in range(0, len(data), 7):
            assert parse_client_hello(data[:end]) is None
        found = parse_client_hello(data + b"and more")
        assert found == ClientHello("a.example", (b"acme-tls/1",))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
        b"\x16\x03\x01\x00\x02\x01\x00" + b"\x15\x03\x01\x00\x02\x02\x00",
        in_records(hello(), 1),
    ],
)
def test_what_is_none_is_told(data: bytes) -> None:
    with pytest.raises(HelloInvalidError):
        parse_client_hello(data)


def test_its_length_is_bounded() -> None:
    announced = b"\x16\x03\x01\x40\x00\x01" + (HELLO_LIMIT + 1).to_bytes(3, "big")
    with pytest.raises(HelloInvalidError, match="too long"):
        parse_client_hello(announced)
    with pytest.raises(HelloInvalidError, match="tiny"):
        parse_client_hello(in_records(b"\x16\x03\x01\x01\x04\x01\x00\x01\x00" + bytes(256), 1))


@given(st.binary(max_size=300), st.integers(0, 200), st.binary(max_size=4))
def test_damage_is_understood_or_told(tail: bytes, at: int, over: bytes) -> None:
    data = bytearray(hello("a.example", "http/1.1"))
    data[at : at + len(over)] = over
    for damaged in (bytes(data), bytes(data[:at]) + tail):
        try:
            found = parse_client_hello(damaged)
        except HelloInvalidError:
            continue
        assert found is None or isinstance(found, ClientHello)
