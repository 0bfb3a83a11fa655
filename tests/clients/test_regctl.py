"""regctl: copies with referrers, artifacts about images, deletion of tags."""

import json
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


class Regctl:
    """regctl with a home of its own, which knows that the registry speaks plain HTTP."""

    def __init__(self, home: Path, address: str) -> None:
        self._home = home
        self._host = f"reg={address},tls=disabled"

    def __call__(self, *arguments: str | Path, stdin: str | None = None) -> str:
        env = {"HOME": str(self._home), "REGCTL_CONFIG": str(self._home / "regctl.json")}
        return run("regctl", "--host", self._host, *arguments, env=env, stdin=stdin)


@pytest.fixture
def regctl(registry: RegistryUnderTest, tmp_path: Path) -> Regctl:
    return Regctl(tmp_path, registry.address)


@pytest.mark.parametrize(
    "top",
    [
        pytest.param(image("regctl", layers=3), id="image"),
        pytest.param(multi_platform("regctl-index"), id="index"),
    ],
)
def test_a_copied_image_comes_out_byte_for_byte(
    registry: RegistryUnderTest,
    client: RegistryClient,
    regctl: Regctl,
    repository: str,
    top: Image,
    tmp_path: Path,
) -> None:
    name = f"{registry.address}/{repository}:1"
    source = write_layout(tmp_path / "source", top)
    regctl("image", "copy", f"ocidir://{source}:latest", name)
    regctl("image", "copy", name, f"ocidir://{tmp_path / 'copy'}:1")
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    assert_served(client, repository, top, "1")


def test_an_artifact_about_an_image_is_found_and_copied_with_it(
    registry: RegistryUnderTest, client: RegistryClient, regctl: Regctl, repository: str
) -> None:
    client.push_image(f"{repository}/from", image("regctl-subject"), "1")
    source, target = (f"{registry.address}/{repository}/{name}:1" for name in ("from", "to"))
    kind = "application/vnd.example.sbom"
    put = ("artifact", "put", "--artifact-type", kind, "--annotation", "by=regctl")
    regctl(*put, "--subject", source, stdin="sbom of the image\n")
    regctl(*put, "--subject", source, stdin="another sbom\n")
    found = json.loads(regctl("artifact", "list", source, "--format", "{{json .}}"))["descriptors"]
    assert [entry["artifactType"] for entry in found] == [kind] * 2
    assert [entry["annotations"]["by"] for entry in found] == ["regctl"] * 2
    regctl("image", "copy", "--referrers", source, target)
    copied = json.loads(regctl("artifact", "list", target, "--format", "{{json .}}"))["descriptors"]
    assert {entry["digest"] for entry in copied} == {entry["digest"] for entry in found}
    said = {
        regctl("artifact", "get", f"{registry.address}/{repository}/to@{entry['digest']}")
        for entry in copied
    }
    assert said == {"sbom of the image\n", "another sbom\n"}


def test_an_artifact_is_got_by_its_subject(
    registry: RegistryUnderTest, client: RegistryClient, regctl: Regctl, repository: str
) -> None:
    client.push_image(repository, image("regctl-get"), "1")
    name = f"{registry.address}/{repository}:1"
    for kind in ("sbom", "signature"):
        media_type = f"application/vnd.example.{kind}"
        regctl(
            *("artifact", "put", "--artifact-type", media_type, "--subject", name),
            stdin=f"{kind}\n",
        )
    wanted = "application/vnd.example.signature"
    got = regctl("artifact", "get", "--subject", name, "--filter-artifact-type", wanted)
    assert got == "signature\n"


def test_tags_are_listed_and_one_is_deleted_without_its_image(
    registry: RegistryUnderTest, client: RegistryClient, regctl: Regctl, repository: str
) -> None:
    top = image("regctl-tags")
    client.push_image(repository, top, "a", "b")
    name = f"{registry.address}/{repository}"
    assert sorted(regctl("tag", "ls", name).split()) == ["a", "b"]
    regctl("tag", "delete", f"{name}:a")
    assert regctl("tag", "ls", name).split() == ["b"]
    assert_served(client, repository, top, "b")
    assert repository in regctl("repo", "ls", registry.address).split()


def test_a_blob_is_put_and_got(
    registry: RegistryUnderTest, regctl: Regctl, repository: str
) -> None:
    name = f"{registry.address}/{repository}"
    digest = regctl("blob", "put", name, stdin="a blob by regctl\n").strip()
    assert regctl("blob", "get", name, digest) == "a blob by regctl\n"


def test_an_image_is_deleted(
    registry: RegistryUnderTest, client: RegistryClient, regctl: Regctl, repository: str
) -> None:
    top = image("regctl-delete")
    client.push_image(repository, top, "1")
    regctl("manifest", "delete", f"{registry.address}/{repository}@{top.digest}")
    assert client.manifest(repository, "1").status == 404
