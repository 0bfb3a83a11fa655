"""A token server beside the registry, as docker-distribution has it, and real clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.engines import DaemonlessEngine, DockerEngine
from tests.parts.images import digests_of, image, layout_digests, write_layout
from tests.parts.programs import CommandFailedError
from tests.parts.registries import RegistryUnderTest
from tests.parts.token_server import token_server


REFUSED = r"unauthorized|denied|authentication required|invalid username/password"
PUSHER = ("--username", "pusher", "--password", "secret")
READER = ("--username", "reader", "--password", "secret")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    folder = tmp_path_factory.mktemp("guarded")
    with (
        token_server(folder) as section,
        RegistryUnderTest(folder / "registry", settings={"auth": {"token": section}}) as running,
    ):
        yield running
        assert running.complaints() == []


@pytest.mark.parametrize("client", ["skopeo", "podman"])
def test_who_gets_a_token_pushes_and_everybody_pulls(
    guarded: RegistryUnderTest,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    client: str,
    tmp_path: Path,
) -> None:
    top = image(f"token-{client}", layers=2)
    source = write_layout(tmp_path / "source", top)
    name = f"docker://{guarded.address}/open/{client}:1"
    copy = ("copy", "--dest-tls-verify=false", f"oci:{source}:latest")
    run = here.skopeo if client == "skopeo" else here.podman
    with pytest.raises(CommandFailedError, match=REFUSED):
        run("login", "--tls-verify=false", *PUSHER[:3], "wrong", guarded.address)
    run("login", "--tls-verify=false", *READER, guarded.address)
    with pytest.raises(CommandFailedError, match=REFUSED):
        here.skopeo(*copy, name)
    run("login", "--tls-verify=false", *PUSHER, guarded.address)
    here.skopeo(*copy, name)
    with pytest.raises(CommandFailedError, match=REFUSED):
        here.skopeo(*copy, f"docker://{guarded.address}/closed/{client}:1")
    elsewhere.skopeo("copy", "--src-tls-verify=false", name, f"oci:{tmp_path / 'copy'}:latest")
    assert layout_digests(tmp_path / "copy") == digests_of(top)


def test_docker_logs_in_pushes_and_pulls(
    guarded: RegistryUnderTest, here: DaemonlessEngine, node_1: DockerEngine, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "source", image("token-docker", layers=2))
    name = f"{guarded.address}/open/docker:1"
    here.skopeo("login", "--tls-verify=false", *PUSHER, guarded.address)
    here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", f"docker://{name}")
    node_1.docker("pull", name)
    again = f"{guarded.address}/open/docker:2"
    node_1.docker("tag", name, again)
    with pytest.raises(CommandFailedError, match=REFUSED):
        node_1.docker("push", again)
    node_1.docker("login", *PUSHER, guarded.address)
    try:
        node_1.docker("push", again)
    finally:
        node_1.docker("logout", guarded.address)
