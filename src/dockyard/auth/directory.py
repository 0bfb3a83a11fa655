"""A directory of accounts: asks an LDAP server who somebody is, and whether a password is theirs.

All of this blocks, so it is called in threads (`dockyard.auth.directory_logins`). The library is
imported when a configuration has `access.ldap`, and never before: it is an optional extra.

Source: RFC 4511 (protocol), RFC 4513 (binds), RFC 4514 (names), RFC 4515 (filters).
"""

import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

from dockyard.auth.errors import DirectoryUnavailableError
from dockyard.auth.principal import Principal, user
from dockyard.errors import StorageError


NAME_LIMIT: Final = 255
"""Characters of a login, and of a name that the directory gives, at most."""

GROUPS_LIMIT: Final = 1024
"""Groups of one entry that are looked at: directories of large firms have hundreds."""

_NAME: Final = re.compile(r"[^\s:$]+")
"""What can be a name: without what certificates, workloads and robots have in theirs."""

_GROUP: Final = re.compile(r"[^\s:]+")
_PLACEHOLDER: Final = re.compile(r"\{name\}|\{dn\}")
_ESCAPED: Final = re.compile(r"[\\*()\x00]|[^\x00-\x7f]")

_TLS_12: Final = 0x303
_DEBIAN_AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"

_Found: TypeAlias = tuple[str, Mapping[str, Sequence[bytes]]]
"""An entry: its distinguished name, and its attributes by their names in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """Where a directory is, and how it is asked.

    Attributes:
        url: ``ldap://`` or ``ldaps://``, a host and perhaps a port.
        starttls: whether TLS begins after the connection.
        ca: the file of authorities that the server's certificate has to be of; empty for those of
            the machine.
        binddn: the entry that searches.
        bindpassword: its password.
        userbase: below what users are.
        userfilter: which entry a user has; ``{login}`` is what they call themselves.
        nameattribute: the attribute that has their name.
        groupbase: below what groups are; empty if none are read.
        groupfilter: which groups they are in; ``{dn}`` is their entry, ``{name}`` their name.
        groupattribute: the attribute that has the name of a group.
        memberof: the attribute of a user that has their groups, instead of a search.
        groupprefix: what the names of these groups begin with in the rules.
        named: the groups that rules name, with their prefix; others are of no use.
        seconds: how long a login may take in all.
    """

    url: str
    starttls: bool = False
    ca: str = ""
    binddn: str
    bindpassword: str = field(repr=False)
    userbase: str
    userfilter: str = "(uid={login})"
    nameattribute: str = "uid"
    groupbase: str = ""
    groupfilter: str = ""
    groupattribute: str = "cn"
    memberof: str = ""
    groupprefix: str = ""
    named: frozenset[str] = frozenset()
    seconds: float = 5.0


class AmbiguousError(Exception):
    """Several entries, or several names, are of one login: it is nobody's."""


def escape(text: str) -> str:
    r"""Return `text` such that in a filter it is nothing but itself. Source: RFC 4515, section 3.

    Besides what must be, all that is not ASCII is written as bytes, so that nothing depends on how
    it is read.
    """
    return _ESCAPED.sub(
        lambda match: "".join(f"\\{byte:02x}" for byte in match[0].encode("utf-8")), text
    )


def is_login(text: str) -> bool:
    """Return whether `text` can be the login of somebody in a directory.

    Blanks and what is not printable are ignored when a directory compares: two such texts would be
    one login, and guessing would be counted twice.
    """
    return len(text) <= NAME_LIMIT and text.isprintable() and _NAME.fullmatch(text) is not None


def load_library() -> Any:  # noqa: ANN401 -- it has no types; it stays within this module
    """Return the library.

    Raises:
        StorageError: it is not installed.
    """
    try:
        return import_module("ldap")
    except ImportError as error:
        raise StorageError(
            "access.ldap needs the library python-ldap: pip install 'dockyard[ldap]', or remove "
            f"the key ({error})"
        ) from error


class Directory:
    """A directory; it has no state, each question is a connection of its own.

    Raises:
        StorageError: the library is not installed, or the authorities can't be read.
    """

    def __init__(self, settings: DirectorySettings) -> None:
        self.settings: Final = settings
        self._ldap: Final = load_library()
        self._authorities: Final = _authorities(settings.ca)
        for key, name in (("userbase", settings.userbase), ("groupbase", settings.groupbase)):
            if name and not self._ldap.dn.is_dn(name):
                raise StorageError(f"access.ldap.{key}: {name!r} is no distinguished name")

    def find(self, login: str) -> Principal | None:
        """Return who `login` is, without a password, or `None` if nobody is. This blocks.

        Raises:
            AmbiguousError: several entries have this login.
            DirectoryUnavailableError: it can't be told.
        """
        return self._ask(login, None, self._deadline())

    def check(self, login: str, password: str, deadline: float) -> Principal | None:
        """Return who `login` is if `password` is theirs, else `None`. This blocks.

        Args:
            login: the name given.
            password: the password given. An empty one is nobody's: a server would take it for no
                password at all, and say yes. Source: RFC 4513, section 5.1.2.
            deadline: when to give up, by `time.monotonic`.

        Raises:
            AmbiguousError: several entries have this login.
            DirectoryUnavailableError: it can't be told.
        """
        return self._ask(login, password, deadline) if password else None

    def _deadline(self) -> float:
        return time.monotonic() + self.settings.seconds

    def _ask(self, login: str, password: str | None, deadline: float) -> Principal | None:
        if not is_login(login):
            return None
        settings = self.settings
        with self._connected(deadline) as asked:
            asked.become(settings.binddn, settings.bindpassword)
            found = self._entry(asked, login)
            if found is None:
                return None
            name = self._name_of(found, login)
            groups = self._groups_of(asked, found, name)
            if password is not None and not asked.is_right(found[0], password):
                return None
        return user(name, groups)

    @contextmanager
    def _connected(self, deadline: float) -> Iterator["_Asked"]:
        ldap, settings = self._ldap, self.settings
        try:
            connection = ldap.initialize(settings.url)
            for option, value in self._options().items():
                connection.set_option(getattr(ldap, option), value)
            asked = _Asked(ldap, connection, deadline)
            try:
                if settings.starttls:
                    asked.allow()
                    connection.start_tls_s()
                yield asked
            finally:
                connection.unbind_ext_s()
        except ldap.LDAPError as error:
            raise DirectoryUnavailableError(_reason(error)) from error

    def _options(self) -> Mapping[str, object]:
        """Return the options of a connection by name; the last ones make those of TLS count."""
        options: dict[str, object] = {
            "OPT_PROTOCOL_VERSION": 3,
            "OPT_REFERRALS": 0,  # else our password would go to whoever is named
            "OPT_DEREF": self._ldap.DEREF_NEVER,
            "OPT_CONNECT_ASYNC": 1,  # else no time bounds the handshake of ldaps://
            "OPT_X_TLS_REQUIRE_CERT": self._ldap.OPT_X_TLS_DEMAND,
            "OPT_X_TLS_PROTOCOL_MIN": _TLS_12,
        }
        if self._authorities:
            options["OPT_X_TLS_CACERTFILE"] = self._authorities
        options["OPT_X_TLS_NEWCTX"] = 0
        return options

    def _entry(self, asked: "_Asked", login: str) -> _Found | None:
        settings = self.settings
        wanted = settings.userfilter.replace("{login}", escape(login))
        attributes = [settings.nameattribute, *filter(None, [settings.memberof])]
        try:
            found = asked.search(settings.userbase, wanted, attributes, 2)
        except self._ldap.SIZELIMIT_EXCEEDED:
            raise AmbiguousError("several entries have this login") from None
        if len(found) > 1:
            raise AmbiguousError("several entries have this login")
        return found[0] if found else None

    def _name_of(self, found: _Found, login: str) -> str:
        """Return the name that the directory spells, however `login` was spelled.

        Raises:
            AmbiguousError: it has several names of which none was given, or what can't be one.
        """
        names = _texts(found[1].get(self.settings.nameattribute.lower(), ()))
        if len(names) > 1:
            names = [name for name in names if name.casefold() == login.casefold()]
        if len(names) != 1 or not is_login(names[0]):
            raise AmbiguousError(
                f"{found[0]} has no {self.settings.nameattribute} that can be a name here, or "
                "several"
            )
        return names[0]

    def _groups_of(self, asked: "_Asked", found: _Found, name: str) -> frozenset[str]:
        settings = self.settings
        if settings.memberof:
            values = _texts(found[1].get(settings.memberof.lower(), ()))
            groups = [each for value in values for each in self._named_by(value)]
        elif settings.groupfilter:
            facts = {"{name}": escape(name), "{dn}": escape(found[0])}
            wanted = _PLACEHOLDER.sub(lambda match: facts[match[0]], settings.groupfilter)
            entries = asked.search(
                settings.groupbase, wanted, [settings.groupattribute], GROUPS_LIMIT
            )
            attribute = settings.groupattribute.lower()
            groups = [each for _, has in entries for each in _texts(has.get(attribute, ()))]
        else:
            groups = []
        return (
            frozenset(f"{settings.groupprefix}{each}" for each in groups if _GROUP.fullmatch(each))
            & settings.named
        )

    def _named_by(self, group: str) -> Sequence[str]:
        """Return the name of a group by its distinguished name, if it is below the base."""
        try:
            parts = self._parts(group)
            base = self._parts(self.settings.groupbase)
        except self._ldap.LDAPError:
            return []
        first = parts[0] if parts else []
        below = [_plain(each) for each in parts[-len(base) :]] == [_plain(each) for each in base]
        if not below or len(parts) <= len(base) or len(first) != 1:
            return []
        attribute, value = first[0]
        return [value] if attribute.lower() == self.settings.groupattribute.lower() else []

    def _parts(self, name: str) -> Sequence[Sequence[tuple[str, str]]]:
        return [
            [(attribute, value) for attribute, value, _ in part]
            for part in self._ldap.dn.str2dn(name)
        ]


class _Asked:
    """A connection on which no question takes longer than until the deadline."""

    def __init__(self, ldap: Any, connection: Any, deadline: float) -> None:  # noqa: ANN401 -- untyped
        self._ldap: Final = ldap
        self._connection: Final = connection
        self._deadline: Final = deadline

    def allow(self) -> float:
        """Let the next question take what is left, and return that in seconds."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DirectoryUnavailableError("it took too long")
        self._connection.set_option(self._ldap.OPT_NETWORK_TIMEOUT, left)
        self._connection.set_option(self._ldap.OPT_TIMEOUT, left)
        return left

    def become(self, name: str, password: str) -> None:
        """Become the entry that searches."""
        try:
            self._bind(name, password)
        except self._ldap.INVALID_CREDENTIALS as error:
            raise DirectoryUnavailableError("it refuses access.ldap.binddn") from error

    def _bind(self, name: str, password: str) -> None:
        self.allow()
        self._connection.simple_bind_s(name, password)

    def is_right(self, name: str, password: str) -> bool:
        """Return whether `password` is that of the entry `name`."""
        ldap = self._ldap
        try:
            self._bind(name, password)
        except (ldap.INVALID_CREDENTIALS, ldap.INAPPROPRIATE_AUTH, ldap.INSUFFICIENT_ACCESS):
            return False
        except ldap.UNWILLING_TO_PERFORM:  # how some tell a locked account
            return False
        except UnicodeError:  # the directory's passwords are UTF-8
            return False
        return True

    def search(
        self, base: str, wanted: str, attributes: Sequence[str], most: int
    ) -> Sequence[_Found]:
        """Return the entries below `base`; references to other servers are left out."""
        left = self.allow()
        try:
            found = self._connection.search_ext_s(
                base,
                self._ldap.SCOPE_SUBTREE,
                wanted,
                list(attributes),
                timeout=left,
                sizelimit=most,
            )
        except self._ldap.NO_SUCH_OBJECT as error:
            raise DirectoryUnavailableError(f"there is no {base}") from error
        return [
            (name, {attribute.lower(): values for attribute, values in has.items()})
            for name, has in found
            if name is not None
        ]


def _plain(part: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    return sorted((attribute.lower(), value.casefold()) for attribute, value in part)


def _texts(values: Sequence[bytes]) -> list[str]:
    texts = []
    for value in values[:GROUPS_LIMIT]:
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            continue
    return texts


def _authorities(path: str) -> str:
    """Return the file of authorities to trust: `path`, or that of the machine, if it has one.

    Raises:
        StorageError: `path` can't be used.
    """
    if not path:
        places = (ssl.get_default_verify_paths().cafile, _DEBIAN_AUTHORITIES)
        return next((place for place in places if place and Path(place).is_file()), "")
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise StorageError(f"access.ldap.ca: can't use {path}: {reason}") from error
    return path


def _reason(error: Exception) -> str:
    """Return why the library failed, in words; never what it was asked."""
    said = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    words = [str(said[key]) for key in ("desc", "info") if said.get(key)]
    return ": ".join(words) or type(error).__name__
