"""Uploads: blobs on their way in.

Everything that must survive a restart, or move to another worker, is in the storage: the bytes
received, the time of the start, and the digest of the bytes at the end of the last request. A
worker keeps the hash of bytes that came through it, as a cache, and goes on with it. Where they
came through several workers, they are read again.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog

from dockyard.clock import Clock
from dockyard.core.leases import Leases
from dockyard.core.links import link
from dockyard.errors import (
    DigestMismatchError,
    OffsetMismatchError,
    PathUnknownError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    UploadBusyError,
    UploadUnknownError,
)
from dockyard.oci.digest import DEFAULT_ALGORITHM, Digest, Hasher
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Piece, Storage, Writer
from dockyard.threads import in_thread


HASHED_LIMIT: Final = 512
"""Bytes of the note of an upload's digest, at most: a digest, a number and an epoch."""

HASHERS: Final = 1024
"""Uploads whose hash a worker keeps between requests: under 1 MB, and more than any worker has in
progress; one that falls out costs reading its bytes again."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Which upload a request is for.

    Attributes:
        name: the repository.
        identifier: names the upload in it.
        algorithm: what its bytes are hashed with as they arrive.
        client: who is asking, for the lease: see `dockyard.core.leases`.
    """

    name: str
    identifier: str
    algorithm: str = DEFAULT_ALGORITHM
    client: str = ""


class Uploads:
    """The uploads of all repositories.

    One request at a time writes to an upload. Bytes once received stay, also when the request
    ends in the middle, so the client can ask for the size and go on.
    """

    def __init__(self, storage: Storage, leases: Leases, clock: Clock) -> None:
        self._storage = storage
        self._leases = leases
        self._clock = clock
        self._hashers: Final[OrderedDict[str, Hasher]] = OrderedDict()

    async def begin(
        self, name: str, algorithm: str = DEFAULT_ALGORITHM, client: str = ""
    ) -> Upload:
        """Begin an upload to the repository `name`.

        Raises:
            DigestInvalidError: `algorithm` is not one we can verify.
            StorageFullError: no room; nothing is left of it.
        """
        hasher = Hasher(algorithm)
        upload = Upload(name, str(uuid4()), algorithm, client)
        started = self._clock().strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        # The time first: a purge finds by it what a kill between the two leaves.
        try:
            await self._storage.create(layout.upload_started(name, upload.identifier), started)
            await self._storage.create(layout.upload_data(name, upload.identifier))
        except StorageError:
            await self._tidy(upload)
            raise
        self._keep(upload, hasher)
        return upload

    async def size(self, upload: Upload) -> int:
        """Return how many bytes have arrived.

        Raises:
            UploadUnknownError: no such upload.
        """
        try:
            return await self._storage.size(layout.upload_data(upload.name, upload.identifier))
        except PathUnknownError as error:
            raise UploadUnknownError(upload.identifier) from error

    async def receive(
        self, upload: Upload, chunks: AsyncIterator[Sequence[Piece]], start: int | None
    ) -> int:
        """Append `chunks`, which begin at offset `start` if the client says; return the new size.

        Raises:
            UploadUnknownError: no such upload.
            UploadBusyError: another request is writing to it.
            OffsetMismatchError: `start` is not where it ends; it is as it was.
            StorageFullError: no room; the upload was given up, so that there is room again.
        """
        try:
            async with self._storage.append(self._path(upload)) as writer:
                hasher = await self._append(upload, writer, chunks, start)
                if hasher is not None:
                    await self._note(upload, hasher)
                return writer.size
        except PathUnknownError as error:
            raise UploadUnknownError(upload.identifier) from error
        except StorageBusyError as error:
            raise UploadBusyError(upload.identifier) from error
        except StorageFullError:
            await self._tidy(upload)
            raise

    async def finish(
        self,
        upload: Upload,
        digest: Digest,
        chunks: AsyncIterator[Sequence[Piece]],
        start: int | None,
    ) -> None:
        """Append `chunks` as `receive` does, then make the bytes a blob of the repository.

        The blob replaces one that is already there: that is how a damaged one heals.

        Raises:
            DigestMismatchError: the bytes have another digest; the upload is gone.
            UploadUnknownError, UploadBusyError, OffsetMismatchError: as in `receive`.
            StorageFullError: as in `receive`.
        """
        try:
            async with self._storage.append(self._path(upload)) as writer:
                hasher = await self._append(upload, writer, chunks, start)
                if hasher is not None and hasher.algorithm == digest.algorithm:
                    computed = hasher.digest()
                elif (noted := await self._noted(upload, writer.size, digest)) is not None:
                    computed = noted
                else:
                    computed = await self._reread(upload, writer.size, digest.algorithm)
                _check(digest, computed)
                # The lease before the link: a collector that removes links sees it. The link before
                # the blob: if there is no room for it, the bytes are still the upload's and go with
                # it, instead of keeping the disk full.
                await self._leases.tell(upload.name, digest, upload.client)
                ahead = link(layout.layer_link(upload.name, digest), digest)
                await self._storage.publish(self._path(upload), layout.blob(digest), [ahead])
        except PathUnknownError as error:
            raise UploadUnknownError(upload.identifier) from error
        except StorageBusyError as error:
            raise UploadBusyError(upload.identifier) from error
        except (DigestMismatchError, StorageFullError):
            await self._tidy(upload)
            raise
        await self._clear(upload)

    async def store(
        self, name: str, digest: Digest, chunks: AsyncIterator[Sequence[Piece]], client: str = ""
    ) -> None:
        """Make `chunks` a blob of the repository `name`; if that fails, nothing of them is left.

        Raises:
            DigestMismatchError: the bytes have another digest.
            StorageFullError: no room.
        """
        upload = await self.begin(name, digest.algorithm, client)
        try:
            await self.finish(upload, digest, chunks, 0)
        except BaseException:  # the client's leaving too: it was never told the upload's name
            await self._tidy(upload)
            raise

    async def cancel(self, upload: Upload) -> None:
        """Give an upload up, with the bytes it received.

        Raises:
            UploadUnknownError: no such upload.
        """
        self._hashers.pop(upload.identifier, None)
        try:
            await self._storage.delete(layout.upload(upload.name, upload.identifier))
        except PathUnknownError as error:
            raise UploadUnknownError(upload.identifier) from error

    async def _tidy(self, upload: Upload) -> None:
        """Remove what is left of an upload. What matters is done, so failing is no failure."""
        try:
            await self.cancel(upload)
        except UploadUnknownError:
            pass  # nothing is left, or someone cancelled it at the same moment
        except StorageError as error:
            structlog.get_logger().warning(
                "leftover upload", upload=upload.identifier, err=str(error)
            )

    async def _clear(self, upload: Upload) -> None:
        """Remove what is left of an upload whose bytes are a blob now.

        That need not survive loss of power: the upload would be purged in its time.
        """
        self._hashers.pop(upload.identifier, None)
        started = layout.upload_started(upload.name, upload.identifier)
        hashed = layout.upload_hashed(upload.name, upload.identifier)
        with suppress(StorageError):  # likewise
            await self._storage.delete_all([started, hashed])
        if await self._storage.exists(layout.upload(upload.name, upload.identifier)):
            await self._tidy(upload)  # another server has left something there

    async def _append(
        self,
        upload: Upload,
        writer: Writer,
        chunks: AsyncIterator[Sequence[Piece]],
        start: int | None,
    ) -> Hasher | None:
        """Append `chunks`; return the hash of all the upload's bytes if they all came this way."""
        if start is not None and start != writer.size:
            raise OffsetMismatchError(expected=writer.size, received=start)
        hasher = self._hashers.pop(upload.identifier, None)
        if hasher is None and writer.size == 0:
            hasher = Hasher(upload.algorithm)
        if hasher is None or hasher.size != writer.size:
            async for pieces in chunks:
                await writer.append(*pieces)
            return None
        try:
            async for pieces in chunks:
                await writer.append(*pieces)
                for piece in pieces:
                    hasher.update(piece)
        finally:
            self._keep(upload, hasher)
        return hasher

    async def _note(self, upload: Upload, hasher: Hasher) -> None:
        """Note the digest of what arrived, for the worker that will be asked to finish."""
        path = layout.upload_hashed(upload.name, upload.identifier)
        text = f"{hasher.digest()} {hasher.size} {self._storage.epoch}"
        await self._storage.create(path, text.encode())

    async def _noted(self, upload: Upload, size: int, wanted: Digest) -> Digest | None:
        """Return the noted digest, if it is of all `size` bytes and they can't have been lost."""
        path = layout.upload_hashed(upload.name, upload.identifier)
        try:
            content = await self._storage.get(path, HASHED_LIMIT)
        except (PathUnknownError, ObjectTooLargeError):
            return None
        text, _, rest = content.decode("ascii", "replace").partition(" ")
        current = rest == f"{size} {self._storage.epoch}"
        return wanted if current and text == str(wanted) else None

    async def _reread(self, upload: Upload, size: int, algorithm: str) -> Digest:
        """Return the digest of an upload's bytes, which are read for it, in a thread."""
        hasher = Hasher(algorithm)
        reader = await self._storage.open(self._path(upload))
        try:
            async for chunk in reader.read(0, size):
                await in_thread(hasher.update, chunk)
        finally:
            reader.close()
        return hasher.digest()

    def _keep(self, upload: Upload, hasher: Hasher) -> None:
        self._hashers[upload.identifier] = hasher
        if len(self._hashers) > HASHERS:
            self._hashers.popitem(last=False)

    @staticmethod
    def _path(upload: Upload) -> str:
        return layout.upload_data(upload.name, upload.identifier)


def _check(expected: Digest, computed: Digest) -> None:
    if computed != expected:
        raise DigestMismatchError(expected=str(expected), computed=str(computed))
