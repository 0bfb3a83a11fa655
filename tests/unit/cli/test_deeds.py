"""What commands do is in the audit log, where there is one."""

import getpass
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.command_trees import CommandTree


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


def test_what_only_looks_is_not_told(tree: CommandTree, log: Path) -> None:
    for command in (("tags", "history", "a/b:latest"), ("trash", "list")):
        assert tree.run(*command).exit_code == 0
    assert told(log) == []


def test_a_log_that_is_not_there_is_not_made_and_stops_nothing(
    tree: CommandTree, log: Path
) -> None:
    log.unlink()
    assert tree.run("repository", "delete", "a/b").exit_code == 0
    assert not log.exists()
