"""What commands look up on a storage, and never change, beside a server or without one."""

from dockyard.clock import utc_now
from dockyard.config import Settings
from dockyard.core.explanation import Explanation, Inquiry
from dockyard.core.leases import Leases
from dockyard.core.usage import Survey, Usage
from dockyard.oci.digest import Digest
from dockyard.server.maintenance import prepare, require_tree
from dockyard.storage.interface import Storage


async def survey(settings: Settings, name: str | None) -> Usage:
    """Return what the storage that `settings` describe is used for; see `Survey.run`.

    Raises:
        RepositoryUnknownError: there is no repository `name`.
        StorageError: there is no registry's tree.
    """
    storage = await _open(settings)
    return await Survey(storage, Leases(storage)).run(name)


async def inquire(settings: Settings, digest: Digest) -> Explanation:
    """Return what keeps `digest` on the storage that `settings` describe.

    Raises:
        StorageError: there is no registry's tree.
    """
    return await Inquiry(await _open(settings), utc_now).run(digest)


async def _open(settings: Settings) -> Storage:
    storage = prepare(settings)
    await require_tree(settings, storage)
    return storage
