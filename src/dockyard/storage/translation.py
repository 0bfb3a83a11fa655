"""The operating system's failures as the storage's own."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from dockyard.errors import PathUnknownError, StorageError, StorageFullError


FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What says that there is no room."""

MISSING: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What a read takes for missing."""

GONE: Final = (FileNotFoundError,)
"""What a write takes for missing: a file where a directory should be is trouble instead."""


@contextmanager
def translating(path: str, missing: tuple[type[OSError], ...] = MISSING) -> Generator[None]:
    """Report the operating system's failures as this package's, with the cause chained."""
    try:
        yield
    except missing as error:
        raise PathUnknownError(path) from error
    except OSError as error:
        if error.errno in FULL:
            raise StorageFullError(f"no room left for {path}: {error.strerror}") from error
        if error.errno == errno.ELOOP and missing is MISSING:
            raise PathUnknownError(path) from error  # links that lead nowhere
        raise StorageError(f"{path}: {error.strerror}") from error
