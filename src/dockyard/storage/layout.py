"""Where things lie: names to paths of docker-distribution's tree. Pure.

Source: distribution v3.1.1, registry/storage/paths.go.
"""

from typing import Final

from dockyard.oci.digest import Digest


BASE: Final = "docker/registry/v2"
REPOSITORIES: Final = f"{BASE}/repositories"
BLOBS: Final = f"{BASE}/blobs"
PRIVATE: Final = f"{BASE}/.dockyard"
"""Our own directory: beside ``blobs`` and ``repositories``, so on their file system (a rename
must not cross one), and hidden, so that ``tree`` and ``ls`` show what distribution shows."""


def blob(digest: Digest) -> str:
    """Return the path of a blob's bytes."""
    return f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def repository(name: str) -> str:
    """Return the directory of a repository."""
    return f"{REPOSITORIES}/{name}"


def layer_link(name: str, digest: Digest) -> str:
    """Return the path of the link that says a repository has a blob."""
    return f"{REPOSITORIES}/{name}/_layers/{digest.algorithm}/{digest.hex}/link"


def manifests(name: str) -> str:
    """Return the directory that makes a directory a repository."""
    return f"{REPOSITORIES}/{name}/_manifests"


def revisions(name: str) -> str:
    """Return the directory of a repository's manifests, one directory below for each algorithm."""
    return f"{REPOSITORIES}/{name}/_manifests/revisions"


def revision(name: str, digest: Digest) -> str:
    """Return the directory of one manifest in a repository."""
    return f"{REPOSITORIES}/{name}/_manifests/revisions/{digest.algorithm}/{digest.hex}"


def revision_link(name: str, digest: Digest) -> str:
    """Return the path of the link that says a repository has a manifest."""
    return f"{revision(name, digest)}/link"


def revision_media_type(name: str, digest: Digest) -> str:
    """Return the path of a manifest's media type, where its own bytes do not say it.

    Ours, beside the link: distribution reads nothing else there and removes it with the manifest.
    """
    return f"{revision(name, digest)}/mediatype"


def tags(name: str) -> str:
    """Return the directory of a repository's tags."""
    return f"{REPOSITORIES}/{name}/_manifests/tags"


def tag(name: str, tag: str) -> str:
    """Return the directory of one tag."""
    return f"{REPOSITORIES}/{name}/_manifests/tags/{tag}"


def tag_current(name: str, tag: str) -> str:
    """Return the path of the link to the manifest a tag points to."""
    return f"{REPOSITORIES}/{name}/_manifests/tags/{tag}/current/link"


def tag_index(name: str, tag: str, digest: Digest) -> str:
    """Return the path of the link that says a tag pointed to a manifest, now or once."""
    return f"{REPOSITORIES}/{name}/_manifests/tags/{tag}/index/{digest.algorithm}/{digest.hex}/link"


def uploads(name: str) -> str:
    """Return the directory of a repository's uploads in progress."""
    return f"{REPOSITORIES}/{name}/_uploads"


def upload(name: str, identifier: str) -> str:
    """Return the directory of one upload."""
    return f"{REPOSITORIES}/{name}/_uploads/{identifier}"


def upload_data(name: str, identifier: str) -> str:
    """Return the path of the bytes an upload has received."""
    return f"{REPOSITORIES}/{name}/_uploads/{identifier}/data"


def upload_started(name: str, identifier: str) -> str:
    """Return the path of the time at which an upload began."""
    return f"{REPOSITORIES}/{name}/_uploads/{identifier}/startedat"


def upload_hashed(name: str, identifier: str) -> str:
    """Return the path of the digest of what an upload has received. Ours."""
    return f"{REPOSITORIES}/{name}/_uploads/{identifier}/hashed"


def lease(digest: Digest, name: str) -> str:
    """Return the path of the note that a repository's clients were told of a blob. Ours."""
    return f"{leases(digest)}/{name.replace('/', ':')}"


def leaseholder(entry: str) -> str:
    """Return the repository of the lease that is called `entry` in the directory of a blob's."""
    return entry.replace(":", "/")


def leases(digest: Digest) -> str:
    """Return the directory of the notes about one blob. Ours."""
    return f"{PRIVATE}/leases/{digest.algorithm}/{digest.hex}"


def trash_blobs(algorithm: str) -> str:
    """Return the directory of collected blobs that can still be brought back. Ours."""
    return f"{PRIVATE}/trash/blobs/{algorithm}"


def trash_blob(digest: Digest) -> str:
    """Return the path of a collected blob that can still be brought back. Ours."""
    return f"{trash_blobs(digest.algorithm)}/{digest.hex}"


def trash_items() -> str:
    """Return the directory of what was removed from repositories and can be restored. Ours."""
    return f"{PRIVATE}/trash/removed"


def trash_item(item: str) -> str:
    """Return the directory of what was removed at one time. Ours.

    In it is one directory, called like the repository with colons for slashes, and in that what was
    removed, where it was in the repository: it has ``_manifests`` and ``_layers`` as one has.
    """
    return f"{trash_items()}/{item}"


def trash_item_repository(item: str, name: str) -> str:
    """Return the directory in which what was removed from the repository `name` is. Ours."""
    return f"{trash_item(item)}/{name.replace('/', ':')}"


def state_database() -> str:
    """Return the path of the state database. Ours."""
    return f"{PRIVATE}/state/state.db"


def quarantine(path: str) -> str:
    """Return where a check of the tree moves what is damaged at `path`. Ours."""
    return f"{PRIVATE}/quarantine/{path.removeprefix(BASE).lstrip('/')}"


def check_progress() -> str:
    """Return the path of the note how far a check of all bytes has come. Ours."""
    return f"{PRIVATE}/fsck/progress"


def keys() -> str:
    """Return the directory of the keys that our own tokens are signed with. Ours."""
    return f"{PRIVATE}/keys"
