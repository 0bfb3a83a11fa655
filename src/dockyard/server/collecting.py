"""One collection, as the settings and whoever starts it want it."""

from dataclasses import dataclass
from datetime import timedelta

from dockyard.clock import utc_now
from dockyard.config import Settings
from dockyard.core.collector import Collected, CollectionObserver, Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.pace import Pace
from dockyard.core.pulls import pinned
from dockyard.core.sparing import Sparing
from dockyard.core.trash import Trash
from dockyard.server.use_cases import Foundation, build_manifests
from dockyard.state.interface import State
from dockyard.storage.interface import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What whoever starts a collection wants.

    Attributes:
        dry_run: whether it only finds out what would go.
        delete_untagged: whether manifests go that no tag, index or subject keeps.
        keep_trash: whether what the trash has is kept as long as the settings say; if not, it is
            destroyed, so that the room is free at the end.
        pace: how much of the process's time it takes.
    """

    dry_run: bool = False
    delete_untagged: bool = False
    keep_trash: bool = False
    pace: Pace | None = None


async def collect_on(
    settings: Settings,
    storage: Storage,
    state: State,
    observer: CollectionObserver,
    wish: Wish,
) -> Collected:
    """Collect once on `storage`.

    Raises:
        StorageBusyError: another collection is running.
        StorageError: it could not go on; see `Collector.run`.
    """
    gc, keep = settings.storage.maintenance.gc, settings.storage.maintenance.trash.retention
    pins = await pinned(state, gc.keeppulled, utc_now) if wish.delete_untagged else ()
    trash = Trash(storage, keep if wish.keep_trash else timedelta(0))
    foundation = Foundation(storage, Leases(storage, gc.grace), trash)
    manifests = build_manifests(settings, foundation)
    collector = Collector(storage, manifests, foundation.leases, trash)
    plan = Plan(
        dry_run=wish.dry_run,
        delete_untagged=wish.delete_untagged,
        sparing=Sparing(storage, gc.grace, pins),
        delay=gc.delay if wish.keep_trash else timedelta(0),
        pace=wish.pace or Pace(),
    )
    return await collector.run(observer, plan)


def counts_of(collected: Collected) -> dict[str, int]:
    """Return what the audit log tells of a collection: how much went, not necessarily for good."""
    return {
        "manifests": len(collected.manifests),
        "blobs": len(collected.blobs),
        "bytes": collected.size,
    }
