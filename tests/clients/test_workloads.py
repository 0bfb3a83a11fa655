"""Workloads, with real clients: the token of an issuer is the password of the login ``oidc``."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from tests.parts.engines import DaemonlessEngine, DockerEngine
from tests.parts.images import digests_of, image, layout_digests, write_layout
from tests.parts.programs import CommandFailedError
from tests.parts.registries import RegistryUnderTest
from tests.unit.auth.signed import sign


KEY = ECKey.generate_key("P-256")
TRUSTED = {
    "issuer": "https://issuer.example",
    "audience": "registry",
    "conditions": {"repository": "octo/*"},
    "principal": "robot:ci:{repository}",
}
RULES = [
    {"repositories": ["app/**"], "actions": ["pull", "push"], "who": ["robot:ci:octo/app"]},
    {"repositories": ["**"], "actions": ["pull"], "who": ["anonymous"]},
]


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    folder = tmp_path_factory.mktemp("trusting")
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [{**KEY.as_dict(private=False), "kid": "key"}]}))
    access = {"oidc": [{**TRUSTED, "jwks": str(keys)}], "rules": RULES}
    with RegistryUnderTest(folder / "registry", settings={"access": access}) as running:
        yield running
        assert running.complaints() == []


def token(repository: str) -> str:
    now = int(time.time())
    said = {"iss": "https://issuer.example", "aud": "registry", "exp": now + 300}
    return sign(KEY, {"alg": "ES256", "kid": "key"}, {**said, "repository": repository})


@pytest.mark.parametrize("client", ["skopeo", "podman"])
def test_a_workload_pushes_and_pulls(
    trusting: RegistryUnderTest, here: DaemonlessEngine, client: str, tmp_path: Path
) -> None:
    top = image(f"workload-{client}", layers=2)
    source = write_layout(tmp_path / "source", top)
    name = f"docker://{trusting.address}/app/{client}:1"
    run = here.skopeo if client == "skopeo" else here.podman
    log_in = ("login", "--tls-verify=false", "--username", "oidc", "--password")
    with pytest.raises(CommandFailedError, match=r"invalid username/password|unauthorized"):
        run(*log_in, token("evil/app"), trusting.address)
    run(*log_in, token("octo/app"), trusting.address)
    here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", name)
    here.skopeo("copy", "--src-tls-verify=false", name, f"oci:{tmp_path / 'copy'}:latest")
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    elsewhere = f"docker://{trusting.address}/elsewhere:1"
    with pytest.raises(CommandFailedError, match="denied"):
        here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", elsewhere)


def test_docker_pushes(
    trusting: RegistryUnderTest, here: DaemonlessEngine, node_1: DockerEngine, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "source", image("workload-docker"))
    name = f"{trusting.address}/app/docker:1"
    log_in = ("--username", "oidc", "--password", token("octo/app"))
    here.skopeo("login", "--tls-verify=false", *log_in, trusting.address)
    here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", f"docker://{name}")
    node_1.docker("login", *log_in, trusting.address)
    try:
        node_1.docker("pull", name)
        again = f"{trusting.address}/app/docker:2"
        node_1.docker("tag", name, again)
        node_1.docker("push", again)
    finally:
        node_1.docker("logout", trusting.address)
