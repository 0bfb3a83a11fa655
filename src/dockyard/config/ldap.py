"""Settings of a directory of accounts."""

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, model_validator

from dockyard.config.scalars import Flag, OptionalText, Period, SecretText, Text
from dockyard.config.section import Section


_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_PREFIX: Final = re.compile(r"[^\s:]*")
_LONGEST: Final = timedelta(seconds=30)


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"ldap", "ldaps"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be ldaps://HOST or ldap://HOST, perhaps with :PORT, and no more")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("must not be empty: without a password a directory lets anybody bind")
    return value


def _attribute(value: str | None) -> str | None:
    if value is not None and _ATTRIBUTE.fullmatch(value) is None:
        raise ValueError("must be the name of an attribute, such as uid")
    return value


def _filter(value: str | None) -> str | None:
    if value is not None and not (value.startswith("(") and value.endswith(")")):
        raise ValueError("must be a filter in parentheses, such as (uid={login})")
    return value


def _prefix(value: str) -> str:
    if _PREFIX.fullmatch(value) is None:
        raise ValueError("must be without spaces and colons")
    return value


def _path(value: str | None) -> str | None:
    if value is not None and not value.startswith("/"):
        raise ValueError("must be an absolute path")
    return value


def _timeout(value: timedelta) -> timedelta:
    if value > _LONGEST:
        raise ValueError("must be at most 30s")
    return value


class LdapSettings(Section):
    """A directory whose users can log in.

    Attributes:
        url: where it is.
        starttls: whether TLS begins after the connection.
        insecure: whether passwords may go there as they are.
        ca: the authorities that its certificate has to be of; `None` for those of the machine.
        binddn: the entry that searches.
        bindpassword: its password.
        userbase: below what users are.
        userfilter: which entry a user has.
        nameattribute: the attribute that has their name.
        groupbase: below what groups are.
        groupfilter: which groups they are in.
        groupattribute: the attribute that has the name of a group.
        memberof: the attribute of a user that has their groups.
        groupprefix: what the names of these groups begin with in rules.
        timeout: how long a login may take in all.
    """

    url: Annotated[Text, AfterValidator(_url)]
    starttls: Flag = False
    insecure: Flag = False
    ca: Annotated[OptionalText, AfterValidator(_path)] = None
    binddn: Annotated[Text, AfterValidator(_not_empty)]
    bindpassword: Annotated[SecretText, AfterValidator(_secret)]
    userbase: Annotated[Text, AfterValidator(_not_empty)]
    userfilter: Annotated[Text, AfterValidator(_filter)] = "(uid={login})"
    nameattribute: Annotated[Text, AfterValidator(_attribute)] = "uid"
    groupbase: OptionalText = None
    groupfilter: Annotated[OptionalText, AfterValidator(_filter)] = None
    groupattribute: Annotated[Text, AfterValidator(_attribute)] = "cn"
    memberof: Annotated[OptionalText, AfterValidator(_attribute)] = None
    groupprefix: Annotated[Text, AfterValidator(_prefix)] = ""
    timeout: Annotated[Period, AfterValidator(_timeout)] = timedelta(seconds=5)

    @property
    def reads_groups(self) -> bool:
        """Whether the directory tells groups."""
        return self.groupbase is not None

    @model_validator(mode="after")
    def _passwords_are_covered(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "ldaps":
            if self.starttls:
                raise ValueError("has starttls beside ldaps://, which has TLS from the beginning")
        elif not (self.starttls or self.insecure or _is_loopback(parts.hostname or "")):
            raise ValueError(
                "would send passwords in the clear: use ldaps:// or starttls, or say insecure: true"
            )
        return self

    @model_validator(mode="after")
    def _asks_for_somebody(self) -> Self:
        if "{login}" not in self.userfilter:
            raise ValueError("needs {login} in its userfilter: else everybody is the same entry")
        ways = [way for way in (self.groupfilter, self.memberof) if way is not None]
        if len(ways) != (1 if self.reads_groups else 0):
            raise ValueError("needs for groups a groupbase, and one of groupfilter and memberof")
        if self.groupfilter is not None and not (
            "{dn}" in self.groupfilter or "{name}" in self.groupfilter
        ):
            raise ValueError("needs {dn} or {name} in its groupfilter: else all have all groups")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
