"""A directory of accounts on loopback: Debian's slapd, with a configuration and data of its own."""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.parts.authority import Authority
from tests.parts.daemon import Daemon, accepts, free_port
from tests.parts.programs import require, run


BASE: Final = "dc=example,dc=org"
SEARCHER: Final = "cn=searcher,dc=example,dc=org"
SEARCHER_PASSWORD: Final = "search & find"
PASSWORD: Final = "correct horse"

_CONFIGURATION: Final = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/slapd.pid
allow bind_anon_cred bind_anon_dn
TLSCACertificateFile {ca}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
database mdb
suffix "dc=example,dc=org"
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=searcher,dc=example,dc=org" read by * none
overlay memberof
"""
"""It takes binds without a password for anonymous ones, as careless directories do."""

_TOP: Final = f"""\
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: {SEARCHER}
objectClass: person
cn: searcher
sn: searcher
userPassword: {SEARCHER_PASSWORD}

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{BASE}
objectClass: organizationalUnit
ou: groups

dn: ou=elsewhere,{BASE}
objectClass: organizationalUnit
ou: elsewhere

dn: ou=twins,{BASE}
objectClass: organizationalUnit
ou: twins
"""

_PEOPLE: Final = (
    ("cn=Alice A,ou=people", ("alice",), "alice@example.org"),
    ("cn=Bob\\, Jr. (B*),ou=people", ("bob",), "bob@example.org"),
    ("cn=Jürgen,ou=people", ("jürgen",), "juergen@example.org"),
    ("cn=Twin One,ou=people", ("twin",), "one@example.org"),
    ("cn=Twin Two,ou=twins", ("twin",), "two@example.org"),
    ("cn=Two Names,ou=people", ("first", "second"), "names@example.org"),
    ("cn=Node,ou=people", ("cert:node-1",), "node@example.org"),
    ("cn=Robot,ou=people", ("robot$ci",), "robot@example.org"),
    ("cn=Local,ou=people", ("local",), "local@example.org"),
    ("cn=Faker,ou=people", ("faker",), "faker@example.org"),
)
_GROUPS: Final = (
    ("cn=developers,ou=groups", ("cn=Alice A,ou=people", "cn=Bob\\, Jr. (B*),ou=people")),
    ("cn=admins,ou=groups", ("cn=Bob\\, Jr. (B*),ou=people",)),
    ("cn=admins,ou=elsewhere", ("cn=Faker,ou=people",)),
)


class DirectoryServer:
    """A running slapd.

    Attributes:
        plain: its URL without TLS.
        tls: its URL with TLS.
        authority: who issued its certificate.
        unnamed: another address of it, which its certificate does not name.
    """

    unnamed: Final = "127.0.0.2"

    def __init__(self, folder: Path) -> None:
        self.authority: Final = Authority(folder / "authority")
        self._folder: Final = folder
        self._port, self._tls_port = free_port(), free_port()
        self.plain: Final = f"ldap://127.0.0.1:{self._port}"
        self.tls: Final = f"ldaps://127.0.0.1:{self._tls_port}"
        self._daemon: Daemon | None = None
        (folder / "data").mkdir()
        pair = self.authority.issue("directory")
        self._configuration = folder / "slapd.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                ca=self.authority.certificate,
                certificate=pair.certificate,
                key=pair.key,
            )
        )

    def add(self, entries: str) -> None:
        """Add entries in LDIF, while it does not run."""
        file = self._folder / "entries.ldif"
        file.write_text(entries)
        run("slapadd", "-q", "-f", self._configuration, "-l", file)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        command: list[str | Path] = [require("slapd"), "-d", "0", "-f", self._configuration]
        log = self._folder / "slapd.log"
        everywhere = [url.replace("127.0.0.1", self.unnamed) for url in (self.plain, self.tls)]
        self._daemon = Daemon([*command, "-h", " ".join([*everywhere, self.plain, self.tls])], log)
        self._daemon.wait_until(lambda: accepts(self._port) and accepts(self._tls_port))

    def stop(self) -> None:
        """End it."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def settings(self, **over: object) -> dict[str, Any]:
        """Return a section `access.ldap` for it, with `over` laid on it."""
        return {
            "url": self.plain,
            "binddn": SEARCHER,
            "bindpassword": SEARCHER_PASSWORD,
            "userbase": f"ou=people,{BASE}",
            "groupbase": f"ou=groups,{BASE}",
            "groupfilter": "(&(objectClass=groupOfNames)(member={dn}))",
            **over,
        }


def require_library() -> None:
    """Skip the running test without the extra, or fail it with ``CI=true``."""
    if importlib.util.find_spec("ldap") is not None:
        return
    remedy = "python-ldap is not installed; scripts/install-parts installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(remedy, pytrace=False)
    pytest.skip(remedy)


@contextmanager
def directory_server(folder: Path, more: str = "") -> Iterator[DirectoryServer]:
    """Run a directory with some people and groups, and the entries `more`."""
    require("slapd")
    require_library()
    server = DirectoryServer(folder)
    server.add("\n".join([_TOP, *_people(), *_groups(), more]))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _people() -> Iterator[str]:
    members = _members()
    for name, logins, mail in _PEOPLE:
        common = name.partition(",ou=")[0].removeprefix("cn=").replace("\\", "")
        lines = [f"dn: {name},{BASE}", "objectClass: inetOrgPerson", f"cn: {common}", "sn: x"]
        lines += [f"uid: {login}" for login in logins]
        lines += [f"mail: {mail}", f"userPassword: {PASSWORD}"]
        lines += [f"memberOf: {group},{BASE}" for group in members.get(name, ())]
        yield "\n".join([*lines, ""])


def _groups() -> Iterator[str]:
    for name, members in _GROUPS:
        common = name.partition(",")[0].removeprefix("cn=")
        lines = [f"dn: {name},{BASE}", "objectClass: groupOfNames", f"cn: {common}"]
        lines += [f"member: {member},{BASE}" for member in members]
        yield "\n".join([*lines, ""])


def _members() -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group, members in _GROUPS:
        for member in members:
            found.setdefault(member, []).append(group)
    return found
