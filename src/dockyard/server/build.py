"""From settings to what a worker serves: the API, and the jobs beside it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from dockyard.clock import Clock, utc_now
from dockyard.config.settings import Settings
from dockyard.core.known_keys import KnownKeys
from dockyard.http.app import RegistryApp
from dockyard.http.messages import Receive, Scope, Send
from dockyard.server.access import build_accounts, build_entrance
from dockyard.server.jobs import Background, Collecting, Jobs, NotingKeys, NotingPulls, Purging
from dockyard.server.use_cases import build_services, open_state, open_storage


THREADS: Final = 32
"""Threads of a worker that wait for the disk: syncs of 32 pushes go to it together, and it can
order them. Python's default is four more than there are cores, too few for waiting."""


class Registry:
    """The registry of one worker: the API, and the jobs beside it."""

    def __init__(self, app: RegistryApp, jobs: Jobs) -> None:
        self._app: Final = app
        self._jobs: Final = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        await self._app(scope, receive, send)

    async def start(self) -> None:
        """Start the jobs, and the threads that wait for the disk."""
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        asyncio.get_running_loop().set_default_executor(executor)
        self._jobs.start()

    async def reload(self) -> None:
        """Read anew what may change while serving; so far nothing does."""

    async def stop(self) -> None:
        """Stop the jobs, and wait for them."""
        await self._jobs.stop()


def build_app(settings: Settings, clock: Clock = utc_now) -> Registry:
    """Return the registry `settings` describe."""
    storage = open_storage(settings)
    state = open_state(settings)
    accounts = build_accounts(settings)
    keys = None if accounts is None else KnownKeys(state, accounts, clock)
    entrance = build_entrance(settings, clock, keys)
    services = replace(
        build_services(settings, storage, clock, state),
        gate=entrance.gate,
        issuer=entrance.issuer,
    )
    maintenance = settings.storage.maintenance
    jobs: list[Background] = []
    if not maintenance.readonly.enabled:
        jobs.append(NotingPulls(services.pulls))
        if keys is not None:
            jobs.append(NotingKeys(keys))
        if maintenance.uploadpurging.enabled:
            jobs.append(Purging(storage, maintenance.uploadpurging, clock))
        if maintenance.gc.enabled:
            jobs.append(Collecting(settings, storage, state, clock))
    return Registry(RegistryApp(services), Jobs(jobs, state))
