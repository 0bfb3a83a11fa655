"""Images of every kind, made from a seed: the same seed gives the same bytes, another gives other
bytes.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"

ACCEPT_ALL: Final = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
"""Every manifest type that these tests push."""


def digest_of(body: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of `body`, such as ``sha256:9f86d0…``."""
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes with a media type: a layer, a configuration, or a manifest."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        """The sha256 digest of the bytes."""
        return digest_of(self.body)

    def descriptor(self, **more: object) -> dict[str, Any]:
        """Return the descriptor by which a manifest names this content."""
        return {
            "mediaType": self.media_type,
            "size": len(self.body),
            "digest": self.digest,
            **more,
        }


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest with everything it refers to.

    Attributes:
        manifest: its own bytes.
        blobs: layers and configuration, to be pushed before the manifest.
        children: images of an index, to be pushed before the index.
        platform: what an index says of it, such as ``linux/arm64``; empty if it says nothing.
    """

    manifest: Content
    blobs: tuple[Content, ...] = ()
    children: tuple["Image", ...] = ()
    platform: str = ""

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return self.manifest.digest

    def everything(self) -> Iterator["Image"]:
        """Yield the images below this one, then this one: the order of a push."""
        for child in self.children:
            yield from child.everything()
        yield self


def layer(seed: str, *, files: int = 1, size: int = 64) -> bytes:
    """Return a tar of `files` files of about `size` bytes each, not compressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(files):
            line = hashlib.sha256(f"{seed} {number}".encode()).hexdigest().encode()
            body = (line * (size // len(line) + 1))[:size]
            member = tarfile.TarInfo(f"{seed.replace('/', '-')}-{number}.txt")
            member.size = len(body)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(body))
    return packed.getvalue()


def manifest(media_type: str, **fields: object) -> Content:
    """Return a manifest of `media_type` with `fields`, as compact JSON."""
    document = {"schemaVersion": 2, "mediaType": media_type, **fields}
    return Content(media_type, json.dumps(document, separators=(",", ":")).encode())


def image(
    seed: str,
    *,
    layers: int = 2,
    docker: bool = False,
    platform: str = "linux/amd64",
    size: int = 64,
    **fields: object,
) -> Image:
    """Return a runnable image of `layers` layers: docker schema 2, or OCI.

    `fields` go into the manifest, such as ``annotations`` or ``subject``.
    """
    tars = [layer(f"{seed}-{platform}-{number}", size=size) for number in range(layers)]
    layer_type, config_type = (DOCKER_LAYER, DOCKER_CONFIG) if docker else (OCI_LAYER, OCI_CONFIG)
    packed = [Content(layer_type, gzip.compress(tar, mtime=0)) for tar in tars]
    system, _, architecture = platform.partition("/")
    document = {
        "created": "2020-06-06T14:15:00Z",
        "architecture": architecture,
        "os": system,
        "config": {"Labels": {"seed": seed}},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [
            {"created": "2020-06-06T14:15:00Z", "created_by": f"layer {number}"}
            for number in range(layers)
        ],
    }
    config = Content(config_type, json.dumps(document).encode())
    top = manifest(
        DOCKER_MANIFEST if docker else OCI_MANIFEST,
        config=config.descriptor(),
        layers=[each.descriptor() for each in packed],
        **fields,
    )
    return Image(top, (config, *packed), platform=platform)


def index(children: Sequence[Image], *, docker: bool = False, **fields: object) -> Image:
    """Return an OCI index, or a docker manifest list, of `children`."""

    def described(child: Image) -> dict[str, Any]:
        if not child.platform:
            return child.manifest.descriptor()
        system, _, architecture = child.platform.partition("/")
        return child.manifest.descriptor(platform={"architecture": architecture, "os": system})

    top = manifest(
        DOCKER_LIST if docker else OCI_INDEX,
        manifests=[described(child) for child in children],
        **fields,
    )
    return Image(top, children=tuple(children))


def multi_platform(seed: str, *, docker: bool = False) -> Image:
    """Return an index of an image for linux/amd64 and one for linux/arm64."""
    return index(
        [image(seed, docker=docker, platform=name) for name in ("linux/amd64", "linux/arm64")],
        docker=docker,
    )


def artifact(
    seed: str, *, artifact_type: str = "application/vnd.example.sbom.v1", **fields: object
) -> Image:
    """Return an OCI artifact of one small blob; with ``subject=`` it refers to another manifest."""
    empty = Content(OCI_EMPTY, b"{}")
    payload = Content("application/octet-stream", f"artifact {seed}\n".encode())
    top = manifest(
        OCI_MANIFEST,
        artifactType=artifact_type,
        config=empty.descriptor(),
        layers=[payload.descriptor()],
        **fields,
    )
    return Image(top, (empty, payload))


def write_layout(folder: Path, top: Image, name: str = "latest") -> Path:
    """Write `top` and all below it as an OCI image layout and return `folder`."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for each in top.everything():
        for content in (*each.blobs, each.manifest):
            blobs.joinpath(content.digest.removeprefix("sha256:")).write_bytes(content.body)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    described = top.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": name})
    (folder / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [described]})
    )
    return folder


def digests_of(top: Image) -> set[str]:
    """Return the digests of `top` and of all below it: manifests, configurations and layers."""
    return {content.digest for each in top.everything() for content in (*each.blobs, each.manifest)}


def layout_digests(folder: Path) -> set[str]:
    """Return the digests of all that lies in an OCI image layout; each file's bytes are checked
    against its name.

    Raises:
        AssertionError: a file's bytes do not have the digest that it is named by.
    """
    found = set[str]()
    for path in (folder / "blobs" / "sha256").iterdir():
        digest = digest_of(path.read_bytes())
        assert digest == f"sha256:{path.name}", f"{path} holds {digest}"
        found.add(digest)
    return found
