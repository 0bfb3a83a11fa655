"""What is done on a storage from the command line, beside a server or without one."""

from pathlib import Path, PurePath
from uuid import uuid4

from dockyard.clock import utc_now
from dockyard.config import FilesystemSettings, Settings
from dockyard.core.collector import Collected, CollectionObserver
from dockyard.core.keys import Keys
from dockyard.errors import StorageBusyError, StorageError
from dockyard.http.services import Services
from dockyard.server.accounts import build_accounts
from dockyard.server.collecting import Wish, collect_on
from dockyard.server.release import release
from dockyard.server.use_cases import build_services, open_state, open_storage
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from dockyard.telemetry import configure


def prepare(settings: Settings) -> Storage:
    """Return the storage of a registry that is there, with the log set up.

    Raises:
        StorageError: there is no registry's tree.
    """
    configure(settings.log, constants={"instance.id": str(uuid4()), "version": release()})
    return open_storage(settings)


async def collect(settings: Settings, observer: CollectionObserver, wish: Wish) -> Collected:
    """Collect once on the storage that `settings` describe.

    Raises:
        StorageError: there is no registry's tree, another collection is running, or it could not
            go on; see `Collector.run`.
    """
    storage = prepare(settings)
    await require_tree(settings, storage)
    state = open_state(settings)
    try:
        return await collect_on(settings, storage, state, observer, wish)
    except StorageBusyError as error:
        remedy = "another garbage-collect runs, or the disk is stuck; try again when it ended"
        raise StorageError(f"{error} ({remedy})") from error
    finally:
        await state.close()


async def open_services(settings: Settings) -> Services:
    """Return the use cases on the storage that `settings` describe.

    Raises:
        StorageError: there is no registry's tree.
    """
    storage = prepare(settings)
    await require_tree(settings, storage)
    return build_services(settings, storage, utc_now)


def open_keys(settings: Settings) -> Keys:
    """Return the API keys of the registry that `settings` describe.

    Raises:
        StorageError: there is no such registry on this machine.
    """
    configure(settings.log, constants={"instance.id": str(uuid4()), "version": release()})
    root = _state_path(settings).parents[len(PurePath(layout.state_database()).parts) - 1]
    if not root.is_dir():
        raise StorageError(
            f"there is no directory {root} (storage.filesystem.rootdirectory): start the registry "
            "first, or say --config"
        )
    return Keys(open_state(settings), build_accounts(settings), utc_now)


def missing_state(settings: Settings) -> str:
    """Return where the state database is to be, if it is not there; else nothing.

    Raises:
        StorageError: it is not in a file.
    """
    path = _state_path(settings)
    return "" if path.exists() else str(path)


def _state_path(settings: Settings) -> Path:
    driver = settings.storage.driver
    if not isinstance(driver, FilesystemSettings):
        raise StorageError(
            "with storage.inmemory keys are in the memory of the server: make them by HTTP, below "
            "v2/_dockyard/keys"
        )
    return Path(driver.rootdirectory) / layout.state_database()


async def require_tree(settings: Settings, storage: Storage) -> None:
    """Return if there is a registry's tree.

    Raises:
        StorageError: there is none; distribution's words for that, and what may be wrong.
    """
    if await storage.exists(layout.REPOSITORIES):
        return
    driver = settings.storage.driver
    where, remedy = "inmemory", "what is in the memory of a server can't be reached from outside"
    if isinstance(driver, FilesystemSettings):
        where = "filesystem"
        remedy = (
            f"nothing was ever pushed to storage.filesystem.rootdirectory {driver.rootdirectory}, "
            "or the registry's is another"
        )
    raise StorageError(f"{where}: Path not found: /{layout.REPOSITORIES} ({remedy})")
