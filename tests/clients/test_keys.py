"""API keys, as real clients use them: made beside a server with two workers, and revoked."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dockyard.core.known_keys import FRESH_SECONDS
from tests.parts.engines import DaemonlessEngine, DockerEngine
from tests.parts.images import digests_of, image, layout_digests, write_layout
from tests.parts.programs import CommandFailedError
from tests.parts.registries import RegistryUnderTest, server_program


RULES = [{"repositories": ["team/**"], "actions": ["pull", "push"], "who": ["robot:ci"]}]
OWNER = "robot$ci"
REFUSED = (
    r"unauthorized|denied|authentication required|invalid username/password|too ?many ?requests"
)
"""What clients say; the last one where a key that has ended was tried often in a few seconds."""
ATTEMPTS = 4
"""With two workers, seven times of eight each is asked at least once."""
SOON = 15.0
"""Seconds until a use is in the list; workers write once in a few."""


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    settings = {"http": {"workers": 2}, "access": {"robots": {"ci": {}}, "rules": RULES}}
    folder = tmp_path_factory.mktemp("keys")
    with RegistryUnderTest(folder / "registry", settings=settings) as running:
        yield running
        assert running.complaints() == []


def manage(registry: RegistryUnderTest, *arguments: str) -> str:
    """Run a command ``key`` beside the server; return what it prints."""
    done = subprocess.run(
        [server_program(), "key", *arguments, "--config", str(registry.config)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def revoke(registry: RegistryUnderTest, key: str) -> None:
    """Revoke a key, and wait as long as a worker may not know it."""
    manage(registry, "revoke", key)
    time.sleep(FRESH_SECONDS)


def assert_refused(attempt: Callable[[], object]) -> None:
    """Assert that a client is refused whichever worker it comes to."""
    for _ in range(ATTEMPTS):
        with pytest.raises(CommandFailedError, match=REFUSED):
            attempt()


def test_skopeo_logs_in_pushes_and_pulls_until_the_key_is_revoked(
    ruled: RegistryUnderTest,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    tmp_path: Path,
) -> None:
    secret = manage(ruled, "create", "skopeo", "--owner", OWNER)
    top = image("keys-skopeo", layers=2)
    source = write_layout(tmp_path / "source", top)
    name = f"docker://{ruled.address}/team/skopeo:1"
    log_in = ("login", "--tls-verify=false", "--username", OWNER, "--password", secret)
    push = ("copy", "--dest-tls-verify=false", f"oci:{source}:latest", name)
    for engine in (here, elsewhere):
        engine.skopeo(*log_in, ruled.address)
    here.skopeo(*push)
    elsewhere.skopeo("copy", "--src-tls-verify=false", name, f"oci:{tmp_path / 'copy'}:latest")
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    revoke(ruled, "skopeo")
    assert_refused(lambda: here.skopeo(*push))
    assert_refused(lambda: elsewhere.skopeo("inspect", "--tls-verify=false", name))
    assert_refused(lambda: here.skopeo(*log_in, ruled.address))


def test_a_key_for_pulling_does_not_push(
    ruled: RegistryUnderTest, here: DaemonlessEngine, elsewhere: DaemonlessEngine, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "source", image("keys-narrow"))
    both = manage(ruled, "create", "both", "--owner", OWNER)
    scope = ("--action", "pull", "--repository", "team/narrow")
    pull = manage(ruled, "create", "pull", "--owner", OWNER, *scope)
    for engine, secret in ((here, both), (elsewhere, pull)):
        engine.skopeo(
            *("login", "--tls-verify=false", "--username", OWNER, "--password", secret),
            ruled.address,
        )
    to = ("copy", "--dest-tls-verify=false", f"oci:{source}:latest")
    for name in ("team/narrow", "team/other"):
        here.skopeo(*to, f"docker://{ruled.address}/{name}:1")
    show = ("inspect", "--tls-verify=false")
    elsewhere.skopeo(*show, f"docker://{ruled.address}/team/narrow:1")
    with pytest.raises(CommandFailedError, match="denied"):
        elsewhere.skopeo(*show, f"docker://{ruled.address}/team/other:1")
    with pytest.raises(CommandFailedError, match="denied"):
        elsewhere.skopeo(*to, f"docker://{ruled.address}/team/narrow:2")


def test_docker_logs_in_pushes_and_pulls_until_the_key_is_revoked(
    ruled: RegistryUnderTest, here: DaemonlessEngine, node_1: DockerEngine, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "source", image("keys-docker", layers=2))
    secret = manage(ruled, "create", "docker", "--owner", OWNER)
    log_in = ("--username", OWNER, "--password", secret)
    here.skopeo("login", "--tls-verify=false", *log_in, ruled.address)
    name = f"{ruled.address}/team/docker:1"
    here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", f"docker://{name}")
    node_1.docker("login", *log_in, ruled.address)
    try:
        node_1.docker("pull", name)
        again = f"{ruled.address}/team/docker-again:1"
        node_1.docker("tag", name, again)
        node_1.docker("push", again)
        revoke(ruled, "docker")
        assert_refused(lambda: node_1.docker("pull", again))
        assert_refused(lambda: node_1.docker("login", *log_in, ruled.address))
    finally:
        node_1.docker("logout", ruled.address)


def test_the_list_tells_when_a_key_was_used(
    ruled: RegistryUnderTest, here: DaemonlessEngine
) -> None:
    secret = manage(ruled, "create", "used", "--owner", OWNER)
    assert "never used" in line_of(ruled, "used")
    log_in = ("login", "--tls-verify=false", "--username", OWNER, "--password", secret)
    here.skopeo(*log_in, ruled.address)
    deadline = time.monotonic() + SOON
    while "never used" in line_of(ruled, "used"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def line_of(registry: RegistryUnderTest, key: str) -> str:
    lines = manage(registry, "list").splitlines()
    return next(line for line in lines if line.startswith(f"{key} "))
