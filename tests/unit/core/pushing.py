"""A registry's tree in memory, into which images are pushed, and what goes from it for good."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from dockyard.core.collector import Collected, Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.manifests import ManifestPush
from dockyard.core.trash import Trash
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from tests.api.registry import services_on
from tests.parts.collection import Silent
from tests.parts.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Content, Image, manifest


ITEM = "20261124T101500Z-1a2b3c4d"


class Tree:
    """A registry's tree."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.services = services_on(storage)

    async def push(self, name: str, top: Image, *tags: str) -> None:
        for each in top.everything():
            for content in each.blobs:
                digest = Digest.parse(content.digest)
                await self.services.uploads.store(name, digest, _once(content.body))
            references = tags if each is top else ()
            body, media_type = each.manifest.body, each.manifest.media_type
            await self.services.manifests.put(
                ManifestPush(name, body, media_type, None, references)
            )

    async def upload(self, name: str, content: Content) -> Digest:
        """Store a blob that no manifest needs; whoever did so was told of it."""
        digest = Digest.parse(content.digest)
        await self.services.uploads.store(name, digest, _once(content.body))
        return digest

    async def destroy_repository(self, name: str) -> None:
        await self.storage.delete(layout.repository(name))

    async def destroy_manifest(self, name: str, digest: Digest) -> None:
        """Remove a manifest and its tags, without a trash."""
        await self.services.tags.untag(name, digest, Trash(self.storage).removal(name))
        await self.storage.delete(layout.revision(name, digest))

    async def remove(self, name: str) -> None:
        """Move a repository to the trash, as something that can be restored."""
        target = layout.trash_item_repository(ITEM, name)
        for part in ("_manifests", "_layers"):
            await self.storage.move(f"{layout.repository(name)}/{part}", f"{target}/{part}")

    async def collect(self, *, untagged: bool = False) -> Collected:
        leases = Leases(self.storage)
        collector = Collector(self.storage, self.services.manifests, leases, Trash(self.storage))
        return await collector.run(Silent(), Plan(delete_untagged=untagged))

    async def forget_leases(self) -> None:
        await Leases(self.storage, timedelta(hours=-1)).sweep()


async def _once(body: bytes) -> AsyncIterator[list[bytes]]:
    yield [body]


def blob(seed: str, size: int = 100) -> Content:
    """Return a layer of `size` bytes."""
    return Content(OCI_LAYER, (seed.encode() * size)[:size])


def composed(seed: str, layers: Sequence[Content], **fields: object) -> Image:
    """Return an image of its own configuration and `layers`."""
    config = Content(OCI_CONFIG, b'{"seed": "%s"}' % seed.encode())
    described = [layer.descriptor() for layer in layers]
    top = manifest(OCI_MANIFEST, config=config.descriptor(), layers=described, **fields)
    return Image(top, (config, *layers))


def size_of(*contents: Content | Image) -> int:
    """Return the bytes of blobs, and of manifests without what they need."""
    return sum(
        len(each.manifest.body if isinstance(each, Image) else each.body) for each in contents
    )
