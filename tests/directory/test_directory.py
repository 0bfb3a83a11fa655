"""What a directory is asked, and what is made of its answers; against a real slapd."""

import time
from pathlib import Path

import pytest

from dockyard.auth.directory import AmbiguousError, Directory
from dockyard.auth.errors import DirectoryUnavailableError
from dockyard.auth.principal import Principal, user
from dockyard.config.access import AccessSettings
from dockyard.errors import StorageError
from dockyard.server.access import build_directory
from tests.parts.authority import Authority
from tests.parts.daemon import free_port
from tests.parts.directory import BASE, PASSWORD, DirectoryServer, directory_server
from tests.parts.listening import Listener


NAMED = ("group:developers", "group:admins")


def directory(server: DirectoryServer, **over: object) -> Directory:
    rule = {"repositories": ["**"], "actions": ["pull"], "who": NAMED}
    section = {"ldap": server.settings(**over), "rules": [rule]}
    built = build_directory(AccessSettings.model_validate(section))
    assert built is not None
    return built


def check(asked: Directory, login: str, password: str = PASSWORD) -> Principal | None:
    return asked.check(login, password, time.monotonic() + 10)


def test_a_right_password_tells_who_and_their_groups(server: DirectoryServer) -> None:
    asked = directory(server)
    assert check(asked, "alice") == user("alice", frozenset({"developers"}))
    assert check(asked, "bob") == user("bob", frozenset({"developers", "admins"}))


def test_a_wrong_password_is_refused(server: DirectoryServer) -> None:
    assert check(directory(server), "alice", "wrong") is None


def test_an_unknown_login_is_refused(server: DirectoryServer) -> None:
    assert check(directory(server), "nobody") is None


def test_an_empty_password_never_reaches_the_directory(server: DirectoryServer) -> None:
    with Listener() as silent:
        assert check(directory(server, url=silent.url), "alice", "") is None
        assert silent.connections == 0
    assert check(directory(server), "alice", "") is None


@pytest.mark.parametrize("password", ["\0", "correct horse\0", "\udcff", " ", "x" * 5000])
def test_strange_passwords_are_wrong_ones(server: DirectoryServer, password: str) -> None:
    assert check(directory(server), "alice", password) is None


@pytest.mark.parametrize(
    "login",
    [
        "*",
        "a*",
        "alice)(uid=*",
        "*)(|(uid=*",
        "alice\0",
        "alice\\2a",
        ")(&)",
        "a" * 256,
        "ali\u200bce",
    ],
)
def test_what_is_put_into_a_filter_is_only_a_text(server: DirectoryServer, login: str) -> None:
    assert check(directory(server), login) is None


@pytest.mark.parametrize("login", ["alice ", " alice", "al ice", ""])
def test_blanks_are_in_no_login(server: DirectoryServer, login: str) -> None:
    assert check(directory(server), login) is None


@pytest.mark.parametrize("login", ["ALICE", "Alice"])
def test_the_name_is_as_the_directory_spells_it(server: DirectoryServer, login: str) -> None:
    assert check(directory(server), login) == user("alice", frozenset({"developers"}))


def test_another_attribute_may_be_the_login(server: DirectoryServer) -> None:
    asked = directory(server, userfilter="(|(uid={login})(mail={login}))")
    found = check(asked, "bob@example.org")
    assert found is not None
    assert found.name == "bob"


def test_names_need_not_be_english(server: DirectoryServer) -> None:
    assert check(directory(server), "jürgen") == user("jürgen")


@pytest.mark.parametrize("login", ["cert:node-1", "robot$ci"])
def test_nobody_gets_a_name_of_certificates_or_robots(server: DirectoryServer, login: str) -> None:
    assert check(directory(server), login) is None
    mail = {"cert:node-1": "node@example.org", "robot$ci": "robot@example.org"}[login]
    with pytest.raises(AmbiguousError, match="can be a name here"):
        check(directory(server, userfilter="(mail={login})"), mail)


def test_of_several_names_the_one_given_counts(server: DirectoryServer) -> None:
    assert check(directory(server), "Second") == user("second")
    with pytest.raises(AmbiguousError):
        check(directory(server, userfilter="(mail={login})"), "names@example.org")


def test_two_entries_of_one_login_are_nobody(server: DirectoryServer) -> None:
    with pytest.raises(AmbiguousError, match="several entries"):
        check(directory(server, userbase=BASE), "twin")
    assert check(directory(server), "twin") == user("twin")


def test_groups_may_be_an_attribute_of_the_user(server: DirectoryServer) -> None:
    asked = directory(server, groupfilter=None, memberof="memberOf")
    assert check(asked, "bob") == user("bob", frozenset({"developers", "admins"}))


@pytest.mark.parametrize(
    "over", [{}, {"groupfilter": None, "memberof": "memberOf"}], ids=["filter", "memberof"]
)
def test_a_group_of_the_same_name_elsewhere_is_another(
    server: DirectoryServer, over: dict[str, object]
) -> None:
    assert check(directory(server, **over), "faker") == user("faker")


def test_groups_can_have_a_prefix(server: DirectoryServer) -> None:
    rule = {"repositories": ["**"], "actions": ["*"], "who": ["group:ldap-admins"]}
    section = {"ldap": server.settings(groupprefix="ldap-"), "rules": [rule]}
    asked = build_directory(AccessSettings.model_validate(section))
    assert asked is not None
    assert check(asked, "bob") == user("bob", frozenset({"ldap-admins"}))


def test_without_a_password_only_the_searcher_asks(server: DirectoryServer) -> None:
    assert directory(server).find("ALICE") == user("alice", frozenset({"developers"}))
    assert directory(server).find("nobody") is None


def test_a_searcher_with_another_password_is_told(server: DirectoryServer) -> None:
    with pytest.raises(DirectoryUnavailableError) as raised:
        check(directory(server, bindpassword="other"), "alice")
    assert "binddn" in raised.value.reason


def test_a_base_that_is_not_there_is_told(server: DirectoryServer) -> None:
    with pytest.raises(DirectoryUnavailableError) as raised:
        check(directory(server, userbase=f"ou=nowhere,{BASE}"), "alice")
    assert "ou=nowhere" in raised.value.reason


def test_what_is_no_name_of_an_entry_stops_the_start(server: DirectoryServer) -> None:
    with pytest.raises(StorageError, match="distinguished name"):
        directory(server, userbase="people")


@pytest.mark.parametrize("way", ["tls", "starttls"])
class TestTls:
    def over(self, server: DirectoryServer, way: str) -> dict[str, object]:
        return {"url": server.tls} if way == "tls" else {"starttls": True}

    def test_the_authority_given_is_trusted(self, server: DirectoryServer, way: str) -> None:
        ca = str(server.authority.certificate)
        assert check(directory(server, ca=ca, **self.over(server, way)), "alice") is not None

    def test_others_are_not(self, server: DirectoryServer, way: str, tmp_path: Path) -> None:
        other = str(Authority(tmp_path / "other", "another authority").certificate)
        for ca in (other, None):
            with pytest.raises(DirectoryUnavailableError):
                check(directory(server, ca=ca, **self.over(server, way)), "alice")

    def test_the_host_must_be_that_of_the_certificate(
        self, server: DirectoryServer, way: str
    ) -> None:
        over = {"url": server.plain, **self.over(server, way)}
        over["url"] = str(over["url"]).replace("127.0.0.1", server.unnamed)
        asked = directory(server, ca=str(server.authority.certificate), **over)
        with pytest.raises(DirectoryUnavailableError):
            check(asked, "alice")


def test_a_file_of_authorities_must_be_one(server: DirectoryServer, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"access\.ldap\.ca"):
        directory(server, url=server.tls, ca=str(tmp_path / "missing.crt"))


def test_a_directory_that_is_down_is_told(server: DirectoryServer) -> None:
    with pytest.raises(DirectoryUnavailableError, match="can't be asked"):
        check(directory(server, url=f"ldap://127.0.0.1:{free_port()}"), "alice")


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_silent_directory_is_given_up(server: DirectoryServer, scheme: str) -> None:
    with Listener() as silent:
        asked = directory(server, url=silent.url.replace("ldap://", f"{scheme}://"))
        began = time.monotonic()
        with pytest.raises(DirectoryUnavailableError):
            asked.check("alice", PASSWORD, began + 1)
        assert time.monotonic() - began < 5


def test_referrals_are_not_followed(tmp_path: Path) -> None:
    with Listener() as other:
        more = "\n".join(
            f"dn: {name},{BASE}\nobjectClass: referral\nobjectClass: extensibleObject\n"
            f"ou: {name[3:].partition(',')[0]}\nref: {other.url}/{name},{BASE}\n"
            for name in ("ou=away,ou=people", "ou=gone")
        )
        with directory_server(tmp_path, more) as server:
            assert check(directory(server), "nobody") is None
            assert check(directory(server), "alice") is not None
            with pytest.raises(DirectoryUnavailableError):
                check(directory(server, userbase=f"ou=gone,{BASE}"), "alice")
        assert other.connections == 0
