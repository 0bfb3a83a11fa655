"""One image of every kind, and everything that a registry serves, so that two registries can be
compared.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.parts.images import Image, artifact, image, index, multi_platform
from tests.registry_client import RegistryClient


def _with_subject() -> Image:
    """Return an artifact about the image in ``library/oci``."""
    return artifact("signature", subject=LIBRARY["library/oci"].manifest.descriptor())


LIBRARY: Final[Mapping[str, Image]] = {
    "library/docker": image("docker", docker=True, layers=3),
    "library/docker-list": multi_platform("docker-list", docker=True),
    "library/oci": image("oci", layers=3, annotations={"org.example.note": "\u00e9\u4e2d"}),
    "library/oci-index": multi_platform("oci-index"),
    "library/nested": index([multi_platform("nested-1"), multi_platform("nested-2")]),
    "library/artifact": artifact("sbom"),
    "library/no-layers": image("no-layers", layers=0),
    "deep/er/and/deep.er/still_here": image("deep"),
    "single": image("single", layers=1),
}
"""A repository for each kind of image."""


def push_library(client: RegistryClient) -> None:
    """Push the library, some of it under several tags, an artifact about an image, and a tag that
    was overwritten.
    """
    for name, top in LIBRARY.items():
        client.push_image(name, top, "1", "latest")
    client.push_image("library/oci", _with_subject())
    for seed in ("first", "second"):
        client.push_image("overwritten", image(seed), "1")
    client.push_image("overwritten", image("untagged"))
    # The same layers in another repository: linked there, stored once.
    client.push_image("shared/layers", LIBRARY["library/docker"], "1")


@dataclass(frozen=True, slots=True)
class Served:
    """Everything that a registry serves of its tags.

    Attributes:
        repositories: the catalog, sorted.
        tags: sorted, by repository.
        manifests: type, digest and bytes, by repository and reference (tag or digest).
        blobs: bytes, by repository and digest.
    """

    repositories: list[str]
    tags: dict[str, list[str]] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, str, bytes]] = field(default_factory=dict)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)


def everything_served(client: RegistryClient) -> Served:
    """Return everything that is reached from the catalog: each tag's manifest, what it refers to,
    and their blobs.
    """
    served = Served(sorted(client.catalog()))
    for name in served.repositories:
        served.tags[name] = sorted(client.tags(name))
        for tag in served.tags[name]:
            _follow(client, served, name, tag)
    return served


def _follow(client: RegistryClient, served: Served, name: str, reference: str) -> None:
    if (name, reference) in served.manifests:
        return
    got = client.manifest(name, reference).expect(200)
    digest = got.header("Docker-Content-Digest")
    served.manifests[name, reference] = (got.header("Content-Type"), digest, got.body)
    _follow(client, served, name, digest)
    document = json.loads(got.body)
    for child in document.get("manifests", []):
        _follow(client, served, name, child["digest"])
    for descriptor in filter(None, [document.get("config"), *document.get("layers", [])]):
        blob = client.blob(name, descriptor["digest"]).expect(200)
        served.blobs[name, descriptor["digest"]] = blob.body


def stored_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of each file of the tree ``docker/registry/v2``."""
    tree = root / "docker" / "registry" / "v2"
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(tree)), path.read_bytes()
