"""Notes: small files to which marks are added, in the `filesystem` driver."""

import os
from collections.abc import Sequence
from typing import Final

from dockyard.errors import PathUnknownError, StorageError
from dockyard.storage.interface import Amendment
from dockyard.storage.translation import translating


AMENDED: Final = 64
"""Notes amended in one turn of the event loop: about 1 ms."""

_BOTH: Final = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


def amend_all(
    root: str, paths: Sequence[str], tail: int, amendment: Amendment
) -> dict[str, StorageError]:
    """See `dockyard.storage.interface.Storage.amend`. Blocking."""
    failed: dict[str, StorageError] = {}
    for path in paths:
        try:
            with translating(path):
                _amend(f"{root}/{path}", tail, amendment)
        except PathUnknownError:
            continue
        except StorageError as error:
            failed[path] = error
    return failed


def _amend(full: str, tail: int, amendment: Amendment) -> None:
    """Add to a note. One that is removed meanwhile stays so: what it said was not needed."""
    descriptor = os.open(full, _BOTH)
    try:
        start = max(0, os.lseek(descriptor, 0, os.SEEK_END) - tail)
        added = amendment(os.pread(descriptor, tail, start), start == 0)
        if added:
            os.write(descriptor, added)
    finally:
        os.close(descriptor)
