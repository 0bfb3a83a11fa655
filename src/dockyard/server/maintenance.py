"""What is done on a storage from the command line, beside a server or without one."""

from collections.abc import AsyncIterator, Container
from uuid import uuid4

from dockyard.clock import utc_now
from dockyard.config import FilesystemSettings, Settings
from dockyard.core.collector import Collected, CollectionObserver, Collector
from dockyard.core.leases import Leases
from dockyard.core.marking import Marking
from dockyard.core.trash import Trash
from dockyard.errors import DigestInvalidError, PathUnknownError, StorageBusyError, StorageError
from dockyard.oci.digest import Digest
from dockyard.server.build import build_services, open_storage
from dockyard.server.release import release
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from dockyard.telemetry import configure


async def collect(
    settings: Settings, observer: CollectionObserver, *, dry_run: bool, delete_untagged: bool
) -> Collected:
    """Collect once on the storage that `settings` describe; the room is free when this returns.

    Raises:
        StorageError: there is no registry's tree, another collection is running, or it could not
            go on; see `Collector.run`.
    """
    configure(settings.log, constants={"instance.id": str(uuid4()), "version": release()})
    storage = open_storage(settings)
    if not await storage.exists(layout.REPOSITORIES):
        raise StorageError(_missing(settings))
    services = build_services(settings, storage, utc_now)
    collector = Collector(storage, services.manifests, Leases(storage), Trash(storage))
    try:
        collected = await collector.run(observer, dry_run=dry_run, delete_untagged=delete_untagged)
    except StorageBusyError as error:
        remedy = "another garbage-collect runs, or the disk is stuck; try again when it ended"
        raise StorageError(f"{error} ({remedy})") from error
    if dry_run:
        async for name, digest in _links(storage, observer, collected.blobs):
            observer.unlinks(name, digest)
            collected.links.append((name, digest))
    return collected


def _missing(settings: Settings) -> str:
    """Return distribution's words for a directory without a registry, and what may be wrong."""
    driver = settings.storage.driver
    where, remedy = "inmemory", "what is in the memory of a server can't be collected from outside"
    if isinstance(driver, FilesystemSettings):
        where = "filesystem"
        remedy = (
            f"nothing was ever pushed to storage.filesystem.rootdirectory {driver.rootdirectory}, "
            "or the registry's is another"
        )
    return f"{where}: Path not found: /{layout.REPOSITORIES} ({remedy})"


async def _links(
    storage: Storage, observer: CollectionObserver, blobs: Container[Digest]
) -> AsyncIterator[tuple[str, Digest]]:
    """Yield the links to `blobs`, with their repositories, and change nothing."""
    async for name in Marking(storage, observer, delete_untagged=False).names():
        directory = f"{layout.repository(name)}/_layers"
        for algorithm in await _names(storage, directory):
            for entry in await _names(storage, f"{directory}/{algorithm}"):
                try:
                    digest = Digest.parse(f"{algorithm}:{entry}")
                except DigestInvalidError:
                    continue
                if digest in blobs and await storage.exists(layout.layer_link(name, digest)):
                    yield name, digest


async def _names(storage: Storage, path: str) -> list[str]:
    try:
        return sorted(entry.name for entry in await storage.list(path) if entry.is_directory)
    except PathUnknownError:
        return []
