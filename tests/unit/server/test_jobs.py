"""When a worker collects. That nothing is lost meanwhile: `tests/model` and `tests/crash`."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, time as time_of_day, timedelta
from pathlib import Path
from typing import Any

import pytest

from dockyard.config import Settings, load
from dockyard.core.pulls import Pulls
from dockyard.oci.digest import Digest
from dockyard.server.jobs import COLLECTION, Collecting, Jobs, NotingPulls, is_open
from dockyard.server.use_cases import open_state
from dockyard.state.interface import Job
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from tests.inprocess import recorded_log, write_config


HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DEADLINE = 10.0
"""Seconds after which something that should happen soon is taken for lost."""

LOOKS = 12
"""So often everybody looks at the clock before nothing is taken to happen."""


class Watch:
    """A clock that stands still until a test sets it forward, and knows who looked at it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)
        self.looks = 0

    def __call__(self) -> datetime:
        self.looks += 1
        return self.now


class Lines:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def write(self, line: str) -> None:
        self.events.append(json.loads(line))


class Workers:
    """Workers that share a tree, with the logs of all of them."""

    def __init__(self, folder: Path, log: list[dict[str, Any]], gc: dict[str, object]) -> None:
        storage = {
            "filesystem": {"rootdirectory": str(folder / "root")},
            "maintenance": {"gc": {"enabled": True, "interval": "1h", **gc}},
        }
        self.settings: Settings = load(write_config(folder, storage=storage), {}).settings
        self.root = folder / "root"
        self.state = open_state(self.settings)
        self.watch = Watch()
        self.audit = Lines()
        self._log = log
        self.running: list[asyncio.Task[None]] = []

    def start(self) -> int:
        """Start one more worker; return its number."""
        storage, state = FilesystemStorage(self.root), open_state(self.settings)
        job = Collecting(self.settings, storage, state, self.watch, self.audit)
        task = asyncio.create_task(job.run())
        self.running.append(task)
        return len(self.running) - 1

    async def stop(self, *numbers: int) -> None:
        """Stop workers, or all of them."""
        for task in [self.running[number] for number in numbers] or [*self.running]:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            self.running.remove(task)

    def logged(self, event: str) -> int:
        """Return how often something was logged."""
        return sum(entry["event"] == event for entry in self._log)

    async def expect(self, collections: int) -> None:
        """Return once so many collections were done in all, and no more."""
        await until(lambda: self.logged("collection done") >= collections)
        await self.looked()
        assert self.logged("collection done") == collections

    async def looked(self) -> None:
        """Return once the workers have looked at the clock for a while."""
        wanted = self.watch.looks + LOOKS
        await until(lambda: self.watch.looks >= wanted)


MakeWorkers = Callable[..., AbstractAsyncContextManager[Workers]]
"""Makes workers with settings of ``maintenance.gc``."""


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.005)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWorkers:
    """Makes workers with settings of ``maintenance.gc``, on a tree and in UTC."""
    monkeypatch.setattr("dockyard.server.jobs.PATIENCE", timedelta(milliseconds=10))
    monkeypatch.setattr("dockyard.storage.locks.LOCK_WAIT", 0.02)

    @asynccontextmanager
    async def made(**gc: object) -> AsyncIterator[Workers]:
        with recorded_log() as log:
            workers = Workers(tmp_path, log, gc)
            await FilesystemStorage(workers.root).put(layout.REPOSITORIES + "/keep", b"")
            try:
                yield workers
            finally:
                await workers.stop()

    return made


@pytest.fixture
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("window", "now", "expected"),
    [
        (None, "00:00", True),
        ("01:00-05:30", "00:59", False),
        ("01:00-05:30", "01:00", True),
        ("01:00-05:30", "05:29", True),
        ("01:00-05:30", "05:30", False),
        ("23:00-01:00", "22:59", False),
        ("23:00-01:00", "23:00", True),
        ("23:00-01:00", "00:00", True),
        ("23:00-01:00", "00:59", True),
        ("23:00-01:00", "01:00", False),
        ("00:00-23:59", "23:59", False),
    ],
)
def test_a_window_may_be_over_midnight(window: str | None, now: str, *, expected: bool) -> None:
    assert is_open(window, time_of_day.fromisoformat(now)) == expected


class TestSchedule:
    async def test_the_first_comes_within_the_interval(self, make: MakeWorkers) -> None:
        async with make() as workers:
            workers.start()
            await workers.looked()
            workers.watch.now += HOUR
            await workers.expect(1)

    async def test_of_several_workers_one_collects(self, make: MakeWorkers) -> None:
        async with make() as workers:
            for _ in range(4):
                workers.start()
            await workers.looked()
            for number in range(1, 4):
                workers.watch.now += HOUR
                await workers.expect(number)

    async def test_another_takes_over_when_it_ends(self, make: MakeWorkers) -> None:
        async with make() as workers:
            first = workers.start()
            await workers.looked()
            workers.start()
            workers.watch.now += HOUR
            await workers.expect(1)
            await workers.stop(first)
            await workers.looked()
            workers.watch.now += HOUR - MINUTE
            await workers.expect(1)
            workers.watch.now += MINUTE
            await workers.expect(2)

    async def test_after_a_restart_it_is_an_interval_after_the_last(
        self,
        make: MakeWorkers,
    ) -> None:
        async with make() as workers:
            begun = workers.watch.now - 10 * MINUTE
            await workers.state.note_job(Job(COLLECTION, begun, None))
            workers.start()
            workers.watch.now += 49 * MINUTE
            await workers.expect(0)
            workers.watch.now += MINUTE
            await workers.expect(1)

    async def test_what_came_of_it_is_noted(self, make: MakeWorkers) -> None:
        async with make() as workers:
            workers.start()
            await workers.looked()
            workers.watch.now += HOUR
            await workers.expect(1)
            assert await workers.state.job(COLLECTION) == Job(
                COLLECTION, workers.watch.now, workers.watch.now, "0 blobs, 0 bytes, 0 doubts"
            )

    async def test_the_audit_log_tells_of_it(self, make: MakeWorkers) -> None:
        async with make() as workers:
            orphan = Digest.of(b"orphan", "sha256")
            await FilesystemStorage(workers.root).put(layout.blob(orphan), b"orphan")
            os.utime(workers.root / layout.blob(orphan), (0, 0))
            workers.start()
            await workers.looked()
            workers.watch.now += HOUR
            await workers.expect(1)
            (event,) = workers.audit.events
            assert event == {
                "time": workers.watch.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "action": "collect",
                "result": "allowed",
                "kind": "schedule",
                "blobs": 1,
                "bytes": 6,
            }

    async def test_a_clock_that_was_ahead_is_not_waited_for(
        self,
        make: MakeWorkers,
    ) -> None:
        async with make() as workers:
            await workers.state.note_job(Job(COLLECTION, workers.watch.now + 1000 * HOUR, None))
            workers.start()
            await workers.looked()
            workers.watch.now += HOUR
            await workers.expect(1)

    @pytest.mark.usefixtures("_utc")
    async def test_it_waits_for_the_window(self, make: MakeWorkers) -> None:
        async with make(window="23:00-01:00") as workers:
            workers.start()
            await workers.looked()
            workers.watch.now += 10 * HOUR + 59 * MINUTE  # 22:59
            await workers.expect(0)
            workers.watch.now += MINUTE
            await workers.expect(1)


class TestTrouble:
    async def test_a_collection_that_fails_is_logged_and_tried_again(
        self,
        make: MakeWorkers,
    ) -> None:
        async with make() as workers:
            locks = workers.root / layout.PRIVATE / "locks"
            workers.start()
            await workers.looked()
            for number in range(256):
                (locks / f"collect-{number:02x}.gate").mkdir()
            workers.watch.now += HOUR
            await until(lambda: workers.logged("collection failed") == 1)
            assert [event["result"] for event in workers.audit.events] == ["failed"]
            for number in range(256):
                (locks / f"collect-{number:02x}.gate").rmdir()
            workers.watch.now += HOUR
            await workers.expect(1)

    async def test_while_a_command_collects_it_is_left_to_that(
        self,
        make: MakeWorkers,
    ) -> None:
        async with make() as workers:
            async with FilesystemStorage(workers.root).lock("collect", "blobs"):
                workers.start()
                await workers.looked()
                workers.watch.now += HOUR
                await workers.expect(0)
            assert workers.logged("collection failed") == 0
            workers.watch.now += HOUR
            await workers.expect(1)

    async def test_without_a_state_database_it_collects_all_the_same(
        self,
        make: MakeWorkers,
    ) -> None:
        async with make() as workers:
            directory = (workers.root / layout.state_database()).parent
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.write_text("no directory")
            workers.start()
            await workers.looked()
            assert workers.logged("last collection not known") == 1
            workers.watch.now += HOUR
            await workers.expect(1)
            assert workers.logged("collection not noted") == 2

    async def test_what_is_pinned_cannot_be_told_so_nothing_untagged_goes(
        self,
        make: MakeWorkers,
    ) -> None:
        async with make(deleteuntagged=True, keeppulled="24h") as workers:
            directory = (workers.root / layout.state_database()).parent
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.write_text("no directory")
            workers.start()
            await workers.looked()
            workers.watch.now += HOUR
            await until(lambda: workers.logged("collection failed") == 1)
            assert workers.logged("collection done") == 0


async def test_the_last_pulls_are_written_when_it_stops(tmp_path: Path) -> None:
    state, digest = open_state(load(write_config(tmp_path), {}).settings), Digest.of(b"one")
    watch = Watch()
    pulls = Pulls(state, watch)
    jobs = Jobs([NotingPulls(pulls)], state)
    jobs.start()
    await asyncio.sleep(0)
    pulls.note("a", digest)
    await jobs.stop()
    assert await state.pulled_since(watch.now.date()) == {("a", digest)}
