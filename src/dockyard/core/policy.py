"""What a registry takes: the sections `validation` and `policy` of the configuration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dockyard.errors import ClassDeniedError, ManifestInvalidError
from dockyard.oci import mediatype
from dockyard.oci.manifest import Descriptor, Manifest, shown


class Children(Enum):
    """Which children of an index a repository must have."""

    ALL = "all"
    NONE = "none"
    LISTED = "list"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a manifest must be for us to take it.

    Attributes:
        enabled: whether `allow_urls`, `deny_urls` and `children` count.
        allow_urls: if any: each URL of a descriptor must match one.
        deny_urls: no URL of a descriptor may match one.
        children: which children of an index must be there.
        platforms: ``(os, architecture)`` of the children that must be there with `Children.LISTED`.
        sparse: whether manifests are taken whose blobs or children are not there.
        classes: the classes of content taken; empty for all.
    """

    enabled: bool = True
    allow_urls: Sequence[re.Pattern[str]] = ()
    deny_urls: Sequence[re.Pattern[str]] = ()
    children: Children = Children.ALL
    platforms: frozenset[tuple[str, str]] = frozenset()
    sparse: bool = False
    classes: frozenset[str] = frozenset()

    def check(self, manifest: Manifest) -> None:
        """Return if the manifest may be stored, what it references aside.

        Raises:
            ManifestInvalidError: a URL in it is not allowed.
            ClassDeniedError: its class is not taken.
        """
        if self.classes and manifest.config is not None:
            kind = _class_of(manifest.config.media_type)
            if kind not in self.classes:
                raise ClassDeniedError(kind)
        if self.enabled:
            for descriptor in manifest.layers:
                for url in descriptor.urls:
                    self._check_url(url)

    def needs(self, descriptor: Descriptor) -> bool:
        """Return whether the repository must have this configuration or layer."""
        elsewhere = descriptor.urls and descriptor.media_type in mediatype.NON_DISTRIBUTABLE
        return not (self.sparse or elsewhere)

    def needs_child(self, descriptor: Descriptor) -> bool:
        """Return whether the repository must have this child of an index."""
        if self.sparse or not self.enabled or self.children is Children.NONE:
            return False
        return self.children is Children.ALL or descriptor.platform in self.platforms

    def _check_url(self, url: str) -> None:
        if not url.startswith(("http://", "https://")) or "#" in url:
            raise ManifestInvalidError(
                f"the url {shown(url)} of a layer is not http or https without fragment"
            )
        allowed = not self.allow_urls or any(pattern.search(url) for pattern in self.allow_urls)
        if not allowed or any(pattern.search(url) for pattern in self.deny_urls):
            raise ManifestInvalidError(
                f"the url {shown(url)} of a layer is not allowed by validation.manifests.urls"
            )


def _class_of(config_type: str) -> str:
    if config_type in mediatype.IMAGE_CONFIGS:
        return "image"
    if config_type == mediatype.DOCKER_PLUGIN_CONFIG:
        return "plugin"
    return config_type or "unknown"
