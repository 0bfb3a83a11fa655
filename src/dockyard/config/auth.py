"""Settings of who may come in."""

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

from dockyard.config.scalars import Flag, OptionalText, Text
from dockyard.config.section import Choice, Section


SIGNING_ALGORITHMS: Final = (
    "EdDSA",
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "ES256",
    "ES384",
    "ES512",
    "PS256",
    "PS384",
    "PS512",
)
"""Algorithms a token may be signed with, unless fewer are configured."""


def _algorithm(value: str) -> str:
    if value not in SIGNING_ALGORITHMS:
        raise ValueError(f"must be one of {', '.join(SIGNING_ALGORITHMS)}")
    return value


Algorithm: TypeAlias = Annotated[Text, AfterValidator(_algorithm)]


class SillySettings(Section):
    """Anyone who sends an ``Authorization`` header; for trials only."""

    realm: Text
    service: Text


class TokenSettings(Section):
    """Bearers of a token from an issuer we trust."""

    realm: Text
    service: Text
    issuer: Text
    rootcertbundle: OptionalText = None
    jwks: OptionalText = None
    signingalgorithms: tuple[Algorithm, ...] = SIGNING_ALGORITHMS
    autoredirect: Flag = False
    autoredirectpath: Text = "/auth/token"


class HtpasswdSettings(Section):
    """Users of a password file."""

    realm: Text
    path: Text


class NoAuthSettings(Section):
    """Everyone."""


class AuthSettings(Choice):
    """One way to tell who is asking; none given is everyone."""

    silly: SillySettings | None = None
    token: TokenSettings | None = None
    htpasswd: HtpasswdSettings | None = None
    none: NoAuthSettings | None = None
