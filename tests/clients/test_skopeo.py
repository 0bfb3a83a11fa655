"""skopeo: copies between layouts and the registry, lists and deletes."""

import json
from pathlib import Path

import pytest

from tests.parts.engines import DaemonlessEngine
from tests.parts.images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    Image,
    digests_of,
    image,
    index,
    layout_digests,
    multi_platform,
    write_layout,
)
from tests.parts.programs import CommandFailedError
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient


TO = "--dest-tls-verify=false"
FROM = "--src-tls-verify=false"
PLAIN = "--tls-verify=false"

TOPS = [
    pytest.param(image("skopeo", layers=3), id="image"),
    pytest.param(multi_platform("skopeo-index"), id="index"),
]


@pytest.mark.parametrize("top", TOPS)
def test_what_is_copied_in_comes_out_byte_for_byte(
    registry: RegistryUnderTest,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    repository: str,
    top: Image,
    tmp_path: Path,
) -> None:
    name = f"docker://{registry.address}/{repository}:1"
    source = write_layout(tmp_path / "source", top)
    here.skopeo("copy", "--all", "--preserve-digests", TO, f"oci:{source}:latest", name)
    elsewhere.skopeo(
        *("copy", "--all", "--preserve-digests", FROM, name, f"oci:{tmp_path / 'copy'}:latest")
    )
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    assert elsewhere.skopeo("inspect", "--raw", PLAIN, name) == top.manifest.body.decode()


@pytest.mark.parametrize(
    ("top", "media_type"),
    [
        pytest.param(image("skopeo-v2s2", layers=2), DOCKER_MANIFEST, id="image"),
        pytest.param(multi_platform("skopeo-v2s2-list"), DOCKER_LIST, id="list"),
    ],
)
def test_an_oci_image_is_pushed_as_docker_schema_2(
    registry: RegistryUnderTest,
    client: RegistryClient,
    here: DaemonlessEngine,
    repository: str,
    top: Image,
    media_type: str,
    tmp_path: Path,
) -> None:
    name = f"docker://{registry.address}/{repository}:1"
    source = write_layout(tmp_path / "source", top)
    here.skopeo("copy", "--all", "--format", "v2s2", TO, f"oci:{source}:latest", name)
    pushed = client.manifest(repository, "1").expect(200)
    assert pushed.header("Content-Type") == media_type
    here.skopeo("copy", "--all", FROM, name, f"dir:{tmp_path / 'copy'}")
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == pushed.body


def test_an_index_alone_is_pushed_onto_its_images(
    registry: RegistryUnderTest,
    client: RegistryClient,
    here: DaemonlessEngine,
    repository: str,
    tmp_path: Path,
) -> None:
    top = multi_platform("skopeo-index-only")
    client.push_image(repository, index(top.children, annotations={"only": "children"}))
    source = write_layout(tmp_path / "source", top)
    here.skopeo(
        *("copy", "--multi-arch", "index-only", TO, f"oci:{source}:latest"),
        f"docker://{registry.address}/{repository}:1",
    )
    assert client.manifest(repository, "1").expect(200).body == top.manifest.body


def test_a_copy_within_the_registry_is_the_same_image(
    registry: RegistryUnderTest, client: RegistryClient, here: DaemonlessEngine, repository: str
) -> None:
    top = multi_platform("skopeo-within")
    client.push_image(f"{repository}/from", top, "1")
    url = f"docker://{registry.address}/{repository}"
    here.skopeo("copy", "--all", FROM, TO, f"{url}/from:1", f"{url}/to:1")
    assert client.manifest(f"{repository}/to", "1").expect(200).body == top.manifest.body


def test_tags_are_listed_and_an_image_is_deleted(
    registry: RegistryUnderTest, client: RegistryClient, here: DaemonlessEngine, repository: str
) -> None:
    kept, gone = image("skopeo-kept"), image("skopeo-gone")
    client.push_image(repository, kept, "kept")
    client.push_image(repository, gone, "gone")
    url = f"docker://{registry.address}/{repository}"
    assert set(json.loads(here.skopeo("list-tags", PLAIN, url))["Tags"]) == {"gone", "kept"}
    here.skopeo("delete", PLAIN, f"{url}:gone")
    assert json.loads(here.skopeo("list-tags", PLAIN, url))["Tags"] == ["kept"]
    assert client.manifest(repository, gone.digest).status == 404


def test_a_client_that_expects_tls_is_told_that_there_is_none(
    registry: RegistryUnderTest, here: DaemonlessEngine, repository: str
) -> None:
    with pytest.raises(CommandFailedError, match="server gave HTTP response to HTTPS client"):
        here.skopeo("inspect", f"docker://{registry.address}/{repository}:1")
