"""Noting what was pulled."""

import asyncio
from collections.abc import Collection
from datetime import date, timedelta

import pytest
from typing_extensions import override

from dockyard.core import pulls as module
from dockyard.core.pulls import Pulls, pinned
from dockyard.errors import StateError
from dockyard.oci.digest import Digest
from dockyard.state.database import Database
from tests.inprocess import recorded_log
from tests.unit.core.trees import NOW, now


ONE, TWO, THREE = (Digest.of(text) for text in (b"one", b"two", b"three"))
DAY = timedelta(days=1)


class Watched(Database):
    """A database that counts what it is told, and fails while it is broken."""

    def __init__(self) -> None:
        super().__init__(None)
        self.told: list[Collection[tuple[str, Digest]]] = []
        self.broken = False

    @override
    async def note_pulls(self, pulls: Collection[tuple[str, Digest]], day: date) -> None:
        self.told.append(pulls)
        if self.broken:
            raise StateError("state.db", "disk I/O error")
        await super().note_pulls(pulls, day)


@pytest.fixture
def state() -> Watched:
    return Watched()


async def test_a_pull_is_written_down_once_a_day(state: Watched) -> None:
    clock = [NOW]
    pulls = Pulls(state, lambda: clock[0])
    for expected in ([{("a", ONE), ("b", ONE)}], [{("a", ONE), ("b", ONE)}]):
        for name in ("a", "b", "a"):
            pulls.note(name, ONE)
        await pulls.write()
        assert state.told == expected
    clock[0] = NOW + DAY
    await pulls.write()
    pulls.note("a", ONE)
    await pulls.write()
    assert len(state.told) == 2
    assert await state.pulled_since((NOW + DAY).date()) == {("a", ONE)}


async def test_nothing_pulled_is_nothing_written(state: Watched) -> None:
    await Pulls(state, now).write()
    assert state.told == []


async def test_what_could_not_be_written_is_written_later_and_told_once(state: Watched) -> None:
    pulls = Pulls(state, now)
    state.broken = True
    with recorded_log() as log:
        for digest in (ONE, TWO):
            pulls.note("a", digest)
            await pulls.write()
        state.broken = False
        pulls.note("a", THREE)
        await pulls.write()
        state.broken = True
        pulls.note("b", ONE)
        await pulls.write()
    assert [entry["event"] for entry in log] == ["pulls are not noted"] * 2
    assert "disk I/O error" in log[0]["err"]
    assert await state.pulled_since(NOW.date()) == {("a", each) for each in (ONE, TWO, THREE)}


async def test_what_is_noted_while_it_is_written_is_not_lost(state: Watched) -> None:
    pulls = Pulls(state, now)
    pulls.note("a", ONE)
    writing = asyncio.create_task(pulls.write())
    await asyncio.sleep(0)
    pulls.note("a", TWO)
    await writing
    await pulls.write()
    assert await state.pulled_since(NOW.date()) == {("a", ONE), ("a", TWO)}


async def test_a_write_that_is_cancelled_loses_nothing(state: Watched) -> None:
    pulls = Pulls(state, now)
    pulls.note("a", ONE)
    async with state._turn:  # noqa: SLF001 -- another one uses the database just now
        writing = asyncio.create_task(pulls.write())
        await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    await pulls.write()
    assert await state.pulled_since(NOW.date()) == {("a", ONE)}


async def test_only_so_many_are_remembered(state: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is ever written down, as in a registry that is read-only."""
    monkeypatch.setattr(module, "MOST_NOTED", 10)
    pulls = Pulls(state, now)
    state.broken = True
    for number in range(100):
        pulls.note("a", Digest.of(str(number).encode()))
        if number % 7 == 0:
            await pulls.write()
    assert len(pulls._noted) <= 10  # noqa: SLF001 -- the promise is about memory
    assert len(pulls._fresh) <= 20  # noqa: SLF001 -- the promise is about memory


class TestPinned:
    async def test_days_are_counted_whole(self, state: Watched) -> None:
        for days, digest in ((0, ONE), (2, TWO), (3, THREE)):
            await state.note_pulls({("a", digest)}, (NOW - days * DAY).date())
        assert await pinned(state, 2 * DAY, now) == {("a", ONE), ("a", TWO)}

    async def test_without_a_time_nobody_is_asked(self, state: Watched) -> None:
        await state.note_pulls({("a", ONE)}, NOW.date())
        assert not await pinned(state, timedelta(0), now)

    async def test_longer_than_there_is_history(self, state: Watched) -> None:
        """292 years are the most that a configuration can say."""
        await state.note_pulls({("a", ONE)}, NOW.date())
        assert await pinned(state, timedelta(days=106_000), now) == {("a", ONE)}
