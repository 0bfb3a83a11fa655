"""A check of the whole tree, and the repair of what it finds, beside servers or without."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from dockyard.clock import utc_now
from dockyard.config import Settings
from dockyard.core.integrity import Integrity, Rules
from dockyard.core.problems import Kind, Problem, Watcher
from dockyard.core.repair import Repair
from dockyard.core.verification import Pace, Verification
from dockyard.errors import StorageBusyError, StorageError
from dockyard.oci.digest import Digest
from dockyard.server.maintenance import prepare, require_tree
from dockyard.server.use_cases import build_policy, build_services
from dockyard.storage.interface import Storage


PASSES: Final = 4
"""Times the tree is looked at while repairing: a blob set aside leaves a manifest without it, that
a tag, and one more to see that nothing is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a check does.

    Attributes:
        verify: whether it reads all bytes.
        restart: whether it reads those again that an interrupted check has read.
        repair: whether it repairs.
        rate: bytes it reads in a second at most; zero: as many as it can.
    """

    verify: bool = False
    restart: bool = False
    repair: bool = False
    rate: int = 0


class CheckWatcher(Watcher, Protocol):
    """Is told what a check finds and does."""

    def total(self, blobs: int) -> None:
        """So many blobs are looked at."""
        ...

    def handled(self, problem: Problem) -> None:
        """A problem is done with: `Problem.repaired` says what was done, if anything."""
        ...

    def failed(self, problem: Problem, reason: str) -> None:
        """A problem could not be repaired."""
        ...

    def noted(self, sizes: int) -> None:
        """So many blobs have a noted size that had none."""
        ...


class _Collecting:
    """Keeps what is found, once for each kind and place, until it is handled."""

    def __init__(self, watcher: CheckWatcher) -> None:
        self._watcher = watcher
        self._seen: Final[set[tuple[Kind, str]]] = set()
        self._fresh: list[Problem] = []

    def found(self, problem: Problem) -> None:
        place = (problem.kind, problem.path)
        if place not in self._seen:
            self._seen.add(place)
            self._fresh.append(problem)
            self._watcher.found(problem)

    def blob(self, size: int) -> None:
        self._watcher.blob(size)

    def repository(self, name: str) -> None:
        self._watcher.repository(name)

    def resumed(self, cursor: Digest) -> None:
        self._watcher.resumed(cursor)

    def forget(self, problem: Problem) -> None:
        """Have it told again if it is found again, although it was repaired."""
        self._seen.discard((problem.kind, problem.path))

    def take(self) -> Sequence[Problem]:
        """Return what was found since this was asked last."""
        fresh, self._fresh = self._fresh, []
        return fresh


async def check(settings: Settings, wish: Check, watcher: CheckWatcher) -> None:
    """Check the tree that `settings` describe.

    Raises:
        StorageError: there is no registry's tree, or another check that writes is running.
    """
    storage = prepare(settings)
    await require_tree(settings, storage)
    async with _alone(storage, wish):
        await _Checking(settings, storage, wish, watcher).run()


@asynccontextmanager
async def _alone(storage: Storage, wish: Check) -> AsyncGenerator[None]:
    """Keep other checks out that repair or note how far they came; one that only looks may run."""
    if not (wish.repair or wish.verify):
        yield
        return
    try:
        async with storage.lock("fsck", "tree"):
            yield
    except StorageBusyError as error:
        raise StorageError(f"{error} (another fsck runs; try again when it ended)") from error


class _Checking:
    """One check."""

    def __init__(
        self, settings: Settings, storage: Storage, wish: Check, watcher: CheckWatcher
    ) -> None:
        self._storage = storage
        self._wish = wish
        self._watcher = watcher
        self._found = _Collecting(watcher)
        age = settings.storage.maintenance.uploadpurging.age
        self._rules = Rules(build_policy(settings), age, utc_now)
        self._verification = Verification(
            storage, self._found, Pace(wish.rate), notes_sizes=wish.repair
        )
        manifests = build_services(settings, storage, utc_now).manifests
        self._repair = Repair(storage, manifests, self._verification)

    async def run(self) -> None:
        """Look at everything; repair what is found, and look at what that has led to."""
        await self._look(first=True)
        for _ in range(PASSES):
            if not await self._handle():
                break
            await self._look(first=False)
        await self._handle()
        if self._verification.noted:
            self._watcher.noted(self._verification.noted)

    async def _look(self, *, first: bool) -> None:
        integrity = Integrity(self._storage, self._found, self._rules)
        if first:
            digests = await integrity.blobs()
            self._watcher.total(len(digests))
            if self._wish.verify:
                await self._verification.run(digests, restart=self._wish.restart)
            for digest in digests:
                await integrity.check_length(digest, counts=not self._wish.verify)
        await integrity.repositories()
        if first and not self._wish.verify:
            await self._verification.verify_again(integrity.suspects)

    async def _handle(self) -> bool:
        """Be done with what was found; return whether that has changed anything."""
        changed = False
        for problem in self._found.take():
            done = problem
            if self._wish.repair:
                done = await self._repaired(problem)
            if done.repaired:
                changed = True
                self._found.forget(problem)
            self._watcher.handled(done)
        return changed

    async def _repaired(self, problem: Problem) -> Problem:
        try:
            return await self._repair.repair(problem)
        except StorageError as error:
            self._watcher.failed(problem, str(error))
            return problem
