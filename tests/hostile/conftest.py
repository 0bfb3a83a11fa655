"""A registry that hostile clients talk to, and what must be true of it afterwards."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.live import LiveRegistry, listing, memory
from tests.parts.images import Image, image
from tests.registry_client import RegistryClient, assert_served


NAME: Final = "hostile/kept"
KEPT: Final = image("kept")

MEMORY_GROWTH: Final = 96 << 20
"""Bytes by which a worker may have grown afterwards: 24 MiB of cached manifests, and what malloc
keeps of the largest bodies; 65 MiB were seen, and no more however often they come."""

COMPONENT: Final = re.compile(
    r"[A-Za-z0-9]+(?:(?:\.|_|__|-+)[A-Za-z0-9]+)*|_layers|_manifests|_uploads"
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    folder = tmp_path_factory.mktemp("hostile") / "registry"
    with LiveRegistry(folder, settings={"http": {"workers": 2}}) as running:
        with RegistryClient(running.address) as client:
            client.push_image(NAME, KEPT, "v1")
        outside = listing(folder.parent, without=running.root)
        workers = running.workers
        before = [memory(pid) for pid in workers]
        yield running
        assert running.workers == workers, "a worker died"
        assert_unharmed(running, KEPT)
        assert listing(folder.parent, without=running.root) == outside
        assert_names_are_legal(running.root)
        for pid, bytes_before in zip(workers, before, strict=True):
            assert memory(pid) < bytes_before + MEMORY_GROWTH
    running.assert_no_trace()


def assert_unharmed(registry: LiveRegistry, kept: Image) -> None:
    """Assert that the registry serves what it had."""
    with RegistryClient(registry.address) as client:
        assert_served(client, NAME, kept, "v1")
        assert "v1" in client.tags(NAME)
        assert NAME in client.catalog()


def assert_names_are_legal(root: Path) -> None:
    """Assert that every directory below ``repositories`` is part of a legal name, or ours."""
    repositories = root / "docker/registry/v2/repositories"
    for path in repositories.rglob("*"):
        parts = path.relative_to(repositories).parts
        own = next((n for n, part in enumerate(parts) if part.startswith("_")), len(parts))
        assert all(COMPONENT.fullmatch(part) for part in parts[: own + 1]), path
    known = {"blobs", "repositories", ".dockyard"}
    assert {path.name for path in repositories.parent.iterdir()} <= known
    assert [path.name for path in root.iterdir()] == ["docker"]
