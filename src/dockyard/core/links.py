"""Links: small objects whose content is a digest."""

import structlog

from dockyard.errors import DigestInvalidError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage.interface import ObjectTooLargeError, Storage


LINK_LIMIT = 256
"""Bytes of a link, at most: the longest digest has 135."""


class LinkDamagedError(StorageError):
    """A link is there, but what it holds is no digest (a crash of an earlier server leaves such).

    Attributes:
        path: the link's path inside the storage.
        damage: what is wrong with it, if that is known.
    """

    def __init__(self, path: str, damage: str = "") -> None:
        super().__init__(f"damaged link {path}")
        self.path = path
        self.damage = damage


async def read_link(storage: Storage, path: str) -> Digest:
    """Return the digest that the link at `path` holds.

    Raises:
        PathUnknownError: there is no link.
        LinkDamagedError: it holds something else; this has been logged.
    """
    try:
        return await look_at_link(storage, path)
    except LinkDamagedError as error:
        raise damaged_link(path, error.damage) from error


async def look_at_link(storage: Storage, path: str) -> Digest:
    """Return what `read_link` does, for who tells of damage in another way than the log.

    Raises:
        PathUnknownError: there is no link.
        LinkDamagedError: it holds something else.
    """
    try:
        content = await storage.get(path, LINK_LIMIT)
    except ObjectTooLargeError as error:
        raise LinkDamagedError(path, f"holds more than {LINK_LIMIT} bytes") from error
    try:
        return Digest.parse(content.decode("ascii", "replace").rstrip())
    except DigestInvalidError as error:
        damage = f"holds {len(content)} bytes that are no digest"
        raise LinkDamagedError(path, damage) from error


def damaged_link(path: str, damage: str) -> LinkDamagedError:
    """Log what is wrong with the link at `path`; return the error to raise."""
    structlog.get_logger().error(
        "damaged link: push what it belongs to again, or delete it", path=path, damage=damage
    )
    return LinkDamagedError(path, damage)


async def write_link(storage: Storage, path: str, digest: Digest) -> None:
    """Make the link at `path` hold `digest`."""
    await storage.put(*link(path, digest))


def link(path: str, digest: Digest) -> tuple[str, bytes]:
    """Return a link as an object to store: without a newline, as in distribution."""
    return path, str(digest).encode()
