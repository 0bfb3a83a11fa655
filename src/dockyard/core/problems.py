"""What a check of the tree can find."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dockyard.oci.digest import Digest


class Kind(Enum):
    """A kind of problem. The value is what is said of it."""

    DAMAGED_BLOB = "damaged blob"
    EMPTY_BLOB = "directory of a blob without its bytes"
    DAMAGED_LINK = "damaged link"
    DANGLING_REVISION = "manifest whose bytes are not there"
    DANGLING_LAYER = "link to a blob that is not there"
    DANGLING_TAG = "tag of a manifest that is not there"
    UNSET_TAG = "tag without its link"
    MISSING_LINK = "blob that a manifest needs is not linked"
    INCOMPLETE = "manifest that needs what is not there"
    UNREADABLE = "manifest that can't be understood"
    ORPHAN_UPLOAD = "upload that nobody finished"
    LEFTOVER = "leftover of a link that was never written"
    UNREACHABLE = "can't be read"


_ASIDE = "--repair takes it out of the way; then push the image again"

REMEDIES = {
    Kind.DAMAGED_BLOB: _ASIDE,
    Kind.EMPTY_BLOB: "--repair takes it out of the way",
    Kind.DAMAGED_LINK: "--repair; where that can't prove what it held, push it again or delete it",
    Kind.DANGLING_REVISION: "push the image again, or delete it",
    Kind.DANGLING_LAYER: _ASIDE,
    Kind.DANGLING_TAG: "push the tag again, or --repair to take it out of the way",
    Kind.UNSET_TAG: "push the tag again, or --repair to take it out of the way",
    Kind.MISSING_LINK: "--repair",
    Kind.INCOMPLETE: "push the image again, or delete it",
    Kind.UNREADABLE: "push the image again, or delete it",
    Kind.ORPHAN_UPLOAD: "nothing: purging removes it",
    Kind.LEFTOVER: "--repair takes it out of the way",
    Kind.UNREACHABLE: "look at the owner and mode of the path, and at the disk",
}
"""What to do about each kind."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong.

    Attributes:
        kind: what.
        path: where, inside the storage.
        name: the repository it is in; empty if it is in none.
        digest: the blob or manifest it is about, if it is about one.
        detail: what more there is to say.
        tag: the tag it is about, if it is about one.
        needed_by: the manifest that needs the blob, if that is what is wrong.
        repaired: what was done about it; empty if nothing was.
    """

    kind: Kind
    path: str
    name: str = ""
    digest: Digest | None = None
    detail: str = ""
    tag: str = ""
    needed_by: Digest | None = None
    repaired: str = ""


class Watcher(Protocol):
    """Is told what a check finds, as it finds it."""

    def found(self, problem: Problem) -> None:
        """Something is wrong."""
        ...

    def blob(self, size: int) -> None:
        """A blob of `size` bytes was looked at."""
        ...

    def repository(self, name: str) -> None:
        """The check comes to a repository."""
        ...

    def resumed(self, cursor: Digest) -> None:
        """Blobs up to this one were verified by a run that was interrupted."""
        ...
