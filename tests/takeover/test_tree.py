"""The tree that `benchmarks/tree.py` makes is one that docker-registry might have left."""

from pathlib import Path
from typing import Final

import pytest

from benchmarks.tree import Made, Shape, make
from tests.parts.images import digest_of
from tests.parts.programs import run
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient
from tests.takeover.collection import stored_files


SMALL: Final = Shape(repositories=6, manifests=90, blobs=400, deleted=0.3, orphans=0.05)


@pytest.fixture
def made(server: RegistryUnderTest) -> Made:
    return make(server.root, SMALL)


def blobs(server: RegistryUnderTest) -> set[str]:
    found = (server.root / "docker/registry/v2/blobs").rglob("data")
    return {f"sha256:{path.parent.name}" for path in found}


def assert_all_served(server: RegistryUnderTest, made: Made) -> None:
    """Pull every image by its tag, with all that it names."""
    with RegistryClient(server.address) as client:
        for image in made.images:
            answer = client.manifest(image.repository, image.tag).expect(200)
            assert digest_of(answer.body) == image.digest
            is_index = "manifests" in answer.json()
            for digest in image.content:
                ask = client.manifest if is_index else client.blob
                assert digest_of(ask(image.repository, digest).expect(200).body) == digest


def test_docker_registry_serves_every_image(
    server: RegistryUnderTest, made: Made, old_program: str
) -> None:
    server.become(old_program)
    assert_all_served(server, made)


def test_dockyard_serves_every_image(
    server: RegistryUnderTest, made: Made, new_program: str
) -> None:
    server.become(new_program)
    assert_all_served(server, made)
    assert server.complaints() == []


@pytest.mark.parametrize("flags", [(), ("-m",)], ids=["plain", "untagged"])
def test_a_collection_leaves_what_the_maker_says(
    server: RegistryUnderTest, made: Made, new_program: str, flags: tuple[str, ...]
) -> None:
    assert made.kept_tagged < made.kept < made.blobs == blobs(server)
    server.configure({"storage": {"maintenance": {"gc": {"grace": "0s"}}}})  # it is just made
    run(new_program, "garbage-collect", *flags, server.config)
    assert blobs(server) == (made.kept_tagged if flags else made.kept)


def test_it_has_the_size_that_was_asked_for(server: RegistryUnderTest, made: Made) -> None:
    repositories = server.root / "docker/registry/v2/repositories"
    assert len(made.blobs) == SMALL.blobs
    assert len(list(repositories.rglob("_manifests"))) == SMALL.repositories
    assert len(list(repositories.rglob("revisions/sha256/*/link"))) == SMALL.manifests


def test_it_is_always_the_same(server: RegistryUnderTest, made: Made, tmp_path: Path) -> None:
    make(tmp_path / "again", SMALL)
    assert made.images
    assert list(stored_files(tmp_path / "again")) == list(stored_files(server.root))


def test_too_few_blobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have at least"):
        make(tmp_path, Shape(repositories=2, manifests=20, blobs=30))
