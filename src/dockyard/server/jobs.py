"""What a worker does beside serving: purging uploads, collecting, noting pulls and keys."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from dockyard.clock import Clock
from dockyard.config.settings import Settings
from dockyard.config.storage import UploadPurgingSettings, parse_window
from dockyard.core.known_keys import KnownKeys
from dockyard.core.pace import Pace
from dockyard.core.pulls import KEPT, Pulls
from dockyard.core.purge import Purge
from dockyard.errors import StateError, StorageBusyError, StorageError
from dockyard.http.audit import COLLECT, Journal, render
from dockyard.oci.digest import Digest
from dockyard.state.interface import Job, State
from dockyard.storage.interface import Storage


if TYPE_CHECKING:
    from dockyard.core.collector import Collected


FIRST_RUN: Final = timedelta(hours=1)
"""The first run of a job that is not known to have run comes at a random time within this, so that
replicas started together don't all walk the tree. Source: distribution v3.1.1, handlers/app.go."""

PATIENCE: Final = timedelta(minutes=1)
"""How often a worker looks whether the one that does a job is gone, and whether it is time; more
often, if the job is to be done more often."""

PULLS_WRITTEN: Final = timedelta(seconds=10)
"""How often a worker writes down what was pulled: what a kill forgets is that much."""

KEYS_WRITTEN: Final = timedelta(seconds=10)
"""How often a worker writes down which API keys were used; likewise."""

SHARE: Final = 0.25
"""Share of one core that a collection takes of the worker that does it: the others serve at full
speed, this one at three quarters."""

COLLECTION: Final = "collection"
"""Under what name the state database has the last collection."""


class Background(Protocol):
    """Something that is done until cancelled."""

    async def run(self) -> None:
        """Do it; what fails is logged and tried again."""
        ...


class Jobs:
    """The jobs of a worker."""

    def __init__(self, jobs: Sequence[Background], state: State) -> None:
        self._jobs: Final = jobs
        self._state: Final = state
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start them."""
        self._running = [
            asyncio.create_task(job.run(), name=type(job).__name__) for job in self._jobs
        ]

    async def stop(self) -> None:
        """Stop them and wait for them."""
        for task in self._running:
            task.cancel()
        for task in self._running:
            with suppress(asyncio.CancelledError):
                await task
        await self._state.close()


class Purging:
    """Purges uploads now and then, in one of all the processes that share the storage."""

    def __init__(self, storage: Storage, settings: UploadPurgingSettings, clock: Clock) -> None:
        self._storage: Final = storage
        self._settings: Final = settings
        self._purge: Final = Purge(storage, clock)

    async def run(self) -> None:
        """Purge until cancelled; failing once is logged and tried again."""
        while True:
            try:
                async with self._storage.lock("purge", "uploads"):
                    await self._keep_purging()
            except StorageBusyError:
                pass  # another process does it
            except StorageError as error:
                structlog.get_logger().error("upload purging failed", err=str(error))
            await asyncio.sleep(PATIENCE.total_seconds())

    async def _keep_purging(self) -> None:
        settings = self._settings
        pause = min(FIRST_RUN, settings.interval) * secrets.randbelow(1000) / 1000
        while True:
            await asyncio.sleep(pause.total_seconds())
            await self._purge.run(settings.age, dry_run=settings.dryrun)
            pause = settings.interval


class NotingPulls:
    """Writes down what was pulled."""

    def __init__(self, pulls: Pulls) -> None:
        self._pulls: Final = pulls

    async def run(self) -> None:
        """Write it down every now and then until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(PULLS_WRITTEN.total_seconds())
                await self._pulls.write()
        finally:
            await self._pulls.write()


class NotingKeys:
    """Writes down which API keys were used."""

    def __init__(self, keys: KnownKeys) -> None:
        self._keys: Final = keys

    async def run(self) -> None:
        """Write it down every now and then until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(KEYS_WRITTEN.total_seconds())
                await self._keys.write()
        finally:
            await self._keys.write()


class Collecting:
    """Collects by schedule, in one of all the processes that share the storage.

    Args:
        settings: how and when.
        storage: where.
        state: has the time of the last collection.
        clock: tells the time.
        journal: the audit log, if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        state: State,
        clock: Clock,
        journal: Journal | None = None,
    ) -> None:
        self._settings: Final = settings
        self._gc: Final = settings.storage.maintenance.gc
        self._storage: Final = storage
        self._state: Final = state
        self._clock: Final = clock
        self._journal: Final = journal
        self._patience: Final = min(PATIENCE, self._gc.interval)

    async def run(self) -> None:
        """Collect until cancelled; failing once is logged and tried again."""
        while True:
            try:
                async with self._storage.lock("schedule", COLLECTION):
                    await self._keep_collecting()
            except StorageBusyError:
                pass  # another process does it, or a command collects just now
            except StorageError as error:
                structlog.get_logger().error("collection failed", err=str(error))
                self._tell("failed")
            await asyncio.sleep(self._patience.total_seconds())

    async def _keep_collecting(self) -> None:
        due = await self._first_due()
        while True:
            now = self._clock()
            if now < due:
                await asyncio.sleep(min(due - now, self._patience).total_seconds())
                continue
            if not is_open(self._gc.window, now.astimezone().time()):
                await asyncio.sleep(PATIENCE.total_seconds())
                continue
            await self._collect()
            due = now + self._gc.interval

    async def _first_due(self) -> datetime:
        """Return when to collect first: an interval after the last time, whoever did it."""
        try:
            last = await self._state.job(COLLECTION)
        except StateError as error:
            structlog.get_logger().warning("last collection not known", err=str(error))
            last = None
        if last is not None:
            # A clock that was ahead once is no reason to wait for that time.
            return min(last.started, self._clock()) + self._gc.interval
        return self._clock() + min(FIRST_RUN, self._gc.interval) * secrets.randbelow(1000) / 1000

    async def _collect(self) -> None:
        # A registry that collects by command, as most do, starts sooner without.
        from dockyard.server import collecting  # noqa: PLC0415 -- see above

        started = self._clock()
        await self._note(Job(COLLECTION, started, None))
        wish = collecting.Wish(
            delete_untagged=self._gc.deleteuntagged, keep_trash=True, pace=Pace(share=SHARE)
        )
        collected = await collecting.collect_on(
            self._settings, self._storage, self._state, _Log(), wish
        )
        await self._note(Job(COLLECTION, started, self._clock(), _summary(collected)))
        self._tell("allowed", collecting.counts_of(collected))
        structlog.get_logger().info(
            "collection done",
            blobs=len(collected.blobs),
            manifests=len(collected.manifests),
            bytes=collected.size,
            spared=len(collected.spared),
            unreadable=len(collected.doubts),
            seconds=round((self._clock() - started).total_seconds(), 1),
        )

    def _tell(self, result: str, counts: Mapping[str, int] | None = None) -> None:
        """Tell the audit log, if there is one, of a collection."""
        if self._journal is not None:
            event = {"action": COLLECT, "result": result, "kind": "schedule", **(counts or {})}
            self._journal.write(render(self._clock, event))

    async def _note(self, job: Job) -> None:
        try:
            await self._state.note_job(job)
            await self._state.forget_pulls((job.started - KEPT).date())
        except StateError as error:
            structlog.get_logger().warning("collection not noted", err=str(error))


def _summary(collected: "Collected") -> str:
    return f"{len(collected.blobs)} blobs, {collected.size} bytes, {len(collected.doubts)} doubts"


class _Log:
    """Logs of a collection what somebody has to see to."""

    def repository(self, name: str) -> None: ...

    def manifest(self, name: str, digest: Digest) -> None: ...

    def blob(self, name: str, digest: Digest) -> None: ...

    def untagged(self, name: str, digest: Digest, tags: Sequence[str]) -> None: ...

    def tagless(self, name: str) -> None: ...

    def doubt(self, path: str, reason: str) -> None:
        structlog.get_logger().warning(
            "can't be read: all that it might need is kept", path=path, err=reason
        )

    def summary(self, marked: int, blobs: int, manifests: int) -> None: ...

    def goes(self, digest: Digest, size: int) -> None: ...

    def unlinks(self, name: str, digest: Digest) -> None: ...


def is_open(window: str | None, now: time) -> bool:
    """Return whether a job may begin at the time of day `now`."""
    if window is None:
        return True
    begin, end = parse_window(window)
    if begin < end:
        return begin <= now < end
    return now >= begin or now < end  # over midnight
