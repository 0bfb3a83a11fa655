"""What commands do is in the audit log, where there is one."""

import getpass
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dockyard.oci.digest import Digest
from dockyard.storage import layout
from tests.unit.cli.command_trees import ONE, TWO, CommandTree, run


@pytest.fixture
def log(tree: CommandTree, tmp_path: Path) -> Path:
    """The audit log of the tree's registry, as its servers have made it."""
    path = tmp_path / "audit.log"
    path.touch()
    with tree.config.open("a") as config:
        config.write(f"audit: {{enabled: true, path: {path}, maxsize: 1}}\n")
    return path


def told(log: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in log.read_text().splitlines()]
    for event in events:
        assert event.pop("time").endswith("Z")
        assert (event.pop("kind"), event.pop("name")) == ("operator", getpass.getuser())
    return events


def test_each_deed_is_told(tree: CommandTree, log: Path) -> None:
    assert tree.run("tags", "rollback", "a/b:latest").exit_code == 0
    assert tree.run("repository", "delete", "a/b").exit_code == 0
    (item,) = tree.do(lambda each: each.items())
    assert tree.run("trash", "restore", item.identifier).exit_code == 0
    assert tree.run("trash", "empty", "--all").exit_code == 0
    assert tree.run("repository", "delete", "absent").exit_code == 1
    assert told(log) == [
        {"action": "rollback", "result": "allowed", "repository": "a/b", "reference": "latest"},
        {"action": "delete-repository", "result": "allowed", "repository": "a/b"},
        {"action": "restore", "result": "allowed", "item": item.identifier},
        {"action": "destroy", "result": "allowed", "item": "all"},
        {"action": "delete-repository", "result": "failed", "repository": "absent"},
    ]


def test_a_collection_is_told_with_how_much_it_took(tree: CommandTree, log: Path) -> None:
    tree.do(lambda each: each.services.tags.delete("a/b", "v1"))
    assert run("garbage-collect", str(tree.config), "-m", "-q").exit_code == 0
    (event,) = told(log)
    gone = [content.body for content in (ONE.manifest, *ONE.blobs)]
    counts = {"manifests": 1, "blobs": len(gone), "bytes": sum(map(len, gone))}
    assert event == {"action": "collect", "result": "allowed", **counts}


def test_a_collection_that_takes_nothing_is_told_too(tree: CommandTree, log: Path) -> None:
    assert run("garbage-collect", str(tree.config), "-q").exit_code == 0
    assert told(log) == [{"action": "collect", "result": "allowed"}]


def test_a_repair_is_told_with_what_is_left(tree: CommandTree, log: Path) -> None:
    layer = Digest.parse(TWO.blobs[0].digest)
    (tree.root / layout.layer_link("a/b", layer)).write_bytes(b"")
    assert tree.status_of("fsck", "--repair") == 0
    (tree.root / layout.blob(layer)).write_bytes(b"")
    assert tree.status_of("fsck", "--repair") == 1
    assert told(log) == [
        {"action": "repair", "result": "allowed", "repaired": 1},
        {"action": "repair", "result": "allowed", "repaired": 2, "left": 1},
    ]


def test_a_repair_that_can_not_be_is_told_as_failed(tree: CommandTree, log: Path) -> None:
    shutil.rmtree(tree.root)
    assert tree.run("fsck", "--repair").exit_code == 1
    run("garbage-collect", str(tree.config), "-q")
    assert told(log) == [
        {"action": "repair", "result": "failed"},
        {"action": "collect", "result": "failed"},
    ]


@pytest.mark.parametrize(
    "command",
    [("tags", "history", "a/b:latest"), ("trash", "list"), ("fsck",), ("fsck", "--verify-digests")],
    ids=" ".join,
)
def test_what_only_looks_is_not_told(
    tree: CommandTree, log: Path, command: tuple[str, ...]
) -> None:
    assert tree.run(*command).exit_code == 0
    assert told(log) == []


def test_a_dry_run_is_not_told(tree: CommandTree, log: Path) -> None:
    assert run("garbage-collect", str(tree.config), "-d", "-m", "-q").exit_code == 0
    assert told(log) == []


def test_a_log_that_is_not_there_is_not_made_and_stops_nothing(
    tree: CommandTree, log: Path
) -> None:
    log.unlink()
    assert tree.run("repository", "delete", "a/b").exit_code == 0
    assert not log.exists()
