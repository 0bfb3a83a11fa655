"""Settings of the storage: which driver, and what is allowed and done on every driver."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, model_validator

from dockyard.config.objectstores import (
    AzureSettings,
    GCSSettings,
    OSSSettings,
    S3Settings,
    SwiftSettings,
)
from dockyard.config.scalars import (
    Count,
    DurationWithUnit,
    Flag,
    ParameterCount,
    Period,
    to_text,
    to_text_or_none,
)
from dockyard.config.section import Choice, Section


_DEFAULT_ROOT: Final = Path("/var/lib/registry")
_LEAST_THREADS: Final = 25


def _to_root(value: object) -> object:
    text = to_text(value)
    if text == "":
        raise ValueError("must be the path of a directory")
    if isinstance(text, str) and "\0" in text:
        raise ValueError("must be a path, without NUL characters")
    return text


def _enough_threads(value: int) -> int:
    return max(value, _LEAST_THREADS)


BlobDescriptorCache: TypeAlias = Annotated[
    Literal["inmemory", "redis"] | None, BeforeValidator(to_text_or_none)
]


class FilesystemSettings(Section):
    """A directory.

    Attributes:
        rootdirectory: where the tree ``docker/registry/v2`` lies.
    """

    rootdirectory: Annotated[Path, BeforeValidator(_to_root)] = _DEFAULT_ROOT
    maxthreads: Annotated[ParameterCount, AfterValidator(_enough_threads)] = 100


class InMemorySettings(Section):
    """The memory of the process: gone when it ends."""


class DeleteSettings(Section):
    """Whether tags, manifests and blobs may be deleted."""

    enabled: Flag = False


class RedirectSettings(Section):
    """Whether clients are sent to the object store for blobs."""

    disable: Flag = False


class TagSettings(Section):
    """How tags are looked up."""

    concurrencylimit: Count = 0


class CacheSettings(Section):
    """Where descriptions of blobs are cached."""

    blobdescriptor: BlobDescriptorCache = None
    blobdescriptorsize: Count = 10_000


class UploadPurgingSettings(Section):
    """When uploads that were given up are removed."""

    enabled: Flag = True
    age: DurationWithUnit = timedelta(hours=168)
    interval: Period = timedelta(hours=24)
    dryrun: Flag = False


class ReadOnlySettings(Section):
    """Whether everything that writes is refused."""

    enabled: Flag = False


class MaintenanceSettings(Section):
    """What is done about the storage while the registry serves."""

    uploadpurging: UploadPurgingSettings = UploadPurgingSettings()
    readonly: ReadOnlySettings = ReadOnlySettings()


StorageDriver: TypeAlias = FilesystemSettings | InMemorySettings
"""The drivers this version can serve from."""


class StorageSettings(Choice):
    """One storage driver, and what holds for every driver."""

    COMMON: ClassVar[frozenset[str]] = frozenset(
        {"cache", "delete", "maintenance", "redirect", "tag"}
    )

    filesystem: FilesystemSettings | None = None
    inmemory: InMemorySettings | None = None
    s3: S3Settings | None = None
    s3aws: S3Settings | None = None
    azure: AzureSettings | None = None
    gcs: GCSSettings | None = None
    oss: OSSSettings | None = None
    swift: SwiftSettings | None = None
    cache: CacheSettings = CacheSettings()
    delete: DeleteSettings = DeleteSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    redirect: RedirectSettings = RedirectSettings()
    tag: TagSettings = TagSettings()

    @property
    def driver(self) -> StorageDriver:
        """The driver to serve from.

        Raises:
            LookupError: it is one that this version can't serve from; `load` lets none through.
        """
        driver = self.filesystem or self.inmemory
        if driver is None:
            raise LookupError("neither storage.filesystem nor storage.inmemory is given")
        return driver

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        provided = [kind for kind in self.kinds() if getattr(self, kind) is not None]
        if len(provided) != 1:
            raise ValueError(f"must provide exactly one storage type. Provided: {provided}")
        return self
