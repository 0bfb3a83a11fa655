"""The command ``fsck``, as a program."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from tests.parts.images import digests_of, image
from tests.unit.core.pushing import Tree


ONE = image("one", layers=3)
LAYER = Digest.parse(ONE.blobs[-1].digest)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose tree has one image."""
    asyncio.run(Tree(FilesystemStorage(tmp_path)).push("team/a", ONE, "v1"))
    path = tmp_path / "config.yml"
    path.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}}}}}\n")
    return path


def fsck(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dockyard", "fsck", "--config", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_whole_tree(config: Path) -> None:
    done = fsck(config, "--verify-digests")
    assert (done.returncode, done.stdout) == (0, "0 problems, 0 repaired, 0 left\n")


def test_a_damaged_one_is_named_and_repaired(config: Path) -> None:
    path = layout.blob(LAYER)
    (config.parent / path).write_bytes(b"")
    done = fsck(config)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith(f"damaged blob: {path} (")
    assert done.stdout.splitlines()[1] == "1 problems, 0 repaired, 1 left"
    assert "push it again" in done.stdout
    repaired = fsck(config, "--repair", "--json")
    assert repaired.returncode == 0
    document = json.loads(repaired.stdout)
    assert document["left"] == 0
    assert [each["kind"] for each in document["problems"]] == ["damaged-blob"]
    assert fsck(config, "--json").returncode == 1  # the link leads nowhere now


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rate", "fast"], "'fast' is no rate, such as 50M"),
        (["--config", "/nowhere.yml"], "configuration error"),
    ],
)
def test_a_mistake_is_told(config: Path, options: list[str], said: str) -> None:
    done = fsck(config, *options)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_verified_before_a_kill_is_not_verified_again(config: Path) -> None:
    """What is damaged behind its back is found only by one that begins anew."""
    digests = sorted(Digest.parse(text) for text in digests_of(ONE))
    cursor = kill_in_the_middle(config, digests[1])
    verified = [digest for digest in digests if digest <= cursor and str(digest) != ONE.digest]
    path = config.parent / layout.blob(verified[0])
    flipped = bytearray(path.read_bytes())
    flipped[0] ^= 1
    path.write_bytes(flipped)
    went_on = fsck(config, "--verify-digests", "--rate", "0")
    assert (went_on.returncode, went_on.stdout) == (0, "0 problems, 0 repaired, 0 left\n")
    anew = fsck(config, "--verify-digests", "--rate", "0")
    assert anew.returncode == 1
    assert anew.stdout.startswith(f"damaged blob: {layout.blob(verified[0])} (")


def kill_in_the_middle(config: Path, until: Digest) -> Digest:
    """Kill a slow verification once it noted that it came to `until`; return where it came."""
    note = config.parent / layout.check_progress()
    program = (
        "import sys, dockyard.core.verification as v; v.NOTED_SECONDS = 0.0; "
        "from dockyard.cli import main; sys.exit(main())"
    )
    arguments = ["fsck", "--config", str(config), "--verify-digests", "--rate", "200"]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments])
    deadline = time.monotonic() + 60
    cursor = None
    while cursor is None or cursor < until:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
        if note.exists():
            cursor = Digest.parse(json.loads(note.read_text())["cursor"])
    process.send_signal(signal.SIGKILL)
    process.wait()
    return cursor
