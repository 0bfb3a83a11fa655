"""Checks and repairs of a tree in process."""

from datetime import timedelta
from typing import Final

from typing_extensions import override

from dockyard.clock import Clock, utc_now
from dockyard.core.evidence import SETTLED
from dockyard.core.integrity import Integrity, Rules
from dockyard.core.manifests import Manifests
from dockyard.core.policy import Policy
from dockyard.core.problems import Problem
from dockyard.core.repair import Repair
from dockyard.core.verification import Pace, Verification
from dockyard.oci.digest import Digest
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.interface import Storage


UPLOAD_AGE: Final = timedelta(hours=1)


class Aged(FilesystemStorage):
    """A storage in which everything has been so for two hours, as far as anyone asks."""

    @override
    async def age(self, path: str) -> float:
        return await super().age(path) + 2 * SETTLED.total_seconds()


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.blobs = 0
        self.cursor: Digest | None = None

    def found(self, problem: Problem) -> None:
        self.problems.append(problem)

    def blob(self, size: int) -> None:
        assert size >= 0
        self.blobs += 1

    def repository(self, name: str) -> None:
        assert name

    def resumed(self, cursor: Digest) -> None:
        self.cursor = cursor


def verification_on(storage: Storage, seen: Seen | None = None) -> Verification:
    """Return a verification as fast as it goes."""
    return Verification(storage, seen or Seen(), Pace(0))


async def check(
    storage: Storage,
    *,
    verify: bool = False,
    policy: Policy | None = None,
    clock: Clock = utc_now,
) -> list[Problem]:
    """Return what is wrong, each problem once."""
    seen = Seen()
    integrity = Integrity(storage, seen, Rules(policy or Policy(), UPLOAD_AGE, clock))
    digests = await integrity.blobs()
    if verify:
        await verification_on(storage, seen).run(digests, restart=False)
    for digest in digests:
        await integrity.check_length(digest, counts=True)
    await integrity.repositories()
    await verification_on(storage, seen).verify_again(integrity.suspects)
    return list({(each.kind, each.path): each for each in reversed(seen.problems)}.values())[::-1]


async def repair(storage: Storage, manifests: Manifests, *, verify: bool = False) -> list[str]:
    """Check and repair once; return what was done about each problem."""
    repairing = Repair(storage, manifests, verification_on(storage))
    return [
        (await repairing.repair(problem)).repaired
        for problem in await check(storage, verify=verify)
    ]
