"""The command `access explain`."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.accounts import Accounts


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path)


def explained(accounts: Accounts, *arguments: str) -> list[str]:
    return accounts.run("access", "explain", *arguments).stdout.splitlines()


class TestAnswers:
    @pytest.mark.parametrize(
        ("question", "status"),
        [
            (["anonymous", "pull", "team/app"], 0),
            (["anonymous", "push", "team/app"], 1),
            (["anonymous", "pull", "secret/app"], 1),
            (["alice", "delete", "secret/app"], 0),
            (["alice", "delete", "team/app"], 1),
            (["bob", "push", "team/app"], 0),
            (["robot$ci", "push", "team/app"], 0),
            (["robot$ci", "push", "secret/app"], 1),
            (["alice", "admin"], 0),
            (["bob", "admin"], 1),
            (["alice", "catalog", "secret/app"], 0),
            (["bob", "catalog", "team/app"], 1),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_the_status_is_the_answer(
        self, accounts: Accounts, question: list[str], status: int
    ) -> None:
        assert accounts.ask("access", "explain", *question) == status

    def test_the_rule_that_decides_is_shown(self, accounts: Accounts) -> None:
        head, line = explained(accounts, "alice", "delete", "secret/app")
        assert head == "allowed: delete by alice to secret/app"
        rule = "{repositories: [secret/**], actions: ['*'], who: ['user:alice']}"
        assert line == f"  delete: allowed by rule 1: {rule}"

    def test_a_rule_that_denies_is_shown_with_its_effect(self, accounts: Accounts) -> None:
        head, line = explained(accounts, "bob", "pull", "secret/app")
        assert head == "denied: pull by bob to secret/app"
        assert line.startswith("  pull: denied by rule 2: ")
        assert line.endswith("effect: deny}")

    def test_a_push_says_which_half_failed(self, accounts: Accounts) -> None:
        head, pull, push = explained(accounts, "alice", "push", "team/app")
        assert head.startswith("denied")
        assert pull.startswith("  pull: allowed by rule 3: ")
        assert push == "  push: denied, since no rule is about it"

    def test_as_json(self, accounts: Accounts) -> None:
        result = accounts.run("access", "explain", "alice", "push", "team/app", "--json")
        told = json.loads(result.stdout)
        assert (told["user"], told["action"], told["repository"]) == ("alice", "push", "team/app")
        assert told["allowed"] is False
        pull, push = told["steps"]
        assert (pull["action"], pull["allowed"], pull["number"]) == ("pull", True, 3)
        assert pull["rule"]["who"] == ["anonymous"]
        assert (push["action"], push["number"], push["rule"]) == ("push", None, None)


class TestNoAnswer:
    @pytest.mark.parametrize(
        ("question", "message"),
        [
            (["carol", "pull", "a"], "there is no user 'carol' in "),
            (["robot$x", "pull", "a"], "there is no robot 'robot$x' in access.robots (there: robo"),
            (["alice", "fly", "a"], "'fly' is not one of 'pull', 'push'"),
            (["alice", "pull", "host:5000/A"], "'host:5000/A' is no repository's name"),
            (["alice", "pull"], "say which REPOSITORY"),
            (["alice", "admin", "team/app"], "leave REPOSITORY out"),
            (["alice"], "Missing argument"),
        ],
    )
    def test_a_mistake_is_no_denial(
        self, accounts: Accounts, question: list[str], message: str
    ) -> None:
        result = accounts.run("access", "explain", *question)
        assert message in result.stderr
        assert result.stdout == ""
        assert accounts.ask("access", "explain", *question) == 2

    def test_a_configuration_that_is_not_there(self, accounts: Accounts) -> None:
        accounts.config.unlink()
        result = accounts.run("access", "explain", "alice", "pull", "a")
        assert result.stderr.startswith("Error: configuration error: ")
        assert accounts.ask("access", "explain", "alice", "pull", "a") == 2

    def test_a_password_file_is_not_made(self, accounts: Accounts) -> None:
        accounts.users.unlink()
        result = accounts.run("access", "explain", "alice", "pull", "a")
        assert f"htpasswd: {accounts.users}: no such file" in result.stderr
        assert not accounts.users.exists()


class TestWithoutRules:
    @pytest.mark.parametrize(
        ("auth", "user", "status", "reason"),
        [
            (None, "anonymous", 0, "nobody is asked"),
            ("htpasswd", "bob", 0, "who logs in may everything"),
            ("htpasswd", "anonymous", 1, "nobody without a password"),
            ("htpasswd", "carol", 2, "there is no user 'carol'"),
            ("silly", "bob", 0, "whoever sends any credentials"),
            ("silly", "anonymous", 1, "whoever sends any credentials"),
            ("token", "bob", 2, "decided by their issuer"),
        ],
    )
    def test_what_decides_instead_is_told(
        self, accounts: Accounts, auth: str | None, user: str, status: int, reason: str
    ) -> None:
        token = {"realm": "http://a/t", "service": "s", "issuer": "i", "rootcertbundle": "b.pem"}
        kinds: dict[str | None, object] = {
            None: None,
            "htpasswd": {"htpasswd": {"realm": "r", "path": str(accounts.users)}},
            "silly": {"silly": {"realm": "r", "service": "s"}},
            "token": {"token": token},
        }
        accounts.configure(access=None, auth=kinds[auth])
        result = accounts.run("access", "explain", user, "pull", "a")
        assert reason in result.output
        assert accounts.ask("access", "explain", user, "pull", "a") == status
