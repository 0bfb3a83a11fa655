"""Every way a registry operation fails, as its caller should see it.

The tree says *what* went wrong and carries the facts as typed attributes. It does not say
how a failure is reported: statuses and OCI error codes belong to `dockyard.http.failures`.

    RegistryError
    ├── InvalidError                 the request could never succeed as written
    │   ├── DigestInvalidError
    │   ├── DigestMissingError
    │   ├── DigestMismatchError
    │   ├── SizeMismatchError
    │   ├── RangeInvalidError
    │   ├── NameInvalidError
    │   ├── PageSizeInvalidError
    │   ├── ManifestInvalidError
    │   ├── ManifestTooLargeError
    │   ├── ManifestBlobsUnknownError
    │   ├── TagInvalidError
    │   └── TooManyTagsError
    ├── UnknownError                 the thing named is not here
    │   ├── RepositoryUnknownError
    │   ├── BlobUnknownError
    │   ├── ManifestUnknownError
    │   ├── ManifestUnacceptableError
    │   ├── NoEarlierManifestError
    │   ├── ItemUnknownError
    │   └── UploadUnknownError
    ├── ConflictError                true a moment ago, or true in a moment
    │   ├── OffsetMismatchError
    │   ├── UploadBusyError
    │   └── TagMovedError
    ├── RefusedError                 understood, and not allowed here
    │   ├── UnsupportedError
    │   ├── ClassDeniedError
    │   └── ...                      (who asks, and what they may not: `dockyard.auth.errors`)
    └── StorageError                 the fault is ours; repeating may help
        ├── PathUnknownError         (inside storage and core: each caller says what was missing)
        ├── StorageBusyError         (likewise)
        ├── StorageFullError
        └── StateError               the state database can't be used
"""

from collections.abc import Sequence


class RegistryError(Exception):
    """Base of every failure a caller is expected to handle."""


class InvalidError(RegistryError):
    """The request can never succeed as written."""


class DigestInvalidError(InvalidError):
    """A text is not a digest this registry can verify.

    Attributes:
        text: the text as received.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            f"not a verifiable digest: {text!r}; expected sha256: or sha512: and its hexadecimals"
        )
        self.text = text


class DigestMissingError(InvalidError):
    """An upload is to be finished, but the request does not say under which digest."""

    def __init__(self) -> None:
        super().__init__("digest missing: name it in the query, ?digest=")


class DigestMismatchError(InvalidError):
    """The bytes sent do not have the digest promised. Nothing was stored under it.

    Attributes:
        expected: the digest promised, in its text form.
        computed: the digest of the bytes received, in its text form.
    """

    def __init__(self, *, expected: str, computed: str) -> None:
        super().__init__(f"promised {expected}, received {computed}")
        self.expected = expected
        self.computed = computed


class SizeMismatchError(InvalidError):
    """The length promised is not the length received.

    Attributes:
        expected: bytes promised.
        received: bytes received.
    """

    def __init__(self, *, expected: int, received: int) -> None:
        super().__init__(f"promised {expected} bytes, received {received}")
        self.expected = expected
        self.received = received


class RangeInvalidError(InvalidError):
    """A range header is malformed.

    Attributes:
        text: the header's value as received.
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"not a byte range: {text!r}; expected first-last")
        self.text = text


class NameInvalidError(InvalidError):
    """A text is not a repository name.

    Attributes:
        text: the text as received.
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"not a repository name: {text!r}")
        self.text = text


class PageSizeInvalidError(InvalidError):
    """The page size asked for is no number, negative, or over the limit.

    Attributes:
        asked: the value as received; an `int` when it was a number over the limit.
    """

    def __init__(self, asked: str | int) -> None:
        super().__init__(f"not a page size: {asked!r}")
        self.asked = asked


class ManifestInvalidError(InvalidError):
    """A manifest can't be stored or served as it is; the message says why and what to do."""


class ManifestTooLargeError(InvalidError):
    """A manifest is over the limit.

    Attributes:
        limit: the most bytes a manifest may have.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"a manifest may have at most {limit} bytes")
        self.limit = limit


class ManifestBlobsUnknownError(InvalidError):
    """A manifest names content that its repository does not have.

    Attributes:
        digests: what is missing, in the manifest's order.
    """

    def __init__(self, digests: Sequence[str]) -> None:
        super().__init__(f"not in this repository: {', '.join(digests)}")
        self.digests = tuple(digests)


class TagInvalidError(InvalidError):
    """A text is not a tag.

    Attributes:
        text: the text as received.
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"not a tag: {text!r}")
        self.text = text


class TooManyTagsError(InvalidError):
    """One request names more tags than it may.

    Attributes:
        limit: the most tags one request may name.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"a request may name at most {limit} tags")
        self.limit = limit


class UnknownError(RegistryError):
    """The thing named is not here."""


class RepositoryUnknownError(UnknownError):
    """No such repository, or none with content.

    Attributes:
        name: the repository asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"no repository {name}")
        self.name = name


class BlobUnknownError(UnknownError):
    """The repository has no such blob, or what is stored for it is damaged.

    Attributes:
        digest: the digest asked for, in its text form.
        damage: what is wrong with the stored blob, if it is there but can't be served.
    """

    def __init__(self, digest: str, *, damage: str | None = None) -> None:
        super().__init__(f"blob {digest}: {damage or 'not here'}")
        self.digest = digest
        self.damage = damage


class ManifestUnknownError(UnknownError):
    """The repository has no such manifest or tag, or what is stored for it is damaged.

    Attributes:
        reference: the tag or digest asked for.
        damage: what is wrong with what is stored, if it is there but can't be served.
    """

    def __init__(self, reference: str, *, damage: str | None = None) -> None:
        super().__init__(f"manifest {reference}: {damage or 'not here'}")
        self.reference = reference
        self.damage = damage


class ManifestUnacceptableError(UnknownError):
    """The manifest is here, but the client said that it does not read its type."""


class NoEarlierManifestError(UnknownError):
    """A tag is to be rolled back, but its history has nothing else that is still there.

    Attributes:
        tag: the tag.
    """

    def __init__(self, tag: str) -> None:
        super().__init__(
            f"the history of tag {tag} has no other manifest that is still there; "
            "name one that the repository has by its digest, or push it again"
        )
        self.tag = tag


class ItemUnknownError(UnknownError):
    """The trash has no such item: it was restored, destroyed, kept long enough, or never there.

    Attributes:
        identifier: the name asked for.
    """

    def __init__(self, identifier: str) -> None:
        super().__init__(f"the trash has no item {identifier!r}; list it to see what it has")
        self.identifier = identifier


class UploadUnknownError(UnknownError):
    """No such upload: it never began, was finished, cancelled or purged.

    Attributes:
        upload: the identifier asked for.
    """

    def __init__(self, upload: str) -> None:
        super().__init__(f"no upload {upload}")
        self.upload = upload


class ConflictError(RegistryError):
    """The request contradicts the present state."""


class OffsetMismatchError(ConflictError):
    """A chunk does not start where the upload ends. The upload is as it was.

    Attributes:
        expected: offset, in bytes, at which the next chunk must start.
        received: offset, in bytes, at which the client's chunk starts.
    """

    def __init__(self, *, expected: int, received: int) -> None:
        super().__init__(f"chunk starts at byte {received}, upload ends at byte {expected}")
        self.expected = expected
        self.received = received


class UploadBusyError(ConflictError):
    """Another request is writing to this upload at this moment. Nothing was written.

    Attributes:
        upload: the upload's identifier.
    """

    def __init__(self, upload: str) -> None:
        super().__init__(f"another request is writing to upload {upload}")
        self.upload = upload


class TagMovedError(ConflictError):
    """A tag does not point where the client's condition says. It was not moved.

    Attributes:
        tag: the tag.
        current: the digest it points to, or `None` if there is no such tag.
    """

    def __init__(self, tag: str, *, current: str | None) -> None:
        super().__init__(f"tag {tag} points to {current or 'nothing'}")
        self.tag = tag
        self.current = current


class RefusedError(RegistryError):
    """The request is understood, and not allowed here."""


class UnsupportedError(RefusedError):
    """The operation is switched off by the configuration."""


class ClassDeniedError(RefusedError):
    """The configuration's policy does not take this class of content.

    Attributes:
        kind: the class of the content, such as ``plugin``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(f"this registry takes no content of class {kind!r}")
        self.kind = kind


class StorageError(RegistryError):
    """The storage behind us failed; the cause is chained."""


class PathUnknownError(StorageError):
    """Nothing is stored at a path. Callers turn it into what was asked for.

    Attributes:
        path: the path inside the storage.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"nothing at {path}")
        self.path = path


class StorageBusyError(StorageError):
    """Another request holds what is asked for. Nothing was changed.

    Attributes:
        path: the path inside the storage.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is in use")
        self.path = path


class StorageFullError(StorageError):
    """No room is left (space, inodes or quota); what was being written was given up."""


class StateError(StorageError):
    """The state database can't be used; no image depends on it.

    Attributes:
        path: its file.
        reason: why not.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the state database {path} can't be used: {reason}")
        self.path = path
        self.reason = reason
