"""The command `repository delete`."""

import pytest

from dockyard.errors import ManifestUnknownError
from tests.unit.cli.command_trees import ONE, TWO, CommandTree, assert_told, run


def test_a_repository_goes_to_the_trash_and_those_below_it_stay(tree: CommandTree) -> None:
    tree.do(lambda each: each.push("a/b/c", ONE, "v1"))
    result = tree.run("repository", "delete", "a/b")
    assert result.exit_code == 0
    assert result.stdout == "a/b is deleted; its room is free after a collection\n"
    with pytest.raises(ManifestUnknownError):
        tree.points_to()
    (item,) = tree.do(lambda each: each.items())
    assert set(map(str, item.manifests)) == {ONE.digest, TWO.digest}
    assert tree.do(lambda each: each.manifests("a/b/c")) == {ONE.digest}


@pytest.mark.parametrize("name", ["a", "c", "a/b/c"])
def test_one_that_is_not_there(tree: CommandTree, name: str) -> None:
    result = tree.run("repository", "delete", name)
    assert_told(result, f"Error: there is no repository {name}")
    assert result.exit_code == 1


@pytest.mark.parametrize("name", ["", "a/B", "..", "a/../b", "host:5000/a", "a/b:latest", "/a/b"])
def test_what_is_no_name(tree: CommandTree, name: str) -> None:
    assert_told(tree.run("repository", "delete", name), repr(name), "no repository's name")
    assert tree.points_to() == TWO.digest


def test_without_retention_it_is_gone(tree: CommandTree) -> None:
    tree.configure(trash={"retention": "0s"})
    assert tree.run("repository", "delete", "a/b").exit_code == 0
    assert tree.do(lambda each: each.items()) == []


def test_a_configuration_with_a_mistake(tree: CommandTree) -> None:
    tree.config.write_text("version: [\n")
    result = tree.run("repository", "delete", "a/b")
    assert_told(result, "configuration error: ", "not valid YAML")


def test_a_storage_in_memory_cannot_be_reached(tree: CommandTree) -> None:
    tree.config.write_text("version: 0.1\nstorage: {inmemory: {}}\n")
    assert_told(tree.run("repository", "delete", "a/b"), "memory of a server can't be reached")


def test_help_says_what_it_does() -> None:
    assert "trash" in run("repository", "delete", "--help").stdout
