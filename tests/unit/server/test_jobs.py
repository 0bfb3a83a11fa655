"""What a worker does beside serving: when it collects, and who does if it can't."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from datetime import UTC, datetime, time
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from dockyard.clock import utc_now
from dockyard.config import Settings, load
from dockyard.errors import StateError, StorageError
from dockyard.server.jobs import COLLECTION, Collecting, is_open
from dockyard.state.database import Database
from dockyard.state.interface import Job
from dockyard.storage.filesystem import FilesystemStorage


SECONDS = 10.0


@asynccontextmanager
async def running(*jobs: Collecting) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(job.run()) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def count(database: Database, least: int) -> None:
    """Return once so many collections have begun."""
    seen: set[datetime] = set()
    async with asyncio.timeout(SECONDS):
        while len(seen) < least:
            job = await database.job(COLLECTION)
            if job is not None:
                seen.add(job.started)
            await asyncio.sleep(0.01)


def settings_in(folder: Path, interval: str, window: str = "") -> Settings:
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nhttp: {{addr: ':0'}}\n"
        f"storage:\n  filesystem: {{rootdirectory: {folder / 'root'}}}\n"
        f"  maintenance: {{gc: {{enabled: true, interval: {interval}{window}}}}}\n"
    )
    return load(config, {}).settings


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    return FilesystemStorage(tmp_path / "root")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    await database.close()


async def test_it_collects_as_often_as_it_is_told(
    storage: FilesystemStorage, database: Database, tmp_path: Path
) -> None:
    job = Collecting(settings_in(tmp_path, "20ms"), storage, database, utc_now)
    async with running(job):
        await count(database, 15)


async def test_another_takes_over_within_an_interval(
    storage: FilesystemStorage, database: Database, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, "100ms")
    first, second = (Collecting(settings, storage, database, utc_now) for _ in range(2))
    async with running(second):
        async with running(first):
            await count(database, 2)
        await count(database, 2)


async def test_one_that_failed_is_followed_by_another(database: Database, tmp_path: Path) -> None:
    class FailingOnce(FilesystemStorage):
        failures = 0

        @override
        def lock(
            self, kind: str, name: str, *, shared: bool = False
        ) -> AbstractAsyncContextManager[None]:
            if kind == "collect" and not self.failures:
                self.failures += 1
                raise StorageError("no locks left")
            return super().lock(kind, name, shared=shared)

    storage = FailingOnce(tmp_path / "root")
    with capture_logs() as logs:
        async with running(Collecting(settings_in(tmp_path, "20ms"), storage, database, utc_now)):
            await count(database, 2)
    assert [each["err"] for each in logs if each["event"] == "collection failed"] == [
        "no locks left"
    ]


async def test_it_waits_for_the_interval_after_the_last_one(
    storage: FilesystemStorage, database: Database, tmp_path: Path
) -> None:
    """Also after a restart, and whoever did the last one."""
    last = Job(COLLECTION, datetime.now(UTC), None)
    await database.note_job(last)
    with capture_logs() as logs:
        async with running(Collecting(settings_in(tmp_path, "1h"), storage, database, utc_now)):
            await asyncio.sleep(0.2)
    assert await database.job(COLLECTION) == last
    assert logs == []


@pytest.mark.parametrize(
    ("window", "now", "begins"),
    [
        (None, time(12), True),
        ("01:00-05:30", time(1), True),
        ("01:00-05:30", time(5, 30), False),
        ("22:00-02:00", time(23), True),
        ("22:00-02:00", time(1, 59), True),
        ("22:00-02:00", time(2), False),
    ],
)
def test_a_collection_begins_within_the_window(
    window: str | None, now: time, *, begins: bool
) -> None:
    assert is_open(window, now) is begins


async def test_a_database_of_a_newer_version_is_told_of(tmp_path: Path) -> None:
    """The jobs go on without it."""
    path = tmp_path / "state.db"
    database = Database(path)
    await database.note_job(Job("job", datetime.now(UTC), None))
    await database.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9'")
    with pytest.raises(StateError, match="newer version"):
        await database.job("job")
    await database.close()
