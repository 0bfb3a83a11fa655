"""When looks at the disk are made at once, and when in threads."""

import asyncio
import threading

import pytest

from dockyard.storage.promptness import LATE, PROMPT_AGAIN, SUSPICION, Promptness


class Disk:
    """A disk whose looks take as long as it is told, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.takes = 0.0
        self.threads: set[int] = set()

    def clock(self) -> float:
        return self.now

    def look(self) -> str:
        self.threads = {threading.get_ident()}
        self.now += self.takes
        return "seen"

    @property
    def was_asked_at_once(self) -> bool:
        return self.threads == {threading.get_ident()}


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def prompt(disk: Disk) -> Promptness:
    return Promptness(disk.clock)


async def asked(prompt: Promptness, disk: Disk, seconds: float) -> bool:
    """Look once; return whether that was done at once."""
    disk.takes = seconds
    assert await prompt.run(disk.look) == "seen"
    return disk.was_asked_at_once


async def test_a_prompt_disk_is_asked_at_once(prompt: Promptness, disk: Disk) -> None:
    assert all([await asked(prompt, disk, LATE / 2) for _ in range(100)])


async def test_one_late_look_is_no_slow_disk(prompt: Promptness, disk: Disk) -> None:
    for _ in range(3):
        assert await asked(prompt, disk, LATE)
        disk.now += SUSPICION
    assert not prompt.is_lost


async def test_two_are(prompt: Promptness, disk: Disk) -> None:
    assert await asked(prompt, disk, LATE)
    assert await asked(prompt, disk, 0.0)
    assert await asked(prompt, disk, LATE)
    assert prompt.is_lost
    assert not await asked(prompt, disk, 0.0)


async def test_it_is_asked_at_once_again_when_it_was_prompt_for_a_while(
    prompt: Promptness, disk: Disk
) -> None:
    for _ in range(2):
        await asked(prompt, disk, LATE)
    for _ in range(PROMPT_AGAIN - 1):
        assert not await asked(prompt, disk, 0.0)
    assert not await asked(prompt, disk, LATE)  # and from the beginning
    for _ in range(PROMPT_AGAIN):
        assert not await asked(prompt, disk, 0.0)
    assert await asked(prompt, disk, 0.0)


async def test_a_failing_look_counts_too(prompt: Promptness, disk: Disk) -> None:
    def fail() -> None:
        disk.now += LATE
        raise OSError("no")

    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            await prompt.run(fail)
    assert prompt.is_lost
    with pytest.raises(OSError, match="no"):
        await prompt.run(fail)


async def test_what_was_taken_for_who_is_cancelled_is_released(
    prompt: Promptness, disk: Disk
) -> None:
    for _ in range(2):
        await asked(prompt, disk, LATE)
    entered, leave = threading.Event(), threading.Event()
    released: list[str] = []

    def take() -> str:
        entered.set()
        assert leave.wait(10)
        return "taken"

    taking = asyncio.create_task(prompt.acquire(take, released.append))
    await asyncio.to_thread(entered.wait, 10)
    taking.cancel()
    await asyncio.sleep(0)
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert released == ["taken"]


@pytest.mark.parametrize("late", [False, True])
async def test_what_was_taken_is_returned(prompt: Promptness, disk: Disk, *, late: bool) -> None:
    for _ in range(2 * late):
        await asked(prompt, disk, LATE)
    assert await prompt.acquire(disk.look, pytest.fail) == "seen"
