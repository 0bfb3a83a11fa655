"""Files of the `filesystem` driver: reading ranges, making files, holding ends."""

import fcntl
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from dockyard.errors import PathUnknownError, StorageBusyError, StorageError
from dockyard.storage.interface import Entry
from dockyard.storage.promptness import Promptness
from dockyard.threads import in_thread


READ_CHUNK: Final = 256 << 10
"""Bytes read and sent at once. 256 KiB cost the least CPU per GB and hold 0.8 MB for a stalled
pull; larger reads save nothing and hold more."""

FIRST_READ: Final = 64 << 10
"""Bytes that `read_up_to` asks for at first: nearly all objects have fewer, and making room for the
largest that its caller takes would cost more than reading them."""

SMALL_DIRECTORY: Final = 4096
"""Bytes that a directory has, at most, to be listed without a thread: one block of ext4, some dozen
digests. Listing takes 25 us, going to a thread and back another 100."""

MAKE_TRIES: Final = 5
"""Times directories are made again when someone removes them at the same moment."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Flags to read by. `os.O_NONBLOCK` is for what is no file: opening a FIFO would wait forever."""

_SIZE: Final = b"user.dockyard.size"
"""Extended attribute that says how many bytes a blob had when it was published."""


class FileReader:
    """See `dockyard.storage.interface.Reader`."""

    def __init__(
        self, descriptor: int, size: int, recorded: int | None, path: str, prompt: Promptness
    ) -> None:
        self._descriptor = descriptor
        self._path: Final = path
        self._prompt: Final = prompt
        self._page = bytearray(1)
        self._may_wait = False
        self._was_cached: bool | None = None
        self.size: Final = size
        self.recorded_size = recorded

    @staticmethod
    def record_size(descriptor: int) -> None:
        """Note the file's size beside it, where the file system has room for such notes."""
        with suppress(OSError):  # without it a truncated file is found by fsck alone
            os.setxattr(descriptor, _SIZE, str(os.fstat(descriptor).st_size).encode())

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `Reader.read`. Cached pages are read at once, others in a thread."""
        while start < stop:
            length = min(READ_CHUNK, stop - start)
            try:
                chunk = self._read_at_once(length, start)
                if chunk is None:
                    chunk = await in_thread(os.pread, self._descriptor, length, start)
            except OSError as error:
                raise StorageError(f"{self._path}: {error.strerror}") from error
            if len(chunk) < length:
                raise StorageError(f"{self._path} ends at {start + len(chunk)}, expected {stop}")
            yield chunk
            start += length

    def _read_at_once(self, length: int, start: int) -> bytes | None:
        """Return what is there if that needs no waiting, as far as can be told."""
        if self._prompt.is_lost:
            return None
        began = time.monotonic()
        cached = self._is_cached(start + length - 1)
        if self._was_cached is None:
            self._was_cached = cached
        chunk = os.pread(self._descriptor, length, start) if cached else None
        self._prompt.note(time.monotonic() - began)
        return chunk

    def note_size(self) -> bool:
        """See `Reader.note_size`. Not where there are no extended attributes, or no right to."""
        try:
            os.setxattr(self._descriptor, _SIZE, str(self.size).encode())
        except OSError:
            return False
        self.recorded_size = self.size
        return True

    def forget(self, start: int, stop: int) -> None:
        """See `Reader.forget`. A file that was in memory when reading began stays: others read it.

        Of what is read in order the kernel reads more ahead, so later pages don't tell.
        """
        if self._was_cached is False:
            with suppress(OSError):  # it is advice
                os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """See `Reader.close`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_cached(self, offset: int) -> bool:
        """Return whether reading up to `offset` is unlikely to wait for the disk.

        Asks the kernel for that one byte without waiting: files are read in order, so a page
        that is there has those before it. Where the kernel can't tell, the answer is no.
        """
        if self._may_wait:
            return False
        try:
            return os.preadv(self._descriptor, [self._page], offset, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False
        except OSError:
            self._may_wait = True
            return False


def read_file(path: str, most: int) -> bytes:
    """Return what is in the file at `path`, up to `most` bytes."""
    descriptor = os.open(path, _READ)
    try:
        return read_up_to(descriptor, most)
    finally:
        os.close(descriptor)


def open_file(path: str) -> tuple[int, int, int | None] | None:
    """Open the file at `path` for reading; `None` if it is none.

    Returns:
        Descriptor, length, and the length with which it was published, if that is known: it is
        not for blobs that distribution wrote.
    """
    descriptor = os.open(path, _READ)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    try:
        recorded = int(os.getxattr(descriptor, _SIZE))
    except (OSError, ValueError):
        recorded = None
    return descriptor, status.st_size, recorded


def release(opened: "tuple[int, int] | tuple[int, int, int | None] | None") -> None:
    """Close what `open_file` or `open_end` opened."""
    if opened is not None:
        os.close(opened[0])


def open_end(full: str, path: str) -> tuple[int, int]:
    """Open a growing file at its end, which is held then; return descriptor and length."""
    descriptor = os.open(full, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        hold_end(descriptor, full, path)
        return descriptor, os.fstat(descriptor).st_size
    except BaseException:
        os.close(descriptor)
        raise


def make_directories(directory: str) -> None:
    """Make `directory` and those above it, as far as nobody removes them at the same moment.

    Whoever then uses it finds out if that was in vain, and why.
    """
    for _ in range(MAKE_TRIES):
        try:
            os.mkdir(directory)  # noqa: PTH102 -- plain strings throughout
        except FileExistsError:
            return
        except FileNotFoundError:
            with suppress(FileNotFoundError, FileExistsError):  # removed while we were looking
                os.makedirs(os.path.dirname(directory), exist_ok=True)  # noqa: PTH103, PTH120 -- likewise
        else:
            return


def create_file(path: str, content: bytes) -> None:
    """Make a file with `content`, in place of any at `path`; make its directories as needed."""
    descriptor = _open_empty(path)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _open_empty(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    for _ in range(MAKE_TRIES):
        with suppress(FileNotFoundError):  # not there, or removed after we made it
            return os.open(path, flags, 0o666)
        make_directories(os.path.dirname(path))  # noqa: PTH120 -- plain strings throughout
    return os.open(path, flags, 0o666)


def note(path: str, mark: bytes) -> bool:
    """Append `mark` to the file at `path`, which is made if need be; return whether it is there."""
    for _ in range(MAKE_TRIES):
        try:
            if append_mark(path, mark):
                return True
        except FileNotFoundError:
            make_directories(os.path.dirname(path))  # noqa: PTH120 -- plain strings throughout
    return False


def append_mark(path: str, mark: bytes) -> bool:
    """Append `mark` to the file at `path`; return whether it was still there afterwards."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(descriptor, mark)
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 -- hot
    finally:
        os.close(descriptor)


def list_directory(directory: str) -> list[Entry]:
    """Return the names in `directory`."""
    with os.scandir(directory) as entries:
        return [Entry(entry.name, entry.is_dir()) for entry in entries]


def read_up_to(descriptor: int, most: int) -> bytes:
    """Return what is in a file, up to `most` bytes."""
    content = os.read(descriptor, min(most, FIRST_READ))
    if len(content) < min(most, FIRST_READ):
        return content
    pieces, left = [content], most - len(content)
    while left > 0 and (piece := os.read(descriptor, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def hold_end(descriptor: int, full: str, path: str) -> None:
    """Take the end of a growing file for this open, and make sure it is still that file.

    Without the second look, a request that opened the file just before another one published
    it would append to a blob.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageBusyError(path) from error
    if not os.path.samestat(os.fstat(descriptor), os.stat(full)):  # noqa: PTH116 -- hot
        raise PathUnknownError(path)


def boot_epoch() -> str:
    """Return a text that is another one after the machine started anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return uuid4().hex  # not Linux: this process knows of no other


def remove_tree(path: str) -> None:
    """Remove a file or a directory with all it holds."""
    if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 -- plain strings
        for name in os.listdir(path):  # noqa: PTH208 -- plain strings throughout
            remove_tree(f"{path}/{name}")
        os.rmdir(path)  # noqa: PTH106 -- plain strings throughout
    else:
        os.unlink(path)  # noqa: PTH108 -- plain strings throughout


def sync_directory(directory: str) -> None:
    """Make the names in `directory` durable. Source: fsync(2), notes."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
