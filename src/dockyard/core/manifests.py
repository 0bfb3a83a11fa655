"""Manifests: reading, checking, storing and deleting them."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from dockyard.core.blobs import Blobs
from dockyard.core.completeness import Completeness
from dockyard.core.leases import Leases
from dockyard.core.links import LinkDamagedError, link, read_link
from dockyard.core.policy import Policy
from dockyard.core.tags import UNCONDITIONAL, Condition, Tags
from dockyard.core.trash import Trash
from dockyard.errors import (
    DigestMismatchError,
    ManifestBlobsUnknownError,
    ManifestInvalidError,
    ManifestUnknownError,
    PathUnknownError,
    StorageError,
)
from dockyard.oci import manifest as grammar, mediatype
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Descriptor, Manifest
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Storage


MANIFEST_LIMIT: Final = 4 << 20
"""Bytes of a manifest that is pushed, at most.

Source: OCI Distribution Spec, spec.md#pushing-manifests, and distribution's own limit."""

STORED_LIMIT: Final = 16 << 20
"""Bytes of a manifest that is read from the storage: what an older server took is still served."""

CACHE: Final = 24 << 20
"""Bytes of manifests a worker keeps: some thousands, what hundreds of nodes pull at once."""

SLICE: Final = 64
"""References looked up before other requests get their turn: about 1 ms. One may have 46 000."""

MEDIA_TYPE_LIMIT: Final = 1024
"""Bytes of a noted media type: no header that long arrives."""


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is kept.

    Attributes:
        digest: the digest of its bytes.
        media_type: its type.
        content: its bytes, exactly as they were pushed.
    """

    digest: Digest
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ManifestPush:
    """A manifest to be stored.

    Attributes:
        name: the repository.
        content: its bytes.
        content_type: the type its sender gives it.
        digest: the digest it must have, if the sender promises one.
        tags: the tags to point to it.
        condition: what must be true of the first tag.
        client: who is asking, for its leases: see `dockyard.core.leases`.
    """

    name: str
    content: bytes
    content_type: str
    digest: Digest | None
    tags: Sequence[str]
    condition: Condition = UNCONDITIONAL
    client: str = ""


class Manifests:
    """The manifests of all repositories.

    A repository has a manifest if, and only if, it has its revision link. Bytes by digest are
    cached, since they can't change; links never are.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- the parts of a registry, made in one place
        self,
        storage: Storage,
        blobs: Blobs,
        tags: Tags,
        policy: Policy,
        leases: Leases,
        trash: Trash,
    ) -> None:
        self._storage = storage
        self._leases = leases
        self._trash = trash
        self._blobs = blobs
        self._tags = tags
        self._policy = policy
        self._cache: Final[OrderedDict[Digest, tuple[bytes, str]]] = OrderedDict()
        self._cached = 0
        self._complete: Final = Completeness(storage)

    async def get(self, name: str, digest: Digest) -> StoredManifest:
        """Return a manifest of the repository `name`.

        Raises:
            ManifestUnknownError: the repository has no such manifest, or it is damaged.
            ManifestInvalidError: it is of a kind that is no longer served.
        """
        try:
            target = await read_link(self._storage, layout.revision_link(name, digest))
            content, declared = self._cache.get(digest) or await self._load(target, digest)
        except PathUnknownError as error:
            raise ManifestUnknownError(str(digest)) from error
        except LinkDamagedError as error:
            raise ManifestUnknownError(str(digest), damage="its link is damaged") from error
        media_type = declared or await self._noted_type(name, digest, content)
        return StoredManifest(digest, media_type, content)

    async def exists(self, name: str, digest: Digest) -> bool:
        """Return whether the repository `name` has the manifest, readable."""
        try:
            await self.get(name, digest)
        except ManifestUnknownError:
            return False
        return True

    async def put(self, push: ManifestPush) -> tuple[Digest, Manifest]:
        """Store a manifest and point tags to it; return its digest and what it says.

        Raises:
            DigestMismatchError: the bytes have another digest than promised.
            ManifestInvalidError: see `dockyard.oci.manifest.parse` and the policy.
            ManifestBlobsUnknownError: it names what the repository does not have.
            ClassDeniedError: the policy does not take its class.
            TagMovedError: the condition does not hold; the manifest may be stored, no tag moved.
        """
        algorithm = push.digest.algorithm if push.digest is not None else "sha256"
        digest = Digest.of(push.content, algorithm)
        if push.digest is not None and push.digest != digest:
            raise DigestMismatchError(expected=str(push.digest), computed=str(digest))
        manifest = grammar.parse(push.content, push.content_type)
        self._policy.check(manifest)
        revision = layout.revision_link(push.name, digest)
        known = await self._storage.exists(revision)
        if not known:  # else it is looked at once, below
            await self._check(push.name, digest, manifest)
        try:
            async with self._storage.lock("repository", push.name, shared=True):
                known = known and await self._storage.exists(revision)
                await self._store(push.name, digest, manifest.media_type, push.content)
                await self._check_again(push, digest, manifest)
                for position, tag in enumerate(push.tags):
                    condition = push.condition if position == 0 else UNCONDITIONAL
                    await self._tags.move(push.name, tag, digest, condition)
        except ManifestBlobsUnknownError:
            if not known:
                await self._withdraw(push.name, digest, manifest)
            raise
        await self._release(push, manifest)
        return digest, manifest

    async def drop(self, name: str, digests: Sequence[Digest]) -> None:
        """Move manifests that no tag points to to the trash, with the repository's lock held."""
        removal = self._trash.removal(name)
        for digest in digests:
            structlog.get_logger().info(f"deleting manifest: {digest}")
            with suppress(PathUnknownError):
                await removal.add(layout.revision(name, digest))

    async def delete(self, name: str, digest: Digest) -> None:
        """Move a manifest and every tag that points to it to the trash.

        Raises:
            ManifestUnknownError: the repository has no such manifest.
        """
        # No manifest may be pushed meanwhile: its fresh tag would go, or point to nothing.
        async with self._storage.lock("repository", name):
            if not await self._storage.exists(layout.revision_link(name, digest)):
                raise ManifestUnknownError(str(digest))
            removal = self._trash.removal(name)
            await self._tags.untag(name, digest, removal)
            await removal.add(layout.revision(name, digest))

    async def references(self, name: str, digest: Digest) -> None:
        """Return if the repository has all that its manifest `digest` needs.

        Raises:
            ManifestUnknownError: it has no such manifest.
            ManifestBlobsUnknownError: something is missing.
        """
        stored = await self.get(name, digest)
        # A worker may remember the bytes of one that was destroyed.
        if not await self._trash.bring_back(
            await read_link(self._storage, layout.revision_link(name, digest))
        ):
            raise ManifestBlobsUnknownError([str(digest)])
        await self._check_references(name, grammar.parse(stored.content, stored.media_type))

    async def children(self, name: str, digest: Digest) -> list[Digest]:
        """Return the manifests that a manifest of `name` lists; none if it can't be read."""
        stored = await get_readable(self, name, digest)
        if stored is None:
            return []
        try:
            manifest = grammar.parse(stored.content, stored.media_type)
        except ManifestInvalidError:
            return []
        return [child.digest for child in manifest.children]

    async def _check_again(self, push: ManifestPush, digest: Digest, manifest: Manifest) -> None:
        """Return if everything is still there now that the link says that it is needed.

        A collector that took some of it before the link was there can be sure that we see it
        missing, and one that comes after sees the link: see `dockyard.core.collector`.
        """
        if not await self._storage.exists(layout.blob(digest)):
            await self._storage.put(layout.blob(digest), push.content)
        await self._check(push.name, digest, manifest)

    async def _withdraw(self, name: str, digest: Digest, manifest: Manifest) -> None:
        """Remove the link of a manifest that is refused.

        Unless another client has pushed the same one meanwhile, with what this one lacked.
        """
        async with self._storage.lock("repository", name):
            try:
                await self._check_references(name, manifest)
            except ManifestBlobsUnknownError:
                if not await self._tags.pointing(name, digest):
                    with suppress(PathUnknownError):
                        await self._storage.delete(layout.revision(name, digest))

    async def _release(self, push: ManifestPush, manifest: Manifest) -> None:
        config = () if manifest.config is None else (manifest.config,)
        digests = {each.digest for each in (*config, *manifest.layers)}
        failed = await self._leases.release(push.name, digests, push.client)
        for digest, error in failed.items():  # the manifest is stored; the leases expire
            structlog.get_logger().warning("lease kept", digest=str(digest), err=str(error))

    async def _load(self, target: Digest, digest: Digest) -> tuple[bytes, str]:
        try:
            content = await self._content(target)
        except ObjectTooLargeError as error:
            structlog.get_logger().error(
                "damaged manifest: push it again to heal it", digest=str(digest), err=str(error)
            )
            raise ManifestUnknownError(str(digest), damage="its bytes are damaged") from error
        if Digest.of(content, digest.algorithm) != digest:
            structlog.get_logger().error(
                "damaged manifest: push it again to heal it", digest=str(digest), size=len(content)
            )
            raise ManifestUnknownError(str(digest), damage="its bytes are damaged")
        return self._keep(digest, content)

    async def _content(self, target: Digest) -> bytes:
        """Return a manifest's bytes, brought back if they are in the trash: a link needs them."""
        try:
            return await self._storage.get(layout.blob(target), STORED_LIMIT)
        except PathUnknownError:
            if not await self._trash.bring_back(target):
                raise
            return await self._storage.get(layout.blob(target), STORED_LIMIT)

    def _keep(self, digest: Digest, content: bytes) -> tuple[bytes, str]:
        """Cache a manifest with the type it declares itself, which is empty if it doesn't."""
        kept = content, grammar.declared_type(content)
        if digest not in self._cache:
            self._cache[digest] = kept
            self._cached += len(content)
        while self._cached > CACHE:
            _, (dropped, _) = self._cache.popitem(last=False)
            self._cached -= len(dropped)
        return kept

    async def _noted_type(self, name: str, digest: Digest, content: bytes) -> str:
        try:
            path = layout.revision_media_type(name, digest)
            noted = await self._storage.get(path, MEDIA_TYPE_LIMIT)
        except (PathUnknownError, ObjectTooLargeError):
            return grammar.inferred_type(content) or mediatype.OCTETS
        return noted.decode("latin-1")

    async def _store(self, name: str, digest: Digest, media_type: str, content: bytes) -> None:
        objects = [(layout.blob(digest), content)]
        _, declared = self._keep(digest, content)
        if (declared or grammar.inferred_type(content)) != media_type:
            path = layout.revision_media_type(name, digest)
            objects.append((path, media_type.encode("latin-1")))
        objects.append(link(layout.revision_link(name, digest), digest))
        await self._storage.put_all(objects)

    async def _check(self, name: str, digest: Digest, manifest: Manifest) -> None:
        """Return if the repository has everything that `manifest` needs, as `_check_references`."""
        if self._complete.stands(name, digest):
            return
        blobs, children = self._needs(manifest)
        # Before looking: what changes while we look, the witness tells.
        witness = None if children else await self._complete.witness(name, blobs)
        await self._check_references(name, manifest)
        if witness is not None:
            self._complete.keep(name, digest, witness, len(blobs))

    def _needs(self, manifest: Manifest) -> tuple[set[Digest], set[Digest]]:
        """Return the blobs and the manifests that a repository must have for `manifest`."""
        policy = self._policy
        blobs = {each.digest for each in _content(manifest) if policy.needs(each)}
        children = {each.digest for each in manifest.children if policy.needs_child(each)}
        return blobs, children

    async def _check_references(self, name: str, manifest: Manifest) -> None:
        """Return if the repository has everything that `manifest` needs."""
        blobs, children = self._needs(manifest)
        missing: list[str] = []
        named = dict.fromkeys(each.digest for each in (*_content(manifest), *manifest.children))
        for position, digest in enumerate(named):
            if position % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            lacks_blob = digest in blobs and not await self._blobs.has(name, digest)
            if lacks_blob or (digest in children and not await self.exists(name, digest)):
                missing.append(str(digest))
        if missing:
            raise ManifestBlobsUnknownError(missing)


def _content(manifest: Manifest) -> Sequence[Descriptor]:
    """Return the blobs that an image names."""
    config = (manifest.config,) if manifest.config is not None else ()
    return (*config, *manifest.layers) if manifest.is_image else ()


async def get_readable(manifests: Manifests, name: str, digest: Digest) -> StoredManifest | None:
    """Return a manifest, or `None` if it can't be read just now; that has been logged."""
    try:
        return await manifests.get(name, digest)
    except (ManifestUnknownError, StorageError):
        return None
