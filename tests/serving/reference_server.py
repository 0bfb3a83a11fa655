"""The least that answering costs in such a process: a ruler for `test_cost`.

It parses by the same parser, on the same event loop, looks into two files for each request, as a
registry has to look at its links, and sends an answer that was prepared. It prints its port.

    python reference_server.py FILE FILE
"""

import asyncio
import os
import sys
from typing import Final, cast

import httptools
import uvloop
from typing_extensions import override


BODY: Final = bytes(1024)
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._parser = httptools.HttpRequestParser(self)
        self._transport = asyncio.Transport()  # until there is one

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    @override
    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        for path in self._paths:
            descriptor = os.open(path, os.O_RDONLY)
            os.read(descriptor, 4096)
            os.close(descriptor)
        self._transport.write(ANSWER)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(sys.argv[1:]), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
