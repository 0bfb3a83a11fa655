"""Repair: relinking what can be proved, and taking out of the way what is damaged.

Nothing is deleted: what is damaged is moved to a quarantine, in the shape it had. Each problem is
looked at again under the locks that servers and collectors take, since it may be gone by then.
"""

from dataclasses import replace
from typing import Final

from dockyard.core.links import LinkDamagedError, read_link, write_link
from dockyard.core.manifests import Manifests
from dockyard.core.problems import Kind, Problem
from dockyard.core.trash import digests_of
from dockyard.core.verification import Verification
from dockyard.errors import (
    ManifestBlobsUnknownError,
    ManifestInvalidError,
    ManifestUnknownError,
    PathUnknownError,
    StorageError,
)
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


LINKED: Final = "linked"
ASIDE: Final = "moved to the quarantine"
GONE: Final = "gone meanwhile"


class Repair:
    """Repairs what a check found."""

    def __init__(self, storage: Storage, manifests: Manifests, verification: Verification) -> None:
        self._storage = storage
        self._manifests = manifests
        self._verification = verification

    async def repair(self, problem: Problem) -> Problem:
        """Repair a problem if that is possible; return it with what was done.

        Raises:
            StorageError: that failed; what was there is there or in the quarantine.
        """
        match problem.kind:
            case Kind.MISSING_LINK:
                done = await self._link_blob(problem)
            case Kind.DAMAGED_LINK:
                done = await self._damaged_link(problem)
            case Kind.DANGLING_LAYER | Kind.DANGLING_REVISION:
                done = await self._dangling(problem)
            case Kind.DANGLING_TAG:
                done = await self._tag(problem)
            case Kind.DAMAGED_BLOB:
                done = await self._blob(problem)
            case _:
                done = ""
        return replace(problem, repaired=done)

    async def _link_blob(self, problem: Problem) -> str:
        assert problem.digest is not None
        async with self._storage.lock("repository", problem.name):
            if not await self._is_whole(problem.digest):
                return ""
            await write_link(self._storage, problem.path, problem.digest)
        return LINKED

    async def _damaged_link(self, problem: Problem) -> str:
        if problem.digest is None:
            return await self._tag(problem)
        async with self._storage.lock("repository", problem.name):
            if not await self._is_damaged(problem.path, problem.digest):
                return GONE
            await self._quarantine(problem.path)
            if not await self._is_whole(problem.digest):
                return ASIDE
            await write_link(self._storage, problem.path, problem.digest)
            if "/_manifests/" in problem.path and not await self._is_served(problem):
                await self._quarantine(problem.path)
                return ASIDE
        return LINKED

    async def _is_served(self, problem: Problem) -> bool:
        assert problem.digest is not None
        try:
            await self._manifests.references(problem.name, problem.digest)
        except ManifestUnknownError:
            return False
        except ManifestBlobsUnknownError:
            return True  # it lacks something, but it is a manifest
        except ManifestInvalidError:
            return False
        return True

    async def _is_damaged(self, path: str, digest: Digest) -> bool:
        try:
            target = await read_link(self._storage, path)
        except LinkDamagedError:
            return True
        except PathUnknownError:
            return False
        return target.algorithm == digest.algorithm and target != digest

    async def _dangling(self, problem: Problem) -> str:
        assert problem.digest is not None
        async with self._storage.lock("repository", problem.name):
            try:
                target = await read_link(self._storage, problem.path)
            except PathUnknownError:
                return GONE
            for place in (layout.blob(target), layout.trash_blob(target)):
                if await self._storage.exists(place):
                    return GONE
            await self._quarantine(problem.path.removesuffix("/link"))
        return ASIDE

    async def _tag(self, problem: Problem) -> str:
        """Point a tag to the one manifest it can have meant; otherwise take it out of the way."""
        tag = problem.path.split("/")[-3]
        lock = self._storage.lock
        async with lock("repository", problem.name), lock("tag", f"{problem.name}:{tag}"):
            if not await self._is_tag_broken(problem):
                return GONE
            possible = await self._history(problem.name, tag)
            if len(possible) == 1 and problem.kind is Kind.DAMAGED_LINK:
                await self._quarantine(problem.path)
                await write_link(self._storage, problem.path, possible[0])
                return LINKED
            await self._quarantine(layout.tag(problem.name, tag))
        return ASIDE

    async def _is_tag_broken(self, problem: Problem) -> bool:
        try:
            digest = await read_link(self._storage, problem.path)
        except LinkDamagedError:
            return True
        except PathUnknownError:
            return False
        return not await self._storage.exists(layout.revision_link(problem.name, digest))

    async def _history(self, name: str, tag: str) -> list[Digest]:
        directory = f"{layout.tag(name, tag)}/index"
        try:
            algorithms = [entry.name for entry in await self._storage.list(directory)]
            found = [
                digest
                for algorithm in algorithms
                for digest in digests_of(
                    algorithm,
                    [entry.name for entry in await self._storage.list(f"{directory}/{algorithm}")],
                )
            ]
        except PathUnknownError:
            return []
        return [each for each in found if await self._manifests.exists(name, each)]

    async def _blob(self, problem: Problem) -> str:
        """Take a damaged blob out of the way; one that was healed at that moment goes back."""
        assert problem.digest is not None
        path = layout.blob(problem.digest)
        if await self._is_whole(problem.digest):
            return GONE
        try:
            aside = await self._quarantine(path)
        except PathUnknownError:
            return GONE
        if await self._verification.is_whole(problem.digest, aside):
            await self._storage.move(aside, path)
            return GONE
        return ASIDE

    async def _is_whole(self, digest: Digest) -> bool:
        try:
            return await self._verification.is_whole(digest, layout.blob(digest))
        except StorageError:
            return False

    async def _quarantine(self, path: str) -> str:
        """Move what is at `path` aside; return where it is now."""
        target, number = layout.quarantine(path), 0
        while await self._storage.exists(target):
            number += 1
            target = f"{layout.quarantine(path)}.{number}"
        await self._storage.move(path, target)
        return target
