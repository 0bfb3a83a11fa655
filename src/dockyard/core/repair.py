"""Repair: relinking what can be proved, and taking out of the way what is damaged.

Nothing is deleted: what is damaged is moved to a quarantine, in the shape it had. Each problem is
looked at again under the locks that servers and collectors take, since it may be gone by then.
Under a lock nothing is read but links and manifests: who pushes waits for it.

Three things stay where they are although they are no good: the link of a manifest, which is what
keeps the image's layers from being collected while its bytes are pushed again or restored; a tag
that may have meant several manifests; and what a manifest needs that is nowhere. None of them is
served, and pushing the image heals each.
"""

import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

from dockyard.core.blobs import damage_of
from dockyard.core.evidence import Evidence
from dockyard.core.leases import Leases
from dockyard.core.links import LinkDamagedError, look_at_link, write_link
from dockyard.core.manifests import Manifests
from dockyard.core.problems import Kind, Problem
from dockyard.core.trash import Trash, digests_of
from dockyard.core.verification import Verification
from dockyard.errors import (
    DigestMismatchError,
    ManifestInvalidError,
    PathUnknownError,
)
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Storage


LINKED: Final = "linked"
ASIDE: Final = "moved to the quarantine"
MEASURED: Final = "its bytes are right; their number was noted anew"
GONE: Final = "gone meanwhile"
LEFT: Final = ""

COPIED_LIMIT: Final = 64 << 10
"""Bytes of a damaged link that are copied to the quarantine; a larger one is moved there."""

REPLACED_TRIES: Final = 3
"""Times a damaged blob is looked at that somebody replaces meanwhile: he pushes it to heal it, and
hardly does so three times."""


class Repair:
    """Repairs what a check found."""

    def __init__(self, storage: Storage, manifests: Manifests, verification: Verification) -> None:
        self._storage = storage
        self._manifests = manifests
        self._verification = verification
        self._evidence = Evidence(storage)
        self._leases = Leases(storage)
        self._trash = Trash(storage)

    async def repair(self, problem: Problem) -> Problem:
        """Repair a problem if that is possible; return it with what was done.

        Raises:
            StorageError: that failed; what was there is there or in the quarantine.
        """
        match problem.kind:
            case Kind.DAMAGED_BLOB:
                done = await self._blob(problem)
            case Kind.EMPTY_BLOB:
                done = await self._empty_blob(problem)
            case Kind.ORPHAN_UPLOAD | Kind.INCOMPLETE | Kind.UNREADABLE | Kind.UNREACHABLE:
                done = LEFT
            case _:
                async with self._storage.lock("repository", problem.name):
                    done = await self._in_repository(problem)
        return replace(problem, repaired=done)

    async def _in_repository(self, problem: Problem) -> str:
        match problem.kind:
            case Kind.MISSING_LINK:
                done = await self._missing_link(problem)
            case Kind.DANGLING_LAYER | Kind.DANGLING_REVISION:
                done = await self._dangling(problem)
            case Kind.LEFTOVER:
                done = await self._leftover(problem.path)
            case _ if problem.tag:
                async with self._storage.lock("tag", f"{problem.name}:{problem.tag}"):
                    done = await self._tag(problem)
            case _:
                done = await self._damaged_link(problem)
        return done

    async def _leftover(self, path: str) -> str:
        if not await self._evidence.is_settled(path):
            return GONE
        await self._quarantine(path)
        return ASIDE

    async def _missing_link(self, problem: Problem) -> str:
        """Link what a manifest needs: whoever pulls that gets the blob with it."""
        assert problem.digest is not None
        assert problem.needed_by is not None
        manifest = layout.revision_link(problem.name, problem.needed_by)
        if await self._storage.exists(problem.path) or not await self._storage.exists(manifest):
            return GONE
        if not await self._is_sound(problem.digest):
            return GONE  # set aside as damaged: the manifest lacks it, which the next look finds
        await write_link(self._storage, problem.path, problem.digest)
        return LINKED

    async def _damaged_link(self, problem: Problem) -> str:
        """Write the link of a blob or manifest anew, which its directory proves."""
        assert problem.digest is not None
        if not await self._is_damaged(problem.path, problem.digest):
            return GONE
        if problem.path == layout.revision_link(problem.name, problem.digest):
            if not await self._is_manifest(problem.name, problem.digest):
                return LEFT
        elif not await self._is_sound(problem.digest):
            if await self._leases.is_held_in(problem.name, problem.digest):
                return GONE  # being pushed at this moment, the link first
            await self._quarantine(problem.path.removesuffix("/link"))
            return ASIDE
        await self._replace(problem.path, problem.digest)
        return LINKED

    async def _is_damaged(self, path: str, digest: Digest | None) -> bool:
        try:
            if digest is None:
                await look_at_link(self._storage, path)
            else:
                await self._evidence.target(path, digest)
        except LinkDamagedError:
            return True
        except PathUnknownError:
            return await self._storage.exists(path)  # it is no file
        return False

    async def _is_sound(self, digest: Digest) -> bool:
        """Return whether a blob is there, brought back if need be, as far as its length tells."""
        if not await self._trash.bring_back(digest):
            return False
        try:
            reader = await self._storage.open(layout.blob(digest))
        except PathUnknownError:
            return False
        sound = damage_of(reader, digest) is None
        reader.close()
        return sound

    async def _is_manifest(self, name: str, digest: Digest) -> bool:
        if not await self._trash.bring_back(digest):
            return False
        try:
            await self._evidence.manifest(name, digest, digest)
        except (PathUnknownError, ObjectTooLargeError, DigestMismatchError, ManifestInvalidError):
            return False
        return True

    async def _dangling(self, problem: Problem) -> str:
        """Move the link to a blob aside that is not there; see the module on that of a manifest."""
        assert problem.digest is not None
        try:
            target = await self._evidence.target(problem.path, problem.digest)
        except (PathUnknownError, LinkDamagedError):
            return GONE  # or something else by now, which the next check finds
        if await self._trash.bring_back(target):
            return GONE
        if problem.kind is Kind.DANGLING_REVISION:
            return LEFT
        # Who pushes writes the link before the blob, and the lease before the link.
        if await self._leases.is_held_in(problem.name, target):
            return GONE
        await self._quarantine(problem.path.removesuffix("/link"))
        return ASIDE

    async def _tag(self, problem: Problem) -> str:
        path = layout.tag_current(problem.name, problem.tag)
        if problem.kind is not Kind.DAMAGED_LINK:
            return await self._dead_tag(layout.tag(problem.name, problem.tag), problem.name, path)
        if problem.digest is not None:
            return await self._history(problem, problem.digest)
        return await self._current(problem.name, problem.tag, path)

    async def _dead_tag(self, directory: str, name: str, path: str) -> str:
        """Move a tag aside that points to nothing, with its history."""
        try:
            digest = await look_at_link(self._storage, path)
        except LinkDamagedError:
            return GONE  # something else by now, which the next check finds
        except PathUnknownError:
            if await self._storage.exists(path) or not await self._storage.exists(directory):
                return GONE
        else:
            if await self._storage.exists(layout.revision_link(name, digest)):
                return GONE
        await self._quarantine(directory)
        return ASIDE

    async def _current(self, name: str, tag: str, path: str) -> str:
        """Point a tag to the only manifest that it ever pointed to.

        With two, the later one is no proof: a tag's history has the times at which it was copied.
        """
        if not await self._is_damaged(path, None):
            return GONE
        directory = f"{layout.tag(name, tag)}/index"
        possible = [
            digest
            for algorithm in await self._evidence.entries(directory)
            for digest in digests_of(
                algorithm, [*await self._evidence.entries(f"{directory}/{algorithm}")]
            )
        ]
        if len(possible) != 1 or not await self._manifests.exists(name, possible[0]):
            return LEFT
        await self._replace(path, possible[0])
        return LINKED

    async def _history(self, problem: Problem, digest: Digest) -> str:
        """Write a link of a tag's history anew if the tag still points there.

        When it was written is when the tag was moved; so that of an earlier move can't be made up.
        """
        if not await self._is_damaged(problem.path, digest):
            return GONE
        with suppress(PathUnknownError, LinkDamagedError):
            path = layout.tag_current(problem.name, problem.tag)
            if await look_at_link(self._storage, path) == digest:
                await self._replace(problem.path, digest)
                return LINKED
        await self._quarantine(problem.path.removesuffix("/link"))
        return ASIDE

    async def _blob(self, problem: Problem) -> str:
        """Take a damaged blob out of the way; one that was healed at that moment goes back."""
        assert problem.digest is not None
        digest, path = problem.digest, layout.blob(problem.digest)
        for _ in range(REPLACED_TRIES):
            began = time.monotonic()
            try:
                if await self._verification.is_whole(digest, path):
                    return await self._measure(digest)
                # Reading takes long: the one that was read may have been replaced meanwhile.
                if await self._storage.age(path) < time.monotonic() - began:
                    continue
            except PathUnknownError:
                pass  # gone, or no file
            return await self._set_aside(digest, path)
        return GONE

    async def _measure(self, digest: Digest) -> str:
        """Note the size of a blob anew if only that is wrong."""
        if await self._is_sound(digest):
            return GONE
        return MEASURED if await self._verification.note_size(digest) else LEFT

    async def _set_aside(self, digest: Digest, path: str) -> str:
        try:
            aside = await self._quarantine(path)
        except PathUnknownError:
            return GONE
        try:
            if not await self._verification.is_whole(digest, aside):
                return ASIDE
        except PathUnknownError:
            return ASIDE  # it is no file
        if not await self._storage.exists(path):
            await self._storage.move(aside, path)
        return GONE

    async def _empty_blob(self, problem: Problem) -> str:
        """Take the directory of a blob away that holds none, unless one comes at that moment."""
        if "data" in await self._evidence.entries(problem.path):
            return GONE
        try:
            aside = await self._quarantine(problem.path)
        except PathUnknownError:
            return GONE
        with suppress(PathUnknownError):
            await self._storage.move(f"{aside}/data", f"{problem.path}/data")
            return GONE
        return ASIDE

    async def _replace(self, path: str, digest: Digest) -> None:
        """Write a damaged link anew in one step, so that there is a link whatever ends this."""
        try:
            content = await self._storage.get(path, COPIED_LIMIT)
        except (PathUnknownError, ObjectTooLargeError):
            await self._quarantine(path)
        else:
            await self._storage.put(await self._aside(path), content)
        await write_link(self._storage, path, digest)

    async def _quarantine(self, path: str) -> str:
        """Move what is at `path` aside; return where it is now."""
        target = await self._aside(path)
        await self._storage.move(path, target)
        return target

    async def _aside(self, path: str) -> str:
        """Return a free path in the quarantine for what is at `path`."""
        target, number = layout.quarantine(path), 0
        while await self._storage.exists(target):
            number += 1
            target = f"{layout.quarantine(path)}.{number}"
        return target
