"""The commands `trash list`, `trash restore` and `trash empty`."""

import json
import re

import pytest

from dockyard.oci.digest import Digest
from dockyard.storage import layout
from tests.unit.cli.command_trees import NO_ITEM, ONE, TWO, CommandTree, assert_told, run


@pytest.fixture
def removed(tree: CommandTree) -> str:
    """The only item of the trash: the manifest that ``latest`` points to, with that tag."""
    tree.do(lambda each: each.delete("a/b", TWO))
    return only(tree)


def only(tree: CommandTree) -> str:
    (item,) = tree.do(lambda each: each.items())
    return str(item.identifier)


class TestList:
    def test_nothing(self, tree: CommandTree) -> None:
        result = tree.run("trash", "list")
        assert (result.exit_code, result.stdout) == (0, "")

    def test_a_manifest_with_its_tags(self, tree: CommandTree, removed: str) -> None:
        result = tree.run("trash", "list")
        assert result.exit_code == 0
        assert result.stdout == f"{removed}  a/b  tag latest, manifest {TWO.digest}\n"

    def test_a_repository(self, tree: CommandTree) -> None:
        tree.run("repository", "delete", "a/b")
        assert re.fullmatch(
            r"\S+  a/b  tag latest, tag v1, 2 manifests, 6 links to blobs\n",
            tree.run("trash", "list").stdout,
        )

    def test_of_one_repository(self, tree: CommandTree, removed: str) -> None:
        assert tree.run("trash", "list", "a/b").stdout.startswith(removed)
        assert tree.run("trash", "list", "c").stdout == ""

    def test_as_json(self, tree: CommandTree, removed: str) -> None:
        (item,) = json.loads(tree.run("trash", "list", "--json").stdout)["items"]
        assert list(item) == ["id", "repository", "removed", "tags", "manifests", "blobs"]
        assert item["id"] == removed
        assert item["tags"] == {"latest": TWO.digest}
        assert item["manifests"] == [TWO.digest]


class TestRestore:
    def test_what_comes_back_is_told(self, tree: CommandTree, removed: str) -> None:
        result = tree.run("trash", "restore", removed)
        assert result.exit_code == 0
        assert result.stdout == f"a/b:latest is back\na/b@{TWO.digest} is back\n"
        assert tree.points_to() == TWO.digest
        assert tree.run("trash", "list").stdout == ""

    def test_a_tag_that_was_set_again(self, tree: CommandTree, removed: str) -> None:
        tree.do(lambda each: each.push("a/b", ONE, "latest"))
        result = tree.run("trash", "restore", removed)
        assert result.exit_code == 0
        assert "a/b:latest was set again meanwhile and stays as it is" in result.stdout
        assert tree.points_to() == ONE.digest

    def test_what_lacks_something_stays(self, tree: CommandTree, removed: str) -> None:
        blob = TWO.blobs[0].digest
        (tree.root / layout.blob(Digest.parse(blob))).unlink()
        assert tree.status_of("trash", "restore", removed) == 1
        assert only(tree) == removed

    @pytest.mark.parametrize("item", [NO_ITEM, "latest", "..", "../blobs", "/etc", ""])
    def test_what_is_not_there(self, tree: CommandTree, item: str) -> None:
        result = tree.run("trash", "restore", item)
        assert_told(result, f"the trash has no item {item!r}; list it")
        assert result.exit_code == 1


class TestEmpty:
    def test_items_by_name(self, tree: CommandTree, removed: str) -> None:
        tree.do(lambda each: each.push("c", ONE, "v1"))
        tree.run("repository", "delete", "c")
        result = tree.run("trash", "empty", removed)
        assert (result.exit_code, result.stdout) == (0, f"{removed} is destroyed\n")
        assert "c" in tree.run("trash", "list").stdout.split()

    def test_everything(self, tree: CommandTree, removed: str) -> None:
        result = tree.run("trash", "empty", "--all")
        assert (result.exit_code, result.stdout) == (0, f"{removed} is destroyed\n")
        assert tree.run("trash", "list").stdout == ""
        assert tree.run("trash", "empty", "--all").exit_code == 0

    def test_what_is_not_there_is_told_and_the_rest_destroyed(
        self, tree: CommandTree, removed: str
    ) -> None:
        result = tree.run("trash", "empty", NO_ITEM, removed)
        assert result.exit_code == 1
        assert result.stdout == f"{removed} is destroyed\n"
        assert f"the trash has no item {NO_ITEM!r}" in result.stderr
        assert tree.run("trash", "list").stdout == ""

    @pytest.mark.parametrize("arguments", [[], ["--all", NO_ITEM]])
    def test_all_must_be_said_and_nothing_else(
        self, tree: CommandTree, removed: str, arguments: list[str]
    ) -> None:
        assert_told(tree.run("trash", "empty", *arguments), "name the items to destroy, or say")
        assert only(tree) == removed


@pytest.mark.parametrize("command", [["list"], ["restore", NO_ITEM], ["empty", "--all"]])
def test_a_configuration_that_is_not_there(tree: CommandTree, command: list[str]) -> None:
    missing = str(tree.config.with_name("missing.yml"))
    assert_told(run("trash", *command, "--config", missing), "configuration error: ", missing)
