"""From settings to what a worker serves: the API, and the jobs beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from dockyard.clock import Clock, utc_now
from dockyard.config.access import AccessSettings
from dockyard.config.audit import AuditSettings
from dockyard.config.settings import Settings
from dockyard.core.known_keys import KnownKeys
from dockyard.errors import RegistryError
from dockyard.http.app import RegistryApp
from dockyard.http.audit import Audit
from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.replays import Replays
from dockyard.http.services import Services
from dockyard.server.accounts import build_accounts
from dockyard.server.jobs import Background, Collecting, Jobs, NotingKeys, NotingPulls, Purging
from dockyard.server.journal import JournalFile
from dockyard.server.use_cases import build_services, open_state, open_storage
from dockyard.telemetry import logger
from dockyard.threads import in_thread


if TYPE_CHECKING:
    from dockyard.server.access import Entrance


THREADS: Final = 32
"""Threads of a worker that wait for the disk: syncs of 32 pushes go to it together, and it can
order them. Python's default is four more than there are cores, too few for waiting."""


Offered: TypeAlias = Callable[[], AccessSettings | None]
"""Returns the section ``access`` that is to be in effect, or `None` to leave things as they are."""


class Registry:
    """The registry of one worker: the API, and the jobs beside it.

    Args:
        doors: makes the API, with who is let in.
        jobs: what is done beside it.
        offered: asked for new rules on reload.
        journal: the file of the audit log, if there is one.
    """

    def __init__(
        self, doors: "Doors", jobs: Jobs, offered: Offered, journal: JournalFile | None = None
    ) -> None:
        self._doors: Final = doors
        self._app = doors.open()
        self._jobs: Final = jobs
        self._offered: Final = offered
        self._journal: Final = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        await self._app(scope, receive, send)

    def replays(self) -> Replays | None:
        """Return the answers that may be given again, under the rules that are in effect."""
        return self._app.replays

    async def start(self) -> None:
        """Start the jobs, and the threads that wait for the disk."""
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        asyncio.get_running_loop().set_default_executor(executor)
        self._jobs.start()

    async def reload(self) -> None:
        """Open the audit log anew, and take new rules: requests from now on meet them.

        Those in flight go on as they were let in. Passwords and tokens that were good are looked
        at again.
        """
        if self._journal is not None:
            self._journal.reopen()
        access = self._offered()
        if access is None or not self._doors.are_new(access):
            return
        try:
            self._app = await in_thread(self._doors.open, access)
        except RegistryError as error:
            logger().error("rules not replaced: the old ones stay", reason=str(error))

    async def stop(self) -> None:
        """Stop the jobs, and wait for them."""
        await self._jobs.stop()


class Doors:
    """Makes the API of one worker anew whenever the rules change; what is behind it stays."""

    def __init__(
        self, settings: Settings, services: Services, clock: Clock, keys: KnownKeys | None
    ) -> None:
        self._settings = settings
        self._services: Final = services
        self._clock: Final = clock
        self._keys: Final = keys
        self._entrance: Entrance | None = None

    def are_new(self, access: AccessSettings) -> bool:
        """Return whether `access` says something else than what is in effect."""
        return access != self._settings.access

    def open(self, access: AccessSettings | None = None) -> RegistryApp:
        """Return the API with the rules of `access`, or with those of the settings.

        Raises:
            StorageError: a file that they need can't be read. The rules are what they were.
        """
        settings = self._settings
        if access is not None:
            settings = settings.model_copy(update={"access": access})
        if not is_guarded(settings):
            return RegistryApp(self._services)
        from dockyard.server.access import build_entrance  # noqa: PLC0415 -- see `is_guarded`

        entrance = build_entrance(settings, self._clock, self._entrance, self._keys)
        self._settings, self._entrance = settings, entrance
        accounts = build_accounts(settings)
        if self._keys is not None:
            self._keys.stand_for(accounts)
        return RegistryApp(
            replace(
                self._services,
                gate=entrance.gate,
                issuer=entrance.issuer,
                keys=self._services.keys.of(accounts),
            )
        )


def is_guarded(settings: Settings) -> bool:
    """Return whether anybody is asked who they are.

    What is needed for that is not imported otherwise: the registry starts sooner without.
    """
    auth = settings.auth
    kinds = (settings.access, auth.silly, auth.htpasswd, auth.token)
    return any(each is not None for each in kinds)


def build_app(
    settings: Settings, clock: Clock = utc_now, offered: Offered = lambda: None
) -> Registry:
    """Return the registry `settings` describe; on reload it takes the rules that are `offered`."""
    storage = open_storage(settings)
    state = open_state(settings)
    journal = open_journal(settings.audit)
    services = build_services(settings, storage, clock, state)
    if journal is not None:
        services = replace(services, audit=Audit(journal, clock, pulls=settings.audit.pulls))
    keys = None
    if settings.access is not None or settings.auth.htpasswd is not None:
        keys = KnownKeys(state, build_accounts(settings), clock)
    maintenance = settings.storage.maintenance
    jobs: list[Background] = []
    if not maintenance.readonly.enabled:
        jobs.append(NotingPulls(services.pulls))
        if keys is not None:
            jobs.append(NotingKeys(keys))
        if maintenance.uploadpurging.enabled:
            jobs.append(Purging(storage, maintenance.uploadpurging, clock))
        if maintenance.gc.enabled:
            jobs.append(Collecting(settings, storage, state, clock, journal))
    return Registry(Doors(settings, services, clock, keys), Jobs(jobs, state), offered, journal)


def open_journal(settings: AuditSettings, *, owned: bool = True) -> JournalFile | None:
    """Return the file of the audit log, or `None` where there is none.

    Who does not own it, as a command does not, neither makes nor rotates it.
    """
    if not settings.enabled:
        return None
    assert settings.path is not None
    path = Path(settings.path)
    if not owned:
        return JournalFile(path, creates=False)
    return JournalFile(path, settings.maxsize, settings.maxfiles)
