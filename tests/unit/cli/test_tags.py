"""The commands `tags history` and `tags rollback`."""

import json
import re

import pytest

from tests.unit.cli.command_trees import ONE, TWO, CommandTree, assert_told, changed, run


IMAGES = ["a/b", "latest", ":latest", "a/b:", "a/B:v1", "a/b:v 1", "host:5000/a/b:v1", "a/../b:v1"]


class TestHistory:
    def test_a_line_for_each_the_newest_first(self, tree: CommandTree) -> None:
        result = tree.run("tags", "history", "a/b:latest")
        assert result.exit_code == 0
        when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
        assert re.fullmatch(
            rf"{when}  {TWO.digest}  current\n{when}  {ONE.digest}  kept\n", result.stdout
        )

    def test_what_is_in_the_trash_is_named(self, tree: CommandTree) -> None:
        tree.do(lambda each: each.delete("a/b", ONE))
        result = tree.run("tags", "history", "a/b:latest")
        _, second = result.stdout.splitlines()
        assert re.search(rf"{ONE.digest}  trash \d{{8}}T\d{{6}}Z-[0-9a-f]{{8}}$", second)

    def test_as_json(self, tree: CommandTree) -> None:
        result = tree.run("tags", "history", "a/b:latest", "--json")
        document = json.loads(result.stdout)
        assert (document["name"], document["tag"]) == ("a/b", "latest")
        assert [(past["digest"], past["state"]) for past in document["history"]] == [
            (TWO.digest, "current"),
            (ONE.digest, "kept"),
        ]

    @pytest.mark.parametrize("image", ["a/b:v2", "c:latest"])
    def test_of_nothing(self, tree: CommandTree, image: str) -> None:
        result = tree.run("tags", "history", image)
        assert_told(result, f"Error: {image} is unknown", "trash list")
        assert result.exit_code == 1


class TestRollback:
    def test_to_what_it_pointed_to_before_and_back(self, tree: CommandTree) -> None:
        for expected in (ONE, TWO):
            result = tree.run("tags", "rollback", "a/b:latest")
            assert result.exit_code == 0
            assert result.stdout == f"a/b:latest points to {expected.digest}\n"
            assert tree.points_to() == expected.digest

    def test_to_a_digest(self, tree: CommandTree) -> None:
        assert tree.run("tags", "rollback", "a/b:v1", TWO.digest).exit_code == 0
        assert tree.points_to("v1") == TWO.digest

    def test_not_to_a_digest_that_is_not_there(self, tree: CommandTree) -> None:
        digest = changed(ONE)
        result = tree.run("tags", "rollback", "a/b:latest", digest)
        assert_told(result, f"manifest {digest}")
        assert result.exit_code == 1
        assert tree.points_to() == TWO.digest

    def test_not_where_there_is_nothing_earlier(self, tree: CommandTree) -> None:
        assert_told(tree.run("tags", "rollback", "a/b:v1"), "history of tag v1", "push it again")

    @pytest.mark.parametrize("digest", ["v1", "sha256:00", "md5:00"])
    def test_not_to_what_is_no_digest(self, tree: CommandTree, digest: str) -> None:
        assert_told(tree.run("tags", "rollback", "a/b:latest", digest), "not a verifiable digest")
        assert tree.points_to() == TWO.digest


@pytest.mark.parametrize("command", ["history", "rollback"])
class TestWrongInput:
    @pytest.mark.parametrize("image", IMAGES)
    def test_what_is_no_image(self, tree: CommandTree, command: str, image: str) -> None:
        result = tree.run("tags", command, image)
        assert_told(result, repr(image), "REPOSITORY:TAG", "without the registry's address")

    def test_no_image_at_all(self, tree: CommandTree, command: str) -> None:
        assert_told(tree.run("tags", command), "Missing argument 'REPOSITORY:TAG'")

    def test_a_configuration_that_is_not_there(self, tree: CommandTree, command: str) -> None:
        missing = str(tree.config.with_name("missing.yml"))
        result = run("tags", command, "a/b:latest", "--config", missing)
        assert_told(result, "configuration error: ", missing)

    def test_a_root_that_is_no_registrys(self, tree: CommandTree, command: str) -> None:
        tree.root.rename(tree.root.with_name("elsewhere"))
        result = tree.run("tags", command, "a/b:latest")
        assert_told(result, "filesystem: Path not found", str(tree.root))


def test_help_names_the_commands() -> None:
    result = run("tags", "--help")
    assert result.exit_code == 0
    assert "history" in result.stdout
    assert "rollback" in result.stdout
