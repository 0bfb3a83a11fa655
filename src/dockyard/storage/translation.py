"""The operating system's failures as the storage's own."""

import errno
from types import TracebackType
from typing import Final

from dockyard.errors import PathUnknownError, StorageError, StorageFullError


FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What says that there is no room."""

MISSING: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What a read takes for missing."""

GONE: Final = (FileNotFoundError,)
"""What a write takes for missing: a file where a directory should be is trouble instead."""


class translating:  # noqa: N801 -- read as a verb, like the context managers of `contextlib`
    """Report the operating system's failures as this package's, with the cause chained.

    A class, since what `contextlib.contextmanager` makes costs as much as a system call.
    """

    __slots__ = ("_missing", "_path")

    def __init__(self, path: str, missing: tuple[type[OSError], ...] = MISSING) -> None:
        self._path = path
        self._missing = missing

    def __enter__(self) -> None:
        """Begin: nothing is to be done."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise what `error` means, if it is the operating system's."""
        if not isinstance(error, OSError):
            return
        path = self._path
        if isinstance(error, self._missing):
            raise PathUnknownError(path) from error
        if error.errno in FULL:
            raise StorageFullError(f"no room left for {path}: {error.strerror}") from error
        if error.errno == errno.ELOOP and self._missing is MISSING:
            raise PathUnknownError(path) from error  # links that lead nowhere
        raise StorageError(f"{path}: {error.strerror}") from error
