"""crane: push, pull, copy, validate, list, tag, index and delete."""

import tarfile
from pathlib import Path

import pytest

from tests.parts.images import (
    Image,
    digests_of,
    image,
    layout_digests,
    multi_platform,
    write_layout,
)
from tests.parts.programs import run
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient, assert_served


def crane(*arguments: str | Path) -> str:
    return run("crane", "--insecure", *arguments)


@pytest.mark.parametrize(
    "top",
    [
        pytest.param(image("crane", layers=3), id="image"),
        pytest.param(image("crane-docker", docker=True), id="docker-image"),
        pytest.param(multi_platform("crane-index"), id="index"),
    ],
)
def test_what_is_pushed_is_pulled_byte_for_byte(
    registry: RegistryUnderTest, client: RegistryClient, repository: str, top: Image, tmp_path: Path
) -> None:
    name = f"{registry.address}/{repository}:1"
    source = write_layout(tmp_path / "source", top)
    assert crane("push", source, name) == f"{registry.address}/{repository}@{top.digest}\n"
    crane("pull", "--format", "oci", name, tmp_path / "copy")
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    assert_served(client, repository, top, "1")
    assert crane("digest", name) == f"{top.digest}\n"
    assert crane("manifest", name).encode() == top.manifest.body


def test_a_pushed_image_validates(
    registry: RegistryUnderTest, client: RegistryClient, repository: str
) -> None:
    client.push_image(repository, image("crane-valid", layers=4), "1")
    assert "PASS" in crane("validate", "--remote", f"{registry.address}/{repository}:1")


def test_layers_are_mounted_by_a_copy(
    registry: RegistryUnderTest, client: RegistryClient, repository: str
) -> None:
    top = multi_platform("crane-copy")
    client.push_image(f"{repository}/from", top, "1")
    crane(
        *(
            "copy",
            f"{registry.address}/{repository}/from:1",
            f"{registry.address}/{repository}/to:1",
        )
    )
    assert_served(client, f"{repository}/to", top, "1")


def test_tags_and_repositories_are_listed(
    registry: RegistryUnderTest, client: RegistryClient, repository: str
) -> None:
    client.push_image(repository, image("crane-list"), "b", "a")
    name = f"{registry.address}/{repository}"
    crane("tag", f"{name}:a", "c")
    assert sorted(crane("ls", name).split()) == ["a", "b", "c"]
    assert repository in crane("catalog", registry.address).split()


def test_an_index_is_appended_to(
    registry: RegistryUnderTest, client: RegistryClient, repository: str
) -> None:
    images = [image("crane-append", platform=f"linux/{name}") for name in ("amd64", "arm64")]
    for each in images:
        client.push_image(repository, each)
    name = f"{registry.address}/{repository}"
    crane("index", "append", "-m", f"{name}@{images[0].digest}", "-t", f"{name}:1")
    crane("index", "append", f"{name}:1", "-m", f"{name}@{images[1].digest}", "-t", f"{name}:2")
    entries = client.manifest(repository, "2").expect(200).json()["manifests"]
    assert [entry["digest"] for entry in entries] == [each.digest for each in images]


def test_a_layer_is_appended_and_exported(
    registry: RegistryUnderTest, client: RegistryClient, repository: str, tmp_path: Path
) -> None:
    client.push_image(repository, image("crane-base"), "1")
    (tmp_path / "added").write_text("added by crane\n")
    with tarfile.open(tmp_path / "layer.tar", "w") as layer:
        layer.add(tmp_path / "added", "added")
    name = f"{registry.address}/{repository}"
    crane("append", "-f", tmp_path / "layer.tar", "-b", f"{name}:1", "-t", f"{name}:2")
    crane("export", f"{name}:2", tmp_path / "all.tar")
    with tarfile.open(tmp_path / "all.tar") as everything:
        added = everything.extractfile("added")
        assert added is not None
        assert added.read() == b"added by crane\n"


def test_an_image_is_deleted(
    registry: RegistryUnderTest, client: RegistryClient, repository: str
) -> None:
    top = image("crane-delete")
    client.push_image(repository, top, "1")
    crane("delete", f"{registry.address}/{repository}@{top.digest}")
    assert client.manifest(repository, "1").status == 404
