"""Files that were not changed: by what the kernel says of them, without reading them."""

import os
import stat
import time
from collections.abc import Sequence
from typing import Final

from dockyard.storage.looks import SETTLED
from dockyard.storage.promptness import Promptness


class FileWitness:
    """See `dockyard.storage.interface.Witness`.

    A file is the same while its inode, its length and the time of its last change are. That time is
    the kernel's (``ctime``): no program can set it back, as ``cp -p`` does with ``mtime``.
    """

    __slots__ = ("_prompt", "_seen")

    def __init__(self, seen: Sequence[tuple[str, int, int, int]], prompt: Promptness) -> None:
        self._seen: Final = tuple(seen)
        self._prompt: Final = prompt

    @classmethod
    def of(cls, paths: Sequence[str], prompt: Promptness) -> "FileWitness | None":
        """Return the witness of the files at `paths`; `None` if one changed just now.

        Raises:
            OSError: one is not there, or it can't be told.
        """
        now = time.time()
        seen: list[tuple[str, int, int, int]] = []
        for path in paths:
            status = os.stat(path)  # noqa: PTH116 -- plain strings throughout
            if abs(now - status.st_ctime) < SETTLED or not stat.S_ISREG(status.st_mode):
                return None
            seen.append((path, status.st_ino, status.st_ctime_ns, status.st_size))
        return cls(seen, prompt)

    def stands(self) -> bool:
        """See `Witness.stands`. While the disk is slow, it is in doubt."""
        if self._prompt.is_lost:
            return False
        began = time.monotonic()
        stands = self._looks_the_same()
        self._prompt.note(time.monotonic() - began)
        return stands

    def _looks_the_same(self) -> bool:
        try:
            for path, inode, changed, size in self._seen:
                status = os.stat(path)  # noqa: PTH116 -- hot
                if (
                    status.st_ino != inode
                    or status.st_ctime_ns != changed
                    or status.st_size != size
                ):
                    return False
        except OSError:
            return False
        return True
