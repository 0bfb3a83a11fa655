"""Purging: uploads that nobody finished."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from dockyard.clock import Clock
from dockyard.errors import PathUnknownError, StorageError
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Storage


STARTED_LIMIT: Final = 128
"""Bytes of an upload's time of start, at most: RFC 3339 needs 35."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did.

    Attributes:
        uploads: paths of the uploads removed, or that would have been.
        failures: paths of those that could not be read or removed.
    """

    uploads: tuple[str, ...]
    failures: tuple[str, ...]


class Purge:
    """Removes uploads that began longer ago than an age."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._suspects: Final[set[str]] = set()

    async def run(self, age: timedelta, *, dry_run: bool) -> Purged:
        """Remove the uploads that began before `age` ago; only report them if `dry_run`.

        An upload without a readable time of start may be one that begins at this moment: it goes if
        it is still so at the next run.
        """
        log = structlog.get_logger()
        oldest = self._clock() - age
        removed: list[str] = []
        failures: list[str] = []
        async for path in self._uploads(layout.REPOSITORIES):
            try:
                if not await self._is_old(path, oldest):
                    continue
                if not dry_run:
                    await self._storage.delete(path)
            except PathUnknownError:
                continue  # finished or cancelled meanwhile
            except StorageError as error:
                log.error("upload could not be purged", path=path, err=str(error))  # noqa: TRY400 -- no defect of ours
                failures.append(path)
                continue
            removed.append(path)
            log.info("would purge upload" if dry_run else "purged upload", path=path)
        return Purged(tuple(removed), tuple(failures))

    async def _is_old(self, path: str, oldest: datetime) -> bool:
        try:
            text = (await self._storage.get(f"{path}/startedat", STARTED_LIMIT)).decode("ascii")
            started = datetime.fromisoformat(text)
        except (PathUnknownError, ObjectTooLargeError, ValueError):
            if path in self._suspects:
                self._suspects.discard(path)
                return True
            self._suspects.add(path)
            return False
        return (started if started.tzinfo else started.replace(tzinfo=UTC)) < oldest

    async def _uploads(self, directory: str) -> AsyncIterator[str]:
        """Yield the paths of all uploads below `directory`."""
        try:
            entries = [entry for entry in await self._storage.list(directory) if entry.is_directory]
        except PathUnknownError:
            return
        except StorageError as error:  # the others are purged all the same
            structlog.get_logger().error(
                "directory can't be listed", path=directory, err=str(error)
            )
            return
        for entry in entries:
            path = f"{directory}/{entry.name}"
            if directory.endswith("/_uploads"):
                yield path
            elif entry.name == "_uploads" or not entry.name.startswith("_"):
                async for upload in self._uploads(path):
                    yield upload
