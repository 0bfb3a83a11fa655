import asyncio
import threading

import pytest

from dockyard.threads import in_thread


async def test_returns_what_the_function_returns() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)


async def test_passes_keyword_arguments() -> None:
    assert await in_thread(sorted, [1, 2], reverse=True) == [2, 1]


async def test_raises_what_the_function_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_runs_beside_the_event_loop() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("cancellations", [1, 2])
async def test_a_cancelled_caller_waits_for_the_thread(cancellations: int) -> None:
    events: list[str] = []
    started, finish = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        finish.wait()
        events.append("work ended")

    async def caller() -> None:
        try:
            await in_thread(work)
        finally:
            events.append("caller cleaned up")

    task = asyncio.create_task(caller())
    await in_thread(started.wait)
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0)
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["work ended", "caller cleaned up"]


async def test_a_cancellation_keeps_the_failure_of_the_work_as_its_cause() -> None:
    started, finish = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        finish.wait()
        raise OSError("disk on fire")

    task = asyncio.create_task(in_thread(work))
    await in_thread(started.wait)
    task.cancel()
    await asyncio.sleep(0)
    finish.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, OSError)
