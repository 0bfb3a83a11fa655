"""Settings of who is who for others who vouch: certificates of clients, tokens of other issuers."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, model_validator

from dockyard.config.nodes import ScalarNode
from dockyard.config.scalars import OptionalText, Text
from dockyard.config.section import Section


_PATTERN_LIMIT: Final = 255
_NAME: Final = r"[A-Za-z0-9._:/@+-]"
_TEMPLATE: Final = re.compile(rf"{_NAME}*(?:\{{[A-Za-z0-9._:/-]+\}}(?:{_NAME}+|$))*")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_GROUP: Final = re.compile(r"[^\s:]+")


def is_pattern(value: str) -> bool:
    """Return whether `value` can be a pattern of what is said about somebody."""
    return 0 < len(value) <= _PATTERN_LIMIT and value.isprintable() and "***" not in value


def placeholders(template: str) -> list[str]:
    """Return what stands in braces in the template of a name."""
    return _PLACEHOLDER.findall(template)


def _pattern(value: str | None) -> str | None:
    if value is not None and not is_pattern(value):
        raise ValueError(f"must be a pattern of at most {_PATTERN_LIMIT} printable characters")
    return value


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, ScalarNode | str) else value


def _is_url(value: str) -> bool:
    """Return whether `value` is a URL that nobody on the way can answer for."""
    try:
        parts = urlsplit(value)
        local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    except ValueError:
        return False
    return local or (parts.scheme == "https" and bool(parts.hostname))


def _jwks(value: str | None) -> str | None:
    if value is not None and not value.startswith("/") and not _is_url(value):
        raise ValueError("must be an absolute path, or a URL of https")
    return value


def _template(value: str) -> str:
    if not value.partition(":")[2 if value.startswith(("user:", "robot:")) else 0]:
        raise ValueError("must be a name, or user:NAME, or robot:NAME")
    if _TEMPLATE.fullmatch(value) is None:
        raise ValueError(
            "must be a name of letters, digits and . _ : / @ + -, in which {…} may stand for what "
            "is proved, with something between two of them"
        )
    return value


def _group(value: str) -> str:
    if _GROUP.fullmatch(value) is None:
        raise ValueError("must be the name of a group, without spaces and colons")
    return value


Patterns: TypeAlias = Annotated[
    tuple[Annotated[Text, AfterValidator(_pattern)], ...], BeforeValidator(_one_or_more)
]
OptionalPattern: TypeAlias = Annotated[OptionalText, AfterValidator(_pattern)]
Template: TypeAlias = Annotated[Text, AfterValidator(_template)]
Group: TypeAlias = Annotated[Text, AfterValidator(_group)]


class CertificateSettings(Section):
    """Who shows a certificate; the first that fits decides.

    Attributes:
        cn: a pattern of the subject's common name.
        dns: a pattern of one of its hosts.
        uri: a pattern of one of its URIs.
        email: a pattern of one of its addresses.
        principal: who that is; ``{cn}`` and so on stand for what fitted.
        groups: the groups that they are in.
    """

    cn: OptionalPattern = None
    dns: OptionalPattern = None
    uri: OptionalPattern = None
    email: OptionalPattern = None
    principal: Template = "cert:{cn}"
    groups: tuple[Group, ...] = ()

    @model_validator(mode="after")
    def _can_be_somebody(self) -> Self:
        if not self.patterns:
            raise ValueError("needs a pattern: one of cn, dns, uri, email")
        for name in placeholders(self.principal):
            if name not in {"cn", "dns", "uri", "email"}:
                raise ValueError(f"has no {{{name}}} to make principal of: cn, dns, uri or email")
        return self

    @property
    def patterns(self) -> dict[str, str]:
        """The patterns that are given, by what they are of."""
        named = {"cn": self.cn, "dns": self.dns, "uri": self.uri, "email": self.email}
        return {name: pattern for name, pattern in named.items() if pattern is not None}


class OidcSettings(Section):
    """Who has a token of another issuer; of one issuer the first entry that fits decides.

    Attributes:
        issuer: the issuer's URL, as its tokens have it.
        audience: whom its tokens have to be for.
        jwks: its keys: a file, or a URL; without it the issuer tells where they are.
        conditions: patterns by claim, of which one must match; all claims must be there.
        principal: who that is; ``{CLAIM}`` stands for a claim.
        groups: the groups that they are in.
    """

    issuer: Text
    audience: Text
    jwks: Annotated[OptionalText, AfterValidator(_jwks)] = None
    conditions: Mapping[str, Patterns]
    principal: Template
    groups: tuple[Group, ...] = ()

    @model_validator(mode="after")
    def _lets_not_everybody_in(self) -> Self:
        if not self.issuer or not self.audience:
            raise ValueError("needs an issuer and an audience")
        if self.jwks is None and not _is_url(self.issuer):
            raise ValueError("needs jwks, since its issuer is no URL of https")
        if not self.conditions or not all(self.conditions.values()):
            raise ValueError(
                "needs conditions: without them whoever has a token of this issuer is let in, "
                "and of public ones that is everybody"
            )
        name = self.principal.removeprefix("user:").removeprefix("robot:")
        if placeholders(name) and ":" not in name.partition("{")[0]:
            raise ValueError(
                "has a principal that a claim could make anybody: begin it with a word and a "
                f"colon, such as ci:{name}"
            )
        return self
