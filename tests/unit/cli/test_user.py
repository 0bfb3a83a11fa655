"""The commands `user add`, `passwd`, `remove` and `list`."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from dockyard.auth.htpasswd import matches, parse
from tests.unit.cli.accounts import HASH, PASSWORD, Accounts
from tests.unit.cli.command_trees import assert_told


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path)


def fits(accounts: Accounts, name: str, password: str) -> bool:
    return matches(password, parse(accounts.users.read_text()).get(name))


class TestAdd:
    def test_who_is_added_can_log_in(self, accounts: Accounts) -> None:
        result = accounts.run("user", "add", "carol", "--password-stdin", given="päss word\n")
        assert (result.exit_code, result.stdout) == (0, "carol is added\n")
        assert fits(accounts, "carol", "päss word")
        assert fits(accounts, "alice", PASSWORD)

    def test_a_file_that_is_not_there_is_made(self, accounts: Accounts) -> None:
        accounts.users.unlink()
        accounts.run("user", "add", "carol", "--password-stdin", given="x")
        assert list(parse(accounts.users.read_text())) == ["carol"]

    def test_who_is_there_already_stays(self, accounts: Accounts) -> None:
        before = accounts.users.read_text()
        assert_told(
            accounts.run("user", "add", "bob", "--password-stdin", given="x"),
            "there is a user 'bob' already; `user passwd` changes it",
        )
        assert accounts.users.read_text() == before

    @pytest.mark.parametrize("name", ["", "a:b", "robot$ci", "a\nb", " a", "#a", "anonymous"])
    def test_a_name_that_can_not_be(self, accounts: Accounts, name: str) -> None:
        assert_told(accounts.run("user", "add", name, "--password-stdin", given="x"), repr(name))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("", "the password is empty"),
            ("\n", "the password is empty"),
            ("x" * 73, "at most 72 bytes"),
            ("a\nb", "several lines"),
            ("a\x00", "control character"),
        ],
    )
    def test_a_password_that_can_not_be(self, accounts: Accounts, given: str, message: str) -> None:
        assert_told(accounts.run("user", "add", "carol", "--password-stdin", given=given), message)
        assert "carol" not in accounts.users.read_text()

    def test_without_a_terminal_it_has_to_be_said_where_the_password_is(
        self, accounts: Accounts
    ) -> None:
        assert_told(accounts.run("user", "add", "carol", given="x"), "use --password-stdin")

    def test_the_terminal_asks_twice_and_shows_nothing(self, accounts: Accounts) -> None:
        leader, follower = pty.openpty()
        words = ["user", "add", "carol", "--config", str(accounts.config)]
        process = subprocess.Popen(
            [sys.executable, "-m", "dockyard", *words],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        shown = b""
        for _ in range(2):
            while not shown.endswith(b": "):
                shown += os.read(leader, 100)
            os.write(leader, b"hidden\n")
            shown += os.read(leader, 100)
        assert process.wait(20) == 0
        os.close(leader)
        assert b"hidden" not in shown
        assert fits(accounts, "carol", "hidden")

    def test_without_a_file_of_users_in_the_configuration(self, accounts: Accounts) -> None:
        accounts.configure(auth=None, access=None)
        for command in (["add", "x"], ["passwd", "x"], ["remove", "x"], ["list"]):
            assert_told(accounts.run("user", *command), "has no auth.htpasswd.path")

    def test_where_nothing_may_be_written(self, accounts: Accounts) -> None:
        """root may write anywhere, so this is a directory of the kernel's."""
        htpasswd = {"realm": "r", "path": "/proc/self/htpasswd"}
        accounts.configure(auth={"htpasswd": htpasswd}, access=None)
        assert_told(
            accounts.run("user", "add", "carol", "--password-stdin", given="x"),
            "htpasswd: /proc/self/htpasswd can't be changed: ",
        )


class TestPasswd:
    def test_only_the_new_password_is_good(self, accounts: Accounts) -> None:
        result = accounts.run("user", "passwd", "bob", "--password-stdin", given="other\n")
        assert (result.exit_code, result.stdout) == (0, "bob has another password\n")
        assert fits(accounts, "bob", "other")
        assert not fits(accounts, "bob", PASSWORD)

    def test_who_is_not_there(self, accounts: Accounts) -> None:
        assert_told(
            accounts.run("user", "passwd", "carol", "--password-stdin", given="x"),
            "there is no user 'carol'",
        )

    def test_lines_that_are_not_understood_stay_and_are_told(self, accounts: Accounts) -> None:
        accounts.users.write_text(f"# note\nnonsense\nbob:{HASH}\n")
        result = accounts.run("user", "passwd", "bob", "--password-stdin", given="x")
        assert result.exit_code == 0
        assert accounts.users.read_text().startswith("# note\nnonsense\nbob:$2b$")
        assert f"{accounts.users}, line 2: not NAME:HASH" in result.stderr
        assert "nonsense" not in result.output


class TestRemove:
    def test_who_is_removed_is_gone(self, accounts: Accounts) -> None:
        result = accounts.run("user", "remove", "bob")
        assert (result.exit_code, result.stdout) == (0, "bob is removed\n")
        assert list(parse(accounts.users.read_text())) == ["alice"]

    def test_what_still_names_them_is_told(self, accounts: Accounts) -> None:
        assert "still named by group developers" in accounts.run("user", "remove", "bob").stderr
        assert "still named by rule 1, rule 5" in accounts.run("user", "remove", "alice").stderr

    def test_who_is_not_there(self, accounts: Accounts) -> None:
        assert_told(accounts.run("user", "remove", "carol"), "there is no user 'carol'")


class TestList:
    def test_the_users(self, accounts: Accounts) -> None:
        result = accounts.run("user", "list")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "alice\nbob\n", "")

    def test_as_json(self, accounts: Accounts) -> None:
        with accounts.users.open("a") as file:
            file.write("old:{SHA}x\n")
        assert json.loads(accounts.run("user", "list", "--json").stdout)["users"] == [
            {"name": "alice", "usable": True, "groups": []},
            {"name": "bob", "usable": True, "groups": ["developers"]},
            {"name": "old", "usable": False, "groups": []},
        ]

    def test_what_is_wrong_with_the_file_is_told(self, accounts: Accounts) -> None:
        accounts.users.write_text("old:{SHA}x\nnonsense\n")
        result = accounts.run("user", "list")
        assert result.stdout == "old\n"
        assert "old can't log in: the hash is not bcrypt" in result.stderr
        assert "line 2: not NAME:HASH" in result.stderr
        assert accounts.ask("user", "list") == 1

    def test_a_file_that_is_not_there(self, accounts: Accounts) -> None:
        accounts.users.unlink()
        assert_told(accounts.run("user", "list"), "can't be read: no such file")
