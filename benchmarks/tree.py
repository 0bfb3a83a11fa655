#!/usr/bin/env python3
"""Makes a tree of docker-distribution, as years of pushes leave it, in seconds and always the same.

Written straight to the disk: repositories with plain images, multi-platform images and signatures,
under tags; images whose tag moved on; images that were deleted, so that only their blobs and the
links to their layers are left; layers whose manifest never came. Layers are small, and many share
base images. Nobody has used it meanwhile, so there is nothing of Dockyard's own in it.

    .venv/bin/python benchmarks/tree.py ROOT [--repositories 2000] [--manifests 20000]
                                             [--blobs 100000] [--seed 1] [--expect FILE]
"""

import argparse
import hashlib
import json
import os
import random  # noqa: TID251 -- seeded, so that the tree is always the same
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final


BASE: Final = "docker/registry/v2"
DOCKER: Final = "application/vnd.docker"
OCI: Final = "application/vnd.oci.image"

INDEXES: Final = 0.08
"""Share of pushes that are images for two platforms: three manifests."""

SIGNATURES: Final = 0.06
"""Share of pushes that are an image and its signature, under a tag as cosign makes it."""

REPOSITORIES_PER_BASE: Final = 20
"""Repositories that build on the same base image, of `BASE_LAYERS` layers."""

BASE_LAYERS: Final = 3

TYPES: Final = (
    {
        "manifest": f"{DOCKER}.distribution.manifest.v2+json",
        "index": f"{DOCKER}.distribution.manifest.list.v2+json",
        "config": f"{DOCKER}.container.image.v1+json",
        "layer": f"{DOCKER}.image.rootfs.diff.tar.gzip",
    },
    {
        "manifest": f"{OCI}.manifest.v1+json",
        "index": f"{OCI}.index.v1+json",
        "config": f"{OCI}.config.v1+json",
        "layer": f"{OCI}.layer.v1.tar+gzip",
    },
)
"""Media types of docker's and of OCI's images."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a tree is.

    Attributes:
        repositories: how many there are.
        manifests: how many all repositories have together; deleted ones come on top.
        blobs: files in ``blobs``, exactly.
        deleted: deleted manifests, for each manifest that is there.
        untagged: share of the pushes whose tag moved on.
        orphans: share of the blobs whose manifest never came.
        seed: another one makes another tree.
    """

    repositories: int = 2_000
    manifests: int = 20_000
    blobs: int = 100_000
    deleted: float = 0.15
    untagged: float = 0.25
    orphans: float = 0.02
    seed: int = 1


class Kind(Enum):
    """What a push brings; the value is how many manifests that are."""

    IMAGE = 1
    SIGNED = 2
    INDEX = 3


class Fate(Enum):
    """What became of a push."""

    TAGGED = "tagged"
    UNTAGGED = "untagged"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest under a tag.

    Attributes:
        repository: where it is.
        tag: what it is called.
        digest: of its manifest.
        content: digests of its configuration and layers, or of the manifests of an index.
    """

    repository: str
    tag: str
    digest: str
    content: tuple[str, ...]


@dataclass(slots=True)
class Made:
    """What is in a tree.

    Attributes:
        blobs: digests of all blobs.
        kept: those that a manifest needs: what is left after a collection.
        kept_tagged: those that a tagged manifest needs: what is left after one with ``-m``.
        images: all that can be pulled by tag.
    """

    blobs: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    kept_tagged: set[str] = field(default_factory=set)
    images: list[Image] = field(default_factory=list)

    def keep(self, digests: Sequence[str], fate: Fate) -> None:
        """Note which collections leave `digests`."""
        if fate is not Fate.DELETED:
            self.kept.update(digests)
        if fate is Fate.TAGGED:
            self.kept_tagged.update(digests)


@dataclass(frozen=True, slots=True)
class Push:
    """One push: what it brings, and what became of it."""

    kind: Kind
    fate: Fate


class Maker:
    """Writes one tree."""

    def __init__(self, root: Path, shape: Shape) -> None:
        self._base: Final = f"{root}/{BASE}"
        self._shape: Final = shape
        self._chance: Final = random.Random(shape.seed)
        self._images = 0
        self._own_layers = (0, 1)
        self._bases: list[list[dict[str, Any]]] = []
        self.made: Final = Made()

    def run(self) -> Made:
        """Write it; return what is in it.

        Raises:
            ValueError: there are too few blobs for so many manifests.
        """
        plans = [self._plan(number) for number in range(self._shape.repositories)]
        kinds = [push.kind for plan in plans for push in plan]
        manifests = sum(kind.value for kind in kinds)
        images = sum(2 if kind is Kind.INDEX else 1 for kind in kinds)
        signatures = kinds.count(Kind.SIGNED)
        bases = max(1, self._shape.repositories // REPOSITORIES_PER_BASE)
        orphans = int(self._shape.blobs * self._shape.orphans)
        fixed = manifests + images + 2 * signatures + bases * BASE_LAYERS + orphans
        if fixed > self._shape.blobs:
            raise ValueError(f"so many manifests have at least {fixed} blobs")
        self._own_layers = (self._shape.blobs - fixed, images)
        self._bases = [
            [self._blob("layer", self._body()) for _ in range(BASE_LAYERS)] for _ in range(bases)
        ]
        for number, plan in enumerate(plans):
            self._repository(number, plan)
        for number in range(orphans):
            name = self._name(number % self._shape.repositories)
            self._link(name, self._blob("layer", self._body()))
        return self.made

    def _plan(self, number: int) -> list[Push]:
        """Return the pushes to a repository, in their order."""
        left = self._share(self._shape.manifests, number)
        pushes: list[Push] = []
        while left:
            kind, chance = Kind.IMAGE, self._chance.random()
            if left >= Kind.INDEX.value and chance < INDEXES:
                kind = Kind.INDEX
            elif left >= Kind.SIGNED.value and chance < INDEXES + SIGNATURES:
                kind = Kind.SIGNED
            left -= kind.value
            moved_on = left and self._chance.random() < self._shape.untagged
            pushes.append(Push(kind, Fate.UNTAGGED if moved_on else Fate.TAGGED))
        for _ in range(self._share(int(self._shape.manifests * self._shape.deleted), number)):
            place = self._chance.randrange(len(pushes) + 1)
            pushes.insert(place, Push(Kind.IMAGE, Fate.DELETED))
        return pushes

    def _share(self, total: int, number: int) -> int:
        """Return how many of a total a repository has, so that all have the total together."""
        count = self._shape.repositories
        return total * (number + 1) // count - total * number // count

    @staticmethod
    def _name(number: int) -> str:
        team, service = divmod(number, 25)
        return f"team-{team:03}/service-{service:02}" if service else f"team-{team:03}/tools/base"

    def _repository(self, number: int, plan: Sequence[Push]) -> None:
        name = self._name(number)
        os.makedirs(f"{self._base}/repositories/{name}/_uploads", exist_ok=True)  # noqa: PTH103
        base = self._bases[number % len(self._bases)]
        for layer in base:
            self._link(name, layer)
        latest = ""
        for position, push in enumerate(plan):
            digest = self._push(name, push, base, f"v1.{position}")
            if push.fate is Fate.TAGGED:
                latest = digest
            if push.fate is not Fate.DELETED:
                self._write_link(f"{self._tag(name, 'latest')}/index", digest)
        if latest:
            self._write(f"{self._tag(name, 'latest')}/current/link", latest.encode())

    def _push(self, name: str, push: Push, base: Sequence[Mapping[str, Any]], tag: str) -> str:
        """Push to a repository; return the digest of what a tag points to."""
        if push.kind is not Kind.INDEX:
            content = self._image(name, push.fate, base)
        else:
            parts = [
                self._image(name, push.fate, base)["manifest"] | {"platform": platform}
                for platform in (
                    {"architecture": "amd64", "os": "linux"},
                    {"architecture": "arm64", "os": "linux"},
                )
            ]
            content = self._manifest(name, push.fate, "index", {"manifests": parts})
        digest = str(content["manifest"]["digest"])
        if push.fate is Fate.TAGGED:
            self._name_it(name, tag, content)
        if push.kind is Kind.SIGNED:
            layer = self._linked(name, "layer", self._body())
            config = self._linked(name, "config", self._config([layer]))
            fields = {"config": config, "layers": [layer]}
            signature = self._manifest(name, push.fate, "manifest", fields)
            if push.fate is Fate.TAGGED:
                self._name_it(name, f"{digest.replace(':', '-')}.sig", signature)
        return digest

    def _image(self, name: str, fate: Fate, base: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        total, images = self._own_layers
        own = total * (self._images + 1) // images - total * self._images // images
        self._images += 1
        layers = [*base, *(self._linked(name, "layer", self._body()) for _ in range(own))]
        config = self._linked(name, "config", self._config(layers))
        return self._manifest(name, fate, "manifest", {"config": config, "layers": layers})

    def _config(self, layers: Sequence[Mapping[str, Any]]) -> bytes:
        body = {
            "architecture": "amd64",
            "os": "linux",
            "created": f"2024-01-01T00:00:00.{self._chance.getrandbits(60):019}Z",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        return json.dumps(body).encode()

    def _manifest(
        self, name: str, fate: Fate, kind: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Store a manifest with what a repository notes of it; return it and what it points to."""
        types = self._types()
        body = {"schemaVersion": 2, "mediaType": types[kind], **fields}
        described = self._blob(kind, json.dumps(body, indent=3).encode())
        digest = described["digest"]
        revisions = f"{self._base}/repositories/{name}/_manifests/revisions"
        if fate is Fate.DELETED:  # distribution removes the link and leaves its directory
            os.makedirs(f"{revisions}/{digest.replace(':', '/')}")  # noqa: PTH103
        else:
            self._write_link(revisions, digest)
        items = [*fields.get("manifests", ()), *fields.get("layers", ())]
        content = [item["digest"] for item in [*items, fields.get("config")] if item]
        self.made.keep([digest, *content], fate)
        return {"manifest": described, "content": tuple(content)}

    def _name_it(self, name: str, tag: str, content: Mapping[str, Any]) -> None:
        """Point a tag to a manifest."""
        digest = content["manifest"]["digest"]
        self._write(f"{self._tag(name, tag)}/current/link", digest.encode())
        self._write_link(f"{self._tag(name, tag)}/index", digest)
        self.made.images.append(Image(name, tag, digest, content["content"]))

    def _types(self) -> Mapping[str, str]:
        """Return docker's types for one half of the images, OCI's for the other."""
        return TYPES[self._images % 2]

    def _body(self) -> bytes:
        return self._chance.randbytes(self._chance.randrange(64, 1024))

    def _linked(self, name: str, kind: str, body: bytes) -> dict[str, Any]:
        descriptor = self._blob(kind, body)
        self._link(name, descriptor)
        return descriptor

    def _link(self, name: str, descriptor: Mapping[str, Any]) -> None:
        """Note that a repository has a blob."""
        self._write_link(f"{self._base}/repositories/{name}/_layers", descriptor["digest"])

    def _tag(self, name: str, tag: str) -> str:
        return f"{self._base}/repositories/{name}/_manifests/tags/{tag}"

    def _blob(self, kind: str, body: bytes) -> dict[str, Any]:
        """Store a blob; return its descriptor."""
        hashed = hashlib.sha256(body).hexdigest()
        digest = f"sha256:{hashed}"
        self._write(f"{self._base}/blobs/sha256/{hashed[:2]}/{hashed}/data", body)
        self.made.blobs.add(digest)
        return {"mediaType": self._types()[kind], "size": len(body), "digest": digest}

    def _write_link(self, directory: str, digest: str) -> None:
        self._write(f"{directory}/{digest.replace(':', '/')}/link", digest.encode())

    @staticmethod
    def _write(path: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(path.rpartition("/")[0], exist_ok=True)  # noqa: PTH103 -- hot
            descriptor = os.open(path, flags, 0o644)
        os.write(descriptor, content)
        os.close(descriptor)


def make(root: Path, shape: Shape) -> Made:
    """Write a tree below `root`, the storage's root directory; return what is in it.

    Raises:
        ValueError: there are too few blobs for so many manifests.
    """
    return Maker(root, shape).run()


def main() -> None:
    """Make a tree as the command line says, and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--repositories", type=int, default=Shape().repositories)
    parser.add_argument("--manifests", type=int, default=Shape().manifests)
    parser.add_argument("--blobs", type=int, default=Shape().blobs)
    parser.add_argument("--seed", type=int, default=Shape().seed)
    parser.add_argument("--expect", type=Path, help="write there, as JSON, what collections leave")
    options = parser.parse_args()
    shape = Shape(options.repositories, options.manifests, options.blobs, seed=options.seed)
    if (options.root / BASE).exists():
        sys.exit(f"{options.root} holds a tree already")
    made = make(options.root, shape)
    print(
        f"{shape.repositories} repositories, {shape.manifests} manifests, {len(made.blobs)} blobs; "
        f"a collection leaves {len(made.kept)}, one with -m {len(made.kept_tagged)}"
    )
    if options.expect:
        expected = {"": sorted(made.kept), "-m": sorted(made.kept_tagged)}
        options.expect.write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
