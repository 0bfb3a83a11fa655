"""The trees that are served, in docker-distribution's layout, written straight to the disk.

All contestants serve the same files: each gets a copy of hard links, which none of them writes to,
because they push to other repositories.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.tree import BASE, TYPES


REPOSITORY: Final = "bench/image"
STORM: Final = "bench/storm"
MIXED: Final = "bench/mixed"

SMALL: Final = 2048
LARGE: Final = 240_000_000
"""Bytes of the large blob."""

IMAGES: Final = 50
"""Different images of the pull storm and of the mixed load."""

STORM_LAYERS: Final = 10
STORM_SIZE: Final = 512 << 10
MIXED_LAYERS: Final = 5
MIXED_SIZE: Final = 64 << 10

TEAM: Final = 100
"""Repositories that share the first part of their name."""

LINKS: Final = 20
"""Files that are the links of all tags: ext4 allows 65 000 names for each."""

REFERRERS: Final = (1, 100, 5_000)
ARTIFACT: Final = "application/vnd.example.sbom"

DOCKER, OCI = TYPES


@dataclass(slots=True)
class Content:
    """A tree, and what is in it.

    Attributes:
        root: the storage's root directory.
        digests: what the rows ask for, by name.
    """

    root: Path
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        """Where docker-distribution's tree begins."""
        return self.root / BASE

    def blob(self, body: bytes) -> str:
        """Store a blob; return its digest."""
        hashed = hashlib.sha256(body).hexdigest()
        path = self.data(f"sha256:{hashed}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return f"sha256:{hashed}"

    def data(self, digest: str) -> Path:
        """Return the file that has the bytes of a blob."""
        hashed = digest.removeprefix("sha256:")
        return self.base / "blobs/sha256" / hashed[:2] / hashed / "data"

    def link(self, folder: str, digest: str) -> None:
        """Link a digest in a folder of a repository."""
        path = self.base / "repositories" / folder / digest.replace(":", "/") / "link"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(digest)

    def point(self, name: str, tag: str, digest: str) -> None:
        """Point a tag to a manifest."""
        folder = f"{name}/_manifests/tags/{tag}"
        self.link(f"{folder}/index", digest)
        current = self.base / "repositories" / folder / "current/link"
        current.parent.mkdir(parents=True, exist_ok=True)
        current.write_text(digest)

    def layer(self, name: str, body: bytes) -> dict[str, Any]:
        """Store a layer in a repository; return its descriptor."""
        digest = self.blob(body)
        self.link(f"{name}/_layers", digest)
        return {"mediaType": DOCKER["layer"], "size": len(body), "digest": digest}

    def manifest(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Store a manifest in a repository; return its descriptor."""
        encoded = json.dumps(body, indent=3).encode()
        digest = self.blob(encoded)
        self.link(f"{name}/_manifests/revisions", digest)
        return {"mediaType": body["mediaType"], "size": len(encoded), "digest": digest}

    def image(self, name: str, tag: str, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Store an image of stored layers, with a tag; return its manifest's descriptor."""
        types = DOCKER
        config = self.layer(name, json.dumps({"architecture": "amd64", "name": tag}).encode())
        config |= {"mediaType": types["config"]}
        body = {"schemaVersion": 2, "mediaType": types["manifest"], "config": config}
        described = self.manifest(name, body | {"layers": layers})
        self.point(name, tag, described["digest"])
        return described

    def copy(self, target: Path) -> "Content":
        """Return a copy that shares the files."""
        subprocess.run(["cp", "-al", self.root, target], check=True)
        return Content(target, self.digests)


def main_tree(root: Path) -> Content:
    """Make what is pulled: one image with a small and a large layer, and many for many clients."""
    content = Content(root)
    small = content.layer(REPOSITORY, os.urandom(SMALL))
    large = content.layer(REPOSITORY, (os.urandom(1 << 20) * (LARGE // (1 << 20) + 1))[:LARGE])
    image = content.image(REPOSITORY, "v1", [small, large])
    content.digests |= {
        "small": small["digest"],
        "large": large["digest"],
        "manifest": image["digest"],
    }
    for name, layers, size in (
        (STORM, STORM_LAYERS, STORM_SIZE),
        (MIXED, MIXED_LAYERS, MIXED_SIZE),
    ):
        for number in range(IMAGES):
            bodies = [content.layer(name, os.urandom(size)) for _ in range(layers)]
            content.image(name, f"v{number}", bodies)
    return content


def lists_tree(root: Path, count: int) -> Content:
    """Make `count` repositories in teams, and one more that has as many tags.

    The links of tags are the same files: a file of its own for each is what takes long to make.
    """
    content = Content(root)
    one = content.image("bench/tags", "latest", [])["digest"]
    base = f"{content.base}/repositories"
    links = [f"{root}/link-{number}" for number in range(LINKS)]
    for link in links:
        Path(link).write_text(one)
    for number in range(count):
        team, repository = divmod(number, TEAM)
        if not repository:
            os.mkdir(f"{base}/team-{team:05}")  # noqa: PTH102 -- hot
        place = f"{base}/team-{team:05}/app-{repository:02}"
        for folder in ("", "/_layers", "/_manifests", "/_manifests/tags"):
            os.mkdir(place + folder)  # noqa: PTH102 -- hot
        _write_tag(place, "latest", links[number * LINKS // (2 * count)])
    for number in range(count):
        link = links[(count + number) * LINKS // (2 * count)]
        _write_tag(f"{base}/bench/tags", f"v{number:07}", link)
    content.digests["middle_team"] = f"team-{count // TEAM // 2:05}/app-49"
    content.digests["middle_tag"] = f"v{count // 2:07}"
    return content


def _write_tag(repository: str, tag: str, link: str) -> None:
    folder = f"{repository}/_manifests/tags/{tag}"
    os.mkdir(folder)  # noqa: PTH102 -- hot
    os.mkdir(f"{folder}/current")  # noqa: PTH102 -- hot
    os.link(link, f"{folder}/current/link")


def referrers_tree(root: Path) -> Content:
    """Make subjects with referrers, each in a repository of its own."""
    content = Content(root)
    for count in REFERRERS:
        name = f"bench/referrers-{count}"
        subject = content.image(name, "v1", [])
        empty = content.layer(name, b"{}") | {"mediaType": "application/vnd.oci.empty.v1+json"}
        for number in range(count):
            body = {
                "schemaVersion": 2,
                "mediaType": OCI["manifest"],
                "artifactType": ARTIFACT,
                "config": empty,
                "layers": [empty],
                "subject": subject,
                "annotations": {"number": str(number)},
            }
            content.manifest(name, body)
        content.digests[f"referrers_{count}"] = subject["digest"]
    return content
