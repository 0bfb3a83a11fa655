"""The state database in SQLite: one file, opened when it is first needed.

Several processes use it at once (its journal is a write-ahead log). Whoever removes it while they
do is noticed: each looks whether the file is still the one it opened, and opens the new one
otherwise. A file that is damaged is set aside, and a new one begun.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from dockyard.errors import DigestInvalidError, StateError
from dockyard.oci.digest import Digest
from dockyard.state.interface import Job
from dockyard.threads import in_thread


if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


BUSY_SECONDS: Final = 5
"""How long a statement waits for other processes: each holds the database for milliseconds."""

HEAD: Final = "0001"
"""The newest form of the database; `dockyard.state.migrations` has the steps to it."""

_DAMAGE: Final = ("malformed", "not a database", "disk image")

T = TypeVar("T")


class Database:
    """See `dockyard.state.interface.State`.

    SQLAlchemy is imported when the database is first used: a registry that never does starts in
    half the time.

    Args:
        path: the file; `None` keeps it in the memory of this process.
    """

    def __init__(self, path: Path | None) -> None:
        self._path: Final = path
        self._engine: Engine | None = None
        self._identity: tuple[int, int] | None = None
        self._turn: Final = asyncio.Lock()

    async def note_pulls(self, pulls: Collection[tuple[str, Digest]], day: date) -> None:
        """See `State.note_pulls`."""
        rows = [(name, str(digest), day.toordinal()) for name, digest in pulls]
        statement = (
            "INSERT INTO pulls (repository, digest, day) VALUES (?, ?, ?) "
            "ON CONFLICT (repository, digest) DO UPDATE SET day = max(day, excluded.day)"
        )
        await self._run(lambda connection: connection.exec_driver_sql(statement, rows))

    async def pulled_since(self, day: date) -> set[tuple[str, Digest]]:
        """See `State.pulled_since`."""
        statement = "SELECT repository, digest FROM pulls WHERE day >= ?"
        arguments = (day.toordinal(),)
        rows = await self._run(
            lambda connection: connection.exec_driver_sql(statement, arguments).all()
        )
        found: set[tuple[str, Digest]] = set()
        for name, text in rows:
            with suppress(DigestInvalidError):  # nobody pulled that
                found.add((name, Digest.parse(text)))
        return found

    async def forget_pulls(self, before: date) -> None:
        """See `State.forget_pulls`."""
        statement, arguments = "DELETE FROM pulls WHERE day < ?", (before.toordinal(),)
        await self._run(lambda connection: connection.exec_driver_sql(statement, arguments))

    async def note_job(self, job: Job) -> None:
        """See `State.note_job`."""
        ended = None if job.ended is None else job.ended.timestamp()
        row = (job.name, job.started.timestamp(), ended, job.outcome)
        statement = (
            "INSERT OR REPLACE INTO jobs (name, started, ended, outcome) VALUES (?, ?, ?, ?)"
        )
        await self._run(lambda connection: connection.exec_driver_sql(statement, row))

    async def job(self, name: str) -> Job | None:
        """See `State.job`."""
        statement = "SELECT started, ended, outcome FROM jobs WHERE name = ?"
        row = await self._run(
            lambda connection: connection.exec_driver_sql(statement, (name,)).first()
        )
        if row is None:
            return None
        started, ended, outcome = row
        return Job(name, _moment(started), None if ended is None else _moment(ended), outcome)

    async def close(self) -> None:
        """See `State.close`."""
        async with self._turn:
            if self._path is not None:
                await in_thread(self._dispose)

    async def _run(self, work: "Callable[[Connection], T]") -> T:
        async with self._turn:
            return await in_thread(self._transact, work)

    def _transact(self, work: "Callable[[Connection], T]") -> T:
        """Do `work` in a transaction; on a damaged file once more, with a new one."""
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 -- see the class

        try:
            try:
                with self._opened().begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if not self._set_aside(error):
                    raise
            with self._opened().begin() as connection:
                return work(connection)
        except (SQLAlchemyError, OSError, sqlite3.Error) as error:
            self._dispose()
            cause = getattr(error, "orig", None) or error
            raise StateError(str(self._path or "memory"), str(cause)) from error

    def _opened(self) -> "Engine":
        """Return the engine, for the file that is there now."""
        if self._engine is not None and self._identity == self._look():
            return self._engine
        self._dispose()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        from dockyard.state.opening import migrate, open_engine  # noqa: PLC0415 -- see the class

        engine = open_engine(self._path, BUSY_SECONDS)
        try:
            migrate(engine, HEAD)
        except BaseException:
            engine.dispose()
            raise
        self._engine, self._identity = engine, self._look()
        return engine

    def _look(self) -> tuple[int, int] | None:
        """Return which file is at the path."""
        if self._path is None:
            return None
        try:
            status = os.stat(self._path)  # noqa: PTH116 -- for each transaction
        except FileNotFoundError:
            return (0, 0)
        return status.st_dev, status.st_ino

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _set_aside(self, error: Exception) -> bool:
        """Rename a damaged file, with its journal; return whether that was the trouble."""
        if self._path is None or not any(sign in str(error) for sign in _DAMAGE):
            return False
        self._dispose()
        aside = f".damaged-{time.time_ns()}"
        for suffix in ("", "-wal", "-shm"):
            path = self._path.with_name(self._path.name + suffix)
            with suppress(FileNotFoundError):
                path.rename(path.with_name(path.name + aside))
        structlog.get_logger().error(
            "the state database is damaged: set aside, a new one is begun", path=str(self._path)
        )
        return True


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
