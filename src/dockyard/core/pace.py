"""Pace: how much of a process long work takes for itself."""

import asyncio
import time
from collections.abc import Callable
from typing import Final


TURN: Final = 0.002
"""Seconds of work before others get their turn: a request that waits for that hardly notices."""


class Pace:
    """Work that goes on for a share of the time.

    Args:
        share: of the time of one core, above zero and up to one.
        clock: tells the seconds that have passed.
    """

    def __init__(self, share: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest: Final = 1 / share - 1
        self._clock: Final = clock
        self._began = clock()

    async def step(self) -> None:
        """Return at once, or, after a turn of work, once others had theirs."""
        worked = self._clock() - self._began
        if worked < TURN:
            return
        await asyncio.sleep(worked * self._rest)
        self._began = self._clock()
