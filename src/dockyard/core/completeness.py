"""What repositories have of what their images need: looked at again, not read again.

Who pushes all day pushes images of which nearly all is there, and every push looks, twice, whether
it is: for each layer a link is read and a file opened. As long as all these files are the same as
when that was done before, it needs no more than a look at the entry of each.
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from dockyard.core.blobs import STORED_BY
from dockyard.errors import StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage, Witness


MOST: Final = 128
"""Blobs of an image that is remembered, at most: looking at them takes about 0.5 ms."""

REMEMBERED: Final = 16_384
"""Blobs of the images that are remembered, over all of them: about 14 MB."""


class Completeness:
    """The images that a worker has found complete.

    Args:
        storage: where the files are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage: Final = storage
        self._known: Final[OrderedDict[tuple[str, Digest], tuple[Witness, int]]] = OrderedDict()
        self._blobs = 0

    def stands(self, name: str, digest: Digest) -> bool:
        """Return whether the repository `name` is known to have all that the image needs, still.

        It is looked at now. `False`: it is not known, or has changed.
        """
        known = self._known.get((name, digest))
        if known is None:
            return False
        if known[0].stands():
            self._known.move_to_end((name, digest))
            return True
        self._drop(name, digest)
        return False

    async def witness(self, name: str, blobs: Collection[Digest]) -> Witness | None:
        """Return what tells whether the links of `name` to `blobs`, and these, are still the same.

        To be asked before looking at them. `None`: that can't be told, or there are too many.
        """
        if not blobs or len(blobs) > MOST or any(blob.algorithm != STORED_BY for blob in blobs):
            return None
        paths = [layout.layer_link(name, blob) for blob in blobs]
        paths += [layout.blob(blob) for blob in blobs]
        try:
            return await self._storage.witness(paths)
        except StorageError:  # whoever looks closer finds out
            return None

    def keep(self, name: str, digest: Digest, witness: Witness, blobs: int) -> None:
        """Remember that an image was complete when its `blobs` were witnessed."""
        self._drop(name, digest)
        self._known[name, digest] = witness, blobs
        self._blobs += blobs
        while self._blobs > REMEMBERED:
            self._drop(*next(iter(self._known)))

    def _drop(self, name: str, digest: Digest) -> None:
        _, blobs = self._known.pop((name, digest), (None, 0))
        self._blobs -= blobs
