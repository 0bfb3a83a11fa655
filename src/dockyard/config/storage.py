"""Settings of the storage: which driver, and what is allowed and done on every driver."""

import re
from datetime import time, timedelta
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
    OptionalText,
    ParameterCount,
    Period,
    to_text,
    to_text_or_none,
)
from dockyard.config.section import Choice, Section


_WINDOW: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
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


def parse_window(text: str) -> tuple[time, time]:
    """Return the times of day at which a window such as ``01:00-05:30`` begins and ends.

    Raises:
        ValueError: it is no such window.
    """
    matched = _WINDOW.fullmatch(text)
    if matched is None:
        raise ValueError("must be two times of day such as 01:00-05:30")
    begin, end = time(int(matched[1]), int(matched[2])), time(int(matched[3]), int(matched[4]))
    if begin == end:
        raise ValueError("must begin and end at different times")
    return begin, end


def _window(value: str | None) -> str | None:
    if value is not None:
        parse_window(value)
    return value


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


class CollectionSettings(Section):
    """When the servers themselves collect what nothing needs, and what they leave.

    Attributes:
        enabled: whether they collect.
        interval: the time from one collection to the next.
        grace: how long a client has to push the manifest for a blob it was told of.
        delay: how long collected blobs stay in the trash.
        window: when a collection may begin, local time; always if it is not given.
        deleteuntagged: whether manifests go that no tag, index or subject keeps.
        keeppulled: how long such a manifest is kept after it was pulled; zero: no longer.
    """

    enabled: Flag = False
    interval: Period = timedelta(hours=24)
    grace: DurationWithUnit = timedelta(hours=1)
    delay: DurationWithUnit = timedelta(hours=24)
    window: Annotated[OptionalText, AfterValidator(_window)] = None
    deleteuntagged: Flag = False
    keeppulled: DurationWithUnit = timedelta(0)


class TrashSettings(Section):
    """How long what was removed from repositories can be restored; zero: not at all."""

    retention: DurationWithUnit = timedelta(hours=168)


class MaintenanceSettings(Section):
    """What is done about the storage while the registry serves."""

    gc: CollectionSettings = CollectionSettings()
    trash: TrashSettings = TrashSettings()
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
