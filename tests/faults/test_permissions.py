"""A tree we may not write to, or not even read: pulls go on where they can; the rest is told."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.conftest import Mount
from tests.live import LiveRegistry, serving
from tests.parts.images import OCI_MANIFEST, image
from tests.parts.programs import attempt, require, require_root
from tests.registry_client import Answer, RegistryClient, assert_served


NAME: Final = "theirs/one"
KEPT: Final = image("kept")
SOMEBODY: Final = 12345


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def fill(registry: LiveRegistry) -> None:
    with RegistryClient(registry.address) as client:
        client.push_image(NAME, KEPT, "v1")


def refused(answer: Answer) -> None:
    assert answer.expect(503).codes() == ["UNAVAILABLE"]
    assert b"docker/registry" not in answer.body


def assert_pushes_are_refused(client: RegistryClient, name: str) -> None:
    refused(client.request("POST", f"/v2/{name}/blobs/uploads/", body=b""))
    refused(client.push_manifest(name, "v2", KEPT.manifest.body, OCI_MANIFEST))


def test_a_disk_that_becomes_read_only(tmp_path: Path, mount: Mount) -> None:
    """As ext4 becomes after an error. Pulls go on; pushing works again once it is mended."""
    disk = mount("size=16m")
    # The one who purges holds a lock, which is a file open for writing: the remount would fail.
    settings = {"storage": {"maintenance": {"uploadpurging": {"enabled": False}}}}
    with (
        LiveRegistry(tmp_path / "registry", root=disk / "root", settings=settings) as registry,
        RegistryClient(registry.address) as client,
    ):
        fill(registry)
        remount(disk, "ro")
        assert_served(client, NAME, KEPT, "v1")
        assert client.catalog() == [NAME]
        assert_pushes_are_refused(client, NAME)
        refused(client.delete_manifest(NAME, "v1"))
        assert_served(client, NAME, KEPT, "v1")
        remount(disk, "rw")
        client.push_image(NAME, image("other"), "v2")
        assert "Read-only file system" in registry.messages
    registry.assert_no_trace()


def test_a_read_only_disk_is_served_in_read_only_mode(tmp_path: Path, mount: Mount) -> None:
    disk = mount("size=16m")
    registry = LiveRegistry(tmp_path / "registry", root=disk / "root")
    with registry:
        fill(registry)
    remount(disk, "ro")
    refusal = attempt(sys.executable, "-m", "dockyard", "serve", registry.config)
    assert refusal.returncode == 1
    assert "can't write to" in refusal.stderr.strip().splitlines()[-1]
    assert "Traceback" not in refusal.stderr
    registry.configure({"storage": {"maintenance": {"readonly": {"enabled": True}}}})
    with registry, RegistryClient(registry.address) as client:
        assert_served(client, NAME, KEPT, "v1")
        assert client.catalog() == [NAME]
        assert client.tags(NAME) == ["v1"]
        assert client.referrers(NAME, KEPT.digest) == []
        client.request("POST", f"/v2/{NAME}/blobs/uploads/", body=b"").expect(405)
    registry.assert_no_trace()


@pytest.fixture
def without_privileges(tmp_path: Path) -> str:
    """A program that runs `registry` as root without the right to pass over permissions."""
    require_root("to give files to somebody else")
    program = tmp_path / "registry-without-privileges"
    bounding = "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown"
    command = [require("setpriv"), bounding, "--inh-caps=-all", sys.executable, "-m", "dockyard"]
    program.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def theirs(tmp_path: Path, without_privileges: str) -> Iterator[LiveRegistry]:
    """A registry in whose tree one repository belongs to somebody else."""
    with serving(tmp_path / "registry") as filled:
        fill(filled)
    folder = filled.root / "docker/registry/v2/repositories" / NAME
    for path in (folder, *folder.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
    registry = LiveRegistry(tmp_path / "registry", program=without_privileges)
    with registry:
        yield registry
    registry.assert_no_trace()


def test_a_repository_owned_by_another_is_served(theirs: LiveRegistry) -> None:
    with RegistryClient(theirs.address) as client:
        assert_served(client, NAME, KEPT, "v1")
        assert_pushes_are_refused(client, NAME)
        refused(client.delete_manifest(NAME, "v1"))
        client.push_image("ours/one", image("other"), "v1")
        assert_served(client, "ours/one", image("other"), "v1")
        assert client.catalog() == ["ours/one", NAME]
        assert "Permission denied" in theirs.messages
        assert NAME in theirs.messages


def test_what_may_not_be_read_concerns_its_item_only(theirs: LiveRegistry) -> None:
    base = theirs.root / "docker/registry/v2"
    digest = KEPT.blobs[1].digest
    hexadecimals = digest.removeprefix("sha256:")
    blob = base / "blobs/sha256" / hexadecimals[:2] / hexadecimals / "data"
    link = base / "repositories" / NAME / "_manifests/tags/v1/current/link"
    for path in (blob, link):
        path.chmod(0)
        os.chown(path, SOMEBODY, SOMEBODY)
    with RegistryClient(theirs.address) as client:
        refused(client.blob(NAME, digest))
        refused(client.manifest(NAME, "v1"))
        assert client.manifest(NAME, KEPT.digest).expect(200).body == KEPT.manifest.body
        assert client.tags(NAME) == ["v1"]
        assert client.catalog() == [NAME]


def test_a_tree_owned_by_another_stops_the_start_in_one_line(
    tmp_path: Path, without_privileges: str
) -> None:
    with serving(tmp_path / "registry") as filled:
        fill(filled)
    for path in (filled.root, *filled.root.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
    refusal = attempt(without_privileges, "serve", filled.config)
    assert refusal.returncode == 1
    (line,) = refusal.stderr.strip().splitlines()
    assert f"can't write to {filled.root}: permission denied" in line
