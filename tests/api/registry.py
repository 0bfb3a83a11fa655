"""A registry in process, with a storage that a test can look into."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from dockyard.clock import Clock, utc_now
from dockyard.core.blobs import Blobs
from dockyard.core.catalog import Catalog
from dockyard.core.keys import Keys
from dockyard.core.leases import Leases
from dockyard.core.manifests import Manifests
from dockyard.core.policy import Policy
from dockyard.core.pulls import Pulls
from dockyard.core.referrers import Referrers
from dockyard.core.removals import Removals
from dockyard.core.standing import Standing
from dockyard.core.tags import Tags
from dockyard.core.trash import Trash
from dockyard.core.uploads import Uploads
from dockyard.http.app import RegistryApp
from dockyard.http.services import ApiSettings, Services
from dockyard.oci.digest import Digest
from dockyard.state.database import Database
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from tests.api.client import Client


REPOSITORIES: Final = "docker/registry/v2/repositories"


def services_on(
    storage: Storage,
    *,
    policy: Policy | None = None,
    clock: Clock = utc_now,
    keep: timedelta = timedelta(0),
    **settings: Any,  # noqa: ANN401 -- the fields of ApiSettings
) -> Services:
    """Return the use cases on `storage`, with deletion on unless `settings` say otherwise.

    What is removed can be restored for as long as `keep`.
    """
    leases, trash = Leases(storage), Trash(storage, keep, clock)
    blobs, tags = Blobs(storage, leases, trash), Tags(storage, trash)
    manifests = Manifests(storage, blobs, tags, policy or Policy(), leases, trash)
    return Services(
        settings=replace(ApiSettings(delete_enabled=True), **settings),
        blobs=blobs,
        uploads=Uploads(storage, leases, clock),
        manifests=manifests,
        tags=tags,
        referrers=Referrers(storage, manifests),
        catalog=Catalog(storage),
        removals=Removals(storage, manifests, tags, trash),
        pulls=Pulls(Database(None), clock),
        keys=Keys(Database(None), None, clock),
        standing=Standing(storage, leases),
    )


class Registry(Client):
    """One worker of a registry, and a client of it.

    Attributes:
        storage: where it keeps things.
    """

    def __init__(self, storage: Storage, **options: Any) -> None:  # noqa: ANN401 -- `services_on`
        services = services_on(storage, **options)
        super().__init__(RegistryApp(services), prefix=services.settings.prefix)
        self.storage = storage


MakeRegistry = Callable[..., Registry]
"""Makes a registry on the test's storage, with options of `services_on`."""


def blob_file(root: Path, digest: str) -> Path:
    """Return the file that holds the bytes of `digest`."""
    return root / layout.blob(Digest.parse(digest))


def link_file(root: Path, path: str) -> Path:
    """Return the file of a link, below ``repositories``."""
    return root / REPOSITORIES / path
