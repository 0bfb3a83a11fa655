"""Tagging: what each tag keeps of one repository's manifests, and what goes without it.

Pure: manifests by digest, blobs by number. See `dockyard.core.usage`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dockyard.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Revision:
    """A manifest, as far as it matters here.

    Attributes:
        blobs: numbers of the blobs it needs, each once; its own bytes are among them.
        children: the manifests that it lists.
        subject: the manifest that it refers to.
        is_doubtful: whether it could not be read, so that it stays though no tag keeps it.
    """

    blobs: Sequence[int]
    children: tuple[Digest, ...] = ()
    subject: Digest | None = None
    is_doubtful: bool = False


class Tagging:
    """The manifests of a repository, then its tags.

    A manifest keeps those that it lists and those that refer to it; together they are its *image*.
    """

    def __init__(self) -> None:
        self._revisions: Final[dict[Digest, Revision]] = {}
        self._referrers: Final[dict[Digest, list[Digest]]] = {}
        self._listing: Final[dict[Digest, list[Digest]]] = {}
        self._needing: Final[Counter[int]] = Counter()
        self._in_doubt: Final[set[int]] = set()
        self._roots: Final[set[Digest]] = set()
        self._is_sure = True
        self._tagged: Final[set[Digest]] = set()
        self._needing_kept: Final[Counter[int]] = Counter()
        self._images: Final[Counter[int]] = Counter()

    def add(self, digest: Digest, revision: Revision) -> None:
        """Add a manifest. All are added before the first tag."""
        self._revisions[digest] = revision
        self._needing.update(revision.blobs)
        for child in revision.children:
            self._listing.setdefault(child, []).append(digest)
        if revision.subject is not None:
            self._referrers.setdefault(revision.subject, []).append(digest)
        if revision.is_doubtful:
            self._roots.add(digest)  # as if it were tagged

    def keep(self, blobs: Iterable[int]) -> None:
        """Note blobs that are kept whatever goes, since something can't be read."""
        self._in_doubt.update(blobs)

    def has(self, digest: Digest) -> bool:
        """Return whether there is a manifest."""
        return digest in self._revisions

    def tag(self, digests: Iterable[Digest], *, is_sure: bool) -> None:
        """Note all manifests that tags point to; unless `is_sure`, others may be tagged as well."""
        self._is_sure = is_sure
        self._roots.update(digest for digest in digests if digest in self._revisions)
        for digest in self._roots:
            image = self.image(digest)
            self._tagged.update(image)
            self._images.update(self.blobs(image))
        self._images.update(self.blobs(self._revisions.keys() - self._tagged))
        for digest in self._tagged if is_sure else self._revisions:
            self._needing_kept.update(self._revisions[digest].blobs)

    def image(self, digest: Digest) -> set[Digest]:
        """Return a manifest and all that it keeps."""
        return self._reach([digest], self._revisions)

    def blobs(self, digests: Iterable[Digest]) -> set[int]:
        """Return the blobs that manifests need."""
        return {blob for digest in digests for blob in self._revisions[digest].blobs}

    def untagged(self) -> set[Digest]:
        """Return the manifests that are surely in no tag's image."""
        return self._revisions.keys() - self._tagged if self._is_sure else set()

    def unique_to(self, image: Iterable[Digest]) -> Iterator[int]:
        """Yield the blobs that no other image needs; what is untagged is an image as well."""
        return (blob for blob in self.blobs(image) if self._images[blob] == 1)

    def freed_by(self, digests: Collection[Digest]) -> Iterator[int]:
        """Yield the blobs that no other manifest needs once these are deleted."""
        return self._lost(digests, self._needing)

    def freed_untagged(self, digest: Digest) -> Iterator[int]:
        """Yield what is lost once a tagged manifest and what is untagged then are deleted.

        Beyond what would be lost with what is untagged now.
        """
        gone = {digest}
        if self._is_sure:
            image = self.image(digest)
            gone = image - self._reach(self._kept_otherwise(digest, image), image - gone)
        return self._lost(gone, self._needing_kept)

    def _kept_otherwise(self, digest: Digest, image: set[Digest]) -> Iterator[Digest]:
        """Yield what is kept of an image by a tag, or by something outside it.

        What is outside is not kept by way of the manifest that is deleted: else it were inside.
        """
        for each in image:
            if each == digest:
                continue
            subject = self._revisions[each].subject
            keeping = [*self._listing.get(each, ()), *([] if subject is None else [subject])]
            if each in self._roots or any(
                other in self._tagged and other not in image for other in keeping
            ):
                yield each

    def _lost(self, digests: Iterable[Digest], needing: Counter[int]) -> Iterator[int]:
        """Yield the blobs that all those that need them are among `digests`."""
        going = Counter[int]()
        for digest in digests:
            going.update(self._revisions[digest].blobs)
        return (
            blob
            for blob, count in going.items()
            if count == needing[blob] and blob not in self._in_doubt
        )

    def _reach(self, digests: Iterable[Digest], within: Collection[Digest]) -> set[Digest]:
        """Return `digests` and what these keep, without leaving the manifests `within`."""
        reached: set[Digest] = set()
        wanted = list(digests)
        while wanted:
            digest = wanted.pop()
            if digest in reached or digest not in within:
                continue
            reached.add(digest)
            wanted += self._revisions[digest].children
            wanted += self._referrers.get(digest, ())
        return reached
