"""podman and buildah: push from one storage, pull into another."""

from pathlib import Path

import pytest

from tests.parts.engines import DaemonlessEngine
from tests.parts.images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, image, write_layout
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient


PLAIN = "--tls-verify=false"

FORMATS = [
    pytest.param("oci", OCI_MANIFEST, id="oci"),
    pytest.param("v2s2", DOCKER_MANIFEST, id="docker"),
]


def identity(engine: DaemonlessEngine, name: str) -> tuple[str, str]:
    """Return an image's id, which is its configuration's digest, and the digests of its layers."""
    said = engine.podman("image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}", name)
    found, _, layers = said.strip().partition(" ")
    return found, layers


@pytest.mark.parametrize(("form", "media_type"), FORMATS)
def test_podman_pulls_what_podman_pushed(
    registry: RegistryUnderTest,
    client: RegistryClient,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    repository: str,
    form: str,
    media_type: str,
    tmp_path: Path,
) -> None:
    name = f"{registry.address}/{repository}:1"
    layout = write_layout(tmp_path / "layout", image("podman", layers=3))
    here.podman("pull", "--quiet", f"oci:{layout}:latest")
    loaded = here.podman("images", "--quiet", "--no-trunc").strip()
    here.podman("push", "--quiet", PLAIN, "--format", form, loaded, name)
    assert client.manifest(repository, "1").expect(200).header("Content-Type") == media_type
    elsewhere.podman("pull", "--quiet", PLAIN, name)
    assert identity(elsewhere, name)[1] == identity(here, loaded)[1]
    here.podman("rmi", "--force", loaded)
    here.podman("pull", "--quiet", PLAIN, name)
    assert identity(elsewhere, name) == identity(here, name)


def test_podman_pushes_and_pulls_a_manifest_list(
    registry: RegistryUnderTest,
    client: RegistryClient,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    repository: str,
    tmp_path: Path,
) -> None:
    name = f"{registry.address}/{repository}:1"
    here.podman("manifest", "create", "list")
    images = [image("podman-list", platform=f"linux/{name}") for name in ("amd64", "arm64")]
    for each in images:
        layout = write_layout(tmp_path / each.platform, each)
        here.podman("manifest", "add", "list", f"oci:{layout}:latest")
    here.podman("manifest", "push", "--all", PLAIN, "--format", "oci", "list", f"docker://{name}")
    pushed = client.manifest(repository, "1").expect(200)
    assert pushed.header("Content-Type") == OCI_INDEX
    assert [entry["digest"] for entry in pushed.json()["manifests"]] == [
        each.digest for each in images
    ]
    elsewhere.podman("pull", "--quiet", PLAIN, "--platform", "linux/arm64", name)
    assert identity(elsewhere, name)[0] == images[1].blobs[0].digest.removeprefix("sha256:")


@pytest.mark.parametrize(("form", "media_type"), FORMATS)
def test_buildah_pulls_what_buildah_built_and_pushed(
    registry: RegistryUnderTest,
    client: RegistryClient,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    repository: str,
    form: str,
    media_type: str,
    tmp_path: Path,
) -> None:
    name = f"{registry.address}/{repository}:1"
    (tmp_path / "file").write_text("built by buildah\n")
    (tmp_path / "Containerfile").write_text("FROM scratch\nADD file /\nLABEL a=b\n")
    built = "oci" if form == "oci" else "docker"
    here.buildah("build", "--quiet", "--format", built, "--tag", "built", tmp_path)
    here.buildah("push", "--quiet", PLAIN, "--format", form, "built", f"docker://{name}")
    assert client.manifest(repository, "1").expect(200).header("Content-Type") == media_type
    elsewhere.buildah("pull", "--quiet", PLAIN, name)
    assert identity(elsewhere, name) == identity(here, "localhost/built")
    container = elsewhere.buildah("from", name).strip()
    mounted = Path(elsewhere.buildah("mount", container).strip())
    assert (mounted / "file").read_text() == "built by buildah\n"
    elsewhere.buildah("rm", container)
