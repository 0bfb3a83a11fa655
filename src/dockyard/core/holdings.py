"""Holdings: what repositories, and what was removed from them, hold. Read, never changed.

For those who want to know why a blob is kept, and by whom. It follows the rules by which
`dockyard.core.marking` keeps blobs, and like it goes on where something can't be read.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from dockyard.core.links import read_link
from dockyard.core.manifests import MEDIA_TYPE_LIMIT, STORED_LIMIT
from dockyard.errors import DigestInvalidError, ManifestInvalidError, PathUnknownError, StorageError
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


class Role(Enum):
    """What a blob is to a manifest that needs it."""

    ITSELF = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    CHILD = "child"


@dataclass(frozen=True, slots=True)
class Holder:
    """A repository, or what was removed from one at one time and can be restored.

    Attributes:
        name: the repository's name.
        directory: where its ``_manifests`` and ``_layers`` are.
        item: what the trash calls it; `None` for a repository.
    """

    name: str
    directory: str
    item: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A manifest that a holder has.

    Attributes:
        digest: its digest, as the holder calls it.
        target: the digest under which its bytes are stored; `None` if that can't be read.
        manifest: what it says; `None` if that can't be read.
        aliases: where content of other algorithms than sha256 is stored, if a link says so.
        is_doubtful: whether part of this can't be read, so that it may need all its holder has.
    """

    digest: Digest
    target: Digest | None = None
    manifest: Manifest | None = None
    aliases: Mapping[Digest, Digest] = field(default_factory=dict)
    is_doubtful: bool = False

    def needs(self) -> Iterator[tuple[Digest, Role]]:
        """Yield each digest that the manifest needs, and what for. One may come twice."""
        yield self.digest, Role.ITSELF
        if self.target is not None and self.target != self.digest:
            yield self.target, Role.ITSELF
        if self.manifest is None:
            return
        for digest, role in _references(self.manifest):
            yield digest, role
            if digest in self.aliases:
                yield self.aliases[digest], role


def _references(manifest: Manifest) -> Iterator[tuple[Digest, Role]]:
    if manifest.config is not None:
        yield manifest.config.digest, Role.CONFIG
    for layer in manifest.layers:
        yield layer.digest, Role.LAYER
    for child in manifest.children:
        yield child.digest, Role.CHILD


class Holdings:
    """Reads one tree, beside whoever serves or collects it.

    Attributes:
        doubts: what could not be read, by path, and why.
        is_partial: whether a directory could not be listed that may have held a manifest: it
            may need any blob, so a collection takes none.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.doubts: Final[dict[str, str]] = {}
        self.is_partial = False

    def doubt(self, path: str, error: Exception) -> None:
        """Note that `path` can't be read."""
        self.doubts.setdefault(path, str(error))

    async def repositories(self) -> AsyncIterator[Holder]:
        """Yield all repositories, in the order of a walk."""
        async for name in self._repositories(layout.REPOSITORIES, ""):
            yield Holder(name, layout.repository(name))

    async def removed(self) -> AsyncIterator[Holder]:
        """Yield what was removed from repositories and can be restored, the oldest first."""
        for item in sorted(await self._names(layout.trash_items())):
            for entry in sorted(await self._names(layout.trash_item(item))):
                yield Holder(entry.replace(":", "/"), f"{layout.trash_item(item)}/{entry}", item)

    async def manifests(self, holder: Holder) -> AsyncIterator[Held]:
        """Yield the manifests that a holder has."""
        for digest in sorted(await self.revisions(holder)):
            held = await self._held(holder, digest)
            if held is not None:
                yield held

    async def layers(self, holder: Holder) -> list[Digest]:
        """Return the blobs that a holder has a link to.

        If one of its manifests is in doubt, these and its `revisions` are kept.
        """
        return await self._digests(f"{holder.directory}/_layers")

    async def revisions(self, holder: Holder) -> list[Digest]:
        """Return the digests of a holder's manifests, readable or not."""
        return await self._digests(f"{holder.directory}/_manifests/revisions")

    async def tags(self, name: str) -> dict[str, Digest | None]:
        """Return what each tag of a repository points to; `None` for one that can't be read."""
        tags: dict[str, Digest | None] = {}
        for tag in sorted(await self._names(layout.tags(name))):
            path = layout.tag_current(name, tag)
            try:
                tags[tag] = await read_link(self._storage, path)
            except PathUnknownError:
                continue  # half deleted, or not yet made
            except StorageError as error:
                self.doubt(path, error)
                tags[tag] = None
        return tags

    async def stored(self) -> AsyncIterator[tuple[Digest, int]]:
        """Yield every stored blob with its size in bytes."""
        for algorithm in await self._names(layout.BLOBS, may_hold=False):
            for shard in await self._names(f"{layout.BLOBS}/{algorithm}", may_hold=False):
                directory = f"{layout.BLOBS}/{algorithm}/{shard}"
                for entry in await self._names(directory, may_hold=False):
                    digest = _digest(algorithm, entry)
                    size = None if digest is None else await self.size(layout.blob(digest))
                    if digest is not None and size is not None:
                        yield digest, size

    async def trashed(self) -> int:
        """Return how many bytes of blobs collections took and did not yet destroy."""
        total = 0
        for algorithm in await self._names(layout.trash_blobs("").rstrip("/"), may_hold=False):
            for entry in await self._files(layout.trash_blobs(algorithm)):
                digest = _digest(algorithm, entry)
                if digest is not None:
                    total += await self.size(layout.trash_blob(digest)) or 0
        return total

    async def leased(self) -> list[Digest]:
        """Return the blobs of which there are leases, whether or not these still hold."""
        root = f"{layout.PRIVATE}/leases"
        found = []
        for algorithm in await self._names(root, may_hold=False):
            for entry in await self._names(f"{root}/{algorithm}", may_hold=False):
                digest = _digest(algorithm, entry)
                if digest is not None:
                    found.append(digest)
        return found

    async def size(self, path: str) -> int | None:
        """Return the size in bytes of the object at `path`; `None` if that can't be told."""
        try:
            return await self._storage.size(path)
        except PathUnknownError:
            return None
        except StorageError as error:
            self.doubt(path, error)
            return None

    async def exists(self, path: str) -> bool:
        """Return whether there is something at `path`; in doubt there is."""
        try:
            return await self._storage.exists(path)
        except StorageError as error:
            self.doubt(path, error)
            return True

    async def _held(self, holder: Holder, digest: Digest) -> Held | None:
        """Return what a manifest says, as far as it can be read; `None` if it was deleted."""
        directory = f"{holder.directory}/_manifests/revisions/{digest.algorithm}/{digest.hex}"
        target: Digest | None = None
        try:
            target = await read_link(self._storage, f"{directory}/link")
            content = await self._verified(target)
            declared = grammar.declared_type(content) or await self._noted_type(directory)
            manifest = grammar.parse(content, declared)
        except (StorageError, ManifestInvalidError) as error:
            # Also if its bytes are missing: whoever deletes a manifest removes the link first.
            if not await self.exists(f"{directory}/link"):
                return None
            self.doubt(f"{directory}/link", error)
            return Held(digest, target, is_doubtful=True)
        aliases, is_doubtful = await self._aliases(holder, manifest)
        return Held(digest, target, manifest, aliases, is_doubtful)

    async def _verified(self, target: Digest) -> bytes:
        content = await self._content(target)
        if Digest.of(content, target.algorithm) != target:
            raise ManifestInvalidError(f"the bytes of manifest {target} are damaged")
        return content

    async def _content(self, target: Digest) -> bytes:
        """Return a manifest's bytes, also while a collection takes them or brings them back."""
        try:
            return await self._storage.get(layout.blob(target), STORED_LIMIT)
        except PathUnknownError:
            try:
                return await self._storage.get(layout.trash_blob(target), STORED_LIMIT)
            except PathUnknownError:
                return await self._storage.get(layout.blob(target), STORED_LIMIT)

    async def _noted_type(self, directory: str) -> str:
        try:
            noted = await self._storage.get(f"{directory}/mediatype", MEDIA_TYPE_LIMIT)
        except PathUnknownError:
            return ""
        return noted.decode("latin-1")

    async def _aliases(
        self, holder: Holder, manifest: Manifest
    ) -> tuple[dict[Digest, Digest], bool]:
        """Return where distribution, which stores all by sha256, has content of other algorithms.

        And whether a link that may say so can't be read.
        """
        aliases: dict[Digest, Digest] = {}
        is_doubtful = False
        for digest, _ in _references(manifest):
            if digest.algorithm == "sha256":
                continue
            path = f"{holder.directory}/_layers/{digest.algorithm}/{digest.hex}/link"
            try:
                aliases[digest] = await read_link(self._storage, path)
            except PathUnknownError:
                continue
            except StorageError as error:
                self.doubt(path, error)
                is_doubtful = True
        return aliases, is_doubtful

    async def _repositories(self, directory: str, parent: str) -> AsyncIterator[str]:
        for entry in sorted(await self._names(directory)):
            if entry.startswith("_"):
                continue
            name = f"{parent}/{entry}" if parent else entry
            if await self.exists(layout.manifests(name)):
                yield name
            async for deeper in self._repositories(f"{directory}/{entry}", name):
                yield deeper

    async def _digests(self, directory: str) -> list[Digest]:
        """Return the digests that have directories in `directory`, below their algorithm's."""
        return [
            digest
            for algorithm in await self._names(directory)
            for entry in await self._names(f"{directory}/{algorithm}")
            if (digest := _digest(algorithm, entry)) is not None
        ]

    async def _names(self, path: str, *, may_hold: bool = True) -> list[str]:
        """Return the directories in `path`, which `may_hold` manifests."""
        try:
            return [entry.name for entry in await self._storage.list(path) if entry.is_directory]
        except PathUnknownError:
            return []
        except StorageError as error:
            self.doubt(path, error)
            self.is_partial |= may_hold
            return []

    async def _files(self, path: str) -> list[str]:
        try:
            return [entry.name for entry in await self._storage.list(path)]
        except PathUnknownError:
            return []
        except StorageError as error:
            self.doubt(path, error)
            return []


def _digest(algorithm: str, entry: str) -> Digest | None:
    """Return the digest that the name `entry` below `algorithm` means; `None` if it is not ours."""
    try:
        return Digest.parse(f"{algorithm}:{entry}")
    except DigestInvalidError:
        return None
