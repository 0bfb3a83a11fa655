"""Work that goes on for a share of the time."""

import asyncio

import pytest

from dockyard.core.pace import TURN, Pace


class Loop:
    """Time that passes by working and by resting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.rests: list[float] = []
        monkeypatch.setattr(asyncio, "sleep", self.rest)

    async def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


async def test_a_turn_of_work_is_not_interrupted(loop: Loop) -> None:
    pace = Pace(0.25, lambda: loop.now)
    for _ in range(10):
        loop.now += TURN / 11
        await pace.step()
    assert loop.rests == []


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
async def test_others_have_the_rest_of_the_time(loop: Loop, share: float) -> None:
    pace, began, worked = Pace(share, lambda: loop.now), loop.now, 0.0
    for number in range(100):
        work = TURN * (number % 5)
        loop.now += work
        worked += work
        await pace.step()
    assert worked / (loop.now - began) == pytest.approx(share)


async def test_at_full_pace_others_get_their_turn_all_the_same(loop: Loop) -> None:
    pace = Pace(clock=lambda: loop.now)
    loop.now += 2 * TURN
    await pace.step()
    assert loop.rests == [0.0]
