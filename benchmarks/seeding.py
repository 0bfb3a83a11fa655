"""Pushes what is in a tree to a registry that can't serve the tree itself."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.content import Content


PATIENCE = 120.0
"""Seconds that a request may take."""


def seed(content: Content, address: str) -> None:
    """Push all blobs, manifests and tags of a tree to the registry at `address`.

    Raises:
        httpx.HTTPStatusError: it refused one.
    """
    with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE) as client:
        for folder in repositories(content.base / "repositories"):
            name = str(folder.relative_to(content.base / "repositories"))
            for digest in linked(folder / "_layers"):
                push_blob(client, name, digest, content.data(digest))
            for digest in linked(folder / "_manifests/revisions"):
                push_manifest(client, name, digest, content.data(digest))
            for tag in sorted((folder / "_manifests/tags").iterdir()):
                digest = (tag / "current/link").read_text()
                push_manifest(client, name, tag.name, content.data(digest))


def repositories(folder: Path) -> Iterator[Path]:
    """Yield the directories of the repositories below `folder`."""
    for entry in sorted(folder.iterdir()):
        if (entry / "_layers").is_dir():
            yield entry
        if not entry.name.startswith("_"):
            yield from repositories(entry)


def linked(folder: Path) -> list[str]:
    """Return the digests that a folder has links of."""
    return sorted(path.read_text() for path in folder.glob("*/*/link"))


def push_blob(client: httpx.Client, name: str, digest: str, path: Path) -> None:
    """Push a blob in two requests."""
    location = client.post(f"/v2/{name}/blobs/uploads/").raise_for_status().headers["location"]
    query = "&" if "?" in location else "?"
    headers = {"Content-Type": "application/octet-stream"}
    target = f"{location}{query}digest={digest}"
    client.put(target, content=path.read_bytes(), headers=headers).raise_for_status()


def push_manifest(client: httpx.Client, name: str, reference: str, path: Path) -> None:
    """Push a manifest under a digest or a tag."""
    body = path.read_bytes()
    headers = {"Content-Type": json.loads(body)["mediaType"]}
    client.put(
        f"/v2/{name}/manifests/{reference}", content=body, headers=headers
    ).raise_for_status()
