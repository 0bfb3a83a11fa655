"""From settings to the use cases. Nothing is registered anywhere; what exists is made here."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from dockyard.clock import Clock
from dockyard.config.settings import Settings
from dockyard.config.storage import FilesystemSettings, InMemorySettings
from dockyard.core.blobs import Blobs
from dockyard.core.catalog import Catalog
from dockyard.core.keys import Keys
from dockyard.core.leases import Leases
from dockyard.core.manifests import Manifests
from dockyard.core.policy import Children, Policy
from dockyard.core.pulls import Pulls
from dockyard.core.referrers import Referrers
from dockyard.core.removals import Removals
from dockyard.core.standing import Standing
from dockyard.core.tags import Tags
from dockyard.core.trash import Trash
from dockyard.core.uploads import Uploads
from dockyard.http.services import ApiSettings, Services
from dockyard.server.accounts import build_accounts
from dockyard.state.database import Database
from dockyard.state.interface import State
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage


@dataclass(frozen=True, slots=True)
class Foundation:
    """What the use cases share: the storage, and what keeps collections from taking too much."""

    storage: Storage
    leases: Leases
    trash: Trash


def open_storage(settings: Settings) -> Storage:
    """Return the storage `settings` describe, leftovers of killed processes removed."""
    match settings.storage.driver:
        case FilesystemSettings(rootdirectory=root):
            storage = FilesystemStorage(Path(root))
            with suppress(OSError):  # leftovers harm nobody
                storage.sweep()
            return storage
        case InMemorySettings():
            return InMemoryStorage()
        case unreachable:
            assert_never(unreachable)


def open_state(settings: Settings) -> State:
    """Return the state database beside the storage; it is opened when it is first needed."""
    match settings.storage.driver:
        case FilesystemSettings(rootdirectory=root):
            return Database(Path(root) / layout.state_database())
        case InMemorySettings():
            return Database(None)
        case unreachable:
            assert_never(unreachable)


def build_services(
    settings: Settings, storage: Storage, clock: Clock, state: State | None = None
) -> Services:
    """Return the use cases on `storage`, set up as `settings` say."""
    keep = settings.storage.maintenance.trash.retention
    state = state or open_state(settings)
    foundation = Foundation(storage, Leases(storage), Trash(storage, keep, clock))
    manifests = build_manifests(settings, foundation)
    blobs, tags = build_blobs(foundation), build_tags(foundation)
    return Services(
        settings=build_api_settings(settings),
        blobs=blobs,
        uploads=Uploads(storage, foundation.leases, clock),
        manifests=manifests,
        tags=tags,
        referrers=Referrers(storage, manifests),
        catalog=Catalog(storage),
        removals=Removals(storage, manifests, tags, foundation.trash),
        pulls=Pulls(state, clock),
        keys=Keys(state, build_accounts(settings), clock),
        standing=Standing(storage, foundation.leases),
    )


def build_blobs(foundation: Foundation) -> Blobs:
    """Return the blobs of all repositories."""
    return Blobs(foundation.storage, foundation.leases, foundation.trash)


def build_tags(foundation: Foundation) -> Tags:
    """Return the tags of all repositories."""
    return Tags(foundation.storage, foundation.trash)


def build_manifests(settings: Settings, foundation: Foundation) -> Manifests:
    """Return the manifests of all repositories."""
    return Manifests(
        foundation.storage,
        build_blobs(foundation),
        build_tags(foundation),
        build_policy(settings),
        foundation.leases,
        foundation.trash,
    )


def build_api_settings(settings: Settings) -> ApiSettings:
    """Return how the API is set up."""
    return ApiSettings(
        prefix=settings.http.prefix or "/",
        host=settings.http.host or "",
        relative_urls=settings.http.relativeurls,
        headers=settings.http.headers,
        delete_enabled=settings.storage.delete.enabled,
        read_only=settings.storage.maintenance.readonly.enabled,
        catalog_limit=settings.catalog.maxentries,
        tags_limit=settings.tags.maxtags,
        accel_redirect=_accel_redirect(settings),
    )


def _accel_redirect(settings: Settings) -> str:
    """Return what a proxy has for the directory of the blobs; empty if there is none."""
    has_files = isinstance(settings.storage.driver, FilesystemSettings)
    return settings.http.accelredirect or "" if has_files else ""


def build_policy(settings: Settings) -> Policy:
    """Return what may be pushed."""
    validation = settings.validation
    urls, indexes = validation.manifests.urls, validation.manifests.indexes
    return Policy(
        enabled=not validation.disabled,
        allow_urls=tuple(re.compile(pattern) for pattern in urls.allow),
        deny_urls=tuple(re.compile(pattern) for pattern in urls.deny),
        children=Children(indexes.platforms),
        platforms=frozenset(
            (platform.os or "", platform.architecture or "") for platform in indexes.platformlist
        ),
        sparse=validation.manifests.sparse,
        classes=frozenset(settings.policy.repository.classes),
    )
