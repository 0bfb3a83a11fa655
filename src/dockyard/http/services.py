"""What handlers work with: the use cases, and how the API is set up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockyard.core.blobs import Blobs
from dockyard.core.catalog import Catalog
from dockyard.core.keys import Keys
from dockyard.core.manifests import Manifests
from dockyard.core.pulls import Pulls
from dockyard.core.referrers import Referrers
from dockyard.core.removals import Removals
from dockyard.core.standing import Standing
from dockyard.core.tags import Tags
from dockyard.core.uploads import Uploads
from dockyard.http.audit import Audit
from dockyard.http.gates import Gate
from dockyard.http.messages import Request


if TYPE_CHECKING:  # it needs what only some configurations need
    from dockyard.auth.issuer import Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How the API is set up. Source of the defaults: distribution v3.1.1.

    Attributes:
        prefix: the path above ``/v2/``, with a slash at both ends.
        host: base of absolute URLs; empty to take it from each request.
        relative_urls: whether ``Location`` is a path only.
        headers: added to every response of the API.
        delete_enabled: whether manifests, tags and blobs may be deleted.
        read_only: whether methods that write are not there at all.
        catalog_limit: the most repositories one page may have.
        tags_limit: the most tags one page may have.
        accel_redirect: what a proxy in front has for the directory of the blobs, with a slash at
            both ends; empty to send them to everybody ourselves.
    """

    prefix: str = "/"
    host: str = ""
    relative_urls: bool = False
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    delete_enabled: bool = False
    read_only: bool = False
    catalog_limit: int = 1000
    tags_limit: int = 1000
    accel_redirect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases behind the API, and how it is set up.

    Attributes:
        gate: looks who asks, before anything is done; `None` where everybody may everything.
        issuer: the token service, where there is one.
        audit: is told what becomes of requests; `None` where nobody asked for it.
    """

    settings: ApiSettings
    blobs: Blobs
    uploads: Uploads
    manifests: Manifests
    tags: Tags
    referrers: Referrers
    catalog: Catalog
    removals: Removals
    pulls: Pulls
    keys: Keys
    standing: Standing
    gate: Gate | None = None
    issuer: "Issuer | None" = None
    audit: Audit | None = None

    def location(self, request: Request, path: str) -> bytes:
        """Return the ``Location`` of `path`, which begins below the prefix, without a slash."""
        settings = self.settings
        base = "" if settings.relative_urls else settings.host.rstrip("/") or request.base_url
        return f"{base}{settings.prefix}{path}".encode("latin-1", "replace")
