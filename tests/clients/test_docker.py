"""docker: push from one engine, pull on another."""

import re

import pytest

from tests.parts.engines import DockerEngine
from tests.parts.images import DOCKER_MANIFEST, Image, multi_platform
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient


def test_an_image_is_the_same_on_the_other_node(
    registry: RegistryUnderTest, node_1: DockerEngine, node_2: DockerEngine, repository: str
) -> None:
    name = f"{registry.address}/{repository}:1"
    pushed = node_1.make_image(name, {"a": "a\n", "b": "b\n"}, layers=4)
    node_1.docker("push", name)
    node_2.docker("pull", name)
    assert node_2.image_id(name) == pushed
    assert node_2.layers(name) == node_1.layers(name)


def test_a_layer_of_many_megabytes_arrives_whole(
    registry: RegistryUnderTest, node_1: DockerEngine, node_2: DockerEngine, repository: str
) -> None:
    name = f"{registry.address}/{repository}:1"
    text = "".join(f"{number:x}" for number in range(5_000_000))  # 28 MB, which gzip halves
    pushed = node_1.make_image(name, {"large": text}, layers=1)
    node_1.docker("push", name)
    node_2.docker("pull", name)
    assert node_2.image_id(name) == pushed


def test_layers_are_mounted_from_another_repository(
    registry: RegistryUnderTest, node_1: DockerEngine, node_2: DockerEngine, repository: str
) -> None:
    first, second = (f"{registry.address}/{repository}/{name}:1" for name in ("first", "second"))
    pushed = node_1.make_image(first, {"a": "mounted\n"}, layers=3)
    node_1.docker("push", first)
    node_1.docker("tag", first, second)
    said = node_1.docker("push", second)
    assert len(re.findall(rf": Mounted from {repository}/first\s*$", said, re.MULTILINE)) == 3
    node_2.docker("pull", second)
    assert node_2.image_id(second) == pushed


def test_a_second_push_sends_nothing(
    registry: RegistryUnderTest, node_1: DockerEngine, repository: str
) -> None:
    name = f"{registry.address}/{repository}:1"
    node_1.make_image(name, {"a": "again\n"}, layers=2)
    digests = [re.findall(r"digest: (\S+) size", node_1.docker("push", name)) for _ in range(2)]
    assert digests[0] == digests[1] != []
    assert node_1.docker("push", name).count("Layer already exists") == 2


def test_a_pull_by_digest_gives_the_pushed_image(
    registry: RegistryUnderTest, node_1: DockerEngine, node_2: DockerEngine, repository: str
) -> None:
    name = f"{registry.address}/{repository}:1"
    pushed = node_1.make_image(name, {"a": "by digest\n"}, layers=2)
    digest = re.findall(r"digest: (\S+) size", node_1.docker("push", name))[0]
    by_digest = f"{registry.address}/{repository}@{digest}"
    node_2.docker("pull", by_digest)
    assert node_2.image_id(by_digest) == pushed


@pytest.mark.parametrize(
    "top",
    [
        pytest.param(multi_platform("docker-list", docker=True), id="manifest-list"),
        pytest.param(multi_platform("docker-index"), id="oci-index"),
    ],
)
def test_the_image_for_this_platform_is_chosen(
    registry: RegistryUnderTest,
    client: RegistryClient,
    node_2: DockerEngine,
    repository: str,
    top: Image,
) -> None:
    client.push_image(repository, top, "1")
    name = f"{registry.address}/{repository}:1"
    assert f"Digest: {top.digest}" in node_2.docker("pull", "--platform", "linux/amd64", name)
    assert node_2.image_id(name) == top.children[0].blobs[0].digest
    said = node_2.docker("pull", "--platform", "linux/arm64", name)
    assert f"Digest: {top.digest}" in said
    assert node_2.image_id(name) == top.children[1].blobs[0].digest


def test_an_overwritten_tag_is_pulled_anew(
    registry: RegistryUnderTest, node_1: DockerEngine, node_2: DockerEngine, repository: str
) -> None:
    name = f"{registry.address}/{repository}:1"
    for number in range(2):
        pushed = node_1.make_image(name, {f"overwritten-{number}": "\n"}, layers=1)
        node_1.docker("push", name)
        node_2.docker("pull", name)
        assert node_2.image_id(name) == pushed


def test_the_pushed_manifest_is_docker_schema_2(
    registry: RegistryUnderTest, client: RegistryClient, node_1: DockerEngine, repository: str
) -> None:
    name = f"{registry.address}/{repository}:1"
    node_1.make_image(name, {"a": "schema 2\n"}, layers=1)
    node_1.docker("push", name)
    assert client.manifest(repository, "1").expect(200).header("Content-Type") == DOCKER_MANIFEST
