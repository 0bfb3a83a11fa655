"""Logins by a directory, through the API in process; the directory is a real slapd."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from dockyard.auth.directory_logins import QUEUE_OF_ADDRESS
from dockyard.auth.throttle import FREE_FAILURES
from dockyard.errors import StorageError
from tests.api.entrance import HASH, basic, bearer
from tests.inprocess import application, client_of, recorded_log
from tests.parts.directory import PASSWORD, DirectoryServer, directory_server
from tests.parts.engines import DaemonlessEngine
from tests.parts.images import digests_of, image, layout_digests, write_layout
from tests.parts.listening import Listener
from tests.parts.programs import CommandFailedError
from tests.parts.registries import RegistryUnderTest
from tests.unit.cli.accounts import Accounts


RULES = [
    {"repositories": ["team/**"], "actions": ["pull", "push"], "who": ["group:developers"]},
    {"repositories": ["**"], "actions": ["*"], "who": ["group:admins", "user:local"]},
]
TAGS = "/v2/team/a/tags/list"


@asynccontextmanager
async def open_registry(folder: Path, **ldap: object) -> AsyncIterator[httpx.AsyncClient]:
    users = folder / "htpasswd"
    users.write_text(f"local:{HASH}\n")
    auth = {"htpasswd": {"realm": "registry", "path": str(users)}}
    access = {"rules": RULES, "ldap": ldap}
    async with client_of(application(folder, auth=auth, access=access)) as client:
        yield client


async def token(client: httpx.AsyncClient, login: str, **more: str) -> httpx.Response:
    query = {"scope": "repository:team/a:pull,push", **more}
    return await client.get("/auth/token", params=query, headers=basic(login, PASSWORD))


async def test_the_rules_see_the_groups(server: DirectoryServer, tmp_path: Path) -> None:
    async with open_registry(tmp_path, **server.settings()) as client:
        assert (await client.get(TAGS, headers=basic("alice", PASSWORD))).status_code == 404
        assert (await client.get(TAGS, headers=basic("jürgen", PASSWORD))).status_code == 403
        other = await client.get("/v2/other/tags/list", headers=basic("alice", PASSWORD))
        assert other.status_code == 403
        assert (await client.get(TAGS, headers=basic("alice", "wrong"))).status_code == 401
        assert (await client.get(TAGS, headers=basic("alice", ""))).status_code == 401


async def test_a_user_of_the_password_file_goes_first(
    server: DirectoryServer, tmp_path: Path
) -> None:
    async with open_registry(tmp_path, **server.settings()) as client:
        assert (await client.get(TAGS, headers=basic("local"))).status_code == 404
        for spelled in ("local", "LOCAL"):  # the password is right, in the directory
            refused = await client.get(TAGS, headers=basic(spelled, PASSWORD))
            assert refused.status_code == 401


async def test_tokens_and_remembered_passwords_need_no_directory(tmp_path: Path) -> None:
    with directory_server(tmp_path) as server, recorded_log() as log:
        async with open_registry(tmp_path, **server.settings(timeout="1s")) as client:
            answer = (await token(client, "alice", offline_token="true")).json()
            assert "refresh_token" not in answer
            server.stop()
            good = await client.get(TAGS, headers=bearer(answer["token"]))
            assert good.status_code == 404
            assert (await token(client, "alice")).status_code == 200
            down = await token(client, "bob")
            assert down.status_code == 503
            assert "directory" in down.json()["errors"][0]["message"]
            (line,) = [each for each in log if each["event"] == "the directory can't be asked"]
            assert "contact" in line["reason"]
            server.start()
            assert (await token(client, "bob")).status_code == 200


async def test_a_slow_directory_is_answered_503(server: DirectoryServer, tmp_path: Path) -> None:
    with Listener() as silent:
        settings = server.settings(url=silent.url, timeout="1s")
        async with open_registry(tmp_path, **settings) as client:
            assert (await token(client, "alice")).status_code == 503
            assert (await client.get(TAGS, headers=basic("local"))).status_code == 404


async def test_one_address_can_not_fill_the_queue(server: DirectoryServer, tmp_path: Path) -> None:
    with Listener() as silent:
        settings = server.settings(url=silent.url, timeout="2s")
        async with open_registry(tmp_path, **settings) as client:
            many = [token(client, f"user{number}") for number in range(QUEUE_OF_ADDRESS + 3)]
            found = [answer.status_code for answer in await asyncio.gather(*many)]
    assert sorted(found) == [429] * 3 + [503] * QUEUE_OF_ADDRESS
    # Those that waited have given up by the time a thread is free, but for one that came later.
    assert silent.connections <= QUEUE_OF_ADDRESS


async def test_guessing_is_slowed_however_the_login_is_spelled(
    server: DirectoryServer, tmp_path: Path
) -> None:
    async with open_registry(tmp_path, **server.settings()) as client:
        for spelled in ("alice", "Alice", "ALICE")[:FREE_FAILURES]:
            wrong = await client.get(TAGS, headers=basic(spelled, "wrong"))
            assert wrong.status_code == 401
        assert (await client.get(TAGS, headers=basic("aLICE", "wrong"))).status_code == 429


async def test_an_ambiguous_login_is_refused_and_told(
    server: DirectoryServer, tmp_path: Path
) -> None:
    with recorded_log() as log:
        settings = server.settings(userbase="dc=example,dc=org")
        async with open_registry(tmp_path, **settings) as client:
            assert (await client.get(TAGS, headers=basic("twin", PASSWORD))).status_code == 401
    assert any("ambiguous" in each["event"] for each in log)


async def test_a_token_of_another_directory_is_refused(
    server: DirectoryServer, tmp_path: Path
) -> None:
    async with open_registry(tmp_path, **server.settings()) as client:
        given = (await token(client, "alice")).json()["token"]
    async with open_registry(tmp_path, **server.settings(userfilter="(mail={login})")) as client:
        assert (await client.get(TAGS, headers=bearer(given))).status_code == 401


def test_without_the_extra_the_start_names_the_remedy(
    server: DirectoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ldap", None)
    with pytest.raises(StorageError, match=r"pip install 'dockyard\[ldap\]'"):
        application(tmp_path, access={"ldap": server.settings()})


def test_the_library_is_loaded_for_a_directory_alone() -> None:
    code = "import sys, dockyard.server.build; sys.exit('ldap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestCommands:
    @pytest.fixture
    def accounts(self, server: DirectoryServer, tmp_path: Path) -> Accounts:
        accounts = Accounts(tmp_path)
        accounts.configure(access={"rules": RULES, "ldap": server.settings()})
        return accounts

    @pytest.mark.parametrize(("user", "status"), [("bob", 0), ("jürgen", 1)])
    def test_explain_asks_the_directory(self, accounts: Accounts, user: str, status: int) -> None:
        accounts.users.write_text("")  # who is in it goes first
        assert accounts.ask("access", "explain", user, "push", "team/app") == status

    def test_explain_knows_no_stranger(self, accounts: Accounts) -> None:
        done = accounts.run("access", "explain", "nobody", "push", "team/app")
        assert done.exit_code == 2
        assert "neither here nor in ldap://" in done.output

    def test_user_list_says_that_there_are_others(self, accounts: Accounts) -> None:
        done = accounts.run("user", "list")
        assert "can log in too" in done.output


@pytest.fixture
def running(server: DirectoryServer, tmp_path: Path) -> Iterator[RegistryUnderTest]:
    over = server.settings(url=server.tls, ca=str(server.authority.certificate))
    settings = {"access": {"rules": RULES, "ldap": over}}
    with RegistryUnderTest(tmp_path / "registry", settings=settings) as registry:
        yield registry
        assert registry.complaints() == []


def test_skopeo_logs_in_pushes_and_pulls(running: RegistryUnderTest, tmp_path: Path) -> None:
    here = DaemonlessEngine(tmp_path)
    top = image("directory", layers=2)
    source = write_layout(tmp_path / "source", top)
    name = f"docker://{running.address}/team/app:1"
    log_in = ("login", "--tls-verify=false", "--username", "alice", "--password")
    with pytest.raises(CommandFailedError, match=r"invalid username/password|unauthorized"):
        here.skopeo(*log_in, "wrong", running.address)
    here.skopeo(*log_in, PASSWORD, running.address)
    here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", name)
    here.skopeo("copy", "--src-tls-verify=false", name, f"oci:{tmp_path / 'copy'}:latest")
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    elsewhere = f"docker://{running.address}/other:1"
    with pytest.raises(CommandFailedError, match=r"denied|Forbidden"):
        here.skopeo("copy", "--dest-tls-verify=false", f"oci:{source}:latest", elsewhere)
