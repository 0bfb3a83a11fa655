"""What commands look up on a storage, and never change, beside a server or without one."""

from uuid import uuid4

from dockyard.clock import utc_now
from dockyard.config import FilesystemSettings, Settings
from dockyard.core.explanation import Explanation, Inquiry
from dockyard.core.leases import Leases
from dockyard.core.usage import Survey, Usage
from dockyard.errors import StorageError
from dockyard.oci.digest import Digest
from dockyard.server.build import open_storage
from dockyard.server.release import release
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from dockyard.telemetry import configure


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
    configure(settings.log, constants={"instance.id": str(uuid4()), "version": release()})
    storage = open_storage(settings)
    if await storage.exists(layout.REPOSITORIES):
        return storage
    driver = settings.storage.driver
    if isinstance(driver, FilesystemSettings):
        raise StorageError(
            f"nothing at {driver.rootdirectory}/{layout.REPOSITORIES}: nothing was ever pushed to "
            "storage.filesystem.rootdirectory, or the registry's is another"
        )
    raise StorageError("what is in the memory of a server can't be looked at from outside")
