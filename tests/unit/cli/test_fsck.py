"""The command ``fsck``, as a program."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from tests.parts.daemon import wait_for
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
    assert "push the image again" in done.stdout
    assert fsck(config).stdout == done.stdout  # nothing was changed


def test_what_a_repair_leads_to_is_told_by_the_same_run(config: Path) -> None:
    """A blob that is set aside is out of the way; the image that needs it is not whole."""
    (config.parent / layout.blob(LAYER)).write_bytes(b"")
    repaired = fsck(config, "--repair", "--json")
    assert repaired.returncode == 1
    document = json.loads(repaired.stdout)
    done = {each["kind"]: each["repaired"] for each in document["problems"]}
    aside = "moved to the quarantine"
    assert done == {"damaged-blob": aside, "dangling-layer": aside, "incomplete": ""}
    assert (document["left"], document["interrupted"]) == (1, False)
    asyncio.run(Tree(FilesystemStorage(config.parent)).push("team/a", ONE, "v1"))
    assert fsck(config, "--verify-digests").returncode == 0


def test_a_repaired_tree_is_whole(config: Path) -> None:
    link = config.parent / layout.layer_link("team/a", LAYER)
    link.write_bytes(b"")
    done = fsck(config, "--repair")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "1 problems, 1 repaired, 0 left"
    assert link.read_text() == str(LAYER)


def test_sizes_are_noted_where_distribution_noted_none(config: Path) -> None:
    path = config.parent / layout.blob(LAYER)
    body = path.read_bytes()
    path.unlink()
    path.write_bytes(body)
    said = fsck(config, "--repair", "--verify-digests").stdout
    assert said == "0 problems, 0 repaired, 0 left; 2 sizes noted\n"  # that of the manifest, too
    assert os.getxattr(path, "user.dockyard.size") == str(len(body)).encode()


def test_a_directory_may_be_called_anything(config: Path) -> None:
    """Neither bytes that are no text nor what a terminal obeys reach standard output."""
    tags = os.fsencode(config.parent / layout.tags("team/a"))
    os.makedirs(tags + b"/\x1b[31m\xff\n/current")  # noqa: PTH103 -- no text
    with open(tags + b"/\x1b[31m\xff\n/current/link", "wb"):  # noqa: PTH123 -- likewise
        pass
    done = fsck(config)
    assert done.returncode == 1
    assert "\\x1b[31m\\udcff\\n/current/link" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert fsck(config, "--json").returncode == 1


def test_another_one_that_writes_waits_and_gives_up(config: Path) -> None:
    async def held() -> subprocess.CompletedProcess[str]:
        async with FilesystemStorage(config.parent).lock("fsck", "tree"):
            assert await asyncio.to_thread(lambda: fsck(config).returncode) == 0
            return await asyncio.to_thread(fsck, config, "--repair")

    done = asyncio.run(held())
    assert done.returncode == 1
    assert "another fsck runs" in done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_found_before_it_is_stopped_is_told(config: Path, *, as_json: bool) -> None:
    first = min(Digest.parse(text) for text in digests_of(ONE))
    (config.parent / layout.blob(first)).write_bytes(b"damaged")
    process = start(config, "--rate", "200", *(["--json"] if as_json else []))
    wait_for(lambda: bool(progress(config)["damaged"]), "the damaged one is noted")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    if as_json:
        document = json.loads(said)
        assert document["interrupted"]
        assert [each["kind"] for each in document["problems"]] == ["damaged-blob"]
    else:
        assert f"damaged blob: {layout.blob(first)}" in said
        assert "stopped; run it again to go on where it was: 1 problems" in said
    again = fsck(config, "--verify-digests", "--rate", "0")
    assert again.returncode == 1
    assert f"damaged blob: {layout.blob(first)}" in again.stdout


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
    assert f"going on after {cursor}" in went_on.stderr
    assert (went_on.returncode, went_on.stdout) == (0, "0 problems, 0 repaired, 0 left\n")
    anew = fsck(config, "--verify-digests", "--rate", "0")
    assert anew.returncode == 1
    assert anew.stdout.startswith(f"damaged blob: {layout.blob(verified[0])} (")


def kill_in_the_middle(config: Path, until: Digest) -> Digest:
    """Kill a slow verification once it noted that it came to `until`; return where it came."""
    process = start(config, "--rate", "200")
    wait_for(lambda: progress(config)["cursor"] >= str(until), "the cursor comes that far")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return Digest.parse(progress(config)["cursor"])


def start(config: Path, *options: str) -> "subprocess.Popen[str]":
    """Start a verification that notes how far it is after each blob."""
    program = (
        "import sys, dockyard.core.verification as v; v.NOTED_SECONDS = 0.0; "
        "from dockyard.cli import main; sys.exit(main())"
    )
    arguments = ["fsck", "--config", str(config), "--verify-digests", *options]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    )


def progress(config: Path) -> Any:  # noqa: ANN401 -- JSON: the test says what it expects
    """Return the note of how far a verification is."""
    path = config.parent / layout.check_progress()
    return json.loads(path.read_text()) if path.exists() else {"cursor": "", "damaged": []}
