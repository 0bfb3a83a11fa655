"""oras, the command: files as artifacts, and artifacts attached to images."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parts.images import image, multi_platform
from tests.parts.programs import run
from tests.parts.registries import RegistryUnderTest, is_predecessor
from tests.registry_client import RegistryClient, assert_served


KIND = "application/vnd.example.readme"


def oras(*arguments: str | Path, cwd: Path | None = None) -> str:
    return run("oras", *arguments, cwd=cwd)


def discovered(name: str, *flags: str) -> list[dict[str, Any]]:
    said = json.loads(oras("discover", "--plain-http", "--format", "json", *flags, name))
    return list(said.get("referrers") or said.get("manifests") or [])


def test_pushed_files_are_pulled(
    registry: RegistryUnderTest, repository: str, tmp_path: Path
) -> None:
    name = f"{registry.address}/{repository}:1"
    texts = {"one.txt": "one\n", "two.txt": "two\n" * 100_000}
    for path, text in texts.items():
        (tmp_path / path).write_text(text)
    oras("push", "--plain-http", "--artifact-type", KIND, name, *texts, cwd=tmp_path)
    oras("pull", "--plain-http", "--output", tmp_path / "pulled", name)
    assert {path: (tmp_path / "pulled" / path).read_text() for path in texts} == texts


@pytest.mark.parametrize("way", ["v1.1-referrers-api", "v1.1-referrers-tag"])
def test_what_is_attached_is_discovered_and_pulled(
    registry: RegistryUnderTest, client: RegistryClient, repository: str, way: str, tmp_path: Path
) -> None:
    if way == "v1.1-referrers-api" and is_predecessor():
        pytest.skip("docker-registry has no referrers API")
    top = image(f"oras-{way}")
    client.push_image(repository, top, "1")
    name = f"{registry.address}/{repository}:1"
    (tmp_path / "readme.md").write_text(f"attached by {way}\n")
    for kind in (KIND, "application/vnd.example.other"):
        oras(
            *("attach", "--plain-http", "--distribution-spec", way, "--artifact-type", kind),
            *(name, "readme.md"),
            cwd=tmp_path,
        )
    assert len(discovered(name)) == 2
    found = discovered(name, "--artifact-type", KIND)
    assert [entry["artifactType"] for entry in found] == [KIND]
    by_digest = f"{registry.address}/{repository}@{found[0]['digest']}"
    oras("pull", "--plain-http", "--output", tmp_path / "pulled", by_digest)
    assert (tmp_path / "pulled" / "readme.md").read_text() == f"attached by {way}\n"
    assert_served(client, repository, top, "1")


def test_an_image_is_copied_with_what_is_attached_to_it(
    registry: RegistryUnderTest, client: RegistryClient, repository: str, tmp_path: Path
) -> None:
    top = multi_platform("oras-copy")
    client.push_image(f"{repository}/from", top, "1")
    source, target = (f"{registry.address}/{repository}/{name}:1" for name in ("from", "to"))
    (tmp_path / "readme.md").write_text("copied\n")
    oras("attach", "--plain-http", "--artifact-type", KIND, source, "readme.md", cwd=tmp_path)
    oras("cp", "--recursive", "--from-plain-http", "--to-plain-http", source, target)
    assert_served(client, f"{repository}/to", top, "1")
    assert [entry["artifactType"] for entry in discovered(target)] == [KIND]


def test_tags_and_repositories_are_listed_and_an_image_is_deleted(
    registry: RegistryUnderTest, client: RegistryClient, repository: str
) -> None:
    top = image("oras-list")
    client.push_image(repository, top, "b", "a")
    name = f"{registry.address}/{repository}"
    oras("tag", "--plain-http", f"{name}:a", "c")
    assert sorted(oras("repo", "tags", "--plain-http", name).split()) == ["a", "b", "c"]
    assert repository in oras("repo", "ls", "--plain-http", registry.address).split()
    oras("manifest", "delete", "--plain-http", "--force", f"{name}@{top.digest}")
    assert client.tags(repository) == []


def test_a_blob_is_pushed_fetched_and_deleted(
    registry: RegistryUnderTest, client: RegistryClient, repository: str, tmp_path: Path
) -> None:
    (tmp_path / "blob").write_text("a blob by oras\n")
    name = f"{registry.address}/{repository}"
    said = oras("blob", "push", "--plain-http", "--descriptor", name, tmp_path / "blob")
    digest = json.loads(said)["digest"]
    assert (
        oras("blob", "fetch", "--plain-http", "--output", "-", f"{name}@{digest}")
        == "a blob by oras\n"
    )
    oras("blob", "delete", "--plain-http", "--force", f"{name}@{digest}")
    assert client.blob(repository, digest).status == 404
