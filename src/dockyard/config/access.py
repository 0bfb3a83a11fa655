"""Settings of who may do what: users, groups, robots, rules, and the tokens they get."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from dockyard.config.identities import CertificateSettings, OidcSettings, placeholders
from dockyard.config.ldap import LdapSettings
from dockyard.config.scalars import (
    Flag,
    OptionalText,
    Period,
    Secret,
    Text,
    to_text_or_none,
)
from dockyard.config.section import Section


ACTIONS: Final = ("pull", "push", "delete", "catalog", "admin", "*")
"""What a rule can be about; ``*`` is all of them."""

_WHO: Final = re.compile(r"anonymous|authenticated|group:[^\s:]+|(?:user|robot):[^\s:]\S*")
_COMPONENT: Final = re.compile(r"\*\*|(?!.*\*\*)[a-zA-Z0-9._*-]+")
_BCRYPT: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-7])\$[./A-Za-z0-9]{53}")
_PATTERN_LIMIT: Final = 255
_DEEP_LIMIT: Final = 3
_SHORTEST: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(hours=1)


def _pattern(value: str) -> str:
    components = value.split("/")
    if not all(_COMPONENT.fullmatch(component) for component in components):
        raise ValueError(
            "must be a repository's name, in which * stands for a part of a component and ** for "
            "whole ones"
        )
    if len(value) > _PATTERN_LIMIT or components.count("**") > _DEEP_LIMIT:
        raise ValueError(
            f"must have at most {_PATTERN_LIMIT} characters and {_DEEP_LIMIT} times **"
        )
    return value


def _action(value: str) -> str:
    if value not in ACTIONS:
        raise ValueError(f"must be one of {', '.join(ACTIONS)}")
    return value


def _who(value: str) -> str:
    if _WHO.fullmatch(value) is None:
        raise ValueError("must be anonymous, authenticated, user:NAME, group:NAME or robot:NAME")
    return value


def _hash(value: SecretStr | None) -> SecretStr | None:
    if value is not None and _BCRYPT.fullmatch(value.get_secret_value()) is None:
        raise ValueError("must be a bcrypt hash, such as `htpasswd -nB` prints")
    return value


def _realm(value: str | None) -> str | None:
    if value is not None and urlsplit(value).scheme not in {"http", "https"}:
        raise ValueError("must be an absolute URL such as https://registry.example.com/auth/token")
    return value


def _lifetime(value: timedelta) -> timedelta:
    if not _SHORTEST <= value <= _LONGEST:
        raise ValueError("must be from 1m to 1h")
    return value


Effect: TypeAlias = Annotated[Literal["allow", "deny"] | None, BeforeValidator(to_text_or_none)]


class RuleSettings(Section):
    """One rule: the first that fits decides."""

    repositories: tuple[Annotated[Text, AfterValidator(_pattern)], ...]
    actions: tuple[Annotated[Text, AfterValidator(_action)], ...]
    who: tuple[Annotated[Text, AfterValidator(_who)], ...]
    effect: Effect = None


class RobotSettings(Section):
    """A robot account, which logs in as ``robot$NAME``.

    Attributes:
        hash: the bcrypt hash of its secret; without one it logs in by API keys only.
    """

    hash: Annotated[Secret, AfterValidator(_hash)] = None


class TokenServiceSettings(Section):
    """The token service of the registry itself.

    Attributes:
        realm: its URL as clients reach it; `None` is taken from each request.
        lifetime: how long a token is good.
        refreshlifetime: how long a refresh token is good, which ``docker login`` keeps.
    """

    enabled: Flag = True
    realm: Annotated[OptionalText, AfterValidator(_realm)] = None
    service: Text = "registry"
    lifetime: Annotated[Period, AfterValidator(_lifetime)] = timedelta(minutes=5)
    refreshlifetime: Period = timedelta(days=90)


def _robots(templates: Iterable[str]) -> Iterator[str]:
    """Yield the robots that templates of names make; ``*`` for one that makes several."""
    for template in templates:
        kind, _, name = template.partition(":")
        if kind == "robot":
            yield "*" if placeholders(name) else name


Vouched: TypeAlias = CertificateSettings | OidcSettings


class AccessSettings(Section):
    """Who may do what. Once this is there, what no rule allows is refused."""

    groups: Mapping[str, tuple[Text, ...]] = {}
    robots: Mapping[str, RobotSettings] = {}
    certificates: tuple[CertificateSettings, ...] = ()
    oidc: tuple[OidcSettings, ...] = ()
    ldap: LdapSettings | None = None
    rules: tuple[RuleSettings, ...] = ()
    token: TokenServiceSettings = TokenServiceSettings()

    @model_validator(mode="after")
    def _an_issuer_has_one_set_of_keys(self) -> Self:
        places: dict[str, str | None] = {}
        for each in self.oidc:
            if places.setdefault(each.issuer, each.jwks) != each.jwks:
                raise ValueError(f"has two different jwks for the issuer {each.issuer}")
            if each.issuer == self.token.service:
                raise ValueError(
                    f"can't trust the issuer {each.issuer}: token.service is called so"
                )
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        outside: Sequence[Vouched] = (*self.certificates, *self.oidc)
        robots = {*self.robots, *_robots(each.principal for each in outside)}
        groups = {*self.groups, *(group for each in outside for group in each.groups)}
        for rule in self.rules:
            for who in rule.who:
                kind, _, name = who.partition(":")
                # What a template makes of what is proved can't be known here.
                known = {"group": groups, "robot": robots - {"*"}}.get(kind)
                if kind == "robot" and "*" in robots:
                    continue
                if kind == "group" and self._may_be_of_directory(name):
                    continue
                if known is not None and name not in known:
                    raise ValueError(f"has a rule for {who}, but there is no such {kind}")
        return self

    def _may_be_of_directory(self, group: str) -> bool:
        directory = self.ldap
        return (
            directory is not None
            and directory.reads_groups
            and group.startswith(directory.groupprefix)
        )
