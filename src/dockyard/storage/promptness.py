"""Whether a disk answers at once, so that asking it need not leave the event loop.

What the kernel has in memory is answered in microseconds, where going to a thread and back takes
fifty. A disk that is overloaded, or behind a network, may take as many milliseconds, for which
every client of the worker would wait. So looks are made at once as long as they are prompt; where
they are not, they are made in threads until many in a row have been prompt again.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from dockyard.threads import in_thread


P = ParamSpec("P")
T = TypeVar("T")

LATE: Final = 0.03
"""Seconds that a look may take: one that waits for nothing takes a thousandth of it, but on a busy
machine others get the processor in the middle of it for some ten milliseconds."""

SUSPICION: Final = 2.0
"""Seconds within which two late looks make a disk slow: a single one may be the machine's doing."""

PROMPT_AGAIN: Final = 32
"""Looks in a row that must be prompt, in threads, before they are made at once again."""


class Promptness:
    """What is known of the disk of one storage, in one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._late_at = float("-inf")
        self._left = 0

    @property
    def is_lost(self) -> bool:
        """Whether looks have to be made in threads."""
        return self._left > 0

    def note(self, seconds: float) -> None:
        """Note how long a look took that was made at once."""
        if seconds < LATE:
            return
        now = self._clock()
        if now - self._late_at < SUSPICION:
            self._left = PROMPT_AGAIN
        self._late_at = now

    async def run(self, look: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``look(*args, **kwargs)``: at once, or from a thread if that might wait."""
        if self._left:
            return await in_thread(lambda: self._measured(lambda: look(*args, **kwargs)))
        began = self._clock()
        try:
            return look(*args, **kwargs)
        finally:
            self.note(self._clock() - began)

    async def acquire(
        self, take: Callable[P, T], release: Callable[[T], None], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``take(*args, **kwargs)`` likewise; who is cancelled meanwhile has it released."""
        taken: list[T] = []
        try:
            await self.run(lambda: taken.append(take(*args, **kwargs)))
        except asyncio.CancelledError:
            for each in taken:
                release(each)
            raise
        return taken[0]

    def _measured(self, look: Callable[[], T]) -> T:
        began = self._clock()
        try:
            return look()
        finally:
            prompt = self._clock() - began < LATE
            self._left = max(0, self._left - 1) if prompt else PROMPT_AGAIN
