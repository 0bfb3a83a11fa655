"""Writes lines to a file descriptor."""

import asyncio
import os
import select
import stat
from contextlib import suppress
from typing import Final


WRITE_SECONDS: Final = 1.0
"""How long a line waits for whoever reads the log."""

GATHERED: Final = 64
"""Lines that are gathered, at most, before they are written: 256 KiB of the longest."""

FILE_BYTES: Final = 1 << 20
"""Bytes of lines that are written to a file at once, at most: more than are gathered."""


class Lines:
    """Writes whole lines to a file descriptor, each by one system call.

    A failing write never fails a request: a line that can't be written (its reader is gone or does
    not read, the disk is full) is lost. Serving goes before logging: a reader that stops keeps us
    waiting once for `WRITE_SECONDS`; from then on lines are lost at once until it reads again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gathered: list[str] = []
        self._poll: select.poll | None = None
        self._patience = WRITE_SECONDS
        with suppress(OSError):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._poll = select.poll()
                self._poll.register(descriptor, select.POLLOUT)

    def write(self, line: str) -> None:
        """Write `line` and its line end, after those that were gathered."""
        if self._gathered:
            self.flush()
        self._put((line + "\n").encode("utf-8", "backslashreplace"))

    def gather(self, line: str) -> None:
        """Write `line` and its line end, soon: with others of this turn of the event loop."""
        self._gathered.append(line)
        if len(self._gathered) == 1:
            asyncio.get_running_loop().call_soon(self.flush)
        elif len(self._gathered) >= GATHERED:
            self.flush()

    def flush(self) -> None:
        """Write the lines that were gathered: a pipe takes as many at once as don't interleave."""
        lines, self._gathered = self._gathered, []
        most = FILE_BYTES if self._poll is None else select.PIPE_BUF
        rest = b""
        for line in lines:
            encoded = (line + "\n").encode("utf-8", "backslashreplace")
            if rest and len(rest) + len(encoded) > most:
                self._put(rest)
                rest = b""
            rest += encoded
        if rest:
            self._put(rest)

    def _put(self, rest: bytes) -> None:
        # What is no longer than PIPE_BUF never blocks where there is room for it.
        most = FILE_BYTES if self._poll is None else select.PIPE_BUF
        while rest and self._has_room():
            try:
                rest = rest[os.write(self._descriptor, rest[:most]) :]
            except BlockingIOError:
                continue  # someone else filled it
            except OSError:
                return

    def _has_room(self) -> bool:
        if self._poll is None:
            return True
        has_room = bool(self._poll.poll(self._patience * 1000))
        self._patience = WRITE_SECONDS if has_room else 0.0
        return has_room

    def debug(self, line: str) -> None:
        """Write `line`; structlog calls the method named after the level."""
        self.write(line)

    info = warning = error = critical = exception = msg = debug
