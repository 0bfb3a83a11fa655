"""Settings of who is who for others who vouch for them: certificates of clients."""

import re
from typing import Annotated, Final, Self, TypeAlias

from pydantic import AfterValidator, model_validator

from dockyard.config.scalars import OptionalText, Text
from dockyard.config.section import Section


_PATTERN_LIMIT: Final = 255
_NAME: Final = r"[A-Za-z0-9._:/@+-]"
_TEMPLATE: Final = re.compile(rf"{_NAME}*(?:\{{[A-Za-z0-9._:/-]+\}}(?:{_NAME}+|$))*")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
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
