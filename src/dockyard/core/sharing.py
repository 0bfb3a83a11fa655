"""Work that several requests share."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar


T = TypeVar("T")


class Shared(Generic[T]):
    """Looks at the tree, each shared by the requests that asked for it before it began.

    Each of them sees the tree as it was after it asked, as if it had looked itself. Who asks while
    a look is under way waits for another: what has just been pushed may not be in that one.
    """

    def __init__(self) -> None:
        self._waiting: Final[dict[Hashable, asyncio.Task[T]]] = {}

    async def get(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        """Return what `look` returns, or the one of another request for the same `key`."""
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.create_task(self._look(key, look))
            task.add_done_callback(_note_failure)
        return await asyncio.shield(task)  # one that is cut off does not take it from the others

    async def _look(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(0)  # requests that have arrived are read now, and join
        del self._waiting[key]
        return await look()


def _note_failure(task: asyncio.Task[T]) -> None:
    """Let a failure that nobody waits for any more be none: who asked is gone."""
    if not task.cancelled():
        task.exception()
