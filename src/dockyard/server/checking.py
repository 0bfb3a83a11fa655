"""A check of the whole tree, and the repair of what it finds, beside servers or without."""

from dataclasses import dataclass
from typing import Protocol

from dockyard.clock import utc_now
from dockyard.config import Settings
from dockyard.core.integrity import Integrity, Watcher
from dockyard.core.problems import Problem
from dockyard.core.repair import Repair
from dockyard.core.verification import Verification
from dockyard.errors import StorageError
from dockyard.server.maintenance import prepare, require_tree
from dockyard.server.use_cases import build_services


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

    def handled(self, problem: Problem) -> None:
        """A problem is done with: `Problem.repaired` says what was done, if anything."""


class _Collecting:
    """Keeps what is found, once for each place, for repairing when everything was looked at."""

    def __init__(self, watcher: CheckWatcher) -> None:
        self._watcher = watcher
        self.problems: dict[str, Problem] = {}

    def found(self, problem: Problem) -> None:
        if problem.path not in self.problems:
            self.problems[problem.path] = problem
            self._watcher.found(problem)

    def blob(self, size: int) -> None:
        self._watcher.blob(size)

    def repository(self, name: str) -> None:
        self._watcher.repository(name)


async def check(settings: Settings, wish: Check, watcher: CheckWatcher) -> None:
    """Check the tree that `settings` describe.

    Raises:
        StorageError: there is no registry's tree.
    """
    storage = prepare(settings)
    await require_tree(settings, storage)
    found = _Collecting(watcher)
    age = settings.storage.maintenance.uploadpurging.age
    integrity = Integrity(storage, found, utc_now, age)
    verification = Verification(storage, found, wish.rate)
    digests = await integrity.blobs()
    watcher.total(len(digests))
    if wish.verify:
        await verification.run(digests, restart=wish.restart)
    for digest in digests:
        await integrity.check_length(digest, counts=not wish.verify)
    await integrity.repositories()
    repair = Repair(storage, build_services(settings, storage, utc_now).manifests, verification)
    for problem in found.problems.values():
        done = problem
        if wish.repair:
            try:
                done = await repair.repair(problem)
            except StorageError as error:
                watcher.found(Problem(problem.kind, problem.path, detail=f"not repaired: {error}"))
        watcher.handled(done)
