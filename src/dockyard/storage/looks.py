"""Many looks at the names in one directory, for the cost of few.

The directory is opened, and the names are looked up from there, so that the kernel walks the path
to it once. A look takes 2 us if the kernel has the name in memory, a call of its own with its
context managers five times that.
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from dockyard.storage.interface import ABSENT, Stamp
from dockyard.storage.promptness import Promptness
from dockyard.storage.translation import MISSING
from dockyard.threads import in_thread


SETTLED: Final = 1.0
"""Seconds after which a time in the tree tells that nothing has changed since: file systems count
time in steps of up to a hundredth of a second, network file systems look again within one."""

FEW: Final = 16
"""Names looked at first, to see if the kernel has them in memory."""

SWIFT: Final = 0.005
"""Seconds in which we have looked at `FEW` names if it has: that takes 40 us, and others may have
the processor for some milliseconds."""

AT_ONCE: Final = 512
"""Names looked at without a thread: about 1 ms."""

_DIRECTORY: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""Flags to walk from: `os.O_PATH`, where there is such a thing, asks for no right to read."""

T = TypeVar("T")


def stamp_of(status: os.stat_result, now: float) -> Stamp | None:
    """Return the stamp of what was found `status` at `now`; `None` if it can't be trusted yet.

    The time of the last change of any kind decides: who restores a backup sets the other one back,
    which takes an age off a directory to which names have just come.
    """
    if abs(now - status.st_ctime) < SETTLED:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


async def look(
    prompt: Promptness,
    look_at: Callable[[str, Sequence[str]], list[T]],
    directory: str,
    names: Sequence[str],
) -> list[T]:
    """Return what `look_at` sees of `names`; those that may wait for the disk in a thread."""
    if prompt.is_lost:
        return await prompt.run(look_at, directory, names)
    began = time.monotonic()
    found = look_at(directory, names[:FEW])
    seconds = time.monotonic() - began
    prompt.note(seconds)
    rest = names[FEW:]
    if not rest:
        return found
    if len(names) <= AT_ONCE and seconds < SWIFT:
        return found + look_at(directory, rest)
    return found + await in_thread(look_at, directory, rest)


def names(directory: str) -> list[str]:
    """Return the names in `directory`, in the order of their code points."""
    return sorted(os.listdir(directory))  # noqa: PTH208 -- plain strings throughout


def exist(directory: str, wanted: Sequence[str]) -> list[bool]:
    """Return for each of `wanted` whether it is in `directory`."""
    descriptor = _open(directory)
    if descriptor is None:
        return [False] * len(wanted)
    try:
        # Says less than stat(2), so it costs half; above all it does not say why not.
        is_there = partial(os.access, mode=os.F_OK, dir_fd=descriptor)
        found = list(map(is_there, wanted))
        if not all(found):
            found = [
                there or _exists(descriptor, name)
                for there, name in zip(found, wanted, strict=True)
            ]
    finally:
        os.close(descriptor)
    return found


def stamps(directory: str, wanted: Sequence[str]) -> list[Stamp | None]:
    """Return for each of `wanted` in `directory` its stamp."""
    descriptor = _open(directory)
    if descriptor is None:
        return [ABSENT] * len(wanted)
    # The clock is read first: what changes while we look is then too fresh to be trusted.
    now = time.time()
    try:
        statuses = list(map(partial(os.stat, dir_fd=descriptor), wanted))
    except OSError:
        return [_stamp(descriptor, name, now) for name in wanted]
    else:
        return [stamp_of(status, now) for status in statuses]
    finally:
        os.close(descriptor)


def _open(directory: str) -> int | None:
    """Return a descriptor to look from; `None` if there is no such directory."""
    try:
        return os.open(directory, _DIRECTORY)
    except OSError as error:
        if _is_missing(error):
            return None
        raise


def _exists(descriptor: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=descriptor)
    except OSError as error:
        if _is_missing(error):
            return False
        raise
    return True


def _stamp(descriptor: int, name: str, now: float) -> Stamp | None:
    try:
        status = os.stat(name, dir_fd=descriptor)
    except OSError as error:
        return ABSENT if _is_missing(error) else None  # whoever looks closer is told why
    return stamp_of(status, now)


def _is_missing(error: OSError) -> bool:
    """Return whether this says that nothing is there; links that lead nowhere do, as elsewhere."""
    return isinstance(error, MISSING) or error.errno == errno.ELOOP
