"""From settings to objects. Nothing is registered anywhere; what exists is made here."""

import asyncio
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, assert_never

import structlog

from dockyard.clock import Clock, utc_now
from dockyard.config.settings import Settings
from dockyard.config.storage import FilesystemSettings, InMemorySettings, UploadPurgingSettings
from dockyard.core.blobs import Blobs
from dockyard.core.catalog import Catalog
from dockyard.core.leases import Leases
from dockyard.core.manifests import Manifests
from dockyard.core.policy import Children, Policy
from dockyard.core.purge import Purge
from dockyard.core.referrers import Referrers
from dockyard.core.tags import Tags
from dockyard.core.trash import Trash
from dockyard.core.uploads import Uploads
from dockyard.errors import StorageBusyError, StorageError
from dockyard.http.app import RegistryApp
from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.services import ApiSettings, Services
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage


FIRST_PURGE: Final = timedelta(hours=1)
"""The first purge comes at a random time within this, so that replicas started together don't all
walk the tree at once. Source: distribution v3.1.1, handlers/app.go."""

THREADS: Final = 32
"""Threads of a worker that wait for the disk: syncs of 32 pushes go to it together, and it can
order them. Python's default is four more than there are cores, too few for waiting."""

PURGER_PATIENCE: Final = timedelta(minutes=1)
"""How often a worker looks whether the one that purges is gone."""


class Registry:
    """The registry of one worker: the API, and the jobs beside it."""

    def __init__(self, app: RegistryApp, storage: Storage, purging: "Purging | None") -> None:
        self._app: Final = app
        self._storage: Final = storage
        self._purging: Final = purging
        self._job: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        await self._app(scope, receive, send)

    async def start(self) -> None:
        """Start the jobs, and the threads that wait for the disk."""
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        asyncio.get_running_loop().set_default_executor(executor)
        if self._purging is not None:
            self._job = asyncio.create_task(self._purging.run(), name="upload purging")

    async def reload(self) -> None:
        """Read anew what may change while serving; so far nothing does."""

    async def stop(self) -> None:
        """Stop the jobs, and wait for them."""
        if self._job is not None:
            self._job.cancel()
            with suppress(asyncio.CancelledError):
                await self._job


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
            await asyncio.sleep(PURGER_PATIENCE.total_seconds())

    async def _keep_purging(self) -> None:
        settings = self._settings
        pause = min(FIRST_PURGE, settings.interval) * secrets.randbelow(1000) / 1000
        while True:
            await asyncio.sleep(pause.total_seconds())
            await self._purge.run(settings.age, dry_run=settings.dryrun)
            pause = settings.interval


def open_storage(settings: Settings) -> Storage:
    """Return the storage `settings` describe, leftovers of killed processes removed."""
    match settings.storage.driver:
        case FilesystemSettings(rootdirectory=root):
            storage = FilesystemStorage(Path(root))
            with suppress(OSError):  # leftovers harm nobody
                storage.sweep()
            return storage
        case InMemorySettings():
            return InMemoryStorage()
        case unreachable:
            assert_never(unreachable)


def build_app(settings: Settings, clock: Clock = utc_now) -> Registry:
    """Return the registry `settings` describe."""
    storage = open_storage(settings)
    maintenance = settings.storage.maintenance
    app = RegistryApp(build_services(settings, storage, clock))
    wanted = maintenance.uploadpurging.enabled and not maintenance.readonly.enabled
    purging = Purging(storage, maintenance.uploadpurging, clock) if wanted else None
    return Registry(app, storage, purging)


def build_services(settings: Settings, storage: Storage, clock: Clock) -> Services:
    """Return the use cases on `storage`, set up as `settings` say."""
    leases, trash = Leases(storage), Trash(storage)
    blobs = Blobs(storage, leases, trash)
    tags = Tags(storage)
    manifests = Manifests(storage, blobs, tags, build_policy(settings), leases, trash)
    return Services(
        settings=ApiSettings(
            prefix=settings.http.prefix or "/",
            host=settings.http.host or "",
            relative_urls=settings.http.relativeurls,
            headers=settings.http.headers,
            delete_enabled=settings.storage.delete.enabled,
            read_only=settings.storage.maintenance.readonly.enabled,
            catalog_limit=settings.catalog.maxentries,
            tags_limit=settings.tags.maxtags,
        ),
        blobs=blobs,
        uploads=Uploads(storage, blobs, leases, clock),
        manifests=manifests,
        tags=tags,
        referrers=Referrers(storage, manifests),
        catalog=Catalog(storage),
    )


def build_policy(settings: Settings) -> Policy:
    """Return what may be pushed."""
    validation = settings.validation
    urls, indexes = validation.manifests.urls, validation.manifests.indexes
    return Policy(
        enabled=not validation.disabled,
        allow_urls=tuple(re.compile(pattern) for pattern in urls.allow),
        deny_urls=tuple(re.compile(pattern) for pattern in urls.deny),
        children=Children(indexes.platforms),
        platforms=frozenset(
            (platform.os or "", platform.architecture or "") for platform in indexes.platformlist
        ),
        sparse=validation.manifests.sparse,
        classes=frozenset(settings.policy.repository.classes),
    )
