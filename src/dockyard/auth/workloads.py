"""Workloads: who has a token of an issuer that we trust, such as a job of a build service.

The token is verified as all are (`dockyard.auth.tokens`), and its claims say who has it, as far as
the configuration asks for them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from dockyard.auth.errors import TokenRefusedError
from dockyard.auth.keys import TrustedKeys
from dockyard.auth.principal import Principal
from dockyard.auth.recognition import Facts, Recognition, recognise
from dockyard.auth.tokens import (
    LEEWAY,
    Claims,
    Expected,
    TokenUnfitError,
    TokenUntrustedError,
    peek,
    verify,
)
from dockyard.clock import Clock


ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""How a token may be signed: with a private key, so that no public key is taken for a secret."""

SEPARATORS: Final = "/:"
"""What ``*`` does not match in a claim: a repository is one component, a subject has colons."""

EVIDENCE_SECONDS: Final = 86400
"""How long what a token proved can be good in one of ours, at most; these live for an hour at most
themselves."""

VALUES_LIMIT: Final = 64
"""Texts of a claim that is a list, at most; a longer one is no claim."""


class Keys(Protocol):
    """The keys of an issuer."""

    async def of(self, name: str) -> TrustedKeys:
        """Return what is trusted; `name` is the key that is wanted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """An issuer, and who has a token of it.

    Attributes:
        issuer: its name, which is a URL.
        audience: whom its tokens have to be for.
        keys: its keys.
        recognition: which claims they must have, and who that is.
    """

    issuer: str
    audience: str
    keys: Keys
    recognition: Recognition


@dataclass(frozen=True, slots=True)
class Workload:
    """Somebody whose token is good.

    Attributes:
        principal: who.
        evidence: what proves it again to `Workloads.recall`; goes into our own token.
    """

    principal: Principal
    evidence: Mapping[str, object]


class Workloads:
    """Tells who has a token; one for each worker. It remembers none.

    Args:
        issuers: whom we trust; of one issuer the first entry whose conditions fit decides. All
            entries of one issuer have the same keys.
        clock: tells whether a token is good now.
    """

    def __init__(self, issuers: Sequence[TrustedIssuer], clock: Clock) -> None:
        self._issuers: Final = issuers
        self._clock: Final = clock

    def knows(self, token: str) -> bool:
        """Return whether `token` says it is from an issuer that we trust; nothing is proved yet."""
        try:
            issuer, _ = peek(token)
        except TokenRefusedError:
            return False
        return any(each.issuer == issuer for each in self._issuers)

    async def identify(self, token: str) -> Workload:
        """Return who has `token`.

        Raises:
            TokenRefusedError: it is not good, or its claims fit nobody.
        """
        issuer, key = peek(token)
        refusal: TokenRefusedError = TokenUntrustedError("its issuer is not trusted")
        for each in self._issuers:
            if each.issuer != issuer:
                continue
            keys = await each.keys.of(key)
            expected = Expected(issuer=issuer, audience=each.audience, algorithms=ALGORITHMS)
            try:
                claims = verify(token, expected, _always(keys), self._clock)
            except TokenRefusedError as error:
                refusal = error
                continue
            return self._workload(each, claims)
        raise refusal

    def recall(self, evidence: object) -> Principal:
        """Return who had a token once, by what we have signed about it.

        It is looked at as the configuration is now: a workload that it does not know any more is
        nobody, and its groups are the present ones.

        Raises:
            TokenUnfitError: it proves nothing any more.
        """
        if not isinstance(evidence, Mapping):
            raise TokenUnfitError("it tells of no workload")
        until = datetime.fromtimestamp(evidence["until"], self._clock().tzinfo)
        if self._clock() > until + LEEWAY:
            raise TokenUnfitError("the token that it was issued for has expired")
        return self._principal(evidence["iss"], evidence["aud"], evidence["claims"])

    def _workload(self, trusted: TrustedIssuer, claims: Claims) -> Workload:
        names = {
            name
            for each in self._of(trusted.issuer, trusted.audience)
            for name in (*each.recognition.conditions, *each.recognition.template.facts)
        }
        facts = facts_of(claims.more, names)
        principal = self._principal(trusted.issuer, trusted.audience, facts)
        evidence = {
            "iss": trusted.issuer,
            "aud": trusted.audience,
            "claims": facts,
            "until": min(claims.more["exp"], int(self._clock().timestamp()) + EVIDENCE_SECONDS),
        }
        return Workload(principal, evidence)

    def _principal(self, issuer: str, audience: str, facts: Facts) -> Principal:
        recognitions = [each.recognition for each in self._of(issuer, audience)]
        principal = recognise(recognitions, facts)
        if principal is None:
            raise TokenUnfitError("its claims fit nobody in access.oidc")
        return principal

    def _of(self, issuer: str, audience: str) -> Sequence[TrustedIssuer]:
        return [
            each for each in self._issuers if (each.issuer, each.audience) == (issuer, audience)
        ]


def _always(keys: TrustedKeys) -> Callable[[str], TrustedKeys]:
    return lambda _: keys


def facts_of(claims: Mapping[str, Any], names: set[str]) -> Facts:
    """Return the claims called `names` as texts; what is no text, number or flag is left out."""
    facts: dict[str, Sequence[str]] = {}
    for name in names:
        match claims.get(name):
            case bool() as flag:
                facts[name] = ["true" if flag else "false"]
            case str() | int() as value:
                facts[name] = [str(value)]
            case list() as values if len(values) <= VALUES_LIMIT:
                facts[name] = [value for value in values if isinstance(value, str)]
            case _:
                pass
    return facts
