"""Pulls: which manifests were pulled lately, so that collections leave them."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Final

import structlog

from dockyard.clock import Clock
from dockyard.errors import StateError
from dockyard.oci.digest import Digest
from dockyard.state.interface import State


MOST_NOTED: Final = 50_000
"""Pulls of different manifests that a worker remembers: some 15 MB. Beyond that it forgets which
ones it has noted today, which costs noting them again."""

KEPT: Final = timedelta(days=400)
"""How long a pull is remembered: more than a year, which is longer than anybody asks for."""


class Pulls:
    """Notes pulls, off the way of requests: once a day for each manifest.

    Attributes:
        turn: another number once pulls that were noted are to be noted again.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state: Final = state
        self._clock: Final = clock
        self._today = clock().date()
        self._noted: Final[set[tuple[str, Digest]]] = set()
        self._fresh: Final[set[tuple[str, Digest]]] = set()
        self._told = False
        self.turn = 0

    def note(self, name: str, digest: Digest) -> None:
        """Note that a manifest of the repository `name` was pulled."""
        pull = (name, digest)
        if pull not in self._noted:
            if len(self._noted) >= MOST_NOTED:
                self._forget()
            self._noted.add(pull)
            if len(self._fresh) < MOST_NOTED:  # it is not written down where nothing may write
                self._fresh.add(pull)

    async def write(self) -> None:
        """Write down what was noted since the last time. That failing is logged, once."""
        today = self._clock().date()
        if today != self._today:
            self._today = today
            self._forget()
        if not self._fresh:
            return
        fresh = set(self._fresh)
        self._fresh.clear()
        try:
            await self._state.note_pulls(fresh, today)
        except asyncio.CancelledError:
            self._fresh.update(fresh)
            raise
        except StateError as error:
            if len(self._fresh) < MOST_NOTED:
                self._fresh.update(fresh)
            if not self._told:
                structlog.get_logger().warning("pulls are not noted", err=str(error))
            self._told = True
        else:
            self._told = False

    def _forget(self) -> None:
        self._noted.clear()
        self.turn += 1


async def pinned(state: State, kept: timedelta, clock: Clock) -> Collection[tuple[str, Digest]]:
    """Return the manifests that were pulled less than `kept` ago, with their repositories.

    Days are counted whole, so some are kept a day longer.

    Raises:
        StateError: that can't be told.
    """
    if not kept:
        return ()
    return await state.pulled_since((clock() - kept).date())
