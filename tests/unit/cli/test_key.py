"""The commands `key create`, `key list` and `key revoke`, and `access explain` of a key."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from dockyard.auth.apikeys import is_secret
from dockyard.cli.key import parse_when
from dockyard.storage import layout
from tests.unit.cli.accounts import Accounts
from tests.unit.cli.command_trees import assert_told


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path)


def create(accounts: Accounts, *arguments: str, owner: str = "robot$ci") -> str:
    result = accounts.run("key", "create", "deploy", "--owner", owner, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


class TestCreate:
    def test_standard_output_is_the_secret_alone(self, accounts: Accounts) -> None:
        result = accounts.run("key", "create", "deploy", "--owner", "robot$ci")
        assert is_secret(result.stdout.rstrip("\n"))
        assert "docker login --username 'robot$ci' --password-stdin" in result.stderr

    def test_as_json(self, accounts: Accounts) -> None:
        made = json.loads(create(accounts, "--json", "--action", "pull", "--repository", "a/*"))
        assert is_secret(made.pop("secret"))
        created = made.pop("created")
        assert datetime.now(UTC) - datetime.fromisoformat(created) < timedelta(minutes=1)
        assert made == {
            "name": "deploy",
            "owner": "robot$ci",
            "actions": ["pull"],
            "repositories": ["a/*"],
            "expires": None,
            "used": None,
        }

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["Deploy", "--owner", "bob"], "'Deploy' can't be a key's name"),
            (["x", "--owner", "carol"], "owner: 'carol' is neither a user of auth.htpasswd nor"),
            (["x", "--owner", "bob", "--action", "push"], "push needs pull too"),
            (["x", "--owner", "bob", "--repository", "a//b"], "'a//b' must be"),
            (["x", "--owner", "bob", "--expires", "soon"], "'soon' is neither a time from now"),
            (["x", "--owner", "bob", "--expires", "2020-01-01"], "is over"),
            (["x"], "Missing option '--owner'"),
        ],
    )
    def test_a_mistake_is_told(
        self, accounts: Accounts, arguments: list[str], message: str
    ) -> None:
        assert_told(accounts.run("key", "create", *arguments), message)

    def test_twice(self, accounts: Accounts) -> None:
        create(accounts)
        result = accounts.run("key", "create", "deploy", "--owner", "bob")
        assert_told(result, "there is a key 'deploy' already: revoke it first")

    def test_where_there_is_no_registry(self, accounts: Accounts) -> None:
        accounts.root.rmdir()
        result = accounts.run("key", "create", "deploy", "--owner", "bob")
        assert_told(result, f"there is no directory {accounts.root} (storage.filesystem.rootdir")
        assert not accounts.root.exists()

    def test_in_the_memory_of_a_server(self, accounts: Accounts) -> None:
        accounts.configure(storage={"inmemory": {}})
        for command in (["create", "x", "--owner", "bob"], ["list"], ["revoke", "x"]):
            assert_told(accounts.run("key", *command), "make them by HTTP, below v2/_dockyard/keys")

    def test_where_nobody_logs_in(self, accounts: Accounts) -> None:
        accounts.configure(auth=None, access=None)
        result = accounts.run("key", "create", "x", "--owner", "bob")
        assert_told(result, "neither auth.htpasswd nor access.robots")

    def test_where_the_state_can_not_be_written(self, accounts: Accounts) -> None:
        state = accounts.root / layout.state_database()
        state.parent.parent.mkdir(parents=True)
        state.parent.write_text("a file")
        result = accounts.run("key", "create", "x", "--owner", "bob")
        assert_told(result, f"the state database {state} can't be used: ")


class TestList:
    def test_nothing_is_made_to_list_it(self, accounts: Accounts) -> None:
        result = accounts.run("key", "list")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "there is no state database " in result.stderr
        assert json.loads(accounts.run("key", "list", "--json").stdout) == {"keys": []}
        assert not list(accounts.root.iterdir())

    def test_what_there_is(self, accounts: Accounts) -> None:
        create(accounts, "--action", "pull", "--repository", "a/*", "--expires", "2999-01-31")
        assert accounts.run("key", "list").stdout == (
            "deploy  robot$ci  pull a/*  never used, expires 2999-01-31 00:00Z\n"
        )

    def test_one_without_its_owner(self, accounts: Accounts) -> None:
        create(accounts, owner="bob")
        accounts.run("user", "remove", "bob")
        line = accounts.run("key", "list").stdout
        assert line == "deploy  bob  * **  never used, owner gone\n"
        (key,) = json.loads(accounts.run("key", "list", "--json").stdout)["keys"]
        assert key["useless"] == "owner gone"


class TestRevoke:
    def test_it_is_gone_and_what_is_not_there_is_told(self, accounts: Accounts) -> None:
        create(accounts)
        result = accounts.run("key", "revoke", "other", "deploy")
        assert result.exit_code == 1
        assert result.stdout == "deploy is revoked\n"
        assert "there is no key 'other'" in result.stderr
        assert accounts.run("key", "list").stdout == ""

    def test_nothing_is_made_to_revoke_it(self, accounts: Accounts) -> None:
        assert_told(accounts.run("key", "revoke", "x"), "there is no key 'x'")
        assert not list(accounts.root.iterdir())


class TestExplain:
    def test_a_key_that_is_not_good_for_it(self, accounts: Accounts) -> None:
        create(accounts, "--action", "pull")
        assert accounts.run("access", "explain", "key:deploy", "push", "team/a").stdout == (
            "denied: push by key:deploy to team/a\n"
            "  pull: allowed by rule 3: {repositories: ['**'], actions: [pull], who: [anonymous]}\n"
            "  push: denied, since the key is not good for it\n"
        )

    def test_a_key_of_somebody_who_may_not(self, accounts: Accounts) -> None:
        create(accounts)
        assert accounts.ask("access", "explain", "key:deploy", "push", "team/a") == 0
        assert accounts.ask("access", "explain", "key:deploy", "push", "secret/a") == 1

    def test_a_key_that_is_not_there(self, accounts: Accounts) -> None:
        assert_told(accounts.run("access", "explain", "key:x", "pull", "a"), "there is no key 'x'")
        assert accounts.ask("access", "explain", "key:x", "pull", "a") == 2
        assert not list(accounts.root.iterdir())

    def test_a_key_that_is_useless(self, accounts: Accounts) -> None:
        create(accounts, owner="bob")
        accounts.run("user", "remove", "bob")
        result = accounts.run("access", "explain", "key:deploy", "pull", "a")
        assert "good for nothing any more: owner gone" in result.stdout
        assert accounts.ask("access", "explain", "key:deploy", "pull", "a") == 1

    def test_without_rules(self, accounts: Accounts) -> None:
        accounts.configure(access=None)
        create(accounts, "--action", "pull", owner="bob")
        pull = accounts.run("access", "explain", "key:deploy", "pull", "a")
        assert "pull: allowed, since there are no rules" in pull.stdout
        assert accounts.ask("access", "explain", "key:deploy", "push", "a") == 1


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("1h30m", NOW + timedelta(minutes=90)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_they_are_meant(text: str, moment: datetime) -> None:
    assert parse_when(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "90", "d", "9999999d", "2027-13-01", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="--expires"):
        parse_when(text, NOW)
