"""Media types of manifests, configurations and layers."""

import re
from typing import Final


DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"

SCHEMA1: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
IMAGES: Final = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
INDEXES: Final = frozenset({DOCKER_MANIFEST_LIST, OCI_INDEX})

DOCKER_PLUGIN_CONFIG: Final = "application/vnd.docker.plugin.v1+json"
IMAGE_CONFIGS: Final = frozenset(
    {
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    }
)

OCTETS: Final = "application/octet-stream"

NON_DISTRIBUTABLE: Final = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
"""Layers that clients fetch elsewhere, so that a registry needn't have them."""

UNSPECIFIC: Final = frozenset(
    {
        "",
        "application/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/plain",
    }
)
"""Content types of a request that say nothing of the manifest: what tools send unasked."""


_GRAMMAR: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
"""Source: RFC 6838, section 4.2."""


def is_media_type(text: str) -> bool:
    """Return whether `text` is a media type without parameters, fit to be sent in a header."""
    return _GRAMMAR.fullmatch(text) is not None


def without_parameters(text: str) -> str:
    """Return the media type of a ``Content-Type`` without parameters, in lower case."""
    return text.split(";", 1)[0].strip().lower()
