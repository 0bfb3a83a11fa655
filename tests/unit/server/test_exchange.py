"""What a request's body is handed over in."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from dockyard.http.messages import PIECES
from dockyard.server.body import LengthDecoder
from dockyard.server.exchange import Exchange, Owner


if TYPE_CHECKING:
    from uvicorn._types import HTTPScope


class Nobody:
    """An owner whose exchange gets no answer."""

    transport: asyncio.Transport
    flow: Any
    date_line = b""

    def response_completed(self, exchange: Exchange) -> None:
        raise AssertionError(exchange)


def exchange_of(length: int, **extensions: object) -> Exchange:
    scope = cast("HTTPScope", {"type": "http", "method": "PATCH", **extensions})
    owner: Owner = Nobody()
    return Exchange(owner, scope, LengthDecoder(length), keep_alive=True, expects_continue=False)


async def test_an_application_that_says_nothing_gets_bytes() -> None:
    exchange = exchange_of(100)
    exchange.take_body([b"one", memoryview(b"two")])
    message = await exchange.receive()
    assert message == {"type": "http.request", "body": b"onetwo", "more_body": True}


async def test_one_that_takes_pieces_gets_them_as_they_came() -> None:
    exchange = exchange_of(100, **{PIECES: True})
    view = memoryview(b"two")
    exchange.take_body([b"one", view])
    message = cast("dict[str, Any]", await exchange.receive())
    assert message == {
        "type": "http.request",
        "body": b"",
        PIECES: [b"one", view],
        "more_body": True,
    }
    assert message[PIECES][1] is view


@pytest.mark.parametrize(
    ("size", "count", "waiting"),
    [(1, 16, 16), (1, 17, 1), (8191, 17, 1), (8192, 17, 17), (9000, 256, 256)],
)
async def test_small_pieces_are_joined_while_they_wait(size: int, count: int, waiting: int) -> None:
    """Each costs more than a byte."""
    exchange = exchange_of(1 << 30, **{PIECES: True})
    for number in range(count):
        exchange.take_body([bytes([number]) * size])
    message = cast("dict[str, Any]", await exchange.receive())
    assert len(message[PIECES]) == waiting
    assert b"".join(message[PIECES]) == b"".join(bytes([each]) * size for each in range(count))
