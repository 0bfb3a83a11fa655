"""Evidence: what the tree says by itself, for who checks it and for who repairs it.

What a collection has taken to its trash counts as there: whoever needs it brings it back.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from dockyard.core.links import LinkDamagedError, look_at_link
from dockyard.core.manifests import MEDIA_TYPE_LIMIT, STORED_LIMIT
from dockyard.errors import DigestMismatchError, PathUnknownError
from dockyard.oci import manifest as grammar, mediatype
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


SETTLED: Final = timedelta(hours=1)
"""The age from which something unfinished is nobody's who is still at it: distribution, which takes
no locks, writes each of these within seconds."""


class Evidence:
    """Reads the tree, and logs nothing."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def size(self, digest: Digest) -> int | None:
        """Return the bytes of a stored blob; `None` if there is none."""
        # The blob twice: whoever needs it may bring it back between the other two looks.
        for path in (layout.blob(digest), layout.trash_blob(digest), layout.blob(digest)):
            try:
                return await self._storage.size(path)
            except PathUnknownError:
                continue
        return None

    async def target(self, path: str, digest: Digest) -> Digest:
        """Return what the link at `path` holds, whose directory says `digest`.

        That is `digest` itself, or the sha256 of what distribution took by another algorithm.

        Raises:
            PathUnknownError: there is no link.
            LinkDamagedError: it holds something else.
        """
        target = await look_at_link(self._storage, path)
        if target != digest and target.algorithm == digest.algorithm:
            raise LinkDamagedError(path, f"holds {target}")
        return target

    async def manifest(self, name: str, digest: Digest, target: Digest) -> Manifest:
        """Return what the manifest `digest` of repository `name` says, stored as `target`.

        Raises:
            PathUnknownError: its bytes are not there.
            DigestMismatchError: they have another digest.
            ObjectTooLargeError: they are too many for a manifest.
            ManifestInvalidError: they are none.
        """
        content = await self._content(target)
        computed = Digest.of(content, target.algorithm)
        if computed != target:
            raise DigestMismatchError(expected=str(target), computed=str(computed))
        said = grammar.parse_stored(content)
        return said or grammar.parse(content, await self._noted_type(name, digest))

    async def entries(self, directory: str) -> Mapping[str, bool]:
        """Return the names in a directory, each with whether it is a directory itself."""
        try:
            found = await self._storage.list(directory)
        except PathUnknownError:
            return {}
        return {entry.name: entry.is_directory for entry in found}

    async def is_settled(self, path: str) -> bool:
        """Return whether what is at `path` has been so for longer than anybody takes to write."""
        try:
            return await self._storage.age(path) > SETTLED.total_seconds()
        except PathUnknownError:
            return False

    async def _content(self, target: Digest) -> bytes:
        for path in (layout.blob(target), layout.trash_blob(target)):
            try:
                return await self._storage.get(path, STORED_LIMIT)
            except PathUnknownError:
                continue
        return await self._storage.get(layout.blob(target), STORED_LIMIT)

    async def _noted_type(self, name: str, digest: Digest) -> str:
        path = layout.revision_media_type(name, digest)
        try:
            return (await self._storage.get(path, MEDIA_TYPE_LIMIT)).decode("latin-1")
        except PathUnknownError:
            return mediatype.OCTETS
