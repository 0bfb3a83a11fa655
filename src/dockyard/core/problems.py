"""What a check of the tree can find."""

from dataclasses import dataclass
from enum import Enum

from dockyard.oci.digest import Digest


class Kind(Enum):
    """A kind of problem. The value is what is said of it."""

    DAMAGED_BLOB = "damaged blob"
    DAMAGED_LINK = "damaged link"
    DANGLING_REVISION = "manifest whose bytes are not there"
    DANGLING_LAYER = "link to a blob that is not there"
    DANGLING_TAG = "tag of a manifest that is not there"
    MISSING_LINK = "blob that a manifest needs is not linked"
    INCOMPLETE = "manifest that needs what is not there"
    UNREADABLE = "manifest that can't be understood"
    ORPHAN_UPLOAD = "upload that nobody finished"
    UNREACHABLE = "can't be read"


REMEDIES = {
    Kind.DAMAGED_BLOB: "push it again, or --repair to take it out of the way",
    Kind.DAMAGED_LINK: "--repair",
    Kind.DANGLING_REVISION: "push the image again, or --repair to take it out of the way",
    Kind.DANGLING_LAYER: "push the image again, or --repair to take it out of the way",
    Kind.DANGLING_TAG: "push the tag again, or --repair to take it out of the way",
    Kind.MISSING_LINK: "--repair",
    Kind.INCOMPLETE: "push the image again, or delete it",
    Kind.UNREADABLE: "push the image again, or delete it",
    Kind.ORPHAN_UPLOAD: "nothing: purging removes it",
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
        repaired: what was done about it; empty if nothing was.
    """

    kind: Kind
    path: str
    name: str = ""
    digest: Digest | None = None
    detail: str = ""
    repaired: str = ""
