"""The state database in SQLite: one file, opened when it is first needed.

Several processes use it at once (its journal is a write-ahead log). Whoever removes it while they
do is noticed: each looks whether the files are still those it opened, and opens the new ones
otherwise. A file that is damaged is set aside, and a new one begun.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from dockyard.errors import DigestInvalidError, StateError
from dockyard.oci.digest import Digest
from dockyard.state import records
from dockyard.state.interface import Job, KeyRecord
from dockyard.threads import in_thread


if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


BUSY_SECONDS: Final = 5
"""How long a statement waits for other processes: each holds the database for milliseconds."""

HEAD: Final = "0002"
"""The newest form of the database; `dockyard.state.migrations` has the steps to it."""

_SUFFIXES: Final = ("", "-wal", "-shm")
"""What SQLite keeps the database in: the file, its journal, and what processes share of that."""

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
        self._identity: list[tuple[int, int]] = []
        self._turn: Final = asyncio.Lock()

    async def note_pulls(self, pulls: Collection[tuple[str, Digest]], day: date) -> None:
        """See `State.note_pulls`."""
        rows = [(name, str(digest), day.toordinal()) for name, digest in pulls]
        if not rows:
            return
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

    async def add_key(self, key: KeyRecord, most: int) -> bool:
        """See `State.add_key`."""
        return await self._run(lambda connection: records.add(connection, key, most))

    async def remove_key(self, name: str) -> bool:
        """See `State.remove_key`."""
        return await self._run(lambda connection: records.remove(connection, name))

    async def keys(self) -> Sequence[KeyRecord]:
        """See `State.keys`."""
        return await self._run(records.read)

    async def keys_since(self, version: str) -> tuple[str, Sequence[KeyRecord] | None]:
        """See `State.keys_since`."""
        return await self._run(lambda connection: records.read_since(connection, version))

    async def note_keys_used(self, used: Mapping[str, datetime]) -> None:
        """See `State.note_keys_used`."""
        if used:
            await self._run(lambda connection: records.note_used(connection, used))

    async def close(self) -> None:
        """See `State.close`."""
        async with self._turn:
            if self._path is not None:
                await in_thread(self._dispose)

    async def _run(self, work: "Callable[[Connection], T]") -> T:
        async with self._turn:
            return await in_thread(self._transact, work)

    def _transact(self, work: "Callable[[Connection], T]") -> T:
        """Do `work` in a transaction; once more if the file is damaged or was removed."""
        from alembic.util import CommandError  # noqa: PLC0415 -- see the class
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 -- see the class

        try:
            seen = self._look()
            try:
                with self._opened().begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if self._look() == seen and not self._set_aside(error):
                    raise
            with self._opened().begin() as connection:
                return work(connection)
        except (SQLAlchemyError, CommandError, OSError, sqlite3.Error) as error:
            self._dispose()
            cause = getattr(error, "orig", None) or error
            raise StateError(str(self._path or "memory"), str(cause)) from error

    def _opened(self) -> "Engine":
        """Return the engine, for the file that is there now."""
        found = self._look()
        if self._engine is not None and self._identity == found:
            return self._engine
        torn = _is_torn(found, self._identity if self._engine is not None else None)
        self._dispose()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if torn:
                self._rename_aside(self._path)
        from dockyard.state.opening import migrate, open_engine  # noqa: PLC0415 -- see the class

        engine = open_engine(self._path, BUSY_SECONDS)
        try:
            migrate(engine, HEAD)
        except BaseException:
            engine.dispose()
            raise
        self._engine, self._identity = engine, self._look()
        return engine

    def _look(self) -> list[tuple[int, int]]:
        """Return which files are at the path and beside it."""
        found: list[tuple[int, int]] = []
        for suffix in _SUFFIXES if self._path is not None else ():
            try:
                status = os.stat(f"{self._path}{suffix}")  # noqa: PTH116 -- for each transaction
            except FileNotFoundError:
                found.append((0, 0))
            else:
                found.append((status.st_dev, status.st_ino))
        return found

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _set_aside(self, error: Exception) -> bool:
        """Rename a damaged file, with its journal; return whether that was the trouble."""
        if self._path is None or not any(sign in str(error) for sign in _DAMAGE):
            return False
        self._dispose()
        self._rename_aside(self._path)
        return True

    @staticmethod
    def _rename_aside(database: Path) -> None:
        aside = f".damaged-{time.time_ns()}"
        for suffix in _SUFFIXES:
            path = database.with_name(database.name + suffix)
            with suppress(FileNotFoundError):
                path.rename(path.with_name(path.name + aside))
        structlog.get_logger().error(
            "the state database is damaged: set aside, a new one is begun", path=str(database)
        )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _is_torn(found: list[tuple[int, int]], opened: list[tuple[int, int]] | None) -> bool:
    """Return whether somebody removed the journal, but not the file.

    What processes share of the journal then tells all of them of what is not there, as long as
    anyone uses the file. SQLite makes the journal first, removes it last, and not while it is used.
    """
    file, journal, shared = found or ((0, 0),) * 3
    if opened is not None:
        return file == opened[0] != (0, 0) and journal != opened[1]
    return journal == (0, 0) != shared
