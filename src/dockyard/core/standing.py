"""How long an answer stays true: as long as the files that say so are the same.

The bytes of a digest don't change. What may change is whether a repository has them, and where a
tag points to: that is what links say, and it is looked at each time. A look that finds the same
file as before needs no reading of it.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from dockyard.core.blobs import damage_of
from dockyard.core.leases import Leases
from dockyard.core.links import look_at_link
from dockyard.errors import StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage, Witness


Promise: TypeAlias = tuple[str, Digest]
"""A repository and a blob of which clients are told that it has it."""

SMALL: Final = 64 << 10
"""Bytes of a blob, at most, that is kept: configurations and the small layers of many an image.
Reading a larger one costs more than finding it."""


class Standing:
    """Finds witnesses for what was answered.

    Args:
        storage: where the files are.
        leases: notes who is told of blobs.
    """

    def __init__(self, storage: Storage, leases: Leases) -> None:
        self._storage: Final = storage
        self._leases: Final = leases

    async def of_manifest(self, name: str, digest: Digest, tag: str | None) -> Witness | None:
        """Return what stands for `name` having the manifest, to which `tag` points if it is given.

        `None`: it does not have it now, or that can't be told.
        """
        links = [layout.revision_link(name, digest)]
        if tag is not None:
            links.append(layout.tag_current(name, tag))
        try:
            return await self._of(links, digest)
        except StorageError:
            return None

    async def of_blob(self, name: str, digest: Digest) -> tuple[Witness, bytes] | None:
        """Return what stands for `name` having the blob, and its bytes, which were verified.

        `None`: it does not have it now, it is not small, or that can't be told.
        """
        link, blob = layout.layer_link(name, digest), layout.blob(digest)
        try:
            witness = await self._of([link], digest, blob)
            content = b"" if witness is None else await self._storage.get(blob, SMALL)
        except StorageError:
            return None
        if witness is None or Digest.of(content, digest.algorithm) != digest:
            return None
        return witness, content

    async def of_promise(self, name: str, digest: Digest, size: int) -> Witness | None:
        """Return what stands for `name` having the blob, undamaged, of `size` bytes.

        To be asked by `is_kept` only: who is told of a blob relies on it. `None`: it does not have
        it now, or that can't be told.
        """
        link, blob = layout.layer_link(name, digest), layout.blob(digest)
        try:
            witness = await self._of([link], digest, blob)
            if witness is None:
                return None
            reader = await self._storage.open(blob)
        except StorageError:
            return None
        whole = reader.size == size and damage_of(reader, digest) is None
        reader.close()
        return witness if whole else None

    def is_kept(self, promise: Promise, witness: Witness, client: str) -> bool | None:
        """Return whether `client` may be told of a blob again: as `Blobs.tell` does, at once.

        `None`: that would have to wait for something, so that `Blobs.tell` has to say.
        """
        # The lease first, for a collection to see it, or us to see that the blob is taken away.
        if not self._leases.tell_at_once(*promise, client):
            return None
        if witness.stands():
            return True
        self._leases.withdraw_at_once(*promise, client)
        return False

    async def _of(self, links: Sequence[str], digest: Digest, *others: str) -> Witness | None:
        witness = await self._storage.witness([*links, *others])
        if witness is None:
            return None
        for link in links:
            if await look_at_link(self._storage, link) != digest:
                return None
        return witness
