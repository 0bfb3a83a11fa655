"""cosign: an image is signed with a key; its signature is kept in each way that cosign knows."""

import json
from pathlib import Path

import pytest

from tests.parts.images import Image, image
from tests.parts.programs import CommandFailedError, run
from tests.parts.registries import RegistryUnderTest, is_predecessor
from tests.registry_client import RegistryClient, assert_served


pytestmark = pytest.mark.slow  # cosign takes minutes to build

OLD_FORMAT = "--new-bundle-format=false"

MODES = [
    pytest.param((), (), id="bundle"),
    pytest.param((OLD_FORMAT, "--registry-referrers-mode=legacy"), (OLD_FORMAT,), id="legacy"),
    pytest.param(
        (OLD_FORMAT, "--registry-referrers-mode=oci-1-1"),
        (OLD_FORMAT, "--experimental-oci11"),
        id="oci-1-1",
    ),
]
"""What is added to ``sign`` and to ``verify``."""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with a key pair."""
    cosign(tmp_path, "generate-key-pair")
    return tmp_path


def cosign(home: Path, *arguments: str | Path) -> str:
    env = {"HOME": str(home), "COSIGN_PASSWORD": "", "COSIGN_EXPERIMENTAL": "1"}
    return run("cosign", *arguments, env=env, cwd=home)


def sign(keys: Path, name: str, *flags: str) -> None:
    """Sign with the key alone: no log and no service is asked."""
    alone = ("--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", "--yes")
    cosign(keys, "sign", "--key", "cosign.key", *alone, *flags, name)


def verify(keys: Path, name: str, *flags: str) -> str:
    alone = ("--insecure-ignore-tlog=true", "--allow-http-registry")
    return cosign(keys, "verify", "--key", "cosign.pub", *alone, *flags, name)


@pytest.mark.parametrize(("signing", "verifying"), MODES)
def test_a_signature_is_found_and_verifies(
    registry: RegistryUnderTest,
    client: RegistryClient,
    repository: str,
    keys: Path,
    signing: tuple[str, ...],
    verifying: tuple[str, ...],
) -> None:
    top: Image = image(repository)
    client.push_image(repository, top, "1")
    name = f"{registry.address}/{repository}@{top.digest}"
    with pytest.raises(CommandFailedError):
        verify(keys, name, *verifying)
    sign(keys, name, *signing)
    (claim,) = json.loads(verify(keys, name, *verifying))
    assert claim["critical"]["image"]["docker-manifest-digest"] == top.digest
    assert_served(client, repository, top, "1")


@pytest.mark.skipif(is_predecessor(), reason="docker-registry has no referrers API")
def test_a_signature_is_a_referrer(
    registry: RegistryUnderTest, client: RegistryClient, repository: str, keys: Path
) -> None:
    top = image("cosign-referrer")
    client.push_image(repository, top, "1")
    sign(keys, f"{registry.address}/{repository}@{top.digest}")
    (referrer,) = client.referrers(repository, top.digest)
    assert referrer["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert client.tags(repository) == ["1"]
