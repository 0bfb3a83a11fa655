"""What is done on a storage from the command line, beside a server or without one."""

from uuid import uuid4

from dockyard.clock import utc_now
from dockyard.config import Settings
from dockyard.core.collector import Collected, CollectionObserver, Collector
from dockyard.core.leases import Leases
from dockyard.core.trash import Trash
from dockyard.server.build import build_services, open_storage
from dockyard.server.release import release
from dockyard.telemetry import configure


async def collect(
    settings: Settings, observer: CollectionObserver, *, dry_run: bool, delete_untagged: bool
) -> Collected:
    """Collect once on the storage that `settings` describe; the room is free when this returns.

    Raises:
        StorageError: see `Collector.run`.
    """
    configure(settings.log, constants={"instance.id": str(uuid4()), "version": release()})
    storage = open_storage(settings)
    services = build_services(settings, storage, utc_now)
    collector = Collector(storage, services.manifests, Leases(storage), Trash(storage))
    return await collector.run(observer, dry_run=dry_run, delete_untagged=delete_untagged)
