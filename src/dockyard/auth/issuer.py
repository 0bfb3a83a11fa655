"""The token service of the registry itself: what is granted to whom, and in which form.

Source: distribution v3.1.1, docs/spec/auth/token.md, oauth.md and jwt.md.
"""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from joserfc.jws import JWSRegistry

from dockyard.auth.accounts import Account
from dockyard.auth.actions import CATALOG, Access, Action
from dockyard.auth.logins import Logins, fingerprint
from dockyard.auth.policy import Policy
from dockyard.auth.principal import ANONYMOUS, DIRECTORY_CLAIM, WORKLOAD_CLAIM, Principal
from dockyard.auth.signing import ALGORITHM, KeyRing
from dockyard.auth.tokens import Claims, Expected, TokenUnfitError
from dockyard.auth.verifier import Verifier
from dockyard.clock import Clock
from dockyard.oci.reference import is_name


_REPOSITORY_ACTIONS: Final = {
    action.value: action for action in (Action.PULL, Action.PUSH, Action.DELETE)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """How tokens are issued.

    Attributes:
        service: whom they are for, and from: this registry.
        lifetime: how long a token is good.
        refresh_lifetime: how long a refresh token is.
    """

    service: str
    lifetime: timedelta
    refresh_lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, and what it is good for.

    Attributes:
        token: the token.
        seconds: how long it is good.
        issued_at: from when, in seconds since 1970.
        grants: what it grants.
    """

    token: str
    seconds: int
    issued_at: int
    grants: Sequence[Access]


class Issuer:
    """Issues tokens to those who proved who they are, and to everybody what everybody may."""

    def __init__(
        self,
        settings: TokenSettings,
        keys: KeyRing,
        policy: Policy,
        logins: Logins,
        clock: Clock,
    ) -> None:
        self._settings: Final = settings
        self._keys: Final = keys
        self._policy: Final = policy
        self._logins: Final = logins
        self._clock: Final = clock
        self._access: Final = self._verifier(settings.service)
        self._refresh: Final = self._verifier(_refresh_audience(settings.service))

    @property
    def service(self) -> str:
        """The name of the service that tokens are for."""
        return self._settings.service

    @property
    def logins(self) -> Logins:
        """Who can log in."""
        return self._logins

    def public_keys(self) -> Sequence[Mapping[str, Any]]:
        """Return the public keys that our tokens can be verified with, as JWKs."""
        return self._keys.public()

    def issue(
        self,
        principal: Principal,
        wanted: Iterable[tuple[str, str, str]],
        evidence: Mapping[str, object] | None = None,
    ) -> Issued:
        """Return a token that grants of what is `wanted` (type, name, action) what is allowed.

        Args:
            principal: who gets it.
            wanted: what they ask for.
            evidence: claims that prove who they are, if that is no account of ours: one of
                `WORKLOAD_CLAIM` and `DIRECTORY_CLAIM`.

        Raises:
            StorageError: there is no key to sign with.
        """
        grants = self._allowed(principal, wanted)
        settings = self._settings
        claims: dict[str, object] = {"access": _grouped(grants), **_bound_to(principal)}
        claims.update(evidence or {})
        token, now = self._sign(claims, settings.service, settings.lifetime)
        return Issued(token, int(settings.lifetime.total_seconds()), now, grants)

    def issue_refresh(self, account: Account) -> str:
        """Return a token that stands for the account's password, until that is changed."""
        claims = {**_bound_to(account.principal), "fpr": fingerprint(account)}
        audience = _refresh_audience(self._settings.service)
        return self._sign(claims, audience, self._settings.refresh_lifetime)[0]

    async def refresh(self, token: str) -> Account:
        """Return the account that a refresh token stands for.

        Raises:
            TokenRefusedError: it is not good, or the account has another password now, or the API
                key that it was got with is not good any more.
            StorageError: accounts or keys can't be read.
        """
        claims = self._refresh.verify(token)
        account = await self._account(claims)
        if account is None or not secrets.compare_digest(
            fingerprint(account), str(claims.more.get("fpr"))
        ):
            raise TokenUnfitError("its account is gone, or has another password now")
        return account

    async def verify(self, token: str) -> tuple[Principal, Claims]:
        """Return who a token was issued to, and what it says.

        Raises:
            TokenRefusedError: it is not good, or the account is gone, or the API key that it was
                got with.
            StorageError: accounts or keys can't be read.
        """
        claims = self._access.verify(token)
        if not claims.subject:
            return ANONYMOUS, claims
        if WORKLOAD_CLAIM in claims.more:
            return self._recall(claims), claims
        if DIRECTORY_CLAIM in claims.more:
            return self._recall_from_directory(claims), claims
        account = await self._account(claims)
        if account is None:
            raise TokenUnfitError("its account or key is gone")
        return account.principal, claims

    def _recall(self, claims: Claims) -> Principal:
        """Return the workload that a token was issued to, if the configuration still knows it."""
        workloads = self._logins.workloads
        principal = None if workloads is None else workloads.recall(claims.more[WORKLOAD_CLAIM])
        if principal is None or principal.login != claims.subject:
            raise TokenUnfitError("its workload is not known any more")
        return principal

    def _recall_from_directory(self, claims: Claims) -> Principal:
        directory = self._logins.directory
        if directory is None:
            raise TokenUnfitError("there is no directory any more")
        return directory.recall(claims.more[DIRECTORY_CLAIM], claims.subject)

    async def _account(self, claims: Claims) -> Account | None:
        key = claims.more.get("key")
        if key is None:
            return self._logins.find(claims.subject)
        account = await self._logins.find_by_key(str(key))
        if account is None or account.principal.login != claims.subject:
            return None
        return account

    def _allowed(
        self, principal: Principal, wanted: Iterable[tuple[str, str, str]]
    ) -> Sequence[Access]:
        found: dict[Access, None] = {}
        for kind, name, text in wanted:
            if (kind, name, text) == (CATALOG.kind, CATALOG.name, CATALOG.action):
                if self._policy.may_ever(principal, Action.CATALOG):
                    found[CATALOG] = None
            elif kind == "repository" and is_name(name):
                for action in _REPOSITORY_ACTIONS if text == "*" else (text,):
                    known = _REPOSITORY_ACTIONS.get(action)
                    if known is not None and self._policy.may(principal, known, name):
                        found[Access(kind, name, action)] = None
        return list(found)

    def _sign(
        self, claims: Mapping[str, Any], audience: str, lifetime: timedelta
    ) -> tuple[str, int]:
        key, now = self._keys.current(), int(self._clock().timestamp())
        header = {"alg": ALGORITHM, "typ": "JWT", "kid": key.name}
        times = {"iat": now, "nbf": now, "exp": now + int(lifetime.total_seconds())}
        named = {"iss": self._settings.service, "aud": audience, "jti": secrets.token_hex(8)}
        signed = f"{_encode(header)}.{_encode({**named, **times, **claims})}"
        signature = JWSRegistry.algorithms[ALGORITHM].sign(signed.encode("ascii"), key.key)
        return f"{signed}.{_base64(signature)}", now

    def _verifier(self, audience: str) -> Verifier:
        expected = Expected(
            issuer=self._settings.service, audience=audience, algorithms=(ALGORITHM,)
        )
        return Verifier(expected, self._keys.trusted, self._clock)


def _bound_to(principal: Principal) -> Mapping[str, str]:
    """Return what ties a token to whom it was issued to, and to the key that they came with."""
    key = {} if principal.scope is None else {"key": principal.scope.key}
    return {"sub": principal.login, **key}


def _refresh_audience(service: str) -> str:
    return f"{service} refresh"


def _grouped(grants: Iterable[Access]) -> list[dict[str, object]]:
    found: dict[tuple[str, str], list[str]] = {}
    for access in grants:
        found.setdefault((access.kind, access.name), []).append(access.action)
    return [
        {"type": kind, "name": name, "actions": actions} for (kind, name), actions in found.items()
    ]


def _encode(document: Mapping[str, Any]) -> str:
    return _base64(json.dumps(document, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
