"""What marking says and finds: for whoever watches, and for whoever collects."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest


class Observer(Protocol):
    """Is told what marking finds, as it finds it. Source: distribution's garbage-collect output."""

    def repository(self, name: str) -> None:
        """The walk came to a repository."""
        ...

    def manifest(self, name: str, digest: Digest) -> None:
        """A manifest is kept."""
        ...

    def blob(self, name: str, digest: Digest) -> None:
        """A blob is kept that was not yet."""
        ...

    def untagged(self, name: str, digest: Digest, tags: Sequence[str]) -> None:
        """A manifest goes, since no tag, index or subject keeps it."""
        ...

    def tagless(self, name: str) -> None:
        """A repository has no directory of tags."""
        ...

    def doubt(self, path: str, reason: str) -> None:
        """Something can't be read; all that it might need is kept."""
        ...


@dataclass(slots=True)
class Marks:
    """What is kept, and what was looked at to find that out.

    Attributes:
        blobs: digests of everything that is kept, manifests included.
        revisions: the manifests of each repository that are kept; one that goes and is pushed again
            is looked at again.
        untagged: manifests that go, with their repositories.
        doubts: what could not be read.
        everything: whether nothing may go at all, since a part of the tree could not be listed.
    """

    blobs: set[Digest] = field(default_factory=set)
    revisions: dict[str, frozenset[Digest]] = field(default_factory=dict)
    untagged: list[tuple[str, Digest]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    everything: bool = False


@dataclass(slots=True)
class Relations:
    """What the manifests of a repository say of each other.

    Attributes:
        children: for each manifest that could be read, those it lists.
        referrers: for each manifest those that name it as their subject.
        doubtful: manifests that could not be read.
    """

    children: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    referrers: dict[Digest, list[Digest]] = field(default_factory=dict)
    doubtful: set[Digest] = field(default_factory=set)

    def reach(self, wanted: list[Digest], known: Collection[Digest], kept: set[Digest]) -> None:
        """Add to `kept` what of the `known` manifests follows from those that are `wanted`."""
        while wanted:
            digest = wanted.pop()
            if digest in kept or digest not in known:
                continue
            kept.add(digest)
            wanted += self.children.get(digest, ())
            wanted += self.referrers.get(digest, ())


def references(manifest: Manifest) -> list[Digest]:
    """Return what a manifest needs: children, configuration and layers."""
    config = () if manifest.config is None else (manifest.config,)
    return [each.digest for each in (*manifest.children, *config, *manifest.layers)]
