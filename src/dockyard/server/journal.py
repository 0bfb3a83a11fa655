"""The file of the audit log, which all workers write to at once, and which is rotated by size.

A line is one write to a file opened for appending, so lines of several processes don't mix. A file
that is full is renamed by whoever holds the lock of its directory; the others notice at their next
line that the name has another file.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dockyard.telemetry import logger


TOLD_SECONDS: Final = 60.0
"""How often, at most, the log tells that lines of the audit log are lost."""

LOOKS: Final = 3
"""How often a line that is not whole is looked at before it is taken for one that never will be."""

_MODE: Final = 0o600
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


class JournalError(Exception):
    """The audit log can't be written; the message says why."""


class JournalFile:
    """The file of the audit log; one object for each worker.

    Args:
        path: the file.
        maxsize: bytes of it, before another one is begun; 0 is no limit.
        maxfiles: how many older ones are kept, as ``PATH.1``, the youngest, and so on.
        creates: whether it is made if it is not there.
        clock: counts seconds.
    """

    def __init__(
        self,
        path: Path,
        maxsize: int = 0,
        maxfiles: int = 1,
        *,
        creates: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path: Final = path
        self._maxsize: Final = maxsize
        self._maxfiles: Final = maxfiles
        self._flags: Final = _FLAGS | (os.O_CREAT if creates else 0)
        self._clock: Final = clock
        self._descriptor = -1
        self._lost = 0
        self._told = -TOLD_SECONDS

    def write(self, line: str) -> None:
        """Append `line`, if that is possible; that it was not is told in the log."""
        content = line.encode("ascii", "backslashreplace") + b"\n"
        try:
            self._follow()
            self._make_room(len(content))
            self._append(content)
        except OSError as error:
            self._lost += 1
            self._tell(error)

    def check(self) -> None:
        """Make sure that the file can be written; it is made if it is not there.

        Raises:
            JournalError: it can't.
        """
        try:
            self._open()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise JournalError(f"audit.path: can't write to {self._path}: {reason}") from error
        self.close()

    def reopen(self) -> None:
        """Open the file by its name anew; what can't be opened is told, and tried again later."""
        self.close()
        try:
            self._open()
        except OSError as error:
            self._tell(error)

    def close(self) -> None:
        """Close the file, if it is open; the next line opens it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow(self) -> None:
        """Open the file that has the name now, unless it is open."""
        if self._descriptor < 0 or not self._is_current():
            self.close()
            self._open()

    def _is_current(self) -> bool:
        try:
            found = os.stat(self._path)  # noqa: PTH116 -- as `fstat` below
        except FileNotFoundError:
            return False
        mine = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

    def _open(self) -> None:
        # Not blocking: a pipe that nobody reads must not stop a worker before it is refused.
        descriptor = os.open(self._path, self._flags, _MODE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        self._descriptor = descriptor

    def _make_room(self, more: int) -> None:
        """Begin another file if this one has no room for `more` bytes. It is used if that fails."""
        size = os.fstat(self._descriptor).st_size
        if not self._maxsize or not size or size + more <= self._maxsize:
            return
        try:
            self._rotate()
        except OSError as error:
            self._tell(error, rotating=True)
        self._follow()

    def _rotate(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_current():
                return  # another worker has done it
            free = 1
            while free < self._maxfiles and self._older(free).exists():
                free += 1
            for number in range(free, 1, -1):
                self._older(number - 1).replace(self._older(number))
            self._path.replace(self._older(1))
        except BlockingIOError:
            return  # another worker does it at this moment: this line still goes to the old file
        finally:
            os.close(folder)

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _append(self, content: bytes) -> None:
        if not self._ends_with_a_line():
            content = b"\n" + content  # after half a line, which a full disk or a kill has left
        if os.write(self._descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._lost:
            self._tell()

    def _ends_with_a_line(self) -> bool:
        """Return whether nobody left half a line. One who writes just now may look so for a moment.

        Then there is an empty line more, which means nothing.
        """
        for _ in range(LOOKS):
            size = os.fstat(self._descriptor).st_size
            if not size or os.pread(self._descriptor, 1, size - 1) == b"\n":
                return True
            os.sched_yield()
        return False

    def _tell(self, error: OSError | None = None, *, rotating: bool = False) -> None:
        now = self._clock()
        if now - self._told < TOLD_SECONDS:
            return
        reason = "" if error is None else (error.strerror or str(error)).lower()
        facts = {"path": str(self._path), "lost": self._lost, "reason": reason}
        self._told, self._lost = now, 0
        if rotating:
            logger().error("audit log not rotated", **facts)
        else:
            logger().error("audit lines are lost" if reason else "audit lines were lost", **facts)
