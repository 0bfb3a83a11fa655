"""Who may what, as real clients see it: anonymous pulls beside logged-in pushes."""

from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.parts.engines import DaemonlessEngine, DockerEngine
from tests.parts.images import digests_of, image, layout_digests, write_layout
from tests.parts.programs import CommandFailedError
from tests.parts.registries import RegistryUnderTest


HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
LOG_IN = ("--username", "pusher", "--password", "secret")
RULES = [
    {"repositories": ["closed/**"], "actions": ["pull", "push"], "who": ["user:pusher"]},
    {
        "repositories": ["closed/**"],
        "actions": ["*"],
        "who": ["anonymous"],
        "effect": "deny",
    },
    {"repositories": ["**"], "actions": ["pull"], "who": ["anonymous"]},
    {"repositories": ["open/**"], "actions": ["push", "delete"], "who": ["user:pusher"]},
]


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    folder = tmp_path_factory.mktemp("ruled")
    users = folder / "htpasswd"
    users.write_text(f"pusher:{HASH}\nreader:{HASH}\n")
    settings = {
        "auth": {"htpasswd": {"realm": "registry", "path": str(users)}},
        "access": {"rules": RULES},
    }
    with RegistryUnderTest(folder / "registry", settings=settings) as running:
        yield running
        assert running.complaints() == []


@pytest.mark.parametrize("client", ["skopeo", "podman"])
def test_who_logs_in_pushes_and_everybody_pulls(
    ruled: RegistryUnderTest,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    client: str,
    tmp_path: Path,
) -> None:
    top = image(f"access-{client}", layers=2)
    source = write_layout(tmp_path / "source", top)
    name = f"docker://{ruled.address}/open/{client}:1"
    copy = ("copy", "--dest-tls-verify=false", f"oci:{source}:latest", name)
    with pytest.raises(CommandFailedError, match=r"unauthorized|authentication required"):
        here.skopeo(*copy)
    run = here.skopeo if client == "skopeo" else here.podman
    run("login", "--tls-verify=false", *LOG_IN, ruled.address)
    here.skopeo(*copy)
    elsewhere.skopeo("copy", "--src-tls-verify=false", name, f"oci:{tmp_path / 'copy'}:latest")
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    here.skopeo("delete", "--tls-verify=false", name)


def test_a_wrong_password_and_a_wrong_place_are_refused(
    ruled: RegistryUnderTest, here: DaemonlessEngine, elsewhere: DaemonlessEngine, tmp_path: Path
) -> None:
    with pytest.raises(CommandFailedError, match=r"invalid username/password|unauthorized"):
        here.skopeo(
            *("login", "--tls-verify=false", "--username", "pusher", "--password", "wrong"),
            ruled.address,
        )
    source = write_layout(tmp_path / "source", image("access-refused"))
    here.skopeo("login", "--tls-verify=false", *LOG_IN, ruled.address)
    to = ("copy", "--dest-tls-verify=false", f"oci:{source}:latest")
    with pytest.raises(CommandFailedError, match="denied"):
        here.skopeo(*to, f"docker://{ruled.address}/elsewhere:1")
    here.skopeo(*to, f"docker://{ruled.address}/closed/a:1")
    with pytest.raises(CommandFailedError, match=r"unauthorized|authentication required"):
        elsewhere.skopeo("inspect", "--tls-verify=false", f"docker://{ruled.address}/closed/a:1")


def test_podman_pulls_without_logging_in(
    ruled: RegistryUnderTest, here: DaemonlessEngine, elsewhere: DaemonlessEngine, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "source", image("access-podman"))
    name = f"{ruled.address}/open/podman-pull:1"
    here.skopeo("login", "--tls-verify=false", *LOG_IN, ruled.address)
    here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", f"docker://{name}")
    elsewhere.podman("pull", "--tls-verify=false", name)


def test_docker_pulls_without_logging_in_and_pushes_with(
    ruled: RegistryUnderTest,
    here: DaemonlessEngine,
    node_1: DockerEngine,
    tmp_path: Path,
) -> None:
    source = write_layout(tmp_path / "source", image("access-docker", layers=2))
    name = f"{ruled.address}/open/docker:1"
    here.skopeo("login", "--tls-verify=false", *LOG_IN, ruled.address)
    here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", f"docker://{name}")
    node_1.docker("pull", name)
    again = f"{ruled.address}/open/docker-again:1"
    node_1.docker("tag", name, again)
    with pytest.raises(CommandFailedError, match=r"unauthorized|denied|authentication required"):
        node_1.docker("push", again)
    node_1.docker("login", *LOG_IN, ruled.address)
    try:
        node_1.docker("push", again)  # mounts what the other repository has
        node_1.docker("tag", name, f"{ruled.address}/elsewhere:1")
        with pytest.raises(CommandFailedError, match="denied"):
            node_1.docker("push", f"{ruled.address}/elsewhere:1")
    finally:
        node_1.docker("logout", ruled.address)
