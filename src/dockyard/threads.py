"""Blocking work, off the event loop."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar


P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``function(*args, **kwargs)``, computed in a worker thread.

    A thread cannot be cancelled. `asyncio.to_thread` returns to a cancelled caller at once,
    so the caller's cleanup (closing a file, removing it) races the work it cleans up after.
    Here a cancelled caller waits for the thread first, then sees the cancellation.
    """
    return await outlast(asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs)))  # noqa: TID251


async def outlast(work: asyncio.Future[T]) -> T:
    """Return the result of `work`, once it is done: a cancelled caller waits for that as well."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from work.exception()
    return work.result()
