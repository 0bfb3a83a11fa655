"""The file of users where it can't be replaced: the commands say why, and what to do."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Mount
from tests.unit.cli.accounts import Accounts
from tests.unit.cli.command_trees import assert_told


CHANGES = [
    pytest.param(("user", "add", "carol", "--password-stdin"), id="add"),
    pytest.param(("user", "passwd", "bob", "--password-stdin"), id="passwd"),
    pytest.param(("user", "remove", "bob"), id="remove"),
]


@pytest.fixture
def accounts(tmp_path: Path, mount: Mount) -> Accounts:
    """A configuration whose password file is on a disk of its own."""
    accounts = Accounts(tmp_path)
    there = mount("size=1m") / "htpasswd"
    there.write_bytes(accounts.users.read_bytes())
    accounts.users = there
    accounts.configure()
    return accounts


@pytest.fixture
def read_only(accounts: Accounts) -> Accounts:
    """The same with that disk read-only, as of a container's volume with ``:ro``."""
    remount = ["mount", "-o", "remount,ro", str(accounts.users.parent)]
    subprocess.run(remount, check=True)
    return accounts


@pytest.fixture
def mounted_alone(accounts: Accounts) -> Iterator[Accounts]:
    """The same with the file mounted by itself, as ``docker run -v FILE:FILE`` does."""
    subprocess.run(["mount", "--bind", str(accounts.users), str(accounts.users)], check=True)
    try:
        yield accounts
    finally:
        subprocess.run(["umount", "-l", str(accounts.users)], check=True)


@pytest.mark.parametrize("change", CHANGES)
def test_on_a_read_only_disk(read_only: Accounts, change: tuple[str, ...]) -> None:
    before = read_only.users.read_bytes()
    assert_told(
        read_only.run(*change, given="another"),
        f"{read_only.users} can't be changed: read-only file system",
        "do it where the file system can be written",
    )
    assert read_only.users.read_bytes() == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_mounted_by_itself(mounted_alone: Accounts, change: tuple[str, ...]) -> None:
    users = mounted_alone.users
    before = users.read_bytes()
    assert_told(
        mounted_alone.run(*change, given="another"),
        f"{users} can't be changed: device or resource busy",
        "mounted by itself, so it can't be replaced: mount its directory instead",
    )
    assert users.read_bytes() == before
    assert list(users.parent.iterdir()) == [users]  # nothing half done is left beside it


def test_what_only_reads_needs_no_more(read_only: Accounts) -> None:
    assert read_only.run("user", "list").stdout.splitlines() == ["alice", "bob"]
